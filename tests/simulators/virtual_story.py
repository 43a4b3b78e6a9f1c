"""A story told to the whole shell on virtual time, and what its cloud must have seen in the end."""

import asyncio

from agent.config import load
from simulators.virtual.loop import run
from simulators.virtual.site_file import VirtualSite
from simulators.virtual.watch import Watch
from simulators.virtual.world import World

POWER = {"target": "battery", "power": 20.0, "unit": "kW", "positive": "export", "duration_s": 60.0}
SLOW = {"tick_s": 5.0, "poll_s": 5.0, "frame_s": 10}
"""A site on which a simulated hour takes a second or two."""


def simulated(story, folder, **site):
    """The result of `story(world)`; every tick of it kept the invariants."""

    async def main(loop):
        world = World(loop, VirtualSite(**site), folder)
        world.cloud.null_share = 0.0
        world.watch = Watch(world, load(folder / "site.toml").rules())
        await world.start()
        world.start_agent()
        try:
            result = await story(world)
            assert world.watch.all_broken() == []
            return result
        finally:
            await world.close()

    folder.mkdir(exist_ok=True)
    return run(main)


async def pass_time(world, seconds):
    end_s = world.loop.time() + seconds
    while world.loop.time() < end_s:
        await asyncio.sleep(min(60.0, end_s - world.loop.time()))
        world.check_agent()


def nothing_is_missing(cloud):
    found = (cloud.findings, cloud.unexplained_gaps(), cloud.unanswered(), cloud.instants.duplicates)
    assert found == ([], {}, [], 0), found
