"""Setting the power of an older SunSpec storage inverter (model 124): a window of rates closed to one power.

InWRte limits charging and OutWRte discharging, both in percent of WChaMax; a negative rate forces the other
direction. With both in force (StorCtl_Mod 3) the power must lie from -InWRte to OutWRte, so that OutWRte = p and
InWRte = -p make it p, in either direction. A window the wrong way round is refused by devices, hence both rates go in
one frame. Source: SunSpec model 124, and the "power window" chapter of Fronius' Modbus manual (42,0410,2049).

The order of a write is: the reversion time, the rates, the mode last; every write repeats all of it, which re-arms
the timer. When it runs out the device goes back to its own control, not to 0 W. Some devices have the register of the
timer and do not keep what is written to it: they have no dead-man, and the register is then left alone.

Whether the grid may charge the battery (ChaGriSet) is the owner's setting, and never written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from drivers.codec import OutOfRange, Rounding, encode, scale_factor, step
from drivers.read_back import ReadBack
from drivers.read_plan import Place, Reads
from drivers.readings import number
from drivers.registers import Registers
from drivers.setpoint import Unwritable, not_applied
from drivers.spec import DeviceSpec
from drivers.sunspec_layout import layout

MODEL_ID = 124
TIMER = "InOutWRte_RvrtTms"
CONTROL_POINTS: Final = ("WChaMax", "StorCtl_Mod", "OutWRte", "InWRte", TIMER)
BOTH_LIMITS = 3
"""StorCtl_Mod: bit 0 limits charging, bit 1 discharging."""
FULL_PCT = 100.0


class RateControl(ReadBack):
    """The registers of model 124 of one device; `learn` must come before `hold`."""

    _written = "setpoint"

    def __init__(self, spec: DeviceSpec, link: Registers, clock: Callable[[], float], places: Sequence[Place]) -> None:
        super().__init__(spec, link, clock, [places])
        self.has_dead_man = False
        """Whether the device ends the setpoint by itself, as far as it has shown yet."""
        self._keeps_timer = False
        """Whether it has the timer's register and has not shown that it drops what is written there."""

    async def learn(self) -> None:
        """Read what the device offers and holds; errors are `DeviceError`s."""
        self._last = await self._read()
        self.has_dead_man = self._keeps_timer = number(self._last, f"{MODEL_ID}.{TIMER}") is not None

    async def hold(self, power_w: float, generation: int) -> tuple[float | None, str]:
        """Write once and read back: what the device holds (None if unknown), and why that is not it, or ""."""
        if number(self._last, f"{MODEL_ID}.WChaMax") is None or self._exponent() is None:
            await self.learn()  # the device told no values when it was read last; perhaps it does by now
        percent = self._percent(power_w)
        failed = await self._write(self._frames(percent), generation)
        if failed is not None:
            return failed
        timer_s = number(self._last, f"{MODEL_ID}.{TIMER}")
        if timer_s is not None:
            self._keeps_timer = self._keeps_timer and 0 < timer_s <= self._spec.reversion_s
        self.has_dead_man = self._keeps_timer and timer_s is not None
        return self._held_w(), self._mismatch(percent)

    def held_w(self, reads: Reads) -> float | None:
        """The setpoint in force, None while the window is open or shut only on one side."""
        most_w, out_pct, in_pct = (number(reads, f"{MODEL_ID}.{name}") for name in ("WChaMax", "OutWRte", "InWRte"))
        if number(reads, f"{MODEL_ID}.StorCtl_Mod") != BOTH_LIMITS or most_w is None:
            return None
        if out_pct is None or in_pct is None or out_pct != -in_pct:
            return None
        return out_pct / FULL_PCT * most_w

    def _held_w(self) -> float | None:
        return self.held_w(self._last)

    def _percent(self, power_w: float) -> float:
        most_w = number(self._last, f"{MODEL_ID}.WChaMax")
        if most_w is None or most_w <= 0.0:
            raise Unwritable(f"{self._spec.device_id}: 124.WChaMax is not implemented, the rates have no unit")
        percent = power_w / most_w * FULL_PCT
        if abs(percent) > FULL_PCT:
            raise Unwritable(f"{self._spec.device_id}: {power_w:g} W is beyond 124.WChaMax, {most_w:g} W")
        return percent

    def _frames(self, percent: float) -> list[tuple[int, tuple[int, ...]]]:
        """The frames that make the device hold `percent`, in the order in which they must be written."""
        exponent = self._exponent()
        if exponent is None:
            raise Unwritable(f"{self._spec.device_id}: InOutWRte_SF is not implemented, the rates have no unit")
        points = layout(MODEL_ID).points
        try:
            rates = [encode(points["OutWRte"], value, exponent, Rounding.TOWARD_ZERO) for value in (percent, -percent)]
        except OutOfRange as error:
            raise Unwritable(f"{self._spec.device_id}: {error}") from error
        frames = []
        if self._keeps_timer:
            frames.append((self._address + points[TIMER].at, encode(points[TIMER], self._spec.reversion_s)))
        return [
            *frames,
            (self._address + points["OutWRte"].at, (*rates[0], *rates[1])),
            (self._address + points["StorCtl_Mod"].at, (BOTH_LIMITS,)),
        ]

    def _exponent(self) -> int | None:
        raw = number(self._last, f"{MODEL_ID}.InOutWRte_SF")
        return None if raw is None else scale_factor(int(raw))

    def _mismatch(self, percent: float) -> str:
        """Why what was read back is not what was written, or ""."""
        exponent = self._exponent()
        mode = number(self._last, f"{MODEL_ID}.StorCtl_Mod")
        if mode != BOTH_LIMITS:
            return not_applied(f"{MODEL_ID}.StorCtl_Mod", BOTH_LIMITS, mode)
        for name, wanted in (("OutWRte", percent), ("InWRte", -percent)):
            seen = number(self._last, f"{MODEL_ID}.{name}")
            if seen is None or exponent is None or abs(seen - wanted) >= step(exponent):
                return not_applied(f"{MODEL_ID}.{name}", wanted, seen)
        return ""
