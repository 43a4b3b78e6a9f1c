"""Which awards count at an instant, what they owe together, and how fast the loop must run for them.

Awards at the same time are added up: the markets sell products side by side (FCR-N with FCR-D, low with high) and
two blocks of one product to one site. The exception are products that are paid for the same watts
(`DroopTable.counted_with`): of those the largest counts. An award that no battery of this site could deliver, alone or
on top of those before it, is refused with a reason; the others stand. Nothing is ever scaled down in silence.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agent.core.droop import DroopTable, response_w
from agent.core.frequency import Frequency, Trouble, trouble
from agent.core.made_often import made_often
from agent.core.orders import Award, Direction

RATING_MARGIN = 1.05
"""As for plans: beyond this multiple of the rating it was made for another site or in another unit."""
LEAD_IN_S = 5.0
"""The loop already runs at the award's speed this long before it begins, so that it is steady at the edge."""
QUICK_PRODUCT_S = 2.0
QUICK_TICK_S = 0.1
"""For products that must be full within `QUICK_PRODUCT_S`."""
AWARDED_TICK_S = 0.2
"""For the others: poll, decide and write take two ticks, which leaves 0.1 s of "device lag + 0.5 s"."""


@dataclass(frozen=True, slots=True)
class Sold:
    """One award with the table of its product."""

    award: Award
    table: DroopTable

    def sold_w(self) -> tuple[float, float]:
        """The power sold (up, down), W >= 0."""
        award = self.award
        return (
            0.0 if award.direction is Direction.DOWN else award.power_w,
            0.0 if award.direction is Direction.UP else award.power_w,
        )

    def kept_w(self) -> tuple[float, float]:
        """The power to keep free (up, down), W >= 0, with the product's headroom."""
        award, table = self.award, self.table
        full_w, other_w = award.power_w * table.power_headroom, award.power_w * table.opposite_headroom
        return (
            other_w if award.direction is Direction.DOWN else full_w,
            other_w if award.direction is Direction.UP else full_w,
        )

    def kept_wh(self) -> tuple[float, float]:
        """The energy at the terminals to keep (to give, to take), Wh >= 0: award times sustain time."""
        energy_wh = self.award.power_w * self.table.sustain_s / 3600.0
        direction = self.award.direction
        return (
            0.0 if direction is Direction.DOWN else energy_wh,
            0.0 if direction is Direction.UP else energy_wh,
        )


@dataclass(frozen=True, slots=True)
class AwardRefused:
    """An award that has no effect; `index` is its place in the document."""

    index: int
    award_id: str
    reason: str
    """`bad_value`, `duplicate_id`, `unknown_product`, `wrong_frequency`, `beyond_rating`, `overlap_beyond_rating`."""
    field: str
    detail: str


@dataclass(frozen=True, slots=True)
class AwardBook:
    """The awards that stand, cut at every instant where one begins or ends. Made once per document by `book`."""

    edges: tuple[float, ...] = ()
    spans: tuple[tuple[Sold, ...], ...] = ((),)
    """`spans[i]` holds up to `edges[i]`, the last one for ever; one more than edges."""
    sold: tuple[Sold, ...] = ()
    """All of them, by start."""
    starts: tuple[float, ...] = ()
    """When each of `sold` begins."""

    def at(self, utc_s: float) -> tuple[Sold, ...]:
        """The awards in force at `utc_s`, those that came first in the book first."""
        return self.spans[bisect_right(self.edges, utc_s)] if self.edges else ()

    def starting(self, after_utc_s: float, until_utc_s: float) -> tuple[Sold, ...]:
        """The awards that begin after `after_utc_s` and not later than `until_utc_s`."""
        if not self.starts:
            return ()
        return self.sold[bisect_right(self.starts, after_utc_s) : bisect_right(self.starts, until_utc_s)]


NO_AWARDS = AwardBook()


def book(
    awards: Iterable[Award],
    tables: Mapping[str, DroopTable],
    *,
    rated_discharge_w: float,
    rated_charge_w: float,
    nominal_hz: float | None = None,
) -> tuple[AwardBook, tuple[AwardRefused, ...]]:
    """The awards that stand at a site of these ratings, and every other one with its reason.

    `tables` are the products by name, presets and the site's own; `nominal_hz` is the site's grid, None when not
    known. The very same award twice counts once.
    """
    refused: list[AwardRefused] = []
    taken: list[Sold] = []
    running: list[Sold] = []
    by_id: dict[str, Award] = {}
    rated = (rated_discharge_w, rated_charge_w)
    numbered = sorted(enumerate(awards), key=lambda pair: (_order(pair[1].start_utc_s), pair[0]))
    for index, award in numbered:
        if by_id.get(award.award_id) == award:
            continue
        problem = _problem(award, tables.get(award.product), rated, nominal_hz)
        if problem is None and award.award_id in by_id:
            problem = ("duplicate_id", "award_id", f"{award.award_id!r} stands for another award already")
        if problem is None:
            line = Sold(award, tables[award.product])
            # Taken by start, so the beginning of the newest is the instant at which most awards meet.
            running = [other for other in running if award.start_utc_s < other.award.end_utc_s]
            problem = _too_much(line, running, rated)
        if problem is not None:
            refused.append(AwardRefused(index, award.award_id, *problem))
            continue
        by_id[award.award_id] = award
        taken.append(line)
        running.append(line)
    return _cut(taken), tuple(sorted(refused, key=lambda one: one.index))


def _order(start_utc_s: float) -> float:
    return start_utc_s if math.isfinite(start_utc_s) else math.inf


def _problem(
    award: Award, table: DroopTable | None, rated: tuple[float, float], nominal_hz: float | None
) -> tuple[str, str, str] | None:
    """Reason, field and detail when this award alone cannot stand."""
    if not (math.isfinite(award.start_utc_s) and math.isfinite(award.end_utc_s)) or not (
        award.start_utc_s < award.end_utc_s
    ):
        return ("bad_value", "end", "an award must end after it starts, both at finite times")
    if not (math.isfinite(award.power_w) and award.power_w > 0.0):
        return ("bad_value", "power", f"{award.power_w:g} W is not a reserve: it must be finite and above 0")
    if table is None:
        return ("unknown_product", "product", f"no droop table {award.product!r}: add it to the site file")
    if nominal_hz is not None and table.nominal_hz != nominal_hz:
        detail = f"{award.product} is for {table.nominal_hz:g} Hz, this site is on {nominal_hz:g} Hz"
        return ("wrong_frequency", "product", detail)
    if _beyond(award, rated):
        return ("beyond_rating", "power", f"{award.power_w / 1e3:g} kW is beyond {RATING_MARGIN:g} times the rating")
    if table.least_droop > 0.0:
        slope_hz = table.full_hz - table.dead_band_hz
        most_w = slope_hz / table.nominal_hz / table.least_droop * min(rated)
        if award.power_w > most_w * RATING_MARGIN:
            detail = f"a droop of {table.least_droop:.1%} or more allows {most_w / 1e3:g} kW with this rating"
            return ("beyond_rating", "power", detail)
    return None


def _beyond(award: Award, rated: tuple[float, float]) -> bool:
    sold = (award.direction is not Direction.DOWN, award.direction is not Direction.UP)
    return any(covers and award.power_w > limit_w * RATING_MARGIN for limit_w, covers in zip(rated, sold, strict=True))


def _too_much(line: Sold, beside: list[Sold], rated: tuple[float, float]) -> tuple[str, str, str] | None:
    """The refusal when `line` on top of those that run as it begins asks for more than the rating."""
    if not beside:
        return None
    for total_w, limit_w in zip(sold_w([*beside, line]), rated, strict=True):
        if total_w > limit_w * RATING_MARGIN:
            others = ", ".join(other.award.award_id for other in beside)
            detail = f"together with {others} it asks for {total_w / 1e3:g} of {limit_w / 1e3:g} kW"
            return ("overlap_beyond_rating", "power", detail)
    return None


def _cut(taken: list[Sold]) -> AwardBook:
    edges = sorted({edge for line in taken for edge in (line.award.start_utc_s, line.award.end_utc_s)})
    spans: list[tuple[Sold, ...]] = [()]
    running: list[Sold] = []
    next_up = 0
    for edge in edges:
        running = [line for line in running if edge < line.award.end_utc_s]
        while next_up < len(taken) and taken[next_up].award.start_utc_s <= edge:
            running.append(taken[next_up])
            next_up += 1
        spans.append(tuple(running))
    return AwardBook(tuple(edges), tuple(spans), tuple(taken), tuple(line.award.start_utc_s for line in taken))


def summed(lines: Iterable[Sold], parts: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The parts (up, down), all >= 0, of these awards together; of products counted together the largest."""
    up = down = 0.0
    largest: dict[str, tuple[float, float]] = {}
    for line, (part_up, part_down) in zip(lines, parts, strict=True):
        group = line.table.counted_with
        if group:
            before = largest.get(group, (0.0, 0.0))
            largest[group] = (max(before[0], part_up), max(before[1], part_down))
        else:
            up, down = up + part_up, down + part_down
    for part_up, part_down in largest.values():
        up, down = up + part_up, down + part_down
    return up, down


def sold_w(lines: Iterable[Sold]) -> tuple[float, float]:
    """The power sold (up, down), W >= 0, by these awards together."""
    return added_up(tuple(lines), Sold.sold_w)


def added_up(lines: tuple[Sold, ...], part: Callable[[Sold], tuple[float, float]]) -> tuple[float, float]:
    """One part (up, down) of these awards, added up as `summed` says."""
    # None or one at a time is the rule; that needs no adding up.
    if not lines:
        return 0.0, 0.0
    return part(lines[0]) if len(lines) == 1 else summed(lines, [part(line) for line in lines])


@made_often
@dataclass(frozen=True, slots=True)
class Answer:
    """What one award asks for now, W toward the grid, or why it is not answered (then 0)."""

    award_id: str
    power_w: float
    trouble: Trouble | None


@dataclass(frozen=True, slots=True)
class Response:
    """What all awards ask for now on top of the baseline, W toward the grid, and each one's part."""

    power_w: float = 0.0
    answers: tuple[Answer, ...] = ()


NO_RESPONSE = Response()


def respond(lines: tuple[Sold, ...], now: Frequency, mono_s: float, resolution_hz: float | None) -> Response:
    """The response that the awards in force owe at this frequency; 0 and a named trouble where it is not good."""
    if not lines:
        return NO_RESPONSE
    answers: list[Answer] = []
    for line in lines:
        bad = trouble(now, line.table, mono_s, resolution_hz)
        power_w = response_w(line.table, line.award, now.hz) if bad is None and now.hz is not None else 0.0
        answers.append(Answer(line.award.award_id, power_w, bad))
    if len(answers) == 1:
        return Response(answers[0].power_w, tuple(answers))
    up, down = summed(lines, ((max(a.power_w, 0.0), max(-a.power_w, 0.0)) for a in answers))
    return Response(up - down, tuple(answers))


def expected_w(lines: tuple[Sold, ...], frequency_hz: float) -> float:
    """The response that these awards owe at a frequency that is known to be good, W toward the grid."""
    asked = [response_w(line.table, line.award, frequency_hz) for line in lines]
    up, down = summed(lines, ((max(power_w, 0.0), max(-power_w, 0.0)) for power_w in asked))
    return up - down


def awarded_tick_s(awards: AwardBook, utc_s: float, tick_s: float) -> float:
    """The period of the control loop at `utc_s`: `tick_s`, or faster while an award is in force or about to be.

    The frequency's meter must be polled at this period too, or the loop decides on old news.
    """
    if not awards.edges or utc_s >= awards.edges[-1] or utc_s < awards.edges[0] - LEAD_IN_S:
        return tick_s
    lines = awards.at(utc_s) + awards.starting(utc_s, utc_s + LEAD_IN_S)
    if not lines:
        return tick_s
    quick = any(line.table.full_by_s <= QUICK_PRODUCT_S for line in lines)
    return min(tick_s, QUICK_TICK_S if quick else AWARDED_TICK_S)
