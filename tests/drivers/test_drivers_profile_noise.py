"""Every shipped profile on registers full of noise: no crash, and no number that cannot be true."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

import pytest
from drivers_peers import Clock

from agent.core.snapshot import Quality, Reading
from drivers.device import open_device
from drivers.errors import IdentityMismatch, ModbusRefused
from drivers.profile.load import load, shipped
from drivers.profile.model import Condition, Identity
from drivers.profile.reads import Spots
from drivers.spec import DeviceSpec

ROUNDS = 60
ODD = (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF, 0x7FC0, 0x7F80)
BOUNDS = {
    "soc_pct": (0.0, 100.0),
    "frequency_hz": (42.5, 69.0),
    "capacity_wh": (0.0, math.inf),
    "rated_discharge_w": (0.0, math.inf),
    "rated_charge_w": (0.0, math.inf),
    "live_discharge_limit_w": (0.0, math.inf),
    "live_charge_limit_w": (0.0, math.inf),
    "cell_min_v": (0.0, 10.0),
    "cell_max_v": (0.0, 10.0),
    "ready": (0.0, 1.0),
    "limited": (0.0, 1.0),
}


class Noise:
    """`Registers` that answer anything, sometimes with a refusal, and take every write; `written` are the addresses."""

    name, generation = "noise", 1

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.written: set[int] = set()

    def pace(self, between_s: float, after_connect_s: float) -> None:
        """Noise has no pace."""

    async def read_holding(self, unit_id: int, address: int, count: int) -> Sequence[int]:
        if self.random.random() < 0.02:
            raise ModbusRefused(self.random.choice((2, 3)), endpoint=self.name, unit_id=unit_id, address=address)
        odd = self.random.random() < 0.5
        return tuple(self.random.choice(ODD) if odd else self.random.randrange(0x10000) for _ in range(count))

    read_input = read_holding

    async def write_registers(
        self, unit_id: int, address: int, values: Sequence[int], *, generation: int | None = None
    ) -> None:
        assert all(0 <= value <= 0xFFFF for value in values)
        assert generation == self.generation
        self.written |= set(range(address, address + len(values)))
        if self.random.random() < 0.02:
            raise ModbusRefused(
                self.random.choice((1, 2, 3, 4, 6)), endpoint=self.name, unit_id=unit_id, address=address
            )

    async def write_register(self, unit_id: int, address: int, value: int, *, generation: int | None = None) -> None:
        await self.write_registers(unit_id, address, (value,), generation=generation)


def believing(profile):
    """The same profile, which takes anybody who says anything at all."""
    anything = Condition(point=profile.identity.check[0].point, is_not=-1)
    return profile.model_copy(update={"identity": Identity(check=[anything])})


DESCRIBED = {name: profile for name, found in sorted(shipped().items()) if not (profile := load(found.path)).sunspec}
CASES = [(name, role) for name, profile in DESCRIBED.items() for role in profile.roles]


@pytest.mark.parametrize(("name", "role"), CASES)
async def test_noise_never_becomes_a_number_that_cannot_be_true(name, role):
    profile = believing(load(shipped()[name].path))
    positive = "import" if role == "meter" else None
    believed = 0
    for seed in range(ROUNDS):
        device = open_device(DeviceSpec("dut", role, 1, profile=profile, positive=positive), Noise(seed), Clock())
        try:
            sample = await device.read()
        except (IdentityMismatch, ModbusRefused):
            continue
        believed += 1
        for field in dataclasses.fields(sample):
            reading = getattr(sample, field.name)
            if isinstance(reading, Reading) and reading.value is not None:
                low, high = BOUNDS.get(field.name, (-math.inf, math.inf))
                assert math.isfinite(reading.value), (seed, field.name)
                assert low <= reading.value <= high, (seed, field.name)
                assert reading.quality is Quality.GOOD
    assert believed > ROUNDS / 3


WRITABLE = [(name, role) for name, role in CASES if getattr(getattr(load(shipped()[name].path), role), "control", None)]


@pytest.mark.parametrize(("name", "role"), WRITABLE)
async def test_control_of_noise_writes_only_what_is_writable_and_never_breaks(name, role, monkeypatch):
    async def at_once(seconds):
        """Waiting is of no use here."""

    monkeypatch.setattr("asyncio.sleep", at_once)
    profile = believing(load(shipped()[name].path))
    spots = Spots(profile, 1, {})
    allowed = {
        at
        for point_name, point in profile.points.items()
        if point.write is not None and point.verified
        for at in range(spots[point_name].address, spots[point_name].end)
    }
    tried = 0
    for seed in range(ROUNDS // 3):
        noise = Noise(seed)
        device = open_device(DeviceSpec("dut", role, 1, profile=profile, reversion_s=60), noise, Clock())
        act = device.write_setpoint if role == "battery" else device.write_ceiling
        outcomes = [await act(power_w) for power_w in (0.0, 1000.0, 12_345.6)]
        outcomes.append(await (device.release() if role == "battery" else device.write_ceiling(None)))
        assert all(outcome.reason or outcome.ok for outcome in outcomes)
        assert noise.written <= allowed
        tried += bool(noise.written)
    remote = getattr(profile, role).control.remote
    assert bool(tried) == (remote is None), "noise does not say that it accepts remote control"
