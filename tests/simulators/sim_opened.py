"""Our drivers on simulated devices, over real Modbus TCP."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from drivers.device import DeviceSpec, open_device
from drivers.endpoint import TcpEndpoint
from drivers.link import Link

DEADLINE_S = 20.0


@asynccontextmanager
async def opened(port, role, unit_id=1, **spec):
    """The device of this role behind a port, with its link closed in the end."""
    link = Link(TcpEndpoint("127.0.0.1", port), timeout_s=5.0, clock=time.monotonic)
    try:
        yield open_device(DeviceSpec("dut", role, unit_id, **spec), link, time.monotonic)
    finally:
        await link.close()


async def driven(battery, power_w, within_w):
    """A setpoint is taken, read back, and followed to so many W."""
    outcome = await battery.write_setpoint(power_w)
    assert (outcome.ok, outcome.reason) == (True, "")
    assert outcome.held_w == pytest.approx(power_w, abs=100.0)

    async def followed():
        sample = await battery.read()
        assert sample.held_setpoint_w.value == pytest.approx(power_w, abs=100.0)
        return sample.power_w.value == pytest.approx(power_w, abs=within_w)

    await until(followed)


async def until(condition):
    """Polls, over the wire, until the condition holds."""
    ends_s = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < ends_s, f"{condition.__name__} did not come true in time"
        await asyncio.sleep(0.01)
