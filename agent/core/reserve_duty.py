"""The awards in force within one tick: the response they owe, the room they keep, the evidence they leave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.allocate import Unit
from agent.core.awards import NO_RESPONSE, Answer, AwardBook, Response, Sold, respond
from agent.core.bounds import Bound, room
from agent.core.evidence import EvidenceRow, Gathering, evidence_tick, gather
from agent.core.frequency import NO_FREQUENCY, Frequency, Trouble, watched
from agent.core.made_often import made_often
from agent.core.reserve import Room, Short, activated_wh, baseline_bounds, battery_room, short_of, together
from agent.core.rules import BatteryRules, SiteRules
from agent.core.snapshot import BatterySample, Reading


@made_often
@dataclass(frozen=True, slots=True)
class ReserveState:
    """What the reserve remembers from tick to tick."""

    frequency: Frequency = NO_FREQUENCY
    response_w: float = 0.0
    """Asked of the batteries on top of the baseline at the last tick, after limits."""
    spent_wh: float = 0.0
    """Net energy of responses, given +; forgotten as it is brought back."""
    gathering: Gathering | None = None


@made_often
@dataclass(frozen=True, slots=True)
class Duty:
    """The awards that count at this tick."""

    lines: tuple[Sold, ...]
    frequency: Frequency
    response: Response
    spent_wh: float
    suspended: bool = False
    """True when nobody answers them on purpose: no room is kept for them then."""


def duty_now(
    rules: SiteRules,
    state: ReserveState,
    awards: AwardBook,
    reading: Reading | None,
    *,
    utc_s: float,
    mono_s: float,
    dt_s: float,
) -> Duty:
    """The response owed now.

    Without a meter the frequency is missing, and the response is 0 with that trouble.
    """
    if not awards.edges:
        return Duty((), state.frequency, NO_RESPONSE, 0.0)
    lines = awards.at(utc_s)
    frequency = watched(state.frequency, reading, rules.nominal_hz) if reading is not None else NO_FREQUENCY
    response = respond(lines, frequency, mono_s, rules.frequency_resolution_hz)
    return Duty(lines, frequency, response, activated_wh(state.spent_wh, state.response_w, dt_s, lines))


def suspended(duty: Duty) -> Duty:
    """The same awards, not answered: whoever stands above the plans said so. Evidence is gathered all the same."""
    answers = tuple(Answer(answer.award_id, 0.0, Trouble.SUSPENDED) for answer in duty.response.answers)
    return Duty(duty.lines, duty.frequency, Response(0.0, answers), duty.spent_wh, suspended=True)


def award_bounds(
    duty: Duty,
    awards: AwardBook,
    batteries: Iterable[tuple[BatteryRules, BatterySample, Unit]],
    site_bounds: tuple[Bound, ...],
    *,
    utc_s: float,
    ahead_s: float,
) -> tuple[tuple[Bound, ...], tuple[Short, ...]]:
    """The room that awards in force, and those that begin within `ahead_s`, leave to the baseline; what is short."""
    if duty.suspended:
        return (), ()
    soon = awards.starting(utc_s, utc_s + ahead_s)
    if not duty.lines and not soon:
        return (), ()
    here = room_now(batteries, site_bounds)
    bounds = baseline_bounds(duty.lines, soon, here, ahead_s, duty.spent_wh)
    return bounds, short_of(duty.lines, here, duty.spent_wh)


def room_now(batteries: Iterable[tuple[BatteryRules, BatterySample, Unit]], site_bounds: tuple[Bound, ...]) -> Room:
    """What all batteries together can do now within the bounds of the site."""
    rooms = [
        battery_room(
            *unit.room.kept,
            soc_pct=sample.soc_pct.value,
            capacity_wh=unit.capacity_wh,
            soc_min_pct=rules.soc_min_pct,
            soc_max_pct=rules.soc_max_pct,
            one_way_efficiency=unit.one_way_efficiency,
            taper_pct=rules.limits.taper_pct,
        )
        for rules, sample, unit in batteries
    ]
    return together(rooms).within(*room(site_bounds).soft)


def afterwards(
    state: ReserveState,
    duty: Duty,
    *,
    utc_s: float,
    battery_w: float | None,
    baseline_w: float,
    setpoint_w: float,
    clock_trusted: bool,
    played: bool = False,
) -> tuple[ReserveState, tuple[EvidenceRow, ...]]:
    """What to remember after this tick, and the whole seconds of evidence that it completed.

    `played`: commissioning tries the response. The evidence says so, and nothing of it counts as given.
    """
    if not duty.lines and state.gathering is None:
        return ReserveState(duty.frequency, 0.0, duty.spent_wh), ()
    tick = None
    if duty.lines:
        tick = evidence_tick(
            utc_s,
            duty.lines,
            frequency_hz=duty.frequency.hz,
            power_w=battery_w,
            baseline_w=baseline_w,
            setpoint_w=setpoint_w,
            clock_trusted=clock_trusted,
            trouble=_trouble(duty, played=played),
        )
    gathering, rows = gather(state.gathering, tick)
    response_w = 0.0 if played else setpoint_w - baseline_w
    return ReserveState(duty.frequency, response_w, duty.spent_wh, gathering), rows


def _trouble(duty: Duty, *, played: bool) -> Trouble | None:
    """Why this second is no answer to an award."""
    if played:
        return Trouble.TEST
    return next((answer.trouble for answer in duty.response.answers if answer.trouble), None)
