"""Whether awards can be handed to the batteries' own droop (SunSpec 711), as which curves, or why not.

A device has one curve, the same both ways, that begins at the edge of its dead band and has no knee. It must be known
what its droop is per unit of, and the device must end it by itself when this agent is gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.core.awards import Sold, sold_w
from agent.core.droop import DeviceDroop, DroopTable, device_droop
from agent.core.rules import BatteryRules
from agent.core.snapshot import BatterySample

RESPOND_SHARE = 0.1
"""The device is asked for 90 % of a step within this share of the product's time to full response..."""
QUICKEST_S = 0.2
"""...and not less than this, the shortest open-loop response time of IEEE 1547-2018, 6.5.2.7."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one battery's device is to do."""

    curve: DeviceDroop
    award_w: float
    """The battery's part of the awards, > 0."""
    rated_w: float
    """What the curve is per unit of."""
    respond_in_s: float

    def answer_w(self, hz: float, nominal_hz: float) -> float:
        """The power on top of the setpoint, W toward the grid, that the curve gives at `hz`."""
        below_hz = nominal_hz - hz
        beyond_hz = max(abs(below_hz) - self.curve.dead_band_hz, 0.0)
        answer_w = min(beyond_hz / (nominal_hz * self.curve.droop), 1.0) * self.rated_w
        return math.copysign(answer_w, below_hz)


def parts_of(
    lines: tuple[Sold, ...], takes_part: Sequence[tuple[BatteryRules, BatterySample]], delegated: frozenset[str]
) -> Mapping[str, Part] | str:
    """What each battery's device is to follow for these awards together, or why they cannot be handed over.

    The awards must fit a device's curve (`curve_unfit`).
    """
    table, award_w = lines[0].table, min(sold_w(lines))
    total_w = sum(min(battery.rated_discharge_w, battery.rated_charge_w) for battery, _ in takes_part)
    parts: dict[str, Part] = {}
    for battery, sample in takes_part:
        name, offer = battery.device_id, sample.droop_offer
        if name not in delegated:
            return f"{name} answers by the agent, and an award is handed to all batteries that share it or to none"
        if offer is None:
            return f"{name} was not read yet, what it offers is not known"
        if battery.limits.shared_inverter is not None:
            return f"{name} shares its inverter with PV, and its droop would answer for both"
        if offer.cannot:
            return offer.cannot if len(takes_part) == 1 else f"{name} shares the award, but {offer.cannot}"
        if not offer.has_dead_man:
            return f"{name} has no reversion (711.RvrtTms): it would answer on if this agent died"
        part_w = award_w * min(battery.rated_discharge_w, battery.rated_charge_w) / total_w
        curve = device_droop(table, part_w, offer.rated_w)
        if curve is None:
            return f"{name} is rated {offer.rated_w / 1e3:g} kW, its part of the award is {part_w / 1e3:g} kW"
        parts[name] = Part(curve, part_w, offer.rated_w, respond_in_s(lines))
    return parts


def respond_in_s(lines: tuple[Sold, ...]) -> float:
    """The time in which a device is asked to make 90 % of a step."""
    return max(RESPOND_SHARE * min(line.table.full_by_s for line in lines), QUICKEST_S)


def curve_unfit(lines: tuple[Sold, ...]) -> str:
    """Why no device could follow these awards together, or ""."""
    table = lines[0].table
    up_w, down_w = sold_w(lines)
    if up_w != down_w:
        return "more is sold one way than the other, and a device answers both alike"
    if why := table_unfit(table):
        return why
    if any(_shape(line.table) != _shape(table) for line in lines):
        return "awards of different curves are in force at once, and the device has one"
    return ""


def table_unfit(table: DroopTable) -> str:
    """Why no device could follow this product's curve, or ""."""
    if table.gate_hz > 0.0:
        return f"{table.name} has a gate: a device counts from the edge of its dead band"
    return f"{table.name} has a knee, and the device's curve has none" if len(table.points) != 2 else ""


def _shape(table: DroopTable) -> tuple[tuple[tuple[float, float], ...], float]:
    return table.points, table.gate_hz
