"""The order and the window in which the outbox is emptied."""

import asyncio

import pytest
from cloud_documents import SITE

from agent.cloud import drain as module
from agent.cloud.drain import HISTORY_IN_FLIGHT, Drain, happened_within
from agent.cloud.mqtt_link import MAX_IN_FLIGHT, PublishRefused
from agent.cloud.on_request import MOST_ASKED, AskedRanges
from agent.cloud.pace import Pace
from agent.cloud.topics import Topics
from agent.core.records import StorageFailed, Stream


class Broker:
    """Takes what it is sent when it is told to."""

    def __init__(self):
        self.sent = []
        self.waiting = []

    def publish(self, topic, payload, *, retain=False):
        taken = asyncio.get_running_loop().create_future()
        self.sent.append((topic.rpartition("/")[2], int(payload)))
        self.waiting.append(taken)
        return taken

    def take(self, count):
        for taken in self.waiting[:count]:
            taken.set_result(None)
        del self.waiting[:count]


class Disk:
    """An outbox of numbers."""

    def __init__(self):
        self.rows = {stream: [] for stream in Stream}
        self.on_disk = {stream: [] for stream in Stream}
        self.forgotten = []
        self.failing = False
        self.asked = 0

    async def pending(self, stream, after_seq, limit, up_to_seq=None):
        self.asked += 1
        if self.failing:
            raise StorageFailed("telemetry", "no")
        rows = [seq for seq in self.rows[stream] if seq > after_seq and (up_to_seq is None or seq <= up_to_seq)]
        return [(seq, str(seq).encode()) for seq in rows[:limit]]

    async def kept(self, stream, after_seq, up_to_seq, limit):
        rows = [seq for seq in self.on_disk[stream] if after_seq < seq <= up_to_seq]
        return [(seq, str(seq).encode()) for seq in rows[:limit]]

    async def count_kept(self, stream, from_seq, to_seq):
        return len([seq for seq in self.on_disk[stream] if from_seq <= seq <= to_seq])

    async def last_seq(self, stream):
        return max(self.on_disk[stream], default=0)

    async def forget(self, stream, seqs):
        self.forgotten += [(stream, seq) for seq in seqs]


class Bench:
    def __init__(self, *, live_above=0, forget_on_puback=False, per_s=1e9):
        self.broker, self.disk = Broker(), Disk()
        self.highest = {}
        self.asked = AskedRanges()
        self.drain = Drain(
            self.broker,
            self.disk,
            Topics(SITE),
            live_above=live_above,
            forget_on_puback=forget_on_puback,
            on_sent=self.highest.__setitem__,
            pace=Pace(per_s),
            asked=self.asked,
        )
        self._task = asyncio.ensure_future(self.drain.run())

    async def settle(self):
        for _ in range(50):
            await asyncio.sleep(0)

    def end(self):
        self._task.cancel()


@pytest.fixture
async def bench():
    benches = []

    def make(**options):
        benches.append(Bench(**options))
        return benches[-1]

    yield make
    for each in benches:
        each.end()


async def test_acks_go_first_then_events_then_slots_then_live_frames_then_history(bench):
    at = bench(live_above=2)
    at.disk.rows = {Stream.ACK: [1, 2], Stream.EVENT: [1], Stream.LEDGER: [1], Stream.TELEMETRY: [1, 2, 3]}
    await at.settle()
    assert at.broker.sent == [
        ("ack", 1),
        ("ack", 2),
        ("event", 1),
        ("ledger", 1),
        ("telemetry", 3),
        ("history", 1),
        ("history", 2),
    ]
    assert at.highest == {Stream.ACK: 2, Stream.EVENT: 1, Stream.LEDGER: 1, Stream.TELEMETRY: 2}


async def test_history_leaves_room_for_what_is_measured_now(bench):
    at = bench(live_above=100)
    at.disk.rows[Stream.TELEMETRY] = list(range(1, 101))
    await at.settle()
    assert len(at.broker.sent) == HISTORY_IN_FLIGHT
    at.disk.rows[Stream.TELEMETRY].append(101)
    at.drain.more()
    await at.settle()
    assert at.broker.sent[-1] == ("telemetry", 101)


async def test_never_more_is_in_flight_than_the_window_and_each_puback_opens_it(bench):
    at = bench()
    at.disk.rows[Stream.TELEMETRY] = list(range(1, 101))
    at.disk.rows[Stream.ACK] = list(range(1, 101))
    await at.settle()
    assert len(at.broker.sent) == MAX_IN_FLIGHT
    at.broker.take(5)
    await at.settle()
    assert len(at.broker.sent) == MAX_IN_FLIGHT + 5


async def test_everything_is_sent_in_order_and_once(bench):
    at = bench()
    at.disk.rows[Stream.EVENT] = list(range(1, 101))
    for _ in range(60):
        await at.settle()
        at.drain.more()
        at.broker.take(3)
    assert at.broker.sent == [("event", seq) for seq in range(1, 101)]


async def test_it_asks_the_disk_nothing_while_nothing_is_new(bench):
    at = bench()
    at.disk.rows[Stream.EVENT] = [1]
    await at.settle()
    asked = at.disk.asked
    at.broker.take(1)
    await at.settle()
    assert at.disk.asked == asked


async def test_with_puback_confirmation_what_the_broker_took_is_forgotten(bench):
    at = bench(forget_on_puback=True)
    at.disk.rows[Stream.EVENT] = [1, 2, 3]
    await at.settle()
    at.broker.take(2)
    await at.settle()
    assert at.disk.forgotten == [(Stream.EVENT, 1), (Stream.EVENT, 2)]


async def test_what_the_broker_refuses_is_neither_forgotten_nor_sent_again_at_once(bench):
    at = bench(forget_on_puback=True)
    at.disk.rows[Stream.EVENT] = [1]
    await at.settle()
    at.broker.waiting[0].set_exception(PublishRefused("Not authorized"))
    await at.settle()
    assert (at.drain.refused, at.disk.forgotten, len(at.broker.sent)) == ("Not authorized", [], 1)


async def test_a_disk_that_fails_is_asked_again_later(bench, monkeypatch):
    monkeypatch.setattr(module, "DISK_RETRY_S", 0.01)
    at = bench()
    at.disk.failing = True
    at.disk.rows[Stream.EVENT] = [1]
    await at.settle()
    assert at.broker.sent == []
    at.disk.failing = False
    async with asyncio.timeout(5):
        while not at.broker.sent:  # noqa: ASYNC110 - no event tells what a broker was sent
            await asyncio.sleep(0.005)


class TestAsked:
    async def test_a_range_is_sent_once_more_whether_it_waits_or_not_behind_all_that_is_new(self, bench):
        at = bench(live_above=60)
        at.disk.on_disk[Stream.TELEMETRY] = list(range(1, 61))
        at.disk.rows[Stream.EVENT] = [1]
        assert (await at.asked.ask(at.disk, "telemetry", 11, 50)).messages == 40
        at.drain.more()
        for _ in range(20):
            await at.settle()
            at.broker.take(7)
        assert at.broker.sent == [("event", 1), *(("history", seq) for seq in range(11, 51))]
        assert not at.asked.waiting

    async def test_one_request_follows_the_other_each_on_the_topic_of_its_stream(self, bench):
        at = bench()
        at.disk.on_disk[Stream.ACK] = [1, 2, 3]
        at.disk.on_disk[Stream.FULL_RATE] = [7]
        await at.asked.ask(at.disk, "ack", 2, 2)
        await at.asked.ask(at.disk, "full_rate", 5, 7)
        at.drain.more()
        for _ in range(5):
            await at.settle()
            at.broker.take(5)
        assert at.broker.sent == [("ack", 2), ("history", 7)]

    async def test_what_the_broker_had_not_taken_when_the_line_broke_is_sent_on_the_next_one(self, bench):
        at = bench()
        at.disk.on_disk[Stream.TELEMETRY] = [1, 2]
        await at.asked.ask(at.disk, "telemetry", 1, 2)
        at.drain.more()
        await at.settle()
        at.broker.take(1)
        await at.settle()
        assert [asked.to_seq for asked in at.asked.waiting] == [2]
        at.broker.take(1)
        await at.settle()
        assert not at.asked.waiting

    @pytest.mark.parametrize(
        ("stream", "from_seq", "to_seq", "reason", "field"),
        [
            ("news", 1, 2, "bad_value", "stream"),
            ("telemetry", 0, 2, "bad_value", "to_seq"),
            ("telemetry", 5, 4, "bad_value", "to_seq"),
            ("telemetry", 5, 11, "bad_value", "to_seq"),
            ("telemetry", 1, 4, "not_kept", "from_seq"),
        ],
    )
    async def test_a_range_that_cannot_be_had_is_refused_by_name(self, stream, from_seq, to_seq, reason, field):
        disk, asked = Disk(), AskedRanges()
        disk.on_disk[Stream.TELEMETRY] = list(range(5, 11))
        refused = await asked.ask(disk, stream, from_seq, to_seq)
        assert (refused.reason, refused.field) == (reason, field)
        assert not asked.waiting

    async def test_only_so_many_requests_wait(self):
        disk, asked = Disk(), AskedRanges()
        disk.on_disk[Stream.TELEMETRY] = [1]
        for _ in range(MOST_ASKED):
            assert (await asked.ask(disk, "telemetry", 1, 1)).messages == 1
        assert (await asked.ask(disk, "telemetry", 1, 1)).reason == "too_many"


class TestPace:
    def test_no_more_than_so_many_go_in_a_second_and_what_was_not_used_is_gone(self):
        pace = Pace(4.0)
        assert pace.available(100.0) == 1
        pace.took(1)
        assert (pace.available(100.0), pace.wait_s()) == (0, 0.25)
        assert pace.available(100.5) == 2
        pace.took(2)
        assert pace.available(200.0) == 4

    def test_a_clock_that_stands_or_goes_back_gives_nothing(self):
        pace = Pace(4.0)
        pace.available(100.0)
        pace.took(1)
        assert (pace.available(99.0), pace.available(100.0)) == (0, 4)

    @pytest.mark.parametrize("begin_s", [4600.05, 616_628.433759, 3e8 + 0.1])
    @pytest.mark.parametrize("per_s", [0.3, 3.0, 7.0, 20.0])
    def test_after_the_wait_that_it_asks_for_one_may_go_whatever_rounding_does(self, per_s, begin_s):
        pace, now_s = Pace(per_s), begin_s
        for _ in range(300):
            if not pace.available(now_s):
                now_s += pace.wait_s()
                assert pace.available(now_s), f"at {now_s!r}"
            assert pace.wait_s() == 0.0, "an instant that no clock resolves would be waited for over and over"
            pace.took(1)

    async def test_history_keeps_to_the_pace_while_what_is_measured_now_does_not(self, bench):
        at = bench(live_above=50, per_s=0.001)
        at.disk.rows[Stream.TELEMETRY] = list(range(1, 61))
        for _ in range(5):
            await at.settle()
            at.broker.take(10)
        assert sorted(at.broker.sent) == [("history", 1), *(("telemetry", seq) for seq in range(51, 61))]

    async def test_what_waits_for_the_pace_goes_without_anybody_waking_the_drain(self, bench):
        at = bench(live_above=5, per_s=50.0)
        at.disk.rows[Stream.TELEMETRY] = [1, 2, 3, 4, 5]
        async with asyncio.timeout(5):
            while len(at.broker.sent) < 5:  # noqa: ASYNC110 - no event tells what a broker was sent
                await asyncio.sleep(0.005)

    async def test_a_window_that_is_shut_is_waited_for_and_not_looked_at_over_and_over(self, bench, monkeypatch):
        pauses = []

        async def noted(event, seconds):
            pauses.append(seconds)
            return await happened_within(event, seconds)

        monkeypatch.setattr(module, "happened_within", noted)
        at = bench(live_above=9)
        at.disk.rows[Stream.ACK] = list(range(1, MAX_IN_FLIGHT + 1))
        at.disk.rows[Stream.TELEMETRY] = [1, 2, 3]
        for _ in range(5):
            await at.settle()
        assert len(at.broker.sent) == MAX_IN_FLIGHT
        assert pauses == [module.NOTHING_NEW_S]
        at.broker.take(3)
        await at.settle()
        assert at.broker.sent[-3:] == [("history", 1), ("history", 2), ("history", 3)]
