"""The demo's parts without its processes: timeline, checks, summary, view, command line."""

import dataclasses
import io
import json
from collections import Counter

import pytest
from rich.console import Console

from agent.config import load
from simulators.cloud_desk import CloudCounts
from simulators.cloud_messages import Sample
from simulators.demo import parse
from simulators.demo_checks import CHECKS, Evidence, SlotResult, judge
from simulators.demo_show import MIN_SHOW_SLOTS, ShowFacts, Span, Timeline
from simulators.demo_site import CAPACITY_KWH, sky_w_per_m2, write_agent_file, write_simulator_file
from simulators.demo_summary import clipped_slots, summary, text
from simulators.demo_view import Scene, picture
from simulators.market import SHOW_START, MarketClock, load_jepx
from simulators.site_config import load_config

EPOCH = 1_700_000_000
CLOCK = MarketClock(EPOCH, int(SHOW_START.timestamp()), 2)
TICK_S = 0.1


@pytest.mark.parametrize("slots", [20, 30, 47, 300])
def test_the_acts_come_in_order_and_fit_into_every_show(slots):
    line = Timeline.of(slots)
    acts = [
        line.broker_down,
        line.broker_up,
        line.planning_pauses,
        line.agent_killed,
        line.last_plan,
        line.plan_ends,
        line.cloud_resumes,
    ]
    assert acts == sorted(acts)
    assert round(line.broker_up - line.broker_down) >= 3
    # The present slot and the next are sold when the cloud is back; one more must remain for the rolling plan.
    assert line.cloud_resumes + 2 < slots


def test_a_minute_of_two_second_slots_keeps_the_broker_away_for_five_slots():
    line = Timeline.of(30)
    assert round(line.broker_up - line.broker_down) == 5


def slot(index, battery_kw=0.0, source="rolling"):
    return SlotResult(
        start_utc_s=EPOCH + 2.0 * index,
        market=f"slot {index}",
        price=1.0,
        source=source,
        plan_version=3,
        target="grid",
        planned_kwh=100.0,
        delivered_kwh=100.0,
        true_kwh=100.0,
        battery_kw=battery_kw,
        soc_end_pct=50.0,
        excused=None,
    )


GOOD_COUNTS = CloudCounts(
    connected=True,
    telemetry_frames=60,
    telemetry_highest=60,
    samples=600,
    gaps=0,
    redelivered=2,
    conflicts=0,
    duplicates=0,
    other_gaps=0,
    malformed=0,
    acks_by_stage={"stored": 2},
    acks=(("yearly", 1, "stored"), ("rolling", 1, "stored")),
    rejections=(),
    versions={"rolling": 4, "yearly": 1},
)


def good_evidence() -> Evidence:
    slots = [slot(index, [450.0, 0.0, -450.0][index % 3]) for index in range(30)]
    slots[24] = slot(24, source="yearly")
    facts = ShowFacts(
        broker_outages=[Span(EPOCH + 18.4, EPOCH + 28.4)],
        agent_outages=[Span(EPOCH + 32.4, EPOCH + 34.0)],
        plan_before_kill={"version": 3, "sha256": "ab"},
        plan_after_kill={"version": 3, "sha256": "ab"},
        plan_end_utc_s=EPOCH + 48.0,
    )
    rows = [
        Sample(EPOCH + tick * TICK_S, "yearly" if 480 <= tick < 500 else "rolling", 50.0, 0.0, 0.0, 0.0, 0.0)
        for tick in range(600)
    ]
    counters = Counter(ticks=600, writes=300, writes_verified=299, frames_sealed=60)
    return Evidence(
        slots=slots,
        slots_expected=30,
        slot_s=2,
        tick_s=TICK_S,
        facts=facts,
        counts=GOOD_COUNTS,
        samples=rows,
        counters=counters,
        outbox_depth=0,
        drained=True,
        agent_starts=2,
        final_source="rolling",
        agent_exit_code=0,
    )


def test_good_evidence_holds_everywhere():
    assert set(judge(good_evidence()).values()) == {None}


def with_slots(evidence, changed):
    return dataclasses.replace(evidence, slots=changed)


def with_facts(evidence, **changed):
    return dataclasses.replace(evidence, facts=dataclasses.replace(evidence.facts, **changed))


def with_counts(evidence, **changed):
    return dataclasses.replace(evidence, counts=dataclasses.replace(evidence.counts, **changed))


def replaced_slot(evidence, index, **changed):
    slots = list(evidence.slots)
    slots[index] = dataclasses.replace(slots[index], **changed)
    return with_slots(evidence, slots)


BROKEN = {
    "charged": lambda e: with_slots(e, [dataclasses.replace(s, battery_kw=max(0.0, s.battery_kw)) for s in e.slots]),
    "discharged": lambda e: with_slots(e, [dataclasses.replace(s, battery_kw=min(0.0, s.battery_kw)) for s in e.slots]),
    "every_slot_in_ledger": lambda e: with_slots(e, e.slots[:-1]),
    "delivered_as_planned": lambda e: replaced_slot(e, 3, delivered_kwh=80.0, true_kwh=80.0),
    "ledger_agrees_with_truth": lambda e: replaced_slot(e, 3, true_kwh=90.0),
    "plan_went_on_without_broker": lambda e: replaced_slot(e, 10, source="local_rule"),
    "same_plan_after_kill": lambda e: with_facts(e, plan_after_kill={"version": 2, "sha256": "ab"}),
    "back_in_control_after_kill": lambda e: with_facts(e, agent_outages=[Span(EPOCH + 32.4)]),
    "yearly_took_over_within_2_ticks": lambda e: dataclasses.replace(
        e, samples=[s for s in e.samples if not EPOCH + 47.9 < s.utc_s < EPOCH + 48.25]
    ),
    "rolling_came_back": lambda e: dataclasses.replace(e, final_source="yearly"),
    "telemetry_complete": lambda e: with_counts(e, gaps=1),
    "outage_backfilled": lambda e: dataclasses.replace(
        e, samples=[s for s in e.samples if not EPOCH + 20 < s.utc_s < EPOCH + 28]
    ),
    "writes_verified": lambda e: dataclasses.replace(e, counters=Counter(writes=300, writes_verified=290)),
    "plans_accepted": lambda e: with_counts(e, rejections=("rolling: bad_value power[7]",)),
    "agent_ended_in_order": lambda e: dataclasses.replace(e, agent_exit_code=-9),
}


def test_every_check_has_a_case_that_breaks_it():
    assert BROKEN.keys() == CHECKS.keys()


@pytest.mark.parametrize("name", BROKEN)
def test_each_check_fails_for_its_own_reason(name):
    verdicts = judge(BROKEN[name](good_evidence()))
    assert verdicts.pop(name)
    assert set(verdicts.values()) == {None}


def test_a_slot_off_its_plan_is_excused_by_a_limit_but_not_by_nothing():
    off = replaced_slot(good_evidence(), 3, delivered_kwh=80.0, true_kwh=80.0, excused="limit: nameplate (bess)")
    assert judge(off)["delivered_as_planned"] is None


def test_the_summary_is_json_and_its_text_fits_80_columns():
    evidence = replaced_slot(good_evidence(), 3, delivered_kwh=80.0, true_kwh=80.0)
    result = summary(evidence, judge(evidence), CLOCK, "mosquitto")
    assert json.loads(json.dumps(result))["ok"] is False
    assert result["held"]["delivered_as_planned"] is False
    assert "slot 3: plan 100.0 kWh, ledger 80.0 kWh" in result["why_not"]["delivered_as_planned"]
    assert result["sources"] == {"rolling": 29, "yearly": 1}
    assert result["agent_restarts"] == [{"time_to_control_s": 1.6}]
    assert result["broker_outages"] == [{"length_s": 10.0}]
    lines = text(result).splitlines()
    assert max(len(line) for line in lines) <= 80
    assert lines[-1] == "NOT everything held"


def test_a_slot_is_clipped_when_the_setpoint_left_its_target():
    rows = [
        Sample(EPOCH + 0.1, "rolling", 50.0, 0.0, 0.0, 400_000.0, 400_000.0),
        Sample(EPOCH + 2.1, "rolling", 50.0, 0.0, 0.0, 560_000.0, 500_000.0),
        Sample(EPOCH + 2.2, "rolling", 50.0, 0.0, 0.0, 520_000.0, 500_000.0),
        Sample(EPOCH + 4.1, "rolling", 50.0, 0.0, 0.0, None, 0.0),
    ]
    assert clipped_slots(rows, CLOCK) == {EPOCH + 2: 60_000.0}


def test_the_simulator_takes_its_file_and_the_battery_is_full_after_as_many_slots(tmp_path):
    write_simulator_file(tmp_path / "simulator.toml", CLOCK, seed=7)
    config = load_config(tmp_path / "simulator.toml")
    assert config.battery.capacity_wh * CLOCK.factor == pytest.approx(CAPACITY_KWH * 1000.0)
    assert config.day.second_of_day(EPOCH) == 6 * 3600
    assert config.day.second_of_day(EPOCH + 2) == 6.5 * 3600


def test_the_agent_takes_its_site_file(tmp_path):
    write_agent_file(tmp_path / "site.toml", CLOCK, "mqtt://127.0.0.1:18830", battery_port=5020, gateway_port=5021)
    site = load(tmp_path / "site.toml")
    assert site.site.id == "demo-01"
    assert site.control.tick == TICK_S
    assert site.cloud.confirm == "watermark"


def test_the_same_seed_gives_the_same_sky_and_another_seed_another():
    assert sky_w_per_m2(1) == sky_w_per_m2(1) != sky_w_per_m2(2)
    assert sky_w_per_m2(1)[0] == 0.0
    assert max(sky_w_per_m2(1)) > 500.0


STATUS = {
    "utc": "2024-01-15T03:00:00Z",
    "source": "rolling",
    "why": "rolling plan 17, slot 03:00Z to 03:30Z",
    "powers_w": {"battery": 420_000.0, "pv": 85_000.0, "load": -84_000.0, "grid": 421_000.0},
    "soc_pct": 62.5,
    "target_w": 560_000.0,
    "setpoint_w": 500_000.0,
    "clips": [{"limit": "nameplate", "owner": "bess", "before_w": 560_000.0, "after_w": 500_000.0}],
    "cloud": {"connected": True, "outbox_depth": 4},
    "next_slots": [
        {"start": "2023-11-14T22:13:22Z", "end": "2023-11-14T22:13:24Z", "power_w": -404_000.0, "source": "rolling"}
    ]
    * 8,
}
PAST = [
    {"planned_wh": 200.0, "delivered_wh": 201.0, "source": "rolling"},
    {"planned_wh": -200.0, "delivered_wh": None, "source": "yearly"},
]


def shown(**changed):
    scene = Scene(
        now_utc_s=EPOCH + 1.0,
        clock=CLOCK,
        prices=load_jepx("kyushu"),
        status=STATUS,
        broker_up=True,
        cloud_up=True,
        expected_soc_pct=64.0,
        caption="The MQTT broker is killed (kill -9). The plan is on the agent's disk and goes on.",
        progress="slot 1 of 30",
        past_slots=PAST * 60,
    )
    console = Console(width=80, height=24, record=True, file=io.StringIO())
    console.print(picture(dataclasses.replace(scene, **changed)))
    return console.export_text().splitlines()


@pytest.mark.parametrize("changed", [{}, {"status": None, "expected_soc_pct": None}, {"broker_up": False}])
def test_the_picture_fits_80_by_24_whatever_is_missing(changed):
    lines = shown(**changed)
    assert len(lines) <= 24
    assert max(len(line) for line in lines) <= 80


def test_the_picture_says_who_decides_what_limits_and_how_fast_the_market_is():
    screen = "\n".join(shown())
    assert "rolling: rolling plan 17" in screen
    assert "limited by nameplate" in screen
    assert "a 30-min slot lasts 2 s (900x)" in screen
    assert "4 messages wait" in screen
    assert "Thu 21 Mar 06:30" in screen
    assert "-404  rolling" in screen


def test_the_picture_says_that_the_agent_is_down():
    screen = "\n".join(shown(status=None))
    assert "the agent is down" in screen
    assert "? kW" in screen


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json"], "belongs to --headless"),
        (["--headless", "--seconds", "30"], "at least 40"),
        (["--headless", "--seconds", "60", "--slot-seconds", "4"], "at least 80"),
        (["--slot-seconds", "0"], "must be 1 to 1800"),
    ],
)
def test_a_command_line_without_sense_is_refused_with_what_to_do(capsys, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        parse(arguments)
    assert said in capsys.readouterr().err


def test_a_headless_show_has_an_end_and_a_live_one_goes_on():
    assert parse(["--headless"]).seconds == 60
    assert parse([]).seconds is None
    assert parse([]).show_slots == 30
    assert parse(["--headless", "--slot-seconds", "4"]).show_slots == MIN_SHOW_SLOTS
