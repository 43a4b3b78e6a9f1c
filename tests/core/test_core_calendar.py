"""Days on which people change their clocks, the edge of the year, the leap day: slots are UTC and nothing happens."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from agent.cloud.wire import document_parser
from agent.core.authority import Source, decide
from agent.core.plan import Plan, PlanKind, Plans, Target
from agent.core.rules import BatteryRules, LocalRule, SiteRules

BERLIN, SYDNEY = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Sydney")
BESS = BatteryRules("bess", 500e3, 500e3, 10.0, 90.0, 0.95, 60.0, 500.0)
RULES = SiteRules("s-1", 1.0, (BESS,), (), None, 500e3, 500e3, has_load=False, local_rule=LocalRule.IDLE)
DAYS = {
    "Berlin, spring": (BERLIN, (2026, 3, 29), 46, 92),
    "Berlin, autumn": (BERLIN, (2026, 10, 25), 50, 100),
    "Sydney, autumn": (SYDNEY, (2026, 4, 5), 50, 100),
    "Sydney, spring": (SYDNEY, (2026, 10, 4), 46, 92),
    "an ordinary day": (BERLIN, (2026, 6, 1), 48, 96),
    "new year's eve": (BERLIN, (2026, 12, 31), 48, 96),
    "leap day": (SYDNEY, (2028, 2, 29), 48, 96),
}


def day_of(name):
    """(its beginning and its end as instants, half hours in it, quarters in it)."""
    zone, day, half_hours, quarters = DAYS[name]
    midnight = datetime(*day, tzinfo=zone)
    begin, end = (at.timestamp() for at in (midnight, midnight + timedelta(days=1)))  # a day later by the wall clock
    return begin, end, half_hours, quarters


@pytest.mark.parametrize("slot_s", [1800, 900])
@pytest.mark.parametrize("name", DAYS)
def test_each_slot_of_the_day_is_decided_once_in_order_and_without_a_gap(name, slot_s):
    begin, end, half_hours, quarters = day_of(name)
    count = half_hours if slot_s == 1800 else quarters
    assert (end - begin) / slot_s == count, "as the calendar of the place has it"
    power = tuple(float(1000 * (index + 1)) for index in range(count))
    plans = Plans().replaced(Plan(PlanKind.ROLLING, 1, "a" * 64, begin, begin, slot_s, Target.BATTERY, power))
    decided = []
    for minute in range(round((end - begin) / 60)):
        found = decide(RULES, plans, begin + 60.0 * minute, clock_trusted=True, meter_good=True)
        assert found.source is Source.ROLLING
        if not decided or decided[-1][0] != found.slot:
            decided.append((found.slot, found.power_w))
    assert [power_w for _, power_w in decided] == list(power)
    assert all(one.end_utc_s == following.start_utc_s for (one, _), (following, _) in pairwise(decided))
    assert (decided[0][0].start_utc_s, decided[-1][0].end_utc_s) == (begin, end)
    after = decide(RULES, plans, end, clock_trusted=True, meter_good=True)
    assert after.source is Source.LOCAL_RULE, "the last second of the day is not held"


@pytest.mark.parametrize("name", DAYS)
def test_a_document_with_the_offset_of_its_zone_names_the_same_slots(name):
    begin, _, half_hours, _ = day_of(name)
    zone = DAYS[name][0]
    instants = [begin + 1800.0 * index for index in range(half_hours)]
    plans = []
    for written in (UTC, zone):
        starts = [datetime.fromtimestamp(at, written).isoformat() for at in instants]
        content = {
            "schema": "1.0", "site_id": "s-1", "kind": "rolling", "version": 1, "issued_at": starts[0], "start": starts[0],
            "slot_s": 1800, "unit": "kW", "positive": "export", "target": "grid", "power": [1.0] * half_hours,
            "slot_start": starts,
        }  # fmt: skip
        plans.append(document_parser("s-1")(PlanKind.ROLLING, json.dumps(content).encode()))
    assert plans[0].start_utc_s == plans[1].start_utc_s == begin
    assert plans[1].end_utc_s == instants[-1] + 1800


def test_a_plan_of_a_leap_year_has_a_slot_for_its_last_half_hour():
    begin, end = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (2028, 2029))
    count = round((end - begin) / 1800)
    assert count == 17_568
    power = tuple(float(index) for index in range(count))
    plans = Plans().replaced(Plan(PlanKind.YEARLY, 1, "a" * 64, begin, begin, 1800, Target.GRID, power))
    found = decide(RULES, plans, end - 1.0, clock_trusted=True, meter_good=True)
    assert (found.source, found.power_w) == (Source.YEARLY, float(count - 1))
