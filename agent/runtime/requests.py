"""What the local socket answers: one method per command, facts gathered from the running parts."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.cloud.messages import local_plan_held, orders_held, plan_held
from agent.cloud.stamp import iso
from agent.core.admission import Refused
from agent.core.ledger import SlotRow
from agent.core.records import Outcome, Stage, StorageFailed
from agent.core.snapshot import CeilingOutcome, WriteOutcome
from agent.runtime.award_report import award_facts, evidence_line
from agent.runtime.board import DeviceHealth
from agent.runtime.checkup_side import CheckupSide
from agent.runtime.clock_word import ClockWord
from agent.runtime.commissioning import CommissioningSide
from agent.runtime.control import ControlLoop
from agent.runtime.device_side import DeviceSide
from agent.runtime.local_socket import Handler, Peer, Refusal
from agent.runtime.models import LearnedModels
from agent.runtime.recorder import Recorder
from agent.runtime.reload import Reloading
from agent.runtime.report import condition, control_facts, explanation, ledger_line, slots_within
from agent.runtime.roles import by_role
from agent.runtime.safe_mode import SafeMode
from agent.runtime.site_authority import SiteAuthority
from agent.store import Store

MAX_SLOTS = 2_000
"""Slots in one answer: a month of half hours."""
MAX_EVIDENCE_ROWS = 1_800
"""Half an hour of seconds in one answer; the loop is held up by a few ms."""
MAX_LEDGER_ROWS = 20_000
"""A day of slots of 5 s; about 10 MB."""


@dataclass
class Requests:
    """The daemon's side of the `ems` command."""

    site_id: str
    version: str
    boot_id: str
    control: ControlLoop
    recorder: Recorder
    store: Store
    devices: Sequence[DeviceHealth]
    models: LearnedModels
    authority: SiteAuthority
    commands_facts: Callable[[], list[dict[str, Any]]]
    device_side: DeviceSide
    checkup: CheckupSide
    reloading: Reloading
    safe_mode: SafeMode
    clock_word: ClockWord
    commissioning: CommissioningSide
    cloud_facts: Callable[[], dict[str, Any] | None]
    import_plan: Callable[[bytes, str], Awaitable[Outcome | Refused]]
    replan_facts: Callable[[], dict[str, Any]] | None
    """None where the site file switches re-planning off."""

    def handlers(self) -> dict[str, Handler]:
        """The commands by name, each for those who may give it."""
        return by_role(self._handlers())

    def _handlers(self) -> dict[str, Handler]:
        return {
            "status": self._status,
            "explain": self._explain,
            "timeline": self._timeline,
            "slots": self._slots,
            "ledger": self._day,
            "events": self._events,
            "awards": self._awards,
            "evidence": self._evidence,
            "plan_import": self._plan_import,
            **self.models.handlers(),
            **self.authority.handlers(),
            **self.device_side.handlers(),
            **self.reloading.handlers(),
            **self.safe_mode.handlers(),
            **self.clock_word.handlers(),
            **self.commissioning.handlers(),
            **self.checkup.handlers(),
        }

    async def _status(self, _request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        return self.facts()

    def facts(self) -> dict[str, Any]:
        """The status of the site; a refusal while nothing was decided yet."""
        control = self.control
        counters = control.counters
        return {
            **control_facts(self._last_decision(), control.plans),
            "mode": "read_only" if control.read_only else "control",
            "orders": orders_held(control.order_documents),
            "site": self.site_id,
            "site_file": self.reloading.facts(),
            "safe_mode": self.safe_mode.facts(),
            "commissioning": self.commissioning.facts(),
            "version": self.version,
            "boot_id": self.boot_id,
            "pid": os.getpid(),
            "uptime_s": round(control.clock.mono_s() - control.started_mono_s, 3),
            "clock": {"trusted": control.trust.trusted, "why": control.trust.why},
            "conditions": [condition(found) for found in control.state.conditions.values()],
            "devices": [_device(health, control.clock.mono_s()) for health in self.devices],
            **self.authority.facts(),
            "commands": self.commands_facts(),
            "models": self.models.facts(),
            "cloud": self.cloud_facts(),
            "replan": self.replan_facts() if self.replan_facts is not None else None,
            "disk": {"failing": self.recorder.failing, "telemetry_fault": self.store.telemetry_fault},
            "counters": {
                "ticks": counters.ticks,
                "late_ticks": counters.late_ticks,
                "writes": counters.writes,
                "writes_verified": counters.writes_verified,
                "writes_failed": counters.writes_failed,
                "first_verified_write_s": counters.first_verified_write_s,
                "frames_sealed": self.recorder.frames_sealed,
                "samples_dropped": self.recorder.samples_dropped,
            },
        }

    async def _explain(self, _request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        control = self.control
        outcomes: dict[str, WriteOutcome | CeilingOutcome] = {**control.last_outcome, **control.pv_ceilings.last}
        return explanation(self._last_decision(), outcomes, control.verdicts())

    async def _slots(self, request: dict[str, Any], _peer: Peer) -> list[dict[str, Any]]:
        from_utc_s, to_utc_s = _number(request, "from_utc_s"), _number(request, "to_utc_s")
        rows = await self._ledger(from_utc_s, to_utc_s)
        return [_row(row) for row in rows if row.closed]

    async def _day(self, request: dict[str, Any], _peer: Peer) -> list[dict[str, Any]]:
        """The finished slots of a time in full, and the one that runs as far as it came."""
        from_utc_s, to_utc_s = _number(request, "from_utc_s"), _number(request, "to_utc_s")
        rows = await self._ledger(from_utc_s, to_utc_s)
        if len(rows) > MAX_LEDGER_ROWS:
            raise Refusal("ledger", f"{len(rows)} slots; at most {MAX_LEDGER_ROWS} at once", "ask for fewer days")
        return [ledger_line(row) for row in rows]

    async def _events(self, request: dict[str, Any], _peer: Peer) -> list[dict[str, Any]]:
        limit = int(min(max(_number(request, "limit"), 1), MAX_SLOTS))
        return [
            {
                "at": iso(event.at_utc_s),
                "state": event.state,
                "severity": event.severity,
                "code": event.code,
                "subject": event.subject,
                "text": event.text,
                "data": dict(event.data),
            }
            for event in await self.store.events(limit)
        ]

    async def _timeline(self, request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        """Past slots as delivered, the one that runs, and the ones to come."""
        past, ahead = int(_number(request, "past")), int(_number(request, "ahead"))
        if not (0 <= past <= MAX_SLOTS and 0 <= ahead <= MAX_SLOTS):
            raise Refusal("timeline", f"at most {MAX_SLOTS} slots each way", "ask for fewer")
        decision, plans = self._last_decision(), self.control.plans
        held = [plan for plan in (plans.rolling, plans.yearly) if plan is not None]
        slot_s = min((plan.slot_s for plan in held), default=1800)
        rows = await self._ledger(decision.utc_s - (past + 1) * slot_s, decision.utc_s)
        slots = [_past(row) for row in rows if row.closed and row.planned_wh is not None][-past:] if past else []
        if decision.slot is not None:
            slot = decision.slot
            elapsed_s = max(decision.utc_s - slot.start_utc_s, 1e-3)
            done_w = None if decision.slot_done_wh is None else decision.slot_done_wh * 3600 / elapsed_s
            slots.append(
                {
                    "when": "now",
                    "start": iso(slot.start_utc_s),
                    "end": iso(slot.end_utc_s),
                    "planned_w": slot.power_w,
                    "promised_w": slot.promise_w,
                    "delivered_w": done_w,
                    "target": slot.target,
                    "source": decision.source,
                    "soc_pct": decision.soc_pct,
                }
            )
        coming = slots_within(plans, decision.utc_s, decision.utc_s + ahead * slot_s, ahead)
        slots += [_coming(slot) for slot in coming]
        documents = {"rolling": plan_held(plans.rolling), "yearly": plan_held(plans.yearly)}
        return {"plans": documents, "local_plan": local_plan_held(plans), "slots": slots}

    async def _awards(self, _request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        self._last_decision()
        return award_facts(self.control)

    async def _evidence(self, request: dict[str, Any], _peer: Peer) -> list[dict[str, Any]]:
        """Whole seconds of frequency response; at most `MAX_EVIDENCE_ROWS`, the rest to be asked for from there on."""
        from_utc_s, to_utc_s = _number(request, "from_utc_s"), _number(request, "to_utc_s")
        try:
            rows = await self.store.evidence(from_utc_s, to_utc_s, MAX_EVIDENCE_ROWS)
        except StorageFailed as error:
            raise Refusal("evidence", str(error), "control goes on; check the disk with df and dmesg") from error
        return [evidence_line(row) for row in rows]

    async def _plan_import(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        try:
            payload = base64.b64decode(request.get("document", ""), validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise Refusal("plan import", "the document did not arrive whole", "try again") from error
        outcome = await self.import_plan(payload, peer.name)
        if isinstance(outcome, Refused) or outcome.stage is Stage.REJECTED:
            field = f" at {outcome.field}" if outcome.field else ""
            why = f"{outcome.reason}{field}: {outcome.detail}"
            raise Refusal("plan import", why, "what is in force stays; docs/contract.md explains each reason")
        return {
            "kind": outcome.kind,
            "version": outcome.version,
            "stage": outcome.stage,
            "sha256": outcome.sha256,
            "detail": outcome.detail,
        }

    def _last_decision(self) -> Any:
        if not self.control.decisions:
            raise Refusal("status", "the agent has only just started and not decided yet", "try again in a second")
        return self.control.decisions[-1]

    async def _ledger(self, from_utc_s: float, to_utc_s: float) -> Sequence[SlotRow]:
        try:
            return await self.store.slots(from_utc_s, to_utc_s)
        except StorageFailed as error:
            raise Refusal("slots", str(error), "control goes on; check the disk with df and dmesg") from error


def _number(request: dict[str, Any], key: str) -> float:
    value = request.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal("request", f"{key} must be a number", "see docs/contract.md")
    return float(value)


def _device(health: DeviceHealth, now_mono_s: float) -> dict[str, Any]:
    return {
        "device_id": health.device_id,
        "endpoint": health.endpoint,
        "identity": health.identity,
        "health": health.word,
        "polls": health.polls,
        "failures": health.failures,
        "age_s": None if health.read_mono_s is None else round(now_mono_s - health.read_mono_s, 3),
        "last_error": health.last_error,
        "latency_ms": None if health.latency_s is None else round(health.latency_s * 1000, 2),
    }


def _row(row: SlotRow) -> dict[str, Any]:
    return {
        "start_utc_s": row.start_utc_s,
        "end_utc_s": row.end_utc_s,
        "source": row.source,
        "plan_version": row.version,
        "target": row.target,
        "planned_wh": row.planned_wh,
        "delivered_wh": row.delivered_wh,
        "covered_s": row.covered_s,
        "battery_wh": row.battery_wh,
        "soc_end_pct": row.soc_end_pct,
    }


def _past(row: SlotRow) -> dict[str, Any]:
    length_s = row.end_utc_s - row.start_utc_s
    return {
        "when": "past",
        "start": iso(row.start_utc_s),
        "end": iso(row.end_utc_s),
        "planned_w": row.power_w,
        "promised_w": row.power_w,
        "delivered_w": None if row.delivered_wh is None else row.delivered_wh * 3600 / length_s,
        "target": row.target,
        "source": row.source,
        "soc_pct": row.soc_end_pct,
    }


def _coming(slot: dict[str, Any]) -> dict[str, Any]:
    return {
        "when": "coming",
        "start": slot["start"],
        "end": slot["end"],
        "planned_w": slot["power_w"],
        "promised_w": slot["promised_w"],
        "delivered_w": None,
        "target": slot["target"],
        "source": slot["source"],
        "soc_pct": slot["soc_end_pct"],
    }
