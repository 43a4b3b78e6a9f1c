"""DC-coupled sites: PV and battery share one inverter, so the battery has what PV leaves of its rating.

AC-coupled PV has its own inverter and needs nothing of this. Battery and PV powers are both given as seen on the AC
side of the shared inverter, so that `inverter_w = battery_w + pv_w`.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.bounds import Bound


@dataclass(frozen=True, slots=True)
class SharedInverter:
    """The inverter that a battery shares with a PV field."""

    pv_id: str
    rated_w: float
    """AC rating, in either direction."""
    pv_peak_w: float
    """The most that the PV field can give; assumed while PV cannot be read."""
    grid_charge: bool = True
    """False when the inverter cannot (or may not) take power from the grid."""


def inverter_bound(shared: SharedInverter, pv_w: float | None, owner: str) -> Bound:
    """What PV of now leaves to the battery; with PV unknown, what is right for any PV power.

    PV above the rating asks the battery to take the excess; it yields to the battery's own limits, because the
    inverter then holds PV back by itself.
    """
    limit = "inverter shared with PV" if pv_w is not None else "inverter shared with PV, PV unknown"
    most_pv_w = max(pv_w, 0.0) if pv_w is not None else shared.pv_peak_w
    least_pv_w = max(pv_w, 0.0) if pv_w is not None else 0.0
    upper_w = shared.rated_w - most_pv_w
    if pv_w is None:
        upper_w = max(upper_w, 0.0)
    lower_w = -least_pv_w - (shared.rated_w if shared.grid_charge else 0.0)
    return Bound(limit, owner, lower_w, max(upper_w, lower_w))
