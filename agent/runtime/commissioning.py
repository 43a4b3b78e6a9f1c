"""`ems commission` in the daemon: leads the state machine tick by tick, keeps its record, tells who did what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import structlog

from agent.cloud.stamp import iso
from agent.core.commissioning import Run, Stage, advance, begun, trial_of
from agent.core.commissioning_limits import AWARD_AHEAD_S, LEASE_S
from agent.core.commissioning_record import (
    NOTHING_KEPT,
    Record,
    as_measured,
    failed_condition,
    measured_of,
    record_json,
    restored_record,
    result_json,
)
from agent.core.commissioning_steps import BY_NAME, StepKey, about, site_steps
from agent.core.commissioning_terms import Result, Word
from agent.core.decision import Condition, Effects
from agent.core.events import Event, EventState, Severity
from agent.core.kept_text import read_back
from agent.core.records import StorageFailed
from agent.core.rules import SiteRules
from agent.runtime.clock import Clock
from agent.runtime.commissioning_facts import SiteFacts
from agent.runtime.control import ControlLoop
from agent.runtime.local_socket import Handler, Peer, Refusal
from agent.runtime.roles import need_operator
from agent.store import Store

log = structlog.get_logger(__name__)

WHAT = "commission"
RETRY_S = 5.0
"""A disk that refused to keep the record is asked again after this."""
NO_WORD = "the agent was restarted in the middle of it"


class CommissioningSide:
    """One commissioning at a time; what it measured is in the rules of the control loop."""

    def __init__(
        self, store: Store, control: ControlLoop, facts: SiteFacts, tell: Callable[[Event], None], clock: Clock
    ) -> None:
        self._store = store
        self._control = control
        self._facts = facts
        self._tell = tell
        self._clock = clock
        self._record = NOTHING_KEPT
        self._kept: Record = NOTHING_KEPT
        self._run: Run | None = None
        self._heard_mono_s = 0.0
        self._go = ""
        self._stop = ""
        self._told: tuple[Condition, ...] = ()
        self._applied: tuple[SiteRules | None, tuple[str | None, ...]] = (None, ())
        self._wake = asyncio.Event()

    def restore(self, text: str | None) -> None:
        """What the process before measured counts again; what it was in the middle of is over, and may be resumed."""
        record = _read(text)
        if record is None:
            return
        self._record = self._kept = record
        if record.word is None and record.begun_utc_s:
            self._record = replace(record, word=Word.STOPPED, why=NO_WORD, ended_utc_s=self._clock.utc_s())
            self._wake.set()
            self._tell(self._event("commissioning_ended", Severity.WARNING, "site", f"commissioning ended: {NO_WORD}"))
        self._apply()

    def conditions(self) -> tuple[Condition, ...]:
        """What is to be told about devices that were not commissioned, and about a commissioning that failed."""
        return (*self._told, *(failed_condition(self._record) if self._run is None else ()))

    def after_tick(self, effects: Effects) -> None:
        """One step of the state machine; and new devices get their own measurements, or none."""
        identities = tuple(one.identity for one in self._facts.health)
        if self._run is not None and self._control.rules is not self._applied[0]:
            self._stop = "a site file that was changed"
        if self._control.rules is not self._applied[0] or identities != self._applied[1]:
            self._apply()
        run = self._run
        if run is None:
            return
        led = effects.decision.mono_s - self._heard_mono_s <= LEASE_S
        moment = self._facts.moment(effects.decision, led=led, stop=self._stop, go=self._go)
        after = advance(run, moment)
        self._run = after
        self._control.trial = trial_of(after)
        self._go = self._go if after.stage is Stage.WAITING else ""
        for key, result in after.results.items():
            if result is not run.results.get(key):
                self._step_done(after, key, result)
        if after.key != run.key or run.alarms is None:
            self._step_begins(after)
        if after.stage is Stage.ENDED:
            self._finished(after)

    async def run(self) -> None:
        """Keeps the record on disk, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            record = self._record
            try:
                await self._store.keep_commissioning(json.dumps(record_json(record)))
                self._kept = record
            except StorageFailed as failure:
                log.warning("commissioning_not_kept", reason=str(failure), text="a restart would not know of it")
                await self._clock.sleep_until(self._clock.mono_s() + RETRY_S)
                self._wake.set()

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {
            "commission_start": self._start,
            "commission_go": self._agree,
            "commission_stop": self._end,
            "commission_status": self._status,
        }

    def facts(self) -> dict[str, Any]:
        """Whether one runs, and what was measured, for the status."""
        run = self._run
        return {
            "running": None if run is None else _now(run),
            "verdict": self._record.word,
            "ended": iso(self._record.ended_utc_s) if self._record.ended_utc_s is not None else None,
            "measured": {
                battery.device_id: _measured(battery.measured)
                for battery in self._control.rules.batteries
                if battery.measured is not None
            },
        }

    # Commands

    async def _start(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        need_operator(WHAT, peer)
        only, resume = request.get("step"), request.get("resume") is True
        self._refuse_start(request, only, resume=resume)
        utc_s = self._clock.utc_s()
        devices = self._facts.device_facts()
        same = _identities(devices) == _identities(self._record.devices)
        kept: Mapping[str, Result] = self._record.results if same and (resume or only is not None) else {}
        self._run = begun(
            self._control.rules, peer.name, auto=request.get("auto") is True, utc_s=utc_s, kept=kept, only=only
        )
        self._go = self._stop = ""
        self._heard_mono_s = self._clock.mono_s()
        self._control.trial = trial_of(self._run)
        self._record = Record(kept, self._record.measured, devices, None, "", peer.name, utc_s)
        self._wake.set()
        names = ", ".join(key.title for key in self._run.todo)
        text = f"{peer.name} commissions the site ({names}): commands and plans are held off until it is over"
        self._tell(self._event("commissioning_started", Severity.WARNING, "site", text, who=peer.name))
        self._control.act_now()
        return self._told_to_clients(full=False)

    def _refuse_start(self, request: dict[str, Any], only: object, *, resume: bool) -> None:
        control = self._control
        if control.read_only:
            why = "the agent is in its read-only mode and writes nothing"
            raise Refusal(WHAT, why, "take control.mode out of the site file and restart the agent")
        if request.get("confirmed") is not True:
            raise Refusal(WHAT, "it moves the batteries, and nobody confirmed that", "run ems commission, and answer")
        if self._run is not None:
            raise Refusal(WHAT, f"{self._run.who} commissions already", "wait, or end it: ems commission --stop")
        if only is not None and only not in BY_NAME:
            raise Refusal(WHAT, f"there is no step {only!r}", f"name one of {', '.join(BY_NAME)}")
        if not control.rules.batteries:
            raise Refusal(WHAT, "the site file names no battery", "add a [[device]] with role = battery")
        if not control.decisions:
            raise Refusal(WHAT, "the agent has only just started and not decided yet", "try again in a second")
        if resume and not self._record.results:
            raise Refusal(WHAT, "there is nothing to resume", "run it without --resume")
        if control.safe_mode:
            raise Refusal(WHAT, f"the agent is in its safe mode: {control.safe_mode}", "find the cause first")
        if control.state.latches:
            latches = ", ".join(latch.device_id for latch in control.state.latches.values())
            raise Refusal(WHAT, f"the safety latch fell at {latches}", "find the cause, then: ems latch reset")
        outside = self._facts.outside(self._clock.utc_s(), AWARD_AHEAD_S)
        if outside:
            raise Refusal(WHAT, outside, "wait until that is over (ems awards; ems override clear)")

    async def _agree(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        need_operator(WHAT, peer)
        run = self._running()
        if run.stage is not Stage.WAITING or request.get("step") != str(run.key):
            raise Refusal(WHAT, f"it does not wait for a word about {request.get('step')!r}", "look: ems status")
        self._go = str(run.key)
        self._heard_mono_s = self._clock.mono_s()
        return self._told_to_clients(full=False)

    async def _end(self, _request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        need_operator(WHAT, peer)
        self._running()
        self._stop = peer.name
        return self._told_to_clients(full=False)

    async def _status(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        if request.get("lead") is True and self._run is not None and peer.name == self._run.who:
            self._heard_mono_s = self._clock.mono_s()
        return self._told_to_clients(full=request.get("full") is True)

    def _running(self) -> Run:
        if self._run is None:
            raise Refusal(WHAT, "no commissioning runs", "ems commission starts one")
        return self._run

    # What happened

    def _step_begins(self, run: Run) -> None:
        key = run.key
        if key is None or run.stage is Stage.ENDED:
            return
        text = f"{run.who}: {key.title} begins ({about(key, run.rules)})"
        self._tell(
            self._event("commissioning_step", Severity.INFO, key.device_id or "site", text, who=run.who, step=str(key))
        )

    def _step_done(self, run: Run, key: str, result: Result) -> None:
        worst = next((one for one in result.findings if one.word is result.word), None)
        text = f"{run.who}: {_title(key)}: {result.word}" + (f": {worst.text}" if worst is not None else "")
        severity = Severity.WARNING if result.word in (Word.FAILED, Word.STOPPED) else Severity.INFO
        known = {name: value for name, value in result.measures.items() if value is not None}
        data: dict[str, str | float | None] = {"who": run.who, "step": key, "result": result.word, **known}
        device_id = key.partition(":")[2] or "site"
        self._tell(self._event("commissioning_step", severity, device_id, text, **data))
        self._take_over(run, word=None, why="")

    def _finished(self, run: Run) -> None:
        why = "" if run.surprise is None else f"{run.surprise.text}; {run.surprise.hint}"
        self._take_over(run, word=run.word, why=why)
        self._run = None
        self._control.trial = None
        word = run.word or Word.STOPPED
        ended = f": {why}" if why else ""
        text = f"{run.who}: commissioning {word}{ended}; commands and plans decide again"
        severity = Severity.INFO if word is Word.PASSED else Severity.WARNING
        self._tell(self._event("commissioning_ended", severity, "site", text, who=run.who, result=word))

    def _take_over(self, run: Run, *, word: Word | None, why: str) -> None:
        """The record after these results; what they measured counts from the next tick on."""
        devices = self._facts.device_facts()
        measured = dict(self._record.measured)
        utc_s = self._clock.utc_s()
        for device in devices:
            new = {key: run.results[key] for key in run.results if key in _of_this_run(run)}
            found = measured_of(new, measured.get(device.device_id), device, run.who, utc_s)
            if found is not None:
                measured[device.device_id] = found
        ended_utc_s = run.ended_utc_s if word is not None else None
        self._record = Record(run.results, measured, devices, word, why, run.who, run.begun_utc_s, ended_utc_s)
        self._wake.set()
        self._apply()

    def _apply(self) -> None:
        rules, self._told = as_measured(self._control.rules, self._record.measured, self._facts.device_facts())
        self._control.rules = rules
        self._applied = (rules, tuple(one.identity for one in self._facts.health))

    # What is told

    def _told_to_clients(self, *, full: bool) -> dict[str, Any]:
        """The commissioning that runs, or the last one; with `full` with every row for a report."""
        run, record = self._run, self._record
        results = run.results if run is not None else record.results
        steps = []
        for key in site_steps(self._control.rules):
            result = results.get(str(key))
            told = result_json(result) if result is not None else {"word": None, "findings": [], "measures": {}}
            if not full:
                told.pop("series", None)
            steps.append({"step": str(key), "title": key.title, **told})
        return {
            "site": self._control.rules.site_id,
            "running": None if run is None else _now(run),
            "verdict": None if run is not None else record.word,
            "why": record.why,
            "who": record.who,
            "begun_utc_s": record.begun_utc_s,
            "begun": iso(record.begun_utc_s) if record.begun_utc_s else None,
            "ended": iso(record.ended_utc_s) if record.ended_utc_s is not None and run is None else None,
            "steps": steps,
            "devices": [asdict(device) for device in record.devices],
            "measured": {device_id: _measured(found) for device_id, found in record.measured.items()},
        }

    def _event(self, code: str, severity: Severity, subject: str, text: str, **data: str | float | None) -> Event:
        return Event(self._clock.utc_s(), EventState.NOTED, severity, code, subject, text, data)


def _of_this_run(run: Run) -> set[str]:
    return {str(key) for key in run.todo}


def _now(run: Run) -> dict[str, Any]:
    key = run.key
    return {
        "who": run.who,
        "auto": run.auto,
        "stage": run.stage,
        "step": str(key) if key is not None else None,
        "title": key.title if key is not None else None,
        "phase": run.phase.name if run.phase is not None else None,
        "about": about(key, run.rules) if key is not None else None,
        "surprise": run.surprise.text if run.surprise is not None else None,
        "done": run.at,
        "steps": len(run.todo),
    }


def _measured(found: Any) -> dict[str, Any]:
    facts: dict[str, Any] = asdict(found)
    return {"at": iso(facts.pop("at_utc_s")), **facts}


def _title(key: str) -> str:
    name, _, device_id = key.partition(":")
    return StepKey(name, device_id or None).title


def _identities(devices: Any) -> list[tuple[str | None, ...]]:
    return sorted((one.device_id, one.manufacturer, one.model, one.serial) for one in devices)


def _read(text: str | None) -> Record | None:
    if text is None:
        return None
    try:
        content = read_back(text)
    except ValueError:
        content = None
    record = restored_record(content)
    if record is None:
        log.warning("commissioning_unreadable", text="what was commissioned is not known any more; commission anew")
    return record
