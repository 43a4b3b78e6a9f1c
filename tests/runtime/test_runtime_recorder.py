"""What the recorder writes: frames that leave nothing behind, means on a metered link, points of devices."""

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest

from agent.cloud.frame import read_frame, summary_frame, telemetry_frame
from agent.cloud.messages import ack_message, event_message, ledger_message
from agent.core.events import Event, EventState, Severity
from agent.core.records import StorageFailed, Stream
from agent.runtime import recorder as module
from agent.runtime.recorder import Recorder, Summaries
from agent.store import Announce, Store

SITE, T0 = "demo-01", 1_705_287_600.0


@dataclass
class Decision:
    """As much of one as a sample is made of."""

    utc_s: float
    mono_s: float = 77.0
    grid_w: float = 1.0
    battery_w: float = 2.0
    pv_w: float | None = None
    load_w: float | None = None
    soc_pct: float = 50.0
    frequency_hz: float = 50.0
    target_w: float = 2.0
    setpoint_w: float = 2.0
    slot = None
    clips = ()
    source = SimpleNamespace(value="rolling")


def effects(second, **changes):
    return SimpleNamespace(decision=Decision(T0 + second, **changes), events=(), evidence=(), closed=None, running=None)


@pytest.fixture
async def site(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "explanation", lambda *_: {})
    announce = Announce(
        ack=partial(ack_message, SITE), event=partial(event_message, SITE), ledger=partial(ledger_message, SITE)
    )
    store = await Store.open(tmp_path / "state", announce, lambda: T0)
    kept = []

    def recorder(*, metered=False, frame_s=60.0, points=dict):
        stream = Stream.FULL_RATE if metered else Stream.TELEMETRY
        summaries = Summaries(120.0, lambda seq, frames: summary_frame(SITE, seq, frames, 60.0)) if metered else None
        return Recorder(
            store=store,
            boot_id="b1",
            frame_s=frame_s,
            sample_s=1.0,
            build_frame=lambda seq, samples: telemetry_frame(SITE, seq, samples, stream),
            points=points,
            summaries=summaries,
            on_kept=lambda: kept.append(1),
        )

    yield SimpleNamespace(store=store, recorder=recorder, kept=kept)
    await store.close()


async def ticks(recorder, seconds, **changes):
    for second in seconds:
        recorder.put(effects(second, **changes))
        await recorder.flush()


async def frames(store, stream=Stream.TELEMETRY):
    return [read_frame(payload) for _, payload in await store.kept(stream, 0, 2**62, 100)]


async def test_points_are_those_of_the_moment_of_the_tick(site):
    told = {"bess.soc_pct": 41.0}
    recorder = site.recorder(points=lambda: dict(told))
    recorder.put(effects(0))
    told["bess.soc_pct"] = 42.0
    recorder.put(effects(1))
    await recorder.flush()
    await recorder.seal()
    (frame,) = await frames(site.store)
    assert frame.columns["bess.soc_pct"] == [41, 42]


async def test_a_clock_that_was_wrong_can_be_set_right_afterwards(site):
    """Two seconds after the start the clock is put forward by a day: the monotonic column tells how far."""
    recorder = site.recorder(frame_s=1e6)
    for second, jump_s in [(0, 0.0), (1, 0.0), (2, 86_400.0)]:
        recorder.put(effects(second + jump_s, mono_s=5.0 + second))
    await recorder.flush()
    await recorder.seal()
    (frame,) = await frames(site.store)
    assert frame.t_ms == [0, 1000, 86_402_000]
    assert frame.columns["mono_s"] == [5, 6, 7]


async def test_a_frame_longer_than_one_holds_leaves_nothing_behind(site):
    recorder = site.recorder(frame_s=3600.0)
    await ticks(recorder, range(700))
    await recorder.seal()
    assert [len(frame.t_ms) for frame in await frames(site.store)] == [600, 100]
    assert recorder.frames_sealed == len(site.kept) == 2


async def test_a_metered_link_gets_means_and_the_disk_every_sample(site):
    recorder = site.recorder(metered=True)
    await ticks(recorder, range(60), grid_w=10.0)
    await ticks(recorder, range(60, 120), grid_w=30.0)
    assert await frames(site.store) == []
    await ticks(recorder, range(120, 125))
    (means,) = await frames(site.store)
    assert (means.period_s, means.t_ms, means.columns["grid_w"]) == (60.0, [0, 60_000], [10, 30])
    assert [len(frame.t_ms) for frame in await frames(site.store, Stream.FULL_RATE)] == [60, 60]
    assert [seq for seq, _ in await site.store.pending(Stream.TELEMETRY, 0, 9)] == [1], "the means wait for the cloud"
    assert await site.store.pending(Stream.FULL_RATE, 0, 9) == []


async def test_a_start_in_the_middle_sums_up_what_the_run_before_left(site):
    await ticks(site.recorder(metered=True), range(61))
    again = site.recorder(metered=True)
    await ticks(again, range(90, 122))
    (means,) = await frames(site.store)
    assert means.t_ms == [0, 60_000]


async def test_without_a_metered_link_every_sample_waits_for_the_cloud(site):
    await ticks(site.recorder(), range(61))
    (frame,) = await frames(site.store)
    assert (frame.period_s, len(frame.t_ms)) == (None, 60)
    assert await frames(site.store, Stream.FULL_RATE) == []


class FailingStore:
    """A store whose disk refuses while `full`; remembers what it took."""

    def __init__(self):
        self.full = True
        self.taken = []
        self.meanwhile = lambda _name: None

    def __getattr__(self, name):
        async def take(what, *_):
            self.meanwhile(name)
            if self.full:
                raise StorageFailed("control", "the disk is full")
            self.taken.append((name, what))

        return take


def failing_recorder():
    store = FailingStore()
    recorder = Recorder(
        store=store, boot_id="b1", frame_s=60.0, sample_s=1.0, build_frame=None, on_kept=lambda: None
    )  # fmt: skip
    return store, recorder


def told(number):
    return Event(T0, EventState.NOTED, Severity.INFO, f"e{number}", "site", "a text", {})


async def test_events_slots_and_evidence_that_a_disk_refuses_are_kept_in_order_once_it_takes_again(monkeypatch):
    monkeypatch.setattr(module, "explanation", lambda *_: {})
    monkeypatch.setattr(module, "slot_row", lambda closed: closed)
    store, recorder = failing_recorder()
    for second in range(3):
        tick = effects(second)
        tick.events, tick.evidence, tick.closed = (told(second),), (f"second {second}",), f"slot {second}"
        recorder.put(tick)
        await recorder.flush()
    assert store.taken == []
    assert set(recorder.failing) == {"event", "slot", "evidence", "sample", "decision"}
    assert recorder.samples_dropped == 3
    (told_of,) = recorder.conditions()
    assert (told_of.code, told_of.text.partition(".")[0]) == ("disk_failing", "the disk is full")
    store.full = False
    await ticks(recorder, [3])
    kept = {name: [what for took, what in store.taken if took == name] for name, _ in store.taken}
    assert [event.code for event in kept["append_event"]] == ["e0", "e1", "e2"]
    assert kept["save_slot"] == ["slot 0", "slot 1", "slot 2"]
    assert kept["add_evidence"] == [("second 0", "second 1", "second 2")]
    assert len(kept["note_decision"]) == 1, "the decision of note that it would not take"
    await ticks(recorder, [4, 5])
    assert len([1 for name, _ in store.taken if name == "note_decision"]) == 1, "and not again while nothing changes"
    assert recorder.failing == {}
    assert recorder.conditions() == ()


async def test_a_decision_that_was_refused_and_is_past_does_not_keep_the_alarm_up_for_ever(monkeypatch):
    monkeypatch.setattr(module, "explanation", lambda *_: {})
    store, recorder = failing_recorder()
    store.full = False
    await ticks(recorder, [0])
    store.full = True
    limited = effects(1)
    limited.decision.clips = (SimpleNamespace(limit="soc"),)
    recorder.put(limited)
    await recorder.flush()
    assert set(recorder.failing) == {"sample", "decision"}
    store.full = False
    await ticks(recorder, [2])
    assert recorder.failing == {}, "decided as before: nothing of note waits"
    assert recorder.conditions() == ()


async def test_a_disk_that_does_not_keep_up_is_told():
    _, recorder = failing_recorder()
    for second in range(module.SLOW_FROM):
        assert recorder.conditions() == ()
        recorder.put(effects(second))
    (told_of,) = recorder.conditions()
    assert "does not keep up" in told_of.text


async def test_what_comes_while_the_disk_is_busy_refusing_keeps_its_place_behind(monkeypatch):
    monkeypatch.setattr(module, "explanation", lambda *_: {})
    store, recorder = failing_recorder()
    tick, later = effects(0), effects(1)
    tick.evidence, later.evidence = ("first",), ("second",)
    come = iter([lambda: recorder.put(later)])
    store.meanwhile = lambda name: next(come, int)() if name == "add_evidence" else None
    recorder.put(tick)
    await recorder.flush()
    store.full = False
    await recorder.flush()
    assert [what for name, what in store.taken if name == "add_evidence"] == [("first", "second")]


async def test_an_event_that_gave_way_to_a_newer_one_while_it_was_written_takes_no_other_with_it(monkeypatch):
    store, recorder = failing_recorder()
    store.full = False
    for number in range(module.MAX_WAITING):
        recorder.tell(told(number))
    come = iter([lambda: recorder.tell(told(module.MAX_WAITING))])
    store.meanwhile = lambda _name: next(come, int)()
    await recorder.flush()
    codes = [event.code for _, event in store.taken]
    assert codes == [f"e{number}" for number in range(module.MAX_WAITING + 1)]


async def test_a_disk_that_refuses_for_long_costs_the_oldest_events_and_no_memory():
    store, recorder = failing_recorder()
    for number in range(module.MAX_WAITING + 5):
        recorder.tell(told(number))
        await recorder.flush()
    store.full = False
    await recorder.flush()
    codes = [event.code for _, event in store.taken]
    assert codes == [f"e{number}" for number in range(5, module.MAX_WAITING + 5)]
