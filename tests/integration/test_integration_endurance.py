"""The daemon looked at for some seconds; `agent_endurance.py --minutes 30` does it for half an hour."""

from dataclasses import replace

import pytest
from agent_endurance import LOOK_EVERY_S, Endurance, Look, grows

FLAT = [Look(LOOK_EVERY_S * n, 50.0 + n % 3 * 0.1, 30 + n % 2, 8, 40 + n % 2, 4.0, n) for n in range(360)]


def test_it_is_looked_at_while_it_works_and_in_the_end_all_is_in_order(tmp_path_factory):
    site = Endurance(tmp_path_factory.mktemp("days"), seed=1)
    try:
        site.look()
        assert site.looks[0].memory_mb > 20.0
        assert site.looks[0].files > 5
        assert site.looks[0].tasks > 10
        assert site.settle()["ticks"] > 0
    finally:
        site.close()


def test_what_is_flat_is_in_order():
    assert grows(FLAT) == []


@pytest.mark.parametrize(
    ("name", "leak"),
    [("memory_mb", 0.01), ("files", 0.02), ("threads", 0.02), ("tasks", 0.02), ("wal_mb", 0.1), ("log_lines", 0.1)],
)
def test_what_grows_is_named(name, leak):
    power = 2 if name == "log_lines" else 1  # not the log grows, but how fast
    leaky = [replace(look, **{name: getattr(look, name) + leak * n**power}) for n, look in enumerate(FLAT)]
    (found,) = grows(leaky)
    assert {"wal_mb": "write-ahead", "log_lines": "log"}.get(name, name) in found
