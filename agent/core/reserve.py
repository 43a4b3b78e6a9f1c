"""What an award keeps free before anything else may use the battery, as bounds on the baseline.

The baseline is the battery power without the response. The response itself is not bound by these: it may use all that
the batteries can do. Power is kept for every award in force, energy also for those that begin before the present slot
ends, so that the slot does not run down what the award needs at its first second. Per direction, at the terminals:

    power kept  = award * headroom           energy kept = award * sustain time
    baseline up to  (limit - power kept)     and up to   (energy there - energy kept) / time to the slot's end

"Energy there" is at the terminals: a battery that holds E above its minimum can give E * efficiency and one with room
R below its maximum can take R / efficiency. Near its limits power fades; what can no longer be had at the award's power
is not there for it. The bounds never push: a battery that is short already may rest or move
toward what is missing, but no award charges it by force; that is the re-planner's work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.awards import Sold, added_up, sold_w
from agent.core.bounds import Bound, Rank
from agent.core.made_often import made_often

RESTORE_WITHIN_S = 7200.0
"""Energy spent on an activation must be back after this long (CE FCR); taken where a market does not say."""
TOLD_SHARE = 0.95
"""With less than this of what an award needs it is told as not backed; a last percent is the noise of a SoC."""
FORGET_SHARE = 1 / 3
"""Time constant over restore time: after the restore time 5 % of an activation still counts."""


@made_often
@dataclass(frozen=True, slots=True)
class Room:
    """What batteries can do, W and Wh at their terminals. A battery that takes no part has none of it."""

    discharge_w: float = 0.0
    """Most power toward the grid, >= 0."""
    charge_w: float = 0.0
    """Most power from the grid, >= 0."""
    give_wh: float = 0.0
    """Energy that can be given until the SoC minimum; below 0 when the SoC is below its band."""
    take_wh: float = 0.0
    """Energy that can be taken until the SoC maximum; below 0 when the SoC is above its band."""
    round_trip: float = 1.0
    """Energy given back per energy taken, 0..1."""
    fade_give_wh: float = 0.0
    """The part of `give_wh` over which the discharge power fades to 0 before the SoC minimum."""
    fade_take_wh: float = 0.0
    """The same of `take_wh` before the SoC maximum."""

    def within(self, lower_w: float, upper_w: float) -> Room:
        """The same room inside a bound on the power of all of them, such as the connection point's."""
        discharge_w, charge_w = min(self.discharge_w, max(upper_w, 0.0)), min(self.charge_w, max(-lower_w, 0.0))
        return Room(
            discharge_w, charge_w, self.give_wh, self.take_wh, self.round_trip, self.fade_give_wh, self.fade_take_wh
        )

    def at_power(self, up_w: float, down_w: float) -> Room:
        """The room with only the energy that can be had at these powers, each >= 0: below it the fade comes first."""
        give = min(up_w / self.discharge_w, 1.0) if self.discharge_w > 0.0 else 1.0
        take = min(down_w / self.charge_w, 1.0) if self.charge_w > 0.0 else 1.0
        give_wh = self.give_wh - (self.fade_give_wh * give if up_w else 0.0)
        take_wh = self.take_wh - (self.fade_take_wh * take if down_w else 0.0)
        return Room(self.discharge_w, self.charge_w, give_wh, take_wh, self.round_trip)


NO_ROOM = Room()


def battery_room(
    lower_w: float,
    upper_w: float,
    *,
    soc_pct: float | None,
    capacity_wh: float | None,
    soc_min_pct: float,
    soc_max_pct: float,
    one_way_efficiency: float,
    taper_pct: float = 0.0,
) -> Room:
    """One battery's room; `lower_w..upper_w` is what its limits allow it now, without regard to plans.

    Its power fades over the last `taper_pct` before either SoC limit.
    A battery whose SoC or capacity is not known, or that may not move at all, has none.
    """
    if soc_pct is None or capacity_wh is None or not capacity_wh > 0.0 or (upper_w <= 0.0 <= lower_w):
        return NO_ROOM
    return Room(
        discharge_w=max(upper_w, 0.0),
        charge_w=max(-lower_w, 0.0),
        give_wh=(soc_pct - soc_min_pct) / 100.0 * capacity_wh * one_way_efficiency,
        take_wh=(soc_max_pct - soc_pct) / 100.0 * capacity_wh / one_way_efficiency,
        round_trip=one_way_efficiency**2,
        fade_give_wh=taper_pct / 100.0 * capacity_wh * one_way_efficiency,
        fade_take_wh=taper_pct / 100.0 * capacity_wh / one_way_efficiency,
    )


def together(rooms: Iterable[Room]) -> Room:
    """The room of several batteries as one. It supposes that their SoCs are kept equal, as the allocation does."""
    rooms = [room for room in rooms if room is not NO_ROOM]
    if len(rooms) == 1:
        return rooms[0]
    energy_wh = sum(abs(room.give_wh) + abs(room.take_wh) for room in rooms)
    weighted = sum((abs(room.give_wh) + abs(room.take_wh)) * room.round_trip for room in rooms)
    return Room(
        sum(room.discharge_w for room in rooms),
        sum(room.charge_w for room in rooms),
        sum(room.give_wh for room in rooms),
        sum(room.take_wh for room in rooms),
        weighted / energy_wh if energy_wh > 0.0 else 1.0,
        sum(room.fade_give_wh for room in rooms),
        sum(room.fade_take_wh for room in rooms),
    )


def activated_wh(before_wh: float, response_w: float, dt_s: float, lines: tuple[Sold, ...]) -> float:
    """The net energy that responses took from the batteries (given +, taken -), `dt_s` later; 0 without an award.

    It counts as kept energy well spent, so that an activation does not move the baseline under its own response.
    It is forgotten as the market asks the energy back.
    """
    if not lines:
        return 0.0
    restore_s = min(line.table.restore_within_s or RESTORE_WITHIN_S for line in lines)
    return before_wh * math.exp(-dt_s / (restore_s * FORGET_SHARE)) + response_w * dt_s / 3600.0


def energy_kept_wh(lines: Iterable[Sold], spent_wh: float) -> tuple[float, float]:
    """The energy to keep (to give, to take), Wh >= 0, after `spent_wh` net went out in the response."""
    give_wh, take_wh = added_up(tuple(lines), Sold.kept_wh)
    return max(give_wh - max(spent_wh, 0.0), 0.0), max(take_wh - max(-spent_wh, 0.0), 0.0)


def power_kept_w(lines: Iterable[Sold]) -> tuple[float, float]:
    """The power to keep free (up, down), W >= 0, with the headroom of the products."""
    return added_up(tuple(lines), Sold.kept_w)


def baseline_bounds(
    lines: tuple[Sold, ...], soon: tuple[Sold, ...], room: Room, ahead_s: float, spent_wh: float = 0.0
) -> tuple[Bound, ...]:
    """The bounds on the baseline of all batteries together, award by award, each on top of those before it.

    `lines` are the awards in force, `soon` those that begin within `ahead_s`, the time to the slot's end (or to
    the end of the projection), > 0. The owner of each bound is the award's id. Every bound holds 0 W.
    """
    if not lines and not soon:
        return ()
    assert ahead_s > 0.0, "the projection looks ahead"
    ahead_h = ahead_s / 3600.0
    bounds: list[Bound] = []
    reached = room.at_power(*power_kept_w((*lines, *soon)))
    for count, line in enumerate(lines, 1):
        up_w, down_w = power_kept_w(lines[:count])
        lower_w, upper_w = min(down_w - room.charge_w, 0.0), max(room.discharge_w - up_w, 0.0)
        bounds.append(Bound("power kept for the award", line.award.award_id, lower_w, upper_w, Rank.AWARD))
    for count, line in enumerate(lines, 1):
        bounds.append(_energy_bound(line, energy_kept_wh(lines[:count], spent_wh), reached, ahead_h))
    for count, line in enumerate(soon, 1):
        begin = line.award.start_utc_s
        # An award that ends before this one begins hands its energy on.
        still = energy_kept_wh([one for one in lines if one.award.end_utc_s > begin], spent_wh)
        fresh = energy_kept_wh([one for one in soon[:count] if one.award.end_utc_s > begin], 0.0)
        bounds.append(_energy_bound(line, (still[0] + fresh[0], still[1] + fresh[1]), reached, ahead_h))
    return tuple(bounds)


@dataclass(frozen=True, slots=True)
class Short:
    """An award in force that the batteries cannot back as they are now."""

    award_id: str
    text: str
    """What is missing, for people."""


def short_of(lines: tuple[Sold, ...], room: Room, spent_wh: float) -> tuple[Short, ...]:
    """The awards in force, each on top of those before it, whose power or energy is not there now."""
    found: list[Short] = []
    for count, line in enumerate(lines, 1):
        sold_up_w, sold_down_w = sold_w(lines[:count])
        give_wh, take_wh = energy_kept_wh(lines[:count], spent_wh)
        for has, needs, what in (
            (room.discharge_w, sold_up_w, "kW to give"),
            (room.charge_w, sold_down_w, "kW to take"),
            (room.give_wh, give_wh, "kWh to give"),
            (room.take_wh, take_wh, "kWh to take"),
        ):
            if needs > 0.0 and has < needs * TOLD_SHARE:
                text = f"{max(has, 0.0) / 1e3:.1f} of {needs / 1e3:.1f} {what}"
                found.append(Short(line.award.award_id, text))
                break
    return tuple(found)


def _energy_bound(line: Sold, kept_wh: tuple[float, float], room: Room, ahead_h: float) -> Bound:
    lower_w = min((kept_wh[1] - room.take_wh) / ahead_h, 0.0)
    upper_w = max((room.give_wh - kept_wh[0]) / ahead_h, 0.0)
    return Bound("energy kept for the award", line.award.award_id, lower_w, upper_w, Rank.AWARD)
