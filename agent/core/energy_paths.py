"""Where the energy of an interval came from and went to: the seven paths that settlement under FIP needs.

Sources are PV, battery discharge and grid import; sinks are load, battery charge and grid export. Each instant is split
by one stated order: PV serves the load first, then the battery, then the grid; the battery serves what is left of the
load, then the grid; the grid serves the rest. With the sign rule `grid = battery + pv + load` the paths of an instant
add up exactly to each of the four powers.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.made_often import made_often

BETWEEN_READINGS_SHARE = 0.01
"""Of all energy that moved in a slot, at most so much may have passed the meter unseen between two readings."""


@made_often
@dataclass(frozen=True, slots=True)
class EnergyPaths:
    """Energies in Wh, all >= 0; in `split_s` seconds every power was known, in all others nothing was split."""

    pv_to_load_wh: float = 0.0
    pv_to_battery_wh: float = 0.0
    pv_to_grid_wh: float = 0.0
    battery_to_load_wh: float = 0.0
    battery_to_grid_wh: float = 0.0
    grid_to_load_wh: float = 0.0
    grid_to_battery_wh: float = 0.0
    split_s: float = 0.0

    @property
    def exported_wh(self) -> float:
        """Energy out through the connection point."""
        return self.pv_to_grid_wh + self.battery_to_grid_wh

    @property
    def imported_wh(self) -> float:
        """Energy in through the connection point, >= 0."""
        return self.grid_to_load_wh + self.grid_to_battery_wh

    @property
    def grid_wh(self) -> float:
        """Net energy through the connection point, + = export, as the paths add up."""
        return self.exported_wh - self.imported_wh


NOTHING = EnergyPaths()


def added(
    paths: EnergyPaths, dt_s: float, battery_w: float | None, pv_w: float | None, load_w: float | None
) -> EnergyPaths:
    """The paths after `dt_s` more at these powers (W, + toward the grid).

    A load that shows as positive (unmeasured generation behind the meter) counts as PV; PV that draws power at night
    counts as load.
    """
    if dt_s <= 0.0 or battery_w is None or pv_w is None or load_w is None:
        return paths
    # At every tick: comparisons cost a third of `min` and `max`.
    sun_w = (pv_w if pv_w > 0.0 else 0.0) + (load_w if load_w > 0.0 else 0.0)
    draw_w = (-pv_w if pv_w < 0.0 else 0.0) + (-load_w if load_w < 0.0 else 0.0)
    discharge_w, charge_w = (battery_w, 0.0) if battery_w > 0.0 else (0.0, -battery_w)
    pv_load_w = sun_w if sun_w < draw_w else draw_w
    left_w = sun_w - pv_load_w
    pv_battery_w = left_w if left_w < charge_w else charge_w
    pv_grid_w = left_w - pv_battery_w
    open_load_w = draw_w - pv_load_w
    battery_load_w = discharge_w if discharge_w < open_load_w else open_load_w
    hours = dt_s / 3600.0
    return EnergyPaths(
        paths.pv_to_load_wh + pv_load_w * hours,
        paths.pv_to_battery_wh + pv_battery_w * hours,
        paths.pv_to_grid_wh + pv_grid_w * hours,
        paths.battery_to_load_wh + battery_load_w * hours,
        paths.battery_to_grid_wh + (discharge_w - battery_load_w) * hours,
        paths.grid_to_load_wh + (open_load_w - battery_load_w) * hours,
        paths.grid_to_battery_wh + (charge_w - pv_battery_w) * hours,
        paths.split_s + dt_s,
    )


def scaled_to(paths: EnergyPaths, exported_wh: float, imported_wh: float) -> EnergyPaths:
    """The same paths with the grid's legs corrected so that they add up to what the meter counted each way.

    Sampled powers and counters differ a little, and settlement believes the meter: the legs of each direction grow or
    shrink together, at most to the double. What then is left is energy that passed between two readings; it is shared
    out by what each source gave or each sink took in all, as long as it is a small part of what moved. More than that
    is not invented: it stays visible as the difference between `grid_wh` and the meter.
    """
    pv_wh = paths.pv_to_load_wh + paths.pv_to_battery_wh + paths.pv_to_grid_wh
    discharge_wh = paths.battery_to_load_wh + paths.battery_to_grid_wh
    load_wh = paths.pv_to_load_wh + paths.battery_to_load_wh + paths.grid_to_load_wh
    charge_wh = paths.pv_to_battery_wh + paths.grid_to_battery_wh
    most_wh = BETWEEN_READINGS_SHARE * (pv_wh + discharge_wh + paths.imported_wh)
    out = _legs((paths.pv_to_grid_wh, paths.battery_to_grid_wh), (pv_wh, discharge_wh), exported_wh, most_wh)
    into = _legs((paths.grid_to_load_wh, paths.grid_to_battery_wh), (load_wh, charge_wh), imported_wh, most_wh)
    return EnergyPaths(
        paths.pv_to_load_wh,
        paths.pv_to_battery_wh,
        out[0],
        paths.battery_to_load_wh,
        out[1],
        into[0],
        into[1],
        paths.split_s,
    )


def _legs(
    legs_wh: tuple[float, float], parts_wh: tuple[float, float], metered_wh: float, most_wh: float
) -> tuple[float, float]:
    """Two legs brought to their metered sum."""
    sum_wh, parts_sum_wh = sum(legs_wh), sum(parts_wh)
    factor = max(0.0, min(2.0, metered_wh / sum_wh)) if sum_wh > 0.0 else 1.0
    left_wh = metered_wh - sum_wh * factor
    if not 0.0 < left_wh <= most_wh or parts_sum_wh <= 0.0:
        left_wh = 0.0
    each = left_wh / parts_sum_wh if left_wh else 0.0
    return legs_wh[0] * factor + parts_wh[0] * each, legs_wh[1] * factor + parts_wh[1] * each
