"""The MQTT rows of the fault matrix, with the whole shell on virtual time, judged by what the cloud has in the end."""

import asyncio
import json

import pytest
from virtual_story import POWER, SLOW, nothing_is_missing, pass_time, simulated

from agent.core.authority import Source
from simulators.virtual.broker import SESSION_TAKEN_OVER

CALM_S = 400.0
"""Time in which all that waited has arrived."""


def newest_age_s(world):
    return world.cloud.utc_s() - world.cloud.newest_utc_s


@pytest.mark.parametrize(("how", "away_s"), [("down", 3600.0), ("deaf", 1200.0), ("forgets", 1200.0)])
def test_an_hour_without_a_broker_costs_nothing_but_time(tmp_path, how, away_s):
    async def story(world):
        await pass_time(world, 60.0)
        begun = world.control.counters.ticks
        if how == "deaf":
            world.broker.go_deaf()
        else:
            world.broker.go_down(forget=how == "forgets")
        await pass_time(world, away_s)
        assert world.control.counters.ticks - begun == away_s / 5, "control did not notice"
        assert (world.control.counters.late_ticks, world.control.plans.rolling is not None) == (0, True)
        assert newest_age_s(world) > away_s - 60.0
        world.broker.go_up()
        await pass_time(world, 75.0)
        assert newest_age_s(world) < 60.0, "what is measured now does not wait for the past"
        await pass_time(world, CALM_S)
        nothing_is_missing(world.cloud)
        assert world.cloud.instants.samples >= away_s / 5
        assert world.cloud.messages["history"] >= away_s / 10 - 10, "what was sealed meanwhile is history"

    simulated(story, tmp_path / "a", seed=1, **SLOW)


def test_a_connection_that_flaps_is_made_ever_more_slowly_told_once_and_nothing_is_lost(tmp_path):
    async def story(world):
        await pass_time(world, 60.0)
        begun = world.broker.connects
        for _ in range(300):
            await pass_time(world, 2.0)
            world.broker.cut_all()
        assert world.broker.connects - begun < 60, "ten minutes of it"
        world.cloud.send_command("set_power", POWER, lasts_s=60.0)
        await pass_time(world, CALM_S)
        nothing_is_missing(world.cloud)
        assert world.cloud.events["connection_flaps"] == 2, "raised and cleared"

    simulated(story, tmp_path / "a", seed=2, **SLOW)


def test_messages_that_come_twice_and_out_of_order_have_one_outcome_and_one_effect(tmp_path):
    async def story(world):
        await pass_time(world, 60.0)
        world.broker.faults.duplicated = world.broker.faults.reordered = 0.5
        for _ in range(20):
            world.cloud.send_command("set_power", POWER, lasts_s=60.0)
            await pass_time(world, 15.0)
        world.broker.faults.duplicated = world.broker.faults.reordered = 0.0
        await pass_time(world, CALM_S)
        nothing_is_missing(world.cloud)
        assert [(one.accepted, len(one.terminal)) for one in world.cloud.commands.values()] == [(1, 1)] * 20
        assert sum(stream.redelivered for stream in world.cloud.streams.values()) > 10, "they did come twice"

    simulated(story, tmp_path / "a", seed=3, **SLOW)


def test_what_the_broker_acknowledged_and_lost_is_sent_again_above_the_watermark(tmp_path):
    async def story(world):
        await pass_time(world, 60.0)
        world.broker.faults.lost_after_ack = 0.5
        for _ in range(10):
            world.cloud.send_command("set_power", POWER, lasts_s=60.0)
            await pass_time(world, 60.0)
        assert world.cloud.unexplained_gaps(), "something was lost"
        world.broker.faults.lost_after_ack = 0.0
        await pass_time(world, 2 * CALM_S)
        nothing_is_missing(world.cloud)

    simulated(story, tmp_path / "a", seed=4, **SLOW)


def test_another_client_with_our_id_is_an_alarm_and_no_storm(tmp_path):
    async def story(world):
        await pass_time(world, 60.0)
        begun = world.broker.connects
        world.broker.cut_all(SESSION_TAKEN_OVER)
        await pass_time(world, 25.0)
        assert world.broker.connects == begun, "not at once"
        for _ in range(60):
            world.broker.cut_all(SESSION_TAKEN_OVER)
            await pass_time(world, 10.0)
        assert world.broker.connects - begun <= 2 * 10 + 1, "about one a minute"
        await pass_time(world, CALM_S)
        nothing_is_missing(world.cloud)
        assert world.cloud.events["client_id_taken"] == 2, "raised and cleared"

    simulated(story, tmp_path / "a", seed=5, **SLOW)


def test_what_is_hostile_old_foreign_or_broken_moves_nothing_and_is_refused_by_name(tmp_path):
    async def story(world):
        cloud = world.cloud
        await pass_time(world, 60.0)
        first = cloud.commands[cloud.send_command("set_power", POWER, lasts_s=60.0)]
        await pass_time(world, 120.0)
        rolling = world.control.plans.rolling
        fields = json.loads(first.payload)
        hostile = [
            ("command", first.payload),
            ("command", json.dumps(fields | {"id": "x-1", "site_id": "virtual-02"}).encode()),
            ("command", json.dumps(fields | {"id": "x-2"}).encode()),
            ("command", json.dumps(fields | {"schema": "9.0", "id": "x-3"}).encode()),
            ("command", b"[" * 10_000),
            ("command", b"\xff\xfe"),
            ("command", b'{"id": "x-4", "type": "set_power", "params": {"power": NaN}}'),
            ("command", b"x" * 100_000),
            ("plan/rolling", b'{"schema": "1.0", "version": 1e999}'),
            ("plan/rolling", b"\x1f\x8b broken"),
            ("watermark", b'{"schema": "1.0", "site_id": "virtual-01", "stored": {"telemetry": 99999999}}'),
        ]
        sources = set()
        world.on_tick.append(lambda control, effects: sources.add(effects.decision.source))
        for name, payload in hostile:
            cloud.send_raw(name, payload)
            await pass_time(world, 10.0)
        assert sources == {Source.ROLLING}, "nobody else decided for a moment"
        assert world.control.plans.rolling is rolling
        await pass_time(world, CALM_S)
        nothing_is_missing(cloud)
        assert (first.accepted, first.terminal) == (1, ["done"])
        assert cloud.stages["rejected"] >= 6
        assert cloud.events["message_refused"] >= 2
        assert cloud.events["watermark_refused"] == 1

    simulated(story, tmp_path / "a", seed=6, **SLOW)


def test_killed_around_commands_and_documents_at_any_point_each_has_one_outcome_and_nothing_is_lost(tmp_path):
    async def story(world):
        await pass_time(world, 30.0)
        world.broker.faults.latency_s, world.disk.job_s = 0.001, 0.01
        for number in range(10):
            command = world.cloud.send_command("set_power", POWER, lasts_s=60.0)
            if number % 3 == 0:
                world.cloud.publish_plan("rolling", 96, target="battery")
            # Broker, disk and device each take milliseconds: this falls between any two of their steps.
            await asyncio.sleep(0.002 + 0.005 * number)
            await world.kill_agent()
            await asyncio.sleep(3.0)
            world.start_agent()
            # Apart by so much, for five starts in ten minutes are a crash loop.
            await pass_time(world, 150.0)
            assert world.cloud.commands[command].accepted <= 1
        await pass_time(world, CALM_S)
        nothing_is_missing(world.cloud)
        assert world.cloud.versions["rolling"] == world.control.plans.rolling.version

    simulated(story, tmp_path / "a", seed=7, **SLOW)


@pytest.mark.parametrize("step_s", [-3600.0, -1.8e9, 86_400.0])
def test_a_clock_that_is_set_wrong_and_right_again_executes_no_slot_twice_and_all_arrives(tmp_path, step_s):
    async def story(world):
        await pass_time(world, 700.0)
        begun = world.control.counters.ticks
        world.clock.step_s = step_s
        await pass_time(world, 300.0)
        assert world.control.trust.trusted == (step_s > 0), "ahead is believed, behind is not"
        if step_s < 0:
            assert world.control.decisions[-1].source is not Source.ROLLING
        assert world.control.counters.ticks - begun == pytest.approx(60, abs=2), "monotonic timers hold"
        world.clock.step_s = 0.0
        await pass_time(world, CALM_S)
        assert world.control.decisions[-1].source is Source.ROLLING, "the wrong future is no floor"
        nothing_is_missing(world.cloud)

    simulated(story, tmp_path / "a", seed=8, **SLOW)


def test_after_ten_minutes_of_sleep_everything_is_read_before_anything_is_written_and_the_slot_of_now_decides(tmp_path):
    async def story(world):
        await pass_time(world, 300.0)
        begun = world.control.counters.ticks
        world.loop.pause(600.0)
        await pass_time(world, 60.0)
        counters = world.control.counters
        assert counters.late_ticks == pytest.approx(120, abs=2), "skipped, not made up"
        assert counters.ticks - begun == pytest.approx(12, abs=3)
        slot, now_s = world.control.decisions[-1].slot, world.true_utc_s()
        assert slot.start_utc_s <= now_s < slot.end_utc_s
        await pass_time(world, CALM_S)
        nothing_is_missing(world.cloud)

    simulated(story, tmp_path / "a", seed=9, **SLOW)
