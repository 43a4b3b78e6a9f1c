"""A flood costs the sender: memory and time are bounded, nothing that must be heard is lost, order is kept."""

import asyncio
import threading

import pytest
from cloud_double import until

from agent.cloud.intake import MAX_INBOUND, UNASKED_PER_S, Inbound, Intake
from agent.cloud.receiving import COMMANDS_PER_S, LANE_LENGTH, Receiving
from agent.cloud.topics import Topics

TOPICS = Topics("demo-01")
COMMAND, WATERMARK = TOPICS.command, TOPICS.watermark
PLAN = "ems/v1/demo-01/cloud/plan/rolling"


def message(mid, topic=COMMAND, qos=1):
    return Inbound(topic, b"x", mid, qos)


class TestIntake:
    async def test_what_must_be_heard_waits_on_the_network_thread_and_comes_in_order(self):
        intake = Intake()
        offered = []

        def flood():
            for mid in range(1000):
                intake.offer(message(mid))
                offered.append(mid)

        thread = threading.Thread(target=flood)
        thread.start()
        await until(lambda: len(offered) == MAX_INBOUND, "all room taken")
        assert thread.is_alive()
        assert [(await intake.take()).mid for _ in range(1000)] == list(range(1000))
        thread.join(10)
        assert intake.dropped == 0

    async def test_what_nobody_asked_for_is_dropped_before_the_loop_hears_of_it(self):
        now = [0.0]
        intake = Intake(lambda: now[0])
        for mid in range(10_000):
            intake.offer(message(mid, qos=0))
            if intake._waiting.qsize() == 0 and intake._room._value < MAX_INBOUND:
                await intake.take()
        assert intake.dropped >= 10_000 - UNASKED_PER_S
        now[0] = 1.0
        before = intake.dropped
        intake.offer(message(1, qos=0))
        assert intake.dropped == before, "a second later there is room for some again"

    async def test_a_thread_that_waits_is_let_go_when_the_connection_ends(self):
        intake = Intake()
        thread = threading.Thread(target=lambda: [intake.offer(message(mid)) for mid in range(MAX_INBOUND + 1)])
        thread.start()
        await until(lambda: intake._room._value == 0, "all room taken")
        intake.close()
        await until(lambda: not thread.is_alive(), "the end of the thread")

    async def test_the_broker_hears_of_what_is_done_in_the_order_in_which_it_came(self):
        intake = Intake()
        taken = []
        for mid in (5, 6, 7, 8):
            intake.offer(message(mid))
            taken.append(await intake.take())
        five, six, seven, eight = taken
        assert intake.done(seven) == []
        assert intake.done(five) == [5]
        assert intake.done(six) == [6, 7]
        assert intake.done(eight) == [8]


class Line:
    """A connection's intake that never runs dry, as fast as it is read."""

    def __init__(self, *messages):
        self.dropped = 0
        self._left = list(messages)
        self.read = 0

    async def take(self):
        await asyncio.sleep(0)
        if not self._left:
            await asyncio.Event().wait()
        self.read += 1
        return self._left.pop(0)


@pytest.fixture
async def receiving():
    """A factory: runs on the line until the test is over; what was taken, acknowledged and told."""
    tasks = []

    def run(line, *, take=None):
        found = type("Found", (), {"taken": [], "acknowledged": [], "told": []})()

        async def took(one):
            found.taken.append(one.mid)
            if take is not None:
                await take(one)

        async def too_many(topic, detail):
            found.told.append((topic, detail))

        part = Receiving(
            line, TOPICS, take=took, acknowledge=lambda one: found.acknowledged.append(one.mid), too_many=too_many
        )
        tasks.append(asyncio.create_task(part.run()))
        return found

    yield run
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class TestLanes:
    async def test_a_flood_of_commands_is_taken_no_faster_than_told_and_all_of_it(self, receiving):
        loop = asyncio.get_running_loop()
        count = int(1.5 * COMMANDS_PER_S)
        begun_s = loop.time()
        found = receiving(Line(*(message(mid) for mid in range(count))))
        await until(lambda: len(found.acknowledged) == count, "all of them")
        assert loop.time() - begun_s >= 0.4
        assert found.taken == found.acknowledged == list(range(count))
        assert {topic for topic, _ in found.told} == {COMMAND}

    async def test_large_documents_leave_time_for_the_rest(self, receiving):
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        found = receiving(Line(*(Inbound(PLAN, bytes(1_000_000), mid, 1) for mid in range(6))))
        await until(lambda: len(found.acknowledged) == 6, "all of them")
        assert loop.time() - begun_s >= 5 * 0.1

    async def test_a_command_does_not_wait_behind_documents(self, receiving):
        hold = asyncio.Event()

        async def take(one):
            if one.topic == PLAN:
                await hold.wait()

        line = Line(*(message(mid, PLAN) for mid in range(LANE_LENGTH)), message(99))
        found = receiving(line, take=take)
        await until(lambda: 99 in found.acknowledged, "the command")
        assert found.acknowledged == [99]
        hold.set()
        await until(lambda: len(found.acknowledged) == LANE_LENGTH + 1, "the documents")

    async def test_only_a_few_are_read_ahead_of_those_that_are_taken(self, receiving):
        async def never(_one):
            await asyncio.Event().wait()

        line = Line(*(message(mid, PLAN) for mid in range(100)))
        receiving(line, take=never)
        await until(lambda: line.read >= LANE_LENGTH + 2, "the lane is full")
        for _ in range(50):
            await asyncio.sleep(0)
        assert line.read == LANE_LENGTH + 2

    async def test_of_many_watermarks_the_newest_counts_and_all_are_acknowledged(self, receiving):
        found = receiving(Line(*(message(mid, WATERMARK) for mid in range(5000))))
        await until(lambda: 4999 in found.taken, "the newest")
        await until(lambda: len(found.acknowledged) == 5000, "all acknowledged")
        assert found.taken == sorted(found.taken)
        assert len(found.taken) < 100

    async def test_what_was_dropped_on_the_line_is_told(self, receiving):
        line = Line()
        found = receiving(line)
        line.dropped = 4321
        await until(lambda: found.told, "the word")
        assert "4321 messages" in found.told[0][1]
