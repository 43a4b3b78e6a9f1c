"""The whole shell on virtual time: one site, its broker and its cloud, and what the cloud sees of it."""

import pytest
from virtual_story import POWER, SLOW, nothing_is_missing, pass_time, simulated

from agent.core.authority import Source
from simulators.virtual.site_file import BATTERY_PORT


async def a_quarter_of_an_hour(world):
    cloud = world.cloud
    await pass_time(world, 10.0)
    for _ in range(2):
        cloud.send_command("set_power", POWER, lasts_s=60.0)
        await pass_time(world, 400.0)
    nothing_is_missing(cloud)
    assert [one.terminal for one in cloud.commands.values()] == [["done"]] * 2
    assert cloud.stages["stored"] >= 2, "a yearly plan and a rolling one"
    assert world.control.decisions[-1].source is Source.ROLLING
    assert cloud.instants.samples == pytest.approx(800, abs=70), "all but what the last frame will bring"
    counters = world.control.counters
    assert (counters.late_ticks, counters.writes_failed, counters.writes_verified > 10) == (0, 0, True)
    return cloud.digest.hexdigest()


def test_a_site_gets_its_plans_answers_commands_and_sends_its_frames_and_the_same_again_to_the_byte(tmp_path):
    first = simulated(a_quarter_of_an_hour, tmp_path / "a", seed=3)
    assert simulated(a_quarter_of_an_hour, tmp_path / "b", seed=3) == first


def test_a_start_leaves_the_connection_to_the_broker_alone_and_what_waits_there_is_not_too_much(tmp_path):
    async def story(world):
        world.loop.network.unplugged.add(BATTERY_PORT)  # the first tick waits for it, the connection does not
        await pass_time(world, 100.0)
        assert world.broker.connects == 1
        assert set(world.cloud.events) <= {"source_changed", "device_silent"}, "nothing of the link"

    simulated(story, tmp_path, **SLOW)
