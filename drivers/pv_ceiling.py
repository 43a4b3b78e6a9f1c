"""Limiting the power of a SunSpec PV inverter: model 704 of DER devices, model 123 of older inverters.

The ceiling is a share of the inverter's own maximum (702.WMax or 121.WMax). Its reversion is a dead-man in the other
direction than a battery's: when this agent is gone the inverter returns to full power. A ceiling belongs to an order
or to a limit that the agent watches; with nobody there to lift it, it would cost the site its PV for days, while what
protects the grid, the relay at the connection point, does not depend on us.

A write states the reversion first, then the share, the enable last, each frame whole; every write repeats the set,
which re-arms the timer. Released means disabled, with the share back at 100 %. Points that a device does not have are
left alone: without a timer it holds the ceiling until told otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.core.snapshot import Quality, Reading
from drivers.codec import Rounding, encode, scale_factor, step
from drivers.read_back import ReadBack
from drivers.read_plan import Place, Reads
from drivers.readings import number, reading
from drivers.registers import Registers
from drivers.setpoint import Unwritable, not_applied
from drivers.spec import DeviceSpec
from drivers.sunspec import Chain
from drivers.sunspec_layout import layout

ENABLED, DISABLED = 1, 0
FULL_PCT = 100.0
NO_BESIDE: Final = "the limit is for PV and battery together, and the battery's power has no value"
"""Why a hybrid's PV cannot be limited now: what its battery gives counts along."""


@dataclass(frozen=True, slots=True)
class Group:
    """The points of one model that limit active power."""

    model_id: int
    enable: str
    percent: str
    timer: str
    revert_percent: str | None = None
    """What it reverts to; a model without these ends the limit."""
    revert_enable: str | None = None

    @property
    def points(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(
            name
            for name in (self.enable, self.percent, self.revert_percent, self.revert_enable, self.timer)
            if name is not None
        )


GROUPS: Final = (
    Group(704, "WMaxLimPctEna", "WMaxLimPct", "WMaxLimPctRvrtTms", "WMaxLimPctRvrt", "WMaxLimPctEnaRvrt"),
    Group(123, "WMaxLim_Ena", "WMaxLimPct", "WMaxLimPct_RvrtTms"),
)
"""In the order in which they are preferred."""
RATINGS: Final = {702: ("WMax", "WMaxRtg"), 121: ("WMax",), 120: ("WRtg",)}
"""What 100 % means: the setting where there is one, else the nameplate."""


def controls_of(
    spec: DeviceSpec, link: Registers, clock: Callable[[], float], chain: Chain
) -> tuple[CeilingControl, ...]:
    """The power limits that the device's models offer, the preferred one first; whether they work, `learn` tells."""
    ratings = [chain.places(chain.first(model_id), names) for model_id, names in RATINGS.items()]
    found = []
    for group in GROUPS:
        places = chain.places(chain.first(group.model_id), group.points)
        if {group.enable, group.percent} <= {place.point.name for place in places}:
            found.append(CeilingControl(spec, link, clock, group, (places, *ratings)))
    return tuple(found)


class CeilingControl(ReadBack):
    """The power limit of one inverter; `learn` must come before the rest."""

    _written = "ceiling"

    def __init__(
        self,
        spec: DeviceSpec,
        link: Registers,
        clock: Callable[[], float],
        group: Group,
        places: Sequence[Sequence[Place]],
    ) -> None:
        """`places` are those of `group`, then those that state the maximum power, one sequence per model."""
        super().__init__(spec, link, clock, places)
        self.has_dead_man = False
        """Whether the device ends the ceiling by itself when writes stop."""
        self.places = tuple(places)
        self._group = group

    async def learn(self) -> bool:
        """Read what the device offers; False when the points are there but not implemented."""
        self._last = await self._read()
        group = self._group
        self.has_dead_man = all(
            self._number(name) is not None
            for name in (group.timer, group.revert_percent, group.revert_enable)
            if name is not None
        )
        known = self._number(group.enable) is not None and self._exponent() is not None
        return known and self.rated_w(self._last) is not None

    def rated_w(self, reads: Reads) -> float | None:
        """What 100 % means; the site file's rating where the device does not say."""
        stated = (number(reads, f"{model_id}.{name}") for model_id, names in RATINGS.items() for name in names)
        return next((rated_w for rated_w in stated if rated_w is not None and rated_w > 0.0), self._spec.rated_w)

    def ceiling(self, reads: Reads) -> tuple[Reading, Reading]:
        """Whether a ceiling is in force (1 or 0) and, while it is, how high it is, W."""
        group = self._group
        enabled = reading(reads, f"{group.model_id}.{group.enable}")
        percent = reading(reads, f"{group.model_id}.{group.percent}")
        rated_w = self.rated_w(reads)
        if enabled.value != ENABLED or percent.value is None or rated_w is None:
            return enabled, Reading(None, enabled.read_mono_s, Quality.MISSING)
        return enabled, Reading(percent.value / FULL_PCT * rated_w, percent.read_mono_s)

    async def hold(self, ceiling_w: float | None, generation: int) -> tuple[float | None, str]:
        """Write once and read back: the ceiling held (None = none, or not known), and why that is not it, or ""."""
        if self._exponent() is None or self.rated_w(self._last) is None:
            self._last = await self._read()  # it told no values when it was read last; perhaps it does by now
        percent = self._percent(ceiling_w)
        failed = await self._write(self._frames(percent), generation)
        if failed is not None:
            return failed
        return self._held_w(), self._mismatch(percent)

    def _percent(self, ceiling_w: float | None) -> float | None:
        if ceiling_w is None:
            return None
        rated_w = self.rated_w(self._last)
        if rated_w is None:
            raise Unwritable(f"{self._spec.device_id}: the inverter states no maximum power; state rated_power")
        return min(max(ceiling_w / rated_w * FULL_PCT, 0.0), FULL_PCT)

    def _frames(self, percent: float | None) -> list[tuple[int, tuple[int, ...]]]:
        """The frames that make the device hold `percent` (None = no ceiling), in the order of writing."""
        group, exponent = self._group, self._exponent()
        if exponent is None:
            raise Unwritable(f"{self._spec.device_id}: {group.percent} has no scale factor, the ceiling has no unit")
        points = layout(group.model_id).points

        def frame(first: str, *values: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
            return self._address + points[first].at, tuple(register for value in values for register in value)

        full = encode(points[group.percent], FULL_PCT, exponent)
        if percent is None:
            return [frame(group.percent, full), frame(group.enable, (DISABLED,))]
        frames = []
        if self.has_dead_man:
            timer = encode(points[group.timer], self._spec.reversion_s)
            if group.revert_percent is not None:
                # Contiguous: what to revert to, that the limit is then off, and when.
                frames.append(frame(group.revert_percent, full, (DISABLED,), timer))
            else:
                frames.append(frame(group.timer, timer))
        share = encode(points[group.percent], percent, exponent, Rounding.TOWARD_ZERO)
        return [*frames, frame(group.percent, share), frame(group.enable, (ENABLED,))]

    def _mismatch(self, percent: float | None) -> str:
        """Why what was read back is not what was written, or ""."""
        group, exponent = self._group, self._exponent()
        wants_on = DISABLED if percent is None else ENABLED
        if self._number(group.enable) != wants_on:
            return self._not_applied(group.enable, wants_on)
        if percent is None:
            return ""
        held = self._number(group.percent)
        if held is None or exponent is None or abs(held - percent) >= step(exponent):
            return self._not_applied(group.percent, percent)
        if not self.has_dead_man:
            return ""
        if group.revert_enable is not None and self._number(group.revert_enable) != DISABLED:
            return self._not_applied(group.revert_enable, DISABLED)
        timer_s = self._number(group.timer)
        if timer_s is None or not 0 < timer_s <= self._spec.reversion_s:
            return self._not_applied(group.timer, self._spec.reversion_s)
        return ""

    def _held_w(self) -> float | None:
        return self.ceiling(self._last)[1].value

    def _exponent(self) -> int | None:
        scale = layout(self._group.model_id).points[self._group.percent].sf
        raw = self._number(scale) if scale is not None else None
        return None if raw is None else scale_factor(int(raw))

    def _number(self, name: str) -> float | None:
        return number(self._last, f"{self._group.model_id}.{name}")

    def _not_applied(self, name: str, wanted: float) -> str:
        point, look_at = f"{self._group.model_id}.{name}", "that remote power limitation is allowed in the inverter"
        return not_applied(point, wanted, self._number(name), look_at)
