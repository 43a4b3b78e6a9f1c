"""The end of a tick for batteries whose own droop may answer: what is handed over or taken back, and what is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent.core.allocate import Unit
from agent.core.awards import AwardBook, Sold
from agent.core.decision import Condition, SetpointWrite
from agent.core.delegable import Part, curve_unfit, parts_of
from agent.core.delegation import (
    REST,
    DroopLine,
    DroopWrite,
    Handed,
    barred,
    droop_due,
    droop_sent,
)
from agent.core.events import Severity
from agent.core.rules import BatteryRules, SiteRules
from agent.core.snapshot import BatterySample, WriteOutcome
from agent.core.writes import FAILURES_UNTIL_ALARM, WriteState

READY_BEFORE_S = 10.0
"""Curves are put ready in the devices this long before an award begins."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """What one tick decided about the devices' own droop."""

    lines: tuple[DroopLine, ...] = ()
    writes: tuple[DroopWrite, ...] = ()
    conditions: tuple[Condition, ...] = ()


NO_HAND_OVER = HandOver()


@dataclass(frozen=True, slots=True)
class Tick:
    """What the hand-over depends on of one tick, each list in the order of the site file."""

    utc_s: float
    mono_s: float
    samples: tuple[BatterySample, ...]
    units: tuple[Unit, ...]
    ledger: tuple[WriteState, ...]
    outcomes: tuple[WriteOutcome, ...]
    writes: tuple[SetpointWrite, ...]
    awards: AwardBook
    """Those that are to be answered: none while somebody above the plans suspends them."""
    owed_w: float


def hand_over(rules: SiteRules, handed: Handed, tick: Tick) -> HandOver:
    """The lines after this tick and the writes that are due."""
    in_force = tick.awards.at(tick.utc_s)
    target = in_force or _soon(tick.awards, tick.utc_s)
    found, why, lasting = _wanted(rules, handed.lines, tick, target)
    until_utc_s = max((line.award.end_utc_s for line in target), default=tick.utc_s)
    rules_of = {battery.device_id: battery for battery in rules.batteries}
    sample_of = {sample.device_id: sample for sample in tick.samples}
    lines: list[DroopLine] = []
    writes: list[DroopWrite] = []
    told: list[Condition] = []
    for line in handed.lines:
        sample = sample_of[line.device_id]
        responds = line.ours and tick.owed_w != 0.0
        line = _bared(line, tick, responds=responds)  # noqa: PLW2901 (one line, step by step)
        if sample.power_w.value is not None:
            if line.part is not None and lasting:
                line = barred(line, why)  # noqa: PLW2901
            line = _aimed(line, found.get(line.device_id), until_utc_s)  # noqa: PLW2901
            write = droop_due(line, rules_of[line.device_id], tick.mono_s, answering=bool(in_force))
            if write is not None:
                writes.append(write)
                line = droop_sent(line, write, tick.mono_s)  # noqa: PLW2901
        lines.append(line)
        told += _told(line, line.barred or why, awarded=bool(target))
    return HandOver(tuple(lines), tuple(writes), tuple(told))


def _soon(awards: AwardBook, utc_s: float) -> tuple[Sold, ...]:
    """The awards that begin first within `READY_BEFORE_S`."""
    coming = awards.starting(utc_s, utc_s + READY_BEFORE_S)
    return awards.at(coming[0].award.start_utc_s) if coming else ()


def _wanted(
    rules: SiteRules, lines: Sequence[DroopLine], tick: Tick, target: tuple[Sold, ...]
) -> tuple[Mapping[str, Part], str, bool]:
    """What each device is to follow, or why none of them is to follow anything, and whether these awards stay so."""
    if not target:
        return {}, "", False
    takes_part: list[tuple[BatteryRules, BatterySample]] = [
        (battery, sample)
        for battery, sample, unit in zip(rules.batteries, tick.samples, tick.units, strict=True)
        if unit.room.hard != REST
    ]
    if not takes_part:
        return {}, "no battery takes part now", False
    if why := curve_unfit(target):
        return {}, why, False
    names = {battery.device_id for battery, _ in takes_part}
    for line in lines:
        if line.barred and line.device_id in names:
            why = line.barred if len(names) == 1 else f"{line.device_id} shares the award, but {line.barred}"
            return {}, why, True
        if line.device_id not in names and not line.ours:
            return {}, f"{line.device_id} shared the award and dropped out", True
    parts = parts_of(target, takes_part, rules.delegated)
    return ({}, parts, True) if isinstance(parts, str) else (parts, "", False)


def _aimed(line: DroopLine, part: Part | None, until_utc_s: float) -> DroopLine:
    """The line with what its device is to follow from now on."""
    if part is None:
        return line if line.part is None else replace(line, part=None, judged=None)
    if part == line.part:
        return line if until_utc_s == line.until_utc_s else replace(line, until_utc_s=until_utc_s)
    return replace(line, part=part, until_utc_s=until_utc_s, judged=None, losses=0)


def _bared(line: DroopLine, tick: Tick, *, responds: bool) -> DroopLine:
    """The line after looking whether the setpoint that the device holds carries an answer of ours."""
    if responds:
        return line if not (line.bare or line.bare_sent) else replace(line, bare=False, bare_sent=False)
    if line.bare:
        return line
    bare = line.bare_sent and any(one.device_id == line.device_id and one.ok for one in tick.outcomes)
    sending = any(write.device_id == line.device_id for write in tick.writes)
    state = next(one for one in tick.ledger if one.device_id == line.device_id)
    bare = bare or (not sending and not state.in_flight and state.owned_w is not None)
    return replace(line, bare=bare, bare_sent=line.bare_sent or sending)


def _told(line: DroopLine, why: str, *, awarded: bool) -> list[Condition]:
    found: list[Condition] = []
    part = line.part
    if line.theirs and part is not None:
        text = (
            f"the device answers the frequency by itself from {part.curve.dead_band_hz * 1e3:g} mHz on, "
            f"{part.award_w / 1e3:g} kW of the award; its setpoint carries the baseline alone"
        )
        found.append(Condition("droop_delegated", line.device_id, Severity.INFO, text))
    elif awarded and part is None:
        text = f"the agent answers the frequency, not the device: {why}"
        found.append(Condition("droop_not_delegated", line.device_id, Severity.WARNING, text))
    if part is None and not line.off and line.failures >= FAILURES_UNTIL_ALARM:
        text = (
            "the device does not confirm that its own droop is off: it may answer the frequency until its reversion "
            "time ends, and the agent does not answer with it; look at its link, then at 711.Ena"
        )
        found.append(Condition("droop_not_released", line.device_id, Severity.ALARM, text))
    return found
