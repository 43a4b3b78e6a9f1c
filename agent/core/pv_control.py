"""PV within one tick: how much it may give, which inverters must be told, and what is wrong with them.

The batteries absorb first (`agent.core.curtailment`); a ceiling is what is left to PV then. It follows the limit at the
connection point, be it the site's own or an order's, and ends with the need for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.bounds import CLIP_EPSILON_W
from agent.core.curtailment import ConnectionLimits, pv_ceiling_w, pv_shares_w
from agent.core.decision import Condition, Inputs
from agent.core.dispatch import Dispatch
from agent.core.envelope_rules import PvRules
from agent.core.events import Severity
from agent.core.made_often import made_often
from agent.core.pv_limit import (
    CeilingWrite,
    PvLine,
    PvState,
    pv_done,
    pv_due,
    pv_not_following,
    pv_sent,
    pv_watched,
)
from agent.core.rules import SiteRules
from agent.core.site_view import SiteView
from agent.core.snapshot import PvSample
from agent.core.writes import FAILURES_UNTIL_ALARM

STEADY_WITHIN_S = 3.0
"""The load is the median of this long: meter and inverters are not read at one instant, so that a cloud edge shows as
a load that comes and goes within two readings."""
TOLD_AFTER_S = 10.0
"""While PV is being limited, an excess is told when it lasts this long: inverters need some seconds to follow."""
EXCESS_CODES = frozenset({"connection_limit_exceeded", "curtailment_exceeded", "pv_cannot_be_limited"})


@made_often
@dataclass(frozen=True, slots=True)
class PvTick:
    """What one tick decided about PV."""

    state: PvState
    writes: tuple[CeilingWrite, ...] = ()
    conditions: tuple[Condition, ...] = ()
    quiet: frozenset[str] = frozenset()
    """Codes of conditions that are not told at this tick."""


def pv_tick(
    rules: SiteRules, before: PvState, inputs: Inputs, now: SiteView, done: Dispatch, *, limits: ConnectionLimits
) -> PvTick:
    """The ceilings at this tick; `limits` are those of the connection point, `done` what the batteries were told."""
    if not rules.pv_ids:
        return PvTick(PvState())
    samples = {sample.device_id: sample for sample in now.pvs}
    able = [pv for pv in rules.limits.pvs if samples[pv.device_id].has_limit is not False]
    if not able:
        return PvTick(PvState(), (), tuple(_beyond_help(rules, now, limits, done)))
    mono_s = inputs.mono_s
    rest = _rest(before, now, samples, able, mono_s)
    rest_w = sorted([power_w for _, power_w in rest])[len(rest) // 2] if rest else None
    ceiling_w = pv_ceiling_w(
        limits.export_w, rest_w, done.hard_lower_w, sum([pv.rated_w for pv in able]), before.ceiling_w
    )
    kept_mono_s = before.kept_mono_s if _exceeds(now, limits, done) else mono_s
    if ceiling_w is None and len(before.lines) == len(able) and _idle(before, now):
        # What most ticks are.
        return PvTick(PvState(before.lines, None, rest, kept_mono_s))
    shares_w = {
        pv.device_id: _below(share_w, pv)
        for pv, share_w in zip(able, pv_shares_w(ceiling_w, [pv.rated_w for pv in able]), strict=True)
    }
    held = {line.device_id: line for line in before.lines}
    outcomes = {outcome.device_id: outcome for outcome in inputs.ceiling_outcomes}
    lines: list[PvLine] = []
    writes: list[CeilingWrite] = []
    told: list[Condition] = []
    if ceiling_w == 0.0:
        told += _beyond_help(rules, now, limits, done)
    for pv in able:
        device_id, sample = pv.device_id, samples[pv.device_id]
        line = held.get(device_id, PvLine(device_id))
        if device_id in outcomes:
            line = pv_done(line, outcomes[device_id])
        line = pv_watched(line, sample, pv, mono_s)
        # Nothing is written to an inverter that cannot be read: it sleeps at night.
        readable = sample.power_w.value is not None
        reason = pv_due(line, shares_w[device_id], pv, mono_s, sample) if readable else None
        if reason is not None:
            writes.append(CeilingWrite(device_id, shares_w[device_id], reason))
            line = pv_sent(line)
        lines.append(line)
        told += _trouble(line, sample, pv, limits, mono_s)
    settling = kept_mono_s is not None and 0.0 < mono_s - kept_mono_s < TOLD_AFTER_S
    quiet = EXCESS_CODES if settling else frozenset()
    after = PvState(tuple(lines), ceiling_w, rest, kept_mono_s)
    return PvTick(after, tuple(writes), tuple(told), quiet)


def _idle(before: PvState, now: SiteView) -> bool:
    """True when no inverter holds a ceiling, as far as anyone knows, and no write is under way or owed."""
    for line in before.lines:
        if line.wrote or line.in_flight or line.failures:
            return False
    return not [sample for sample in now.pvs if sample.limited.value]


def _exceeds(now: SiteView, limits: ConnectionLimits, done: Dispatch) -> bool:
    """True when the site will export more than it may although the batteries do what they are told."""
    return now.others_w is not None and now.others_w + done.power_w > limits.export_w + CLIP_EPSILON_W


def _below(share_w: float | None, rules: PvRules) -> float | None:
    """The ceiling to write: lower by the dead band, so that a fall too small to be written breaks no limit either."""
    return None if share_w is None else max(share_w - rules.dead_band_w, 0.0)


def _rest(
    before: PvState, now: SiteView, samples: dict[str, PvSample], able: list[PvRules], mono_s: float
) -> tuple[tuple[float, float], ...]:
    """What everything but the batteries and the limitable inverters gave within `STEADY_WITHIN_S`; empty = unknown."""
    if now.others_w is None:
        return ()
    rest_w = now.others_w
    for pv in able:
        power_w = samples[pv.device_id].power_w.value
        if power_w is None:
            return ()
        rest_w -= power_w
    return (*[one for one in before.rest_w if mono_s - one[0] < STEADY_WITHIN_S], (mono_s, rest_w))


def _beyond_help(rules: SiteRules, now: SiteView, limits: ConnectionLimits, done: Dispatch) -> list[Condition]:
    """The inverters without a limit while the site exports more than it may and the others are at 0 already."""
    if not _exceeds(now, limits, done):
        return []
    limitable = {pv.device_id for pv in rules.limits.pvs}
    found = []
    for sample in now.pvs:
        power_w = sample.power_w.value
        if power_w is None or power_w <= CLIP_EPSILON_W:
            continue
        if sample.device_id not in limitable:
            why = "the site file does not allow it (can_be_limited)"
        elif sample.has_limit is False:
            why = "it offers no power limit (SunSpec 704 or 123, or [pv.control] in its profile)"
        else:
            continue  # it is limited, or told that it does not follow
        text = f"the site exports more than it may, and this inverter cannot be limited: {why}"
        found.append(Condition("pv_cannot_be_limited", sample.device_id, Severity.ALARM, text))
    return found


def _trouble(
    line: PvLine, now: PvSample, rules: PvRules, limits: ConnectionLimits, mono_s: float
) -> Iterable[Condition]:
    if line.owned_w is not None and line.owned_w < rules.rated_w - 2 * rules.dead_band_w:
        whose = f"curtailment {limits.export_order}" if limits.export_order else "the export limit"
        text = f"PV is limited for {whose}: load and batteries cannot take what the sun may give"
        yield Condition("pv_limited", line.device_id, Severity.INFO, text)
        if now.has_dead_man is False:
            text = "the inverter has no timer: it would stay limited if this agent died"
            yield Condition("no_dead_man", line.device_id, Severity.WARNING, text)
    if line.failures >= FAILURES_UNTIL_ALARM:
        text = "writes of the PV ceiling fail or are not confirmed by read-back; `ems explain` shows the last answer"
        yield Condition("pv_limit_refused", line.device_id, Severity.ALARM, text)
    if pv_not_following(line, mono_s):
        text = "the ceiling is confirmed by read-back but the inverter gives more"
        yield Condition("pv_not_following", line.device_id, Severity.ALARM, text)
