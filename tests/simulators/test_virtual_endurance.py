"""Days of the whole shell: what counts as growing, and a short run from end to end."""

import json
from dataclasses import replace

import pytest

from simulators.virtual.endurance import Days, Look, main

FLAT = Look(day=0.0, memory_mb=80.0, objects=90_000, files=14, tasks=40, wal_mb=9.0, store_mb=20.0, log_lines=0)


def days(**growing):
    """A week of hourly looks at something flat, but for what grows so much a day."""
    looks = []
    for hour in range(1, 169):
        day = hour / 24.0
        grown = {name: getattr(FLAT, name) + type(getattr(FLAT, name))(a_day * day) for name, a_day in growing.items()}
        looks.append(replace(FLAT, day=day, **{"log_lines": 20 * hour, **grown}))
    return Days(looks)


def test_what_stays_is_flat():
    assert days().grows() == []
    assert days(memory_mb=0.5, store_mb=3.0).grows() == []


@pytest.mark.parametrize(
    ("growing", "told"),
    [
        ({"memory_mb": 1.5}, "memory: 1.50 MB a day, at most 1"),
        ({"objects": 5_000}, "Python objects: 50"),
        ({"files": 1}, "open files"),
        ({"tasks": 2}, "tasks"),
        ({"wal_mb": 2.0}, "write-ahead logs"),
        ({"log_lines": 24_000}, "log: 10"),
    ],
)
def test_what_grows_is_told_with_its_limit(growing, told):
    (found,) = days(**growing).grows()
    assert found.startswith(told)


def test_what_fills_once_at_the_beginning_does_not_count():
    week = days()
    week.looks[:40] = [replace(look, memory_mb=40.0 + look.day) for look in week.looks[:40]]
    assert week.grows() == []


def test_an_hour_without_a_broker_from_the_command_line(tmp_path, capsys):
    assert main(["--days", "0.04", "--tick", "10", "--away", "0:0.04", "--json", str(tmp_path / "looks.json")]) == 0
    assert "0 late" in capsys.readouterr().out
    found = json.loads((tmp_path / "looks.json").read_text())
    assert found["broken"] == []
    assert found["frames"] >= 70
    assert found["looks"][0]["files"] > 3
