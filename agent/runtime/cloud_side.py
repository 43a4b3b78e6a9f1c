"""Joins the control loop with the cloud: plans in, their stages and the status out. Works without any cloud too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import structlog

from agent.cloud.documents import PlanDesk
from agent.cloud.messages import Status, status_message
from agent.cloud.mqtt_link import BrokerAddress, LinkOptions
from agent.cloud.uplink import Confirm, Uplink, UplinkOptions
from agent.config import CloudSection, SiteFile
from agent.core.admission import Refused
from agent.core.authority import Source
from agent.core.decision import Decision, Effects
from agent.core.plan import Plan, PlanKind, Plans
from agent.core.records import Outcome, Stage
from agent.runtime.board import DeviceHealth
from agent.runtime.clock import Clock
from agent.runtime.control import ControlLoop
from agent.store import Store

log = structlog.get_logger(__name__)

SHORTEST_WAIT_S = 0.2
"""First pause before the broker is tried again."""


class CloudSide:
    """The plan desk and, where the site file names a broker, the uplink."""

    def __init__(
        self,
        *,
        site: SiteFile,
        store: Store,
        control: ControlLoop,
        devices: Sequence[DeviceHealth],
        boot_id: str,
        clock: Clock,
    ) -> None:
        self._site = site
        self._store = store
        self._control = control
        self._devices = devices
        self._boot_id = boot_id
        self._clock = clock
        self._shown: tuple[Any, ...] = ()
        self._told: dict[tuple[PlanKind, Stage], str] = {}
        self._stages: asyncio.Queue[tuple[Plan, Stage]] = asyncio.Queue(maxsize=64)
        self._uplink = self._make_uplink(site.cloud) if site.cloud is not None else None
        limits = site.plan_limits()
        self._desk = PlanDesk(
            store=store,
            site_id=site.site.id,
            limits=lambda: limits,
            held=lambda: control.plans,
            utc_s=clock.utc_s,
            on_stored=self._in_force,
            courtesy=self._uplink.courtesy if self._uplink is not None else lambda _outcome: None,
            on_answered=self.news,
        )

    async def run(self) -> None:
        """Keeps the session with the broker and tells how far each plan came, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_stages())
            if self._uplink is not None:
                tasks.create_task(self._uplink.run())

    def news(self) -> None:
        """The outbox has something new."""
        if self._uplink is not None:
            self._uplink.notify()

    def after_tick(self, effects: Effects) -> None:
        """Notices from one tick's decision what the cloud wants to know."""
        decision, plans = effects.decision, self._control.plans
        self._follow(decision, plans)
        shown = (
            decision.source,
            plans.rolling and plans.rolling.version,
            plans.yearly and plans.yearly.version,
            tuple(self._control.state.conditions),
            tuple(device.word for device in self._devices),
            self._control.trust.trusted,
        )
        if shown != self._shown:
            self._shown = shown
            if self._uplink is not None:
                self._uplink.status_changed()

    async def beat(self) -> None:
        """Publishes the status again."""
        if self._uplink is not None:
            self._uplink.status_changed()

    def facts(self) -> dict[str, Any] | None:
        """The link as `ems status` shows it; None on a site without a broker."""
        if self._uplink is None or self._site.cloud is None:
            return None
        return {
            "broker": self._site.cloud.broker,
            "connected": self._uplink.connected,
            "trouble": None if self._uplink.connected else self._uplink.last_trouble,
            "outbox_depth": self._store.outbox_depth,
        }

    async def import_plan(self, payload: bytes, who: str) -> Outcome | Refused:
        """The answer to a plan that a technician brought."""
        outcome = await self._desk.import_document(payload)
        log.info("plan_imported", who=who, outcome=str(outcome))
        return outcome

    def _make_uplink(self, section: CloudSection) -> Uplink:
        link = LinkOptions(first_wait_s=SHORTEST_WAIT_S, longest_wait_s=section.reconnect_max)
        return Uplink(
            site_id=self._site.site.id,
            address=BrokerAddress.parse(section.broker),
            outbox=self._store,
            status=self._status,
            on_plan=self._receive,
            utc_s=self._clock.utc_s,
            options=UplinkOptions(confirm=Confirm(section.confirm), resend_after_s=section.resend_after, link=link),
        )

    async def _receive(self, kind: PlanKind, payload: bytes) -> Outcome:
        return await self._desk.receive(kind, payload)

    def _status(self) -> bytes:
        control = self._control
        decision: Decision | None = control.decisions[-1] if control.decisions else None
        status = Status(
            at_utc_s=self._clock.utc_s(),
            source=decision.source if decision is not None else Source.NEUTRAL,
            why=decision.why if decision is not None else "the agent has only just started",
            plans=control.plans,
            devices={device.device_id: device.word for device in self._devices},
            conditions=list(control.state.conditions.values()),
            clock_trusted=control.trust.trusted,
            clock_why=control.trust.why,
            software_version=version("ems-agent"),
            boot_id=self._boot_id,
        )
        return status_message(self._site.site.id, status)

    def _in_force(self, plan: Plan) -> None:
        log.info("plan_stored", kind=plan.kind, version=plan.version, slots=len(plan.power_w))
        self._control.replace_plan(plan)

    def _follow(self, decision: Decision, plans: Plans) -> None:
        """Queues `active` when a plan first decides, and `expired` when its last slot has ended."""
        for kind, plan in ((PlanKind.ROLLING, plans.rolling), (PlanKind.YEARLY, plans.yearly)):
            if plan is None:
                continue
            if decision.source == kind.value and plan.version == decision.version:
                self._reached(plan, Stage.ACTIVE)
            if decision.utc_s >= plan.end_utc_s and self._control.trust.trusted:
                self._reached(plan, Stage.EXPIRED)

    def _reached(self, plan: Plan, stage: Stage) -> None:
        """Once per plan and stage of this process; the desk keeps it to once ever."""
        if self._told.get((plan.kind, stage)) != plan.sha256 and not self._stages.full():
            self._told[plan.kind, stage] = plan.sha256
            self._stages.put_nowait((plan, stage))

    async def _tell_stages(self) -> None:
        while True:
            plan, stage = await self._stages.get()
            await self._desk.mark(plan, stage)
