"""What the re-planner keeps on disk reads back as it was, or is left out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.forecast import DayProfile
from agent.core.plan import LocalPlan, Slot, Target
from agent.replan.kept import Kept, kept_from_json, kept_json

T0 = 1_700_000_000.0
SLOTS = (
    Slot(T0, T0 + 1800.0, 5e3, Target.GRID, 49.5, 7e3),
    Slot(T0 + 3600.0, T0 + 5400.0, -5e3, Target.BATTERY, None, None),
)
LOCAL = LocalPlan(T0 + 60.0, ("a" * 64, None), SLOTS, by_rule=True, why="a test", soc_pct=50.25)
KEPT = Kept(LOCAL, DayProfile().with_measured(T0, 1234.5, 10.0))


def garbled(**changes):
    content = json.loads(kept_json(KEPT))
    return json.dumps(content | {"local": content["local"] | changes})


def test_it_reads_back_as_it_was():
    assert kept_from_json(kept_json(KEPT)) == KEPT
    assert kept_from_json(kept_json(Kept())) == Kept()


@pytest.mark.parametrize("text", [None, "", "{", "[]", "7", "null", '{"local": 7, "others_w": 7}', "[" * 100_000])
def test_nothing_or_nonsense_is_a_fresh_start(text):
    assert kept_from_json(text) == Kept()


SLOT = json.loads(kept_json(KEPT))["local"]["slots"][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"basis": ["a"]},
        {"basis": [7, None]},
        {"made_utc_s": "noon"},
        {"made_utc_s": True},
        {"soc_pct": "half"},
        {"why": None},
        {"slots": []},
        {"slots": [SLOT] * 2},
        {"slots": [SLOT | {"power_w": None}]},
        {"slots": [SLOT | {"target": "moon"}]},
        {"slots": [SLOT | {"end_utc_s": SLOT["start_utc_s"]}]},
        {"slots": [{}]},
        {"slots": [SLOT | {"start_utc_s": T0 + i, "end_utc_s": T0 + i + 1} for i in range(1001)]},
    ],
)
def test_a_local_plan_that_is_not_whole_is_left_out_and_the_days_stay(changes):
    assert kept_from_json(garbled(**changes)) == Kept(None, KEPT.profile)


def test_an_infinite_power_is_left_out():
    assert kept_from_json(kept_json(KEPT).replace("5000.0", "1e999")).local is None


@pytest.mark.parametrize("others_w", [[1.0], ["x"] * 48, None])
def test_days_that_do_not_read_well_begin_anew_and_the_plan_stays(others_w):
    content = json.loads(kept_json(KEPT)) | {"others_w": others_w}
    assert kept_from_json(json.dumps(content)) == Kept(LOCAL, DayProfile())


@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), lambda c: st.dictionaries(st.sampled_from(
    ["local", "others_w", "slots", "basis", "made_utc_s", "why", "by_rule", "soc_pct"]), c) | st.lists(c)).map(json.dumps))  # fmt: skip
def test_no_text_on_disk_stops_the_start(text):
    assert isinstance(kept_from_json(text), Kept)
