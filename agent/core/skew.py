"""PV and load while battery and meter are not read at the same instant.

What the batteries do not explain at the meter is PV and load. But a meter read after a battery has moved, beside a
battery read before, shows the move as load; steering against it moves the battery back, and with a quick inverter the
site swings from limit to limit. So a change of PV and load is believed only beyond what moving batteries may explain.
A true change waits until they stand still, a tick or two; the energy of the slot is made good afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.core.site_view import SiteView

SAME_INSTANT_S = 0.02
"""Battery and meter read this close together show the same instant."""
REMEMBERED = 64
"""Setpoints kept at most; the oldest of a long silence say nothing more."""


@dataclass(frozen=True, slots=True)
class Explained:
    """What one tick leaves for the next."""

    others_w: float
    """PV and load as believed."""
    led_battery_w: float
    setpoints_w: tuple[tuple[float, float], ...] = ()
    """(monotonic time, site setpoint) of the last ticks, oldest first: what a reading may not show yet."""


def believed(before: Explained | None, now: SiteView) -> float | None:
    """PV and load at this tick, W toward the grid; None without the meter."""
    measured_w = now.others_w
    if measured_w is None or before is None or now.meter is None:
        return measured_w
    read_mono_s = _oldest_battery_mono_s(now)
    if read_mono_s is None or abs(now.meter.power_w.read_mono_s - read_mono_s) <= SAME_INSTANT_S:
        return measured_w
    setpoints_w = [power_w for _, power_w in _since(before.setpoints_w, read_mono_s)]
    commanded_w = max(setpoints_w) - min(setpoints_w) if setpoints_w else 0.0
    moved_w = max(commanded_w, abs(now.led_battery_w - before.led_battery_w))
    return min(max(before.others_w, measured_w - moved_w), measured_w + moved_w)


def explained(before: Explained | None, others_w: float | None, now: SiteView, setpoint_w: float) -> Explained | None:
    """What the next tick needs; nothing while PV and load are not known."""
    if others_w is None or now.meter is None:
        return None
    read_mono_s = _oldest_battery_mono_s(now)
    kept = before.setpoints_w if before is not None else ()
    if read_mono_s is not None:
        kept = _since(kept, read_mono_s)[-REMEMBERED:]
    return Explained(others_w, now.led_battery_w, (*kept, (now.at_mono_s, setpoint_w)))


def _since(setpoints_w: tuple[tuple[float, float], ...], mono_s: float) -> tuple[tuple[float, float], ...]:
    """The setpoints since `mono_s` and the two before: the last one may still have been on its way."""
    first = sum(at <= mono_s for at, _ in setpoints_w)
    return setpoints_w[max(first - 2, 0) :]


def _oldest_battery_mono_s(now: SiteView) -> float | None:
    return min((b.power_w.read_mono_s for b in now.batteries if b.power_w.value is not None), default=None)
