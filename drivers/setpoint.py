"""Setting the active power of a SunSpec DER (model 704), with the device's own reversion as a dead-man.

The order of a write is: what to revert to (0 W), reversion enabled and its time, mode and setpoint, and the
enable last. Contiguous registers go in one frame, so that the device takes them together; the enable has a
frame of its own, because a device may apply one frame register by register and WSetEna comes first in it: it
would start with the setpoint that somebody left there. WSetPct and WSetPctRvrt (between WSetRvrt and
WSetEnaRvrt) are never written. Every write repeats the whole set, which re-arms the timer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from drivers.codec import OutOfRange, Rounding, encode, scale_factor, step
from drivers.errors import ModbusRefused
from drivers.read_back import ReadBack
from drivers.read_plan import Place, Reads
from drivers.readings import number
from drivers.registers import Registers
from drivers.spec import DeviceSpec
from drivers.sunspec_layout import layout

REVERSION_POINTS: Final = ("WSetRvrt", "WSetEnaRvrt", "WSetRvrtTms")
CONTROL_POINTS: Final = ("WSetEna", "WSetMod", "WSet", *REVERSION_POINTS)
MODEL_ID = 704
ENABLED = 1
IN_WATTS = 1
NEUTRAL_W = 0.0
HEARTBEAT_WRAP = 0xFFFF_FFFF
"""That value means "not implemented", so that the count begins again at 0 instead."""


class Unwritable(Exception):  # noqa: N818  # an outcome for the caller, never seen outside
    """The setpoint cannot be expressed in the device's registers; nothing was written."""


RECENT_BEAT_S = 2.0
"""Twice the interval at which a controller that is alive counts on."""


class Heartbeat:
    """715.ControllerHb, 802.CtrlHb: tell the device that its controller is alive, with each setpoint and every second.

    Never from the polling: that goes on when the control behind it has stopped.
    """

    def __init__(self, places: Sequence[Place] = ()) -> None:
        self._places = list(places)
        self._count = 0
        self._counted_s = -math.inf

    @property
    def wanted(self) -> bool:
        """Whether the device has a register that takes them."""
        return bool(self._places)

    def recent(self, now_s: float) -> bool:
        """Whether the device heard of us so lately that a setpoint need not wait for the next beat."""
        return now_s - self._counted_s <= RECENT_BEAT_S

    async def beat(self, link: Registers, unit_id: int, generation: int, now_s: float) -> None:
        """Count on in each register that the device has; one that it refuses is not written again."""
        self._counted_s = now_s
        self._count = (self._count + 1) % HEARTBEAT_WRAP
        for place in tuple(self._places):
            values = encode(place.point, self._count % ((1 << (16 * place.point.size)) - 1))
            try:
                await link.write_registers(unit_id, place.address, values, generation=generation)
            except ModbusRefused:
                self._places.remove(place)


class SetpointControl(ReadBack):
    """The registers of model 704 of one device; `learn` must come before `hold`."""

    _written = "setpoint"

    def __init__(self, spec: DeviceSpec, link: Registers, clock: Callable[[], float], places: Sequence[Place]) -> None:
        super().__init__(spec, link, clock, [places])
        self.has_dead_man = False
        """Whether all reversion points are there; else they are left alone."""

    async def learn(self) -> None:
        """Read what the device offers and holds; errors are `DeviceError`s."""
        self._last = await self._read()
        self.has_dead_man = all(number(self._last, f"704.{name}") is not None for name in REVERSION_POINTS)

    async def hold(self, power_w: float, generation: int) -> tuple[float | None, str]:
        """Write once and read back: what the device holds (None if unknown), and why that is not it, or ""."""
        if self._exponent() is None:
            await self.learn()  # the device told no values when it was read last; perhaps it does by now
        failed = await self._write(self._frames(power_w), generation)
        if failed is not None:
            return failed
        return self._held_w(), self._mismatch(power_w)

    def _held_w(self) -> float | None:
        return held_w(self._last)

    def _frames(self, power_w: float) -> list[tuple[int, tuple[int, ...]]]:
        """The frames that make the device hold `power_w`, in the order in which they must be written."""
        exponent = self._exponent()
        if exponent is None:
            raise Unwritable(f"{self._spec.device_id}: WSet_SF is not implemented, the setpoint has no unit")
        points = layout(MODEL_ID).points
        try:
            setpoint = encode(points["WSet"], power_w, exponent, Rounding.TOWARD_ZERO)
        except OutOfRange as error:
            raise Unwritable(f"{self._spec.device_id}: {error}") from error
        frames = []
        if self.has_dead_man:
            neutral = encode(points["WSetRvrt"], NEUTRAL_W, exponent)
            timer = encode(points["WSetRvrtTms"], self._spec.reversion_s)
            frames += [
                (self._address + points["WSetRvrt"].at, neutral),
                (self._address + points["WSetEnaRvrt"].at, (ENABLED, *timer)),
            ]
        return [
            *frames,
            (self._address + points["WSetMod"].at, (IN_WATTS, *setpoint)),
            (self._address + points["WSetEna"].at, (ENABLED,)),
        ]

    def _exponent(self) -> int | None:
        raw = number(self._last, "704.WSet_SF")
        return None if raw is None else scale_factor(int(raw))

    def _mismatch(self, power_w: float) -> str:
        """Why what was read back is not what was written, or ""."""
        reads, exponent = self._last, self._exponent()
        wants = [("WSetEna", ENABLED), ("WSetMod", IN_WATTS)]
        if self.has_dead_man:
            wants += [("WSetEnaRvrt", ENABLED)]
        for name, wanted in wants:
            seen = number(reads, f"704.{name}")
            if seen != wanted:
                return not_applied(f"704.{name}", wanted, seen)
        setpoint_w = number(reads, "704.WSet")
        if setpoint_w is None or exponent is None or abs(setpoint_w - power_w) >= step(exponent):
            return not_applied("704.WSet", power_w, setpoint_w)
        if not self.has_dead_man:
            return ""
        neutral_w, timer_s = number(reads, "704.WSetRvrt"), number(reads, "704.WSetRvrtTms")
        if neutral_w != NEUTRAL_W:
            return not_applied("704.WSetRvrt", NEUTRAL_W, neutral_w)
        if timer_s is None or not 0 < timer_s <= self._spec.reversion_s:
            return not_applied("704.WSetRvrtTms", self._spec.reversion_s, timer_s)
        return ""


def held_w(reads: Reads) -> float | None:
    """The setpoint in force, None while control by watts is not enabled."""
    if number(reads, "704.WSetEna") == ENABLED and number(reads, "704.WSetMod") == IN_WATTS:
        return number(reads, "704.WSet")
    return None


LOOK_AT: Final = "local/remote mode, the device's limits"


def not_applied(point: str, wanted: float, seen: float | None, look_at: str = LOOK_AT) -> str:
    """What to say of a point, such as 704.WSet, that does not read back what was written to it."""
    reads = "is not implemented" if seen is None else f"reads {seen:g}"
    return (
        f"accepted but not applied: {point} {reads} where {wanted:g} was written; "
        f"check {look_at}, and that no other client controls it"
    )
