"""A device that was found, as a block of a site file."""

from __future__ import annotations

import tomllib
from collections import Counter

from agent.cli.scan_block import blocks

ROLE = {"rated_w": None, "states_capacity": True, "dead_man_s": None, "asks_for_sign": False, "trouble": ""}
FOUND = {
    "url": "tcp://10.0.0.5:502",
    "unit_id": 3,
    "identity": {"serial": 'A"1\\'},
    "fits": [{"profile": "acme", "certain": True}, {"profile": "other", "certain": True}],
}


def parsed(found, *roles):
    return tomllib.loads("\n".join(blocks(found | {"roles": [ROLE | role for role in roles]}, Counter())))["device"]


def test_each_role_is_a_block_of_its_own_with_the_best_profile():
    battery, meter = parsed(FOUND, {"role": "battery", "rated_w": 12_500.0}, {"role": "meter", "asks_for_sign": True})
    assert battery == {
        "id": "battery-1", "role": "battery", "profile": "acme", "url": "tcp://10.0.0.5:502", "unit_id": 3,
        "expected_serial": 'A"1\\', "rated_power": "12.5 kW",
    }  # fmt: skip
    assert (meter["id"], meter["positive"]) == ("meter-1", "?")


def test_what_only_the_site_knows_is_left_open():
    (battery,) = parsed(FOUND, {"role": "battery", "states_capacity": False, "dead_man_s": 10.0})
    assert (battery["rated_power"], battery["capacity"], battery["dead_man"]) == ("?", "?", "10 s")


def test_a_device_without_serial_number_or_profile_states_none():
    (pv,) = parsed(FOUND | {"identity": None, "fits": []}, {"role": "pv"})
    assert set(pv) == {"id", "role", "url", "unit_id"}


def test_ids_are_not_given_twice():
    taken = Counter()
    found = FOUND | {"roles": [ROLE | {"role": "meter"}]}
    lines = [*blocks(found, taken), *blocks(found, taken)]
    assert [line for line in lines if line.startswith("id")] == ['id = "meter-1"', 'id = "meter-2"']


def test_a_trouble_is_a_comment_on_one_line():
    lines = blocks(FOUND | {"roles": [ROLE | {"role": "pv", "trouble": "it is\n away"}]}, Counter())
    assert lines[-1] == "# not usable as it is: it is away"
