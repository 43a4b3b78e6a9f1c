"""The shell while an award is in force: loop, pollers and recorder at its pace, and at their own without one."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest

from agent.core.events import Event, EventState, Severity
from agent.core.evidence import EvidenceRow
from agent.core.orders import Award, Curtailment, OrderDocument, OrderKind
from agent.core.plan import Plans
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from agent.core.snapshot import BatterySample, MeterSample, Reading
from agent.core.step import step
from agent.runtime.board import Board, DeviceHealth
from agent.runtime.control import ControlLoop
from agent.runtime.poller import EndpointPoller, Polled
from agent.runtime.recorder import Recorder
from drivers.errors import DeviceError

T0 = 1_700_000_000.0 - 1_700_000_000 % 1800
BATTERY = BatteryRules("bess", 500e3, 500e3, 10.0, 90.0, 0.95, 60.0, 500.0)
RULES = SiteRules("s", 1.0, (BATTERY,), (), "meter", 1e6, 1e6, has_load=True, local_rule=LocalRule.IDLE)


class Over(BaseException):
    """The test has seen enough."""


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self, ends_at=1e9):
        self.t = 0.0
        self.ends_at = ends_at

    def utc_s(self):
        return T0 + self.t

    def mono_s(self):
        return 1e3 + self.t

    async def sleep_until(self, mono_s):
        self.t = max(self.t, mono_s - 1e3)
        if self.t > self.ends_at:
            raise Over


class NeverDone:
    """A write that is never made."""

    def __init__(self, job):
        job.close()

    def add_done_callback(self, _done):
        pass


def awards(*entries, version=1):
    return OrderDocument(OrderKind.AWARDS, version, f"sha-{version}", T0, entries)


def award(start, end, *, product="ce-fcr-offset", power_w=50e3, award_id="a1"):
    return Award(award_id, product, T0 + start, T0 + end, power_w)


@pytest.fixture
def loop():
    clock = Clock()
    board = Board(RULES)

    def fresh(battery=True):
        def read(value):
            return Reading(value, clock.mono_s())

        if battery:
            board.post(
                BatterySample(
                    "bess",
                    read(0.0),
                    read(50.0),
                    read(1e6),
                    read(500e3),
                    read(500e3),
                    read(500e3),
                    read(500e3),
                    read(1.0),
                )
            )
        board.post(MeterSample("meter", read(0.0), read(50.0)))

    control = ControlLoop(
        rules=RULES,
        board=board,
        batteries={},
        clock=clock,
        plans=Plans(),
        floor_utc_s=0.0,
        spawn=NeverDone,
        started_mono_s=0.0,
    )
    control.fresh = fresh
    return control


async def ticks(control, until_s):
    """When the loop ticked, seconds after T0."""
    control.clock.ends_at = until_s
    seen = []
    control.fresh()

    def after(effects):
        seen.append(round(effects.decision.utc_s - T0, 3))
        control.fresh()

    with pytest.raises(Over):
        await control.run(after)
    return seen


async def test_the_loop_is_fast_from_shortly_before_an_award_to_its_end_and_only_then(loop):
    loop.replace_orders(awards(award(20.0, 25.0)))
    seen = await ticks(loop, 40.0)
    gaps = {at: round(at - before, 3) for before, at in itertools.pairwise(seen)}
    assert {gap for at, gap in gaps.items() if at <= 15.0 or at > 26.0} == {1.0}
    assert {gap for at, gap in gaps.items() if 15.0 < at <= 25.0} == {0.2}
    assert 20.0 in seen, "the award's first instant is a tick"
    assert loop.counters.late_ticks == 0


async def test_a_quick_product_has_its_own_pace(loop):
    loop.replace_orders(awards(award(0.0, 3.0, product="gb-dc")))
    seen = await ticks(loop, 2.0)
    assert seen[1:6] == [0.1, 0.2, 0.3, 0.4, 0.5]


async def test_with_a_clock_that_is_not_trusted_no_award_counts(loop):
    loop.floor_utc_s = T0 + 1e6
    loop.replace_orders(awards(award(0.0, 30.0)))
    seen = await ticks(loop, 5.0)
    assert seen == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert loop.board.hurry_s is None
    assert loop.outlook == ()


def test_the_meter_alone_is_hurried_and_only_while_an_award_needs_it(loop):
    loop.fresh()
    loop.replace_orders(awards(award(10.0, 20.0)))
    found = []
    for t in (0.0, 6.0, 15.0, 19.9, 20.1):
        loop.clock.t = t
        loop.tick()
        found.append(loop.board.hurry_s)
    assert found == [None, 0.2, 0.2, 0.2, None]
    loop.board.hurry_s = 0.2
    assert loop.board.period_s("meter", 1.0) == 0.2
    assert loop.board.period_s("meter", 0.1) == 0.1
    assert loop.board.period_s("bess", 1.0) == 1.0


def test_orders_are_in_force_from_the_next_tick_and_put_aside_within_a_minute_of_their_end(loop):
    loop.fresh()
    loop.tick()
    loop.replace_orders(OrderDocument(OrderKind.CURTAILMENTS, 1, "c", T0, (Curtailment("c1", T0, T0 + 30, 0.0),)))
    assert loop.in_force.orders.curtailments == ()
    loop.tick()
    assert len(loop.in_force.orders.curtailments) == 1
    loop.clock.t = 59.0
    loop.tick()
    assert len(loop.in_force.orders.curtailments) == 1
    loop.clock.t = 61.0
    loop.tick()
    assert loop.in_force.orders.curtailments == ()


def test_the_forecast_is_made_with_each_minute_and_at_once_when_something_breaks(loop):
    loop.fresh()
    loop.replace_orders(awards(award(7200.0, 9000.0)))
    loop.tick()
    assert [one.met for one in loop.outlook] == [True]
    first = loop.outlook
    loop.clock.t = 5.0
    loop.tick()
    assert loop.outlook is first
    loop.clock.t = 17.0
    loop.fresh(battery=False)  # silent for more than 10 s now
    loop.tick()
    assert [one.met for one in loop.outlook] == [False]
    loop.tick()
    assert ("award_short", "a1") in loop.state.conditions
    loop.fresh()
    loop.tick()
    loop.tick()
    assert ("award_short", "a1") not in loop.state.conditions
    before = loop.outlook
    loop.clock.t = 61.0
    loop.fresh()
    loop.tick()
    assert loop.outlook is not before


class SteppedClock(Clock):
    """Time that passes when the test says so."""

    def __init__(self):
        super().__init__()
        self.sleepers = []

    async def sleep_until(self, mono_s):
        waiting = asyncio.get_running_loop().create_future()
        self.sleepers.append((mono_s, waiting))
        await waiting

    async def pass_to(self, t):
        """Everybody whose time has come wakes in turn."""
        while True:
            for _ in range(5):
                await asyncio.sleep(0)  # who was woken goes to sleep again
            self.sleepers = [one for one in self.sleepers if not one[1].done()]
            mono_s, waiting = min(self.sleepers, key=lambda one: one[0])
            if mono_s > 1e3 + t + 1e-9:
                break
            self.t = max(self.t, mono_s - 1e3)
            waiting.set_result(None)
        self.t = t


async def ticks_by_readings(loop, *read_at, until_s):
    """When the loop ticked while the meter was read at these times."""
    loop.clock = clock = SteppedClock()
    seen = []
    loop.fresh()
    running = asyncio.ensure_future(loop.run(lambda effects: seen.append(round(effects.decision.utc_s - T0, 3))))
    for t in read_at:
        await clock.pass_to(t)
        loop.board.post(MeterSample("meter", Reading(0.0, 1e3 + t), Reading(50.0, 1e3 + t)))
    await clock.pass_to(until_s)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return seen


@pytest.mark.parametrize("phase_s", [0.02, 0.1, 0.17])
async def test_an_awarded_tick_comes_with_the_reading_of_the_frequency_and_not_at_its_own_time(loop, phase_s):
    loop.replace_orders(awards(award(0.0, 30.0)))
    readings = [round(phase_s + 0.2 * number, 2) for number in range(4)]
    assert await ticks_by_readings(loop, *readings, until_s=readings[-1] + 0.1) == [0.0, *readings]
    assert loop.counters.late_ticks == 0


async def test_without_readings_the_awarded_loop_goes_on_by_the_clock_and_with_the_next_one_it_is_led_again(loop):
    loop.replace_orders(awards(award(0.0, 30.0)))
    seen = await ticks_by_readings(loop, 0.17, 1.15, 1.35, until_s=1.4)
    assert seen == [0.0, 0.17, 0.47, 0.6, 0.8, 1.0, 1.15, 1.35]


async def test_a_meter_that_is_read_more_often_than_needed_makes_no_more_ticks(loop):
    loop.replace_orders(awards(award(0.0, 30.0)))
    often = [round(0.05 * number, 2) for number in range(1, 25)]
    seen = await ticks_by_readings(loop, *often, until_s=1.2)
    assert 6 <= len(seen) <= 9


async def test_without_an_award_no_reading_makes_a_tick(loop):
    seen = await ticks_by_readings(loop, 0.3, 0.8, 1.4, until_s=2.5)
    assert seen == [0.0, 1.0, 2.0]


def test_setpoints_follow_in_small_steps_only_while_awarded(loop, monkeypatch):
    used = []
    monkeypatch.setattr("agent.runtime.control.step", lambda rules, *rest: used.append(rules) or step(rules, *rest))
    loop.fresh()
    loop.tick()
    loop.replace_orders(awards(award(0.0, 10.0, power_w=40e3)))
    loop.tick()
    assert [rules.batteries[0].dead_band_w for rules in used] == [500.0, pytest.approx(200.0)]


LINK = SimpleNamespace(retry_mono_s=lambda unit_id: float("-inf"))


class Device:
    spec, session = SimpleNamespace(unit_id=1), SimpleNamespace(refusals={})

    def __init__(self, clock, sample):
        self.clock, self.sample, self.reads, self.dead = clock, sample, [], False

    async def identify(self):
        return SimpleNamespace(manufacturer="m", model="m", serial="", firmware="")

    async def read(self):
        self.reads.append(round(self.clock.t, 3))
        if self.dead:
            raise DeviceError("meter", "no answer", "check the cable")
        return self.sample


async def test_a_slow_meter_is_read_sooner_as_an_award_comes_and_its_neighbours_are_not():
    clock, board = Clock(30.0), Board(RULES)
    meter = Device(clock, MeterSample("meter"))
    other = Device(clock, BatterySample("bess"))
    polled = [
        Polled(meter, 10.0, DeviceHealth("meter", ""), LINK),
        Polled(other, 1.0, DeviceHealth("bess", ""), LINK),
    ]
    poller = EndpointPoller(polled, board, clock, lambda event: None)
    ordinary = clock.sleep_until

    async def sleep(mono_s):
        board.hurry_s = 0.2 if 12.0 <= clock.t < 14.0 else None
        await ordinary(mono_s)

    clock.sleep_until = sleep
    with pytest.raises(Over):
        await poller.run()
    awarded = [t for t in meter.reads if 12.0 <= t <= 14.0]
    assert len(awarded) >= 4
    assert awarded[0] <= 13.25  # sleeps here are over at once, whoever wakes them
    assert [t for t in meter.reads if t < 12.0] == [0.0, 10.0]
    assert [t for t in meter.reads if t > 14.3] == pytest.approx([24.0], abs=1.0)
    assert len(other.reads) == 31


async def test_a_meter_alone_on_its_line_is_read_at_once_when_it_must_be_read_more_often():
    clock, board = SteppedClock(), Board(RULES)
    meter = Device(clock, MeterSample("meter"))
    poller = EndpointPoller([Polled(meter, 10.0, DeviceHealth("meter", ""), LINK)], board, clock, lambda event: None)
    running = asyncio.ensure_future(poller.run())
    await clock.pass_to(4.0)
    assert meter.reads == [0.0]
    board.hurry_s = 0.5
    await clock.pass_to(5.6)
    assert meter.reads == [0.0, 4.5, 5.0, 5.5]
    board.hurry_s = None
    await clock.pass_to(15.0)
    assert len(meter.reads) <= 6
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class Store:
    def __init__(self):
        self.samples, self.evidence, self.slots = [], [], []
        self.told = asyncio.Event()

    async def append_sample(self, sample):
        self.samples.append(round(sample.at_utc_s - T0, 3))

    async def add_evidence(self, rows):
        self.evidence += [row.utc_s - T0 for row in rows]

    async def append_event(self, event):
        if event.code == "code":
            self.told.set()

    async def note_decision(self, at_utc_s, body):
        pass

    async def save_slot(self, row):
        self.slots.append(row)


async def recorded(loop, times, evidence_at=()):
    """What the store was given for ticks at these times."""
    store = Store()
    recorder = Recorder(
        store=store, boot_id="b", frame_s=1e6, sample_s=1.0, build_frame=lambda *_: b"", on_kept=lambda: None
    )
    row = EvidenceRow(int(T0), 50.0, 0.0, 0.0, 1.0, 1.0, 0.0, True, ("a1",), None, 5)
    for t in times:
        loop.clock.t = t
        loop.fresh()
        effects = loop.tick()
        if t in evidence_at:
            effects = replace(effects, evidence=(row,))
        recorder.put(effects)
        await recorder.flush()
    return store


async def test_fast_ticks_leave_one_sample_per_ordinary_tick_and_their_evidence(loop):
    fast = [i / 5 for i in range(16)]
    store = await recorded(loop, fast, evidence_at=(1.0, 2.2))
    assert store.samples == [0.0, 1.0, 2.0, 3.0]
    assert store.evidence == [0.0, 0.0]


async def test_an_event_of_a_fast_tick_is_written_at_once(loop):
    store = Store()
    recorder = Recorder(
        store=store, boot_id="b", frame_s=1e6, sample_s=1.0, build_frame=lambda *_: b"", on_kept=lambda: None
    )
    loop.fresh()
    recorder.put(loop.tick())
    await recorder.flush()
    loop.clock.t = 0.2
    event = Event(T0, EventState.NOTED, Severity.INFO, "code", "site", "text")
    writing = asyncio.create_task(recorder.run())
    recorder.put(replace(loop.tick(), events=(event,)))
    await asyncio.wait_for(store.told.wait(), 5.0)
    writing.cancel()
    assert store.samples == [0.0]


async def test_every_ordinary_tick_leaves_its_sample_also_one_that_comes_early_or_late(loop):
    times = [0.0, 0.99, 2.4, 3.0, 3.96]
    assert (await recorded(loop, times)).samples == times
