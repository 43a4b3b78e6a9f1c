"""One site power split over several batteries, never beyond any of them.

Each battery's share follows its usable energy, so that the fuller one gives more and takes less and the SoCs come
together, at most `EQUALISE_STRENGTH` times more or less than its size alone would give. Small powers go to few
batteries instead of crumbs to all. When shares move between batteries, the growing ones wait as long as the shrinking
ones may still hold their old power, if the sum could break a limit of the site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.bounds import Bound, Clip, Room, clamp, room

EQUALISE_STRENGTH = 2.0
"""A battery's share per Wh of capacity is at most this many times the mean, at least the mean divided by it."""
JOIN_FACTOR = 1.5
"""A resting battery joins only when there are this many times its minimum useful power for it."""
SWAP_PCT = 2.0
"""A resting battery replaces a working one only when its SoC suits better by more than this."""
_DONE_W = 1e-6


@dataclass(slots=True)
class Unit:
    """One battery as the split sees it.

    Made for every battery at every tick and kept nowhere: not frozen, which would cost four times as much.
    """

    device_id: str
    bounds: tuple[Bound, ...]
    """Softest first."""
    room: Room
    capacity_wh: float = 1.0
    above_floor_pct: float = 0.0
    """SoC that may still be discharged, percent of capacity, >= 0."""
    below_ceiling_pct: float = 0.0
    """SoC that may still be charged, percent of capacity, >= 0."""
    min_useful_w: float = 0.0
    doing_w: tuple[float, float] | None = None
    """The lowest and highest power it may be giving now: measured, and as set. None when it cannot be read."""
    one_way_efficiency: float = 1.0
    """Share of the energy that survives one way between terminals and cells."""


def share_out(power_w: float, units: Sequence[Unit], in_use: frozenset[str]) -> tuple[dict[str, float], frozenset[str]]:
    """Each battery's share of `power_w`, and the batteries that work now; `in_use` are those of the last tick.

    The shares add up to `power_w` unless the batteries together cannot do it; then each gives all it has. Softer bounds
    are used up everywhere before any battery goes beyond its own.
    """
    if len(units) == 1:
        only = units[0]
        return {only.device_id: min(max(power_w, only.room.hard[0]), only.room.hard[1])}, in_use
    shares = [min(max(0.0, unit.room.soft[0]), unit.room.soft[1]) for unit in units]
    rest_w = power_w - sum(shares)
    side, sign = (1, 1.0) if rest_w > 0.0 else (0, -1.0)
    todo_w = abs(rest_w)
    for depth in range(3):
        if todo_w <= _DONE_W:
            break
        free_w = [
            max(sign * (_depth(unit.room, depth)[side] - at_w), 0.0) for unit, at_w in zip(units, shares, strict=True)
        ]
        total_w = sum(free_w)
        if total_w <= todo_w:
            shares = [at_w + sign * free for at_w, free in zip(shares, free_w, strict=True)]
            todo_w -= total_w
            continue
        parts = _split(todo_w, free_w, units, shares, in_use, discharging=side == 1)
        shares = [at_w + sign * part for at_w, part in zip(shares, parts, strict=True)]
        break
    working = frozenset([unit.device_id for unit, at_w in zip(units, shares, strict=True) if abs(at_w) > _DONE_W])
    by_id = dict(zip([unit.device_id for unit in units], shares, strict=True))
    # At rest the last ones in use keep their place, so that a power about 0 does not wander from unit to unit.
    return by_id, working or in_use


def paced(shares_w: dict[str, float], units: Sequence[Unit], lower_w: float, upper_w: float) -> dict[str, float]:
    """The shares to be set now, so that no mix of old and new powers of the batteries leaves `[lower_w, upper_w]`.

    Any battery may still be anywhere between what it does now and its new share: writes travel side by side. Growth is
    held back by what the slower ones could still add. Where no step at all would fit, the shares move together. What a
    battery must move to be within its own hard limits cannot be held back: the others make room for it.
    """
    rise_w = fall_w = highest_w = lowest_w = 0.0
    for unit in units:
        if unit.doing_w is None:
            continue
        share_w, (low_w, high_w) = shares_w[unit.device_id], unit.doing_w
        if share_w > high_w:
            rise_w += share_w - max(high_w, unit.room.hard[0])
            high_w = share_w
        elif share_w < low_w:
            fall_w += min(low_w, unit.room.hard[1]) - share_w
            low_w = share_w
        highest_w += high_w
        lowest_w += low_w
    over_w, under_w = max(highest_w - upper_w, 0.0), max(lower_w - lowest_w, 0.0)
    up = max(1.0 - over_w / rise_w, 0.0) if rise_w > _DONE_W else 1.0
    down = max(1.0 - under_w / fall_w, 0.0) if fall_w > _DONE_W else 1.0
    if (up == 1.0 and down == 1.0) or (up == 0.0 and down == 0.0):
        return shares_w
    after: dict[str, float] = {}
    for unit in units:
        share_w, doing_w = shares_w[unit.device_id], unit.doing_w
        if doing_w is not None and share_w > doing_w[1]:
            from_w = max(doing_w[1], unit.room.hard[0])
            share_w = from_w + up * (share_w - from_w)
        elif doing_w is not None and share_w < doing_w[0]:
            from_w = min(doing_w[0], unit.room.hard[1])
            share_w = from_w + down * (share_w - from_w)
        after[unit.device_id] = min(max(share_w, unit.room.hard[0]), unit.room.hard[1])
    return after


def clips_of(power_w: float, units: Sequence[Unit]) -> tuple[Clip, ...]:
    """The bounds of every battery that keep the batteries together from doing `power_w`."""
    if len(units) == 1:
        return clamp(power_w, units[0].bounds)[1]
    side = 1 if power_w >= 0.0 else 0
    free_w = [unit.room.soft[side] for unit in units]
    total_w = sum(free_w)
    usable = total_w != 0.0 and (total_w > 0.0) == (power_w > 0.0)
    clips: list[Clip] = []
    for unit, free in zip(units, free_w, strict=True):
        part_w = power_w * free / total_w if usable and free else power_w / len(units)
        clips.extend(clamp(part_w, unit.bounds)[1])
    return tuple(clips)


def allocate(power_w: float, bounds_of: dict[str, tuple[Bound, ...]]) -> tuple[dict[str, float], tuple[Clip, ...]]:
    """Each battery's share of `power_w` within all its bounds, by room alone, and the clips."""
    units = [_bare(device_id, bounds) for device_id, bounds in bounds_of.items()]
    within_w = min(max(power_w, sum(u.room.soft[0] for u in units)), sum(u.room.soft[1] for u in units))
    shares, _ = share_out(within_w, units, frozenset())
    return shares, clips_of(power_w, units) if abs(within_w - power_w) > _DONE_W else ()


def _bare(device_id: str, bounds: tuple[Bound, ...]) -> Unit:
    found = room(bounds)
    return Unit(device_id, bounds, found, capacity_wh=max(found.hard[1] - found.hard[0], 1.0))


def _depth(found: Room, depth: int) -> tuple[float, float]:
    return found.soft if depth == 0 else found.kept if depth == 1 else found.hard


def _split(
    amount_w: float,
    free_w: list[float],
    units: Sequence[Unit],
    shares: list[float],
    in_use: frozenset[str],
    *,
    discharging: bool,
) -> list[float]:
    """`amount_w` (less than all `free_w` together) over the chosen batteries; no crumbs while it can be helped.

    A share below the useful minimum is raised to it where the battery suits better than the others, else left out.
    """
    usable_pct = [unit.above_floor_pct if discharging else unit.below_ceiling_pct for unit in units]
    weights = _weights(units, usable_pct)
    # A battery that works already in this tick takes a little more without becoming a crumb.
    least_w = [unit.min_useful_w if at_w == 0.0 else 0.0 for unit, at_w in zip(units, shares, strict=True)]
    working = [unit.device_id in in_use for unit in units]
    cost_w = [least if works else least * JOIN_FACTOR for least, works in zip(least_w, working, strict=True)]
    score_pct = [usable + SWAP_PCT * works for usable, works in zip(usable_pct, working, strict=True)]
    chosen = _chosen(amount_w, free_w, cost_w, score_pct)
    raised: list[int] = []
    while True:
        parts = _filled(amount_w - sum(least_w[i] for i in raised), free_w, weights, chosen)
        for i in raised:
            parts[i] = least_w[i]
        crumbs = [i for i in chosen if parts[i] < least_w[i]]
        if not crumbs or len(chosen) == 1:
            return parts
        worst = min(crumbs, key=lambda i: (parts[i] / least_w[i], usable_pct[i]))
        fewer = [i for i in chosen if i != worst]
        # A small battery that suits better than the others would fall behind them for ever if it were left out.
        suits = score_pct[worst] >= sum(score_pct[i] for i in fewer) / len(fewer)
        carried_w = amount_w - sum(least_w[i] for i in (*raised, *chosen))
        if suits and carried_w >= 0.0 and free_w[worst] >= least_w[worst]:
            raised.append(worst)
        elif sum(free_w[i] for i in fewer) + sum(least_w[i] for i in raised) < amount_w:
            return parts
        chosen = fewer


def _weights(units: Sequence[Unit], usable_pct: list[float]) -> list[float]:
    """Capacity times the bounded ratio of usable SoC to its mean."""
    capacity_wh = sum(unit.capacity_wh for unit in units)
    energy = sum(unit.capacity_wh * usable for unit, usable in zip(units, usable_pct, strict=True))
    mean_pct = energy / capacity_wh if capacity_wh > 0.0 else 0.0
    if mean_pct <= 0.0:
        return [unit.capacity_wh for unit in units]
    low_pct, high_pct = mean_pct / EQUALISE_STRENGTH, mean_pct * EQUALISE_STRENGTH
    return [u.capacity_wh * min(max(usable, low_pct), high_pct) for u, usable in zip(units, usable_pct, strict=True)]


def _chosen(amount_w: float, free_w: list[float], cost_w: list[float], score_pct: list[float]) -> list[int]:
    """As many batteries as get a useful power each, best score first; enough to carry `amount_w` in any case."""
    able = [i for i, free in enumerate(free_w) if free > 0.0]
    if not any(cost_w):
        return able
    able.sort(key=lambda i: -score_pct[i])
    chosen: list[int] = []
    carried_w = needed_w = 0.0
    for i in able:
        needed_w += cost_w[i]
        if chosen and carried_w >= amount_w and needed_w > amount_w:
            break
        chosen.append(i)
        carried_w += free_w[i]
    return chosen


def _filled(amount_w: float, free_w: list[float], weights: list[float], chosen: list[int]) -> list[float]:
    """`amount_w` over the chosen by weight; what one cannot take goes to the others."""
    parts = [0.0] * len(free_w)
    open_ones = list(chosen)
    left_w = amount_w
    while open_ones:
        total = sum(weights[i] for i in open_ones)
        full = [i for i in open_ones if left_w * weights[i] >= free_w[i] * total]
        if not full:
            for i in open_ones:
                parts[i] = left_w * weights[i] / total
            break
        for i in full:
            parts[i] = free_w[i]
            left_w -= free_w[i]
        left_w = max(left_w, 0.0)
        open_ones = [i for i in open_ones if i not in full]
    return parts
