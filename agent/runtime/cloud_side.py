"""Joins the control loop with the cloud: plans in, their stages and the status out. Works without any cloud too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import structlog

from agent.cloud.access import transport
from agent.cloud.documents import DocumentDesk
from agent.cloud.frame import telemetry_frame
from agent.cloud.messages import Status, status_message
from agent.cloud.mqtt_link import OpenClient
from agent.cloud.on_request import Resending
from agent.cloud.reconnect import LinkOptions
from agent.cloud.renewal import Renewal
from agent.cloud.signatures import Arrived, KeyChange, KeyRing
from agent.cloud.transport import Transport
from agent.cloud.uplink import Confirm, Uplink, UplinkOptions
from agent.config import CloudSection, SiteFile
from agent.core.admission import PlanLimits, Refused, Verdict, admit, plan_limits
from agent.core.authority import Source, cloud_slot_at
from agent.core.decision import Decision, Effects
from agent.core.events import Event, EventState, Severity
from agent.core.order_admission import admit_orders
from agent.core.orders import OrderKind
from agent.core.plan import Plan, PlanKind, Plans
from agent.core.records import Document, DocumentKind, Outcome, Sample, Stage, StorageFailed
from agent.runtime.board import DeviceHealth
from agent.runtime.clock import Clock
from agent.runtime.command_side import CommandSide
from agent.runtime.control import ControlLoop
from agent.runtime.forecast_side import ForecastSide
from agent.runtime.site_authority import latch_facts, override_facts
from agent.store import Store

log = structlog.get_logger(__name__)

SHORTEST_WAIT_S = 0.2
"""First pause before the broker is tried again, where the site file asks for no spread."""
NO_BROKER = Refused("bad_value", None, "this site has no broker")


class CloudSide:
    """The document desk and, where the site file names a broker, the uplink."""

    def __init__(
        self,
        *,
        site: SiteFile,
        store: Store,
        control: ControlLoop,
        devices: Sequence[DeviceHealth],
        boot_id: str,
        clock: Clock,
        open_client: OpenClient | None = None,
    ) -> None:
        self._site = site
        self._store = store
        self._control = control
        self._devices = devices
        self._boot_id = boot_id
        self._clock = clock
        self._open_client = open_client
        self._shown: tuple[Any, ...] = ()
        self._told: dict[tuple[DocumentKind, Stage], str] = {}
        self._stages: asyncio.Queue[tuple[Document, Stage]] = asyncio.Queue(maxsize=64)
        self._keys = KeyRing(site.cloud.keys() if site.cloud is not None else {})
        self._uplink = self._make_uplink(site.cloud) if site.cloud is not None else None
        self._renewal = self._make_renewal(site.cloud) if site.cloud is not None else None
        self._forecasts = (
            ForecastSide(site.site.id, control, self._uplink.forecast) if self._uplink is not None else None
        )
        self.commands = CommandSide(
            site_id=site.site.id,
            limits=self._limits,
            store=store,
            control=control,
            clock=clock,
            uplink=self._uplink,
            on_answered=self.news,
        )
        self._desk = DocumentDesk(
            store=store,
            site_id=site.site.id,
            held=self.held,
            judge=self._judge,
            utc_s=clock.utc_s,
            on_stored=self._in_force,
            courtesy=self._uplink.courtesy if self._uplink is not None else lambda _outcome: None,
            on_answered=self.news,
        )

    async def run(self) -> None:
        """Keeps the session with the broker and tells how far each document came, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_stages())
            tasks.create_task(self.commands.run())
            if self._uplink is not None:
                tasks.create_task(self._uplink.run())
            if self._renewal is not None:
                tasks.create_task(self._renewal.run())

    def renew(self) -> None:
        """The connection to the broker is made anew, with its files as they are now."""
        if self._renewal is not None:
            self._renewal.hurry()

    async def use(self, site: SiteFile) -> None:
        """The keys, and the way to the broker, are those of this site file; the connection is made anew."""
        before, self._site = self._site, site
        if site.cloud is None or before.cloud is None or self._uplink is None or self._renewal is None:
            return
        await self.reload_keys(site.cloud.keys())
        if (way := transport(site.cloud)) != transport(before.cloud):
            self._uplink.use(way)
            self._renewal.use(way)
        self.renew()

    async def reload_keys(self, keys: Mapping[str, bytes]) -> KeyChange | None:
        """Messages are judged by these keys of the cloud from now on, by their ids; None where they are the same.

        A new key makes the connection anew, for what is retained may be signed with it and was refused before.
        """
        change = self._keys.replace(keys)
        if change is None:
            return None
        severity = Severity.INFO if change.required else Severity.ALARM
        await self._tell(
            Event(self._clock.utc_s(), EventState.NOTED, severity, "signing_keys_changed", "cloud", str(change))
        )
        if change.believed or not change.required:
            self.renew()
        return change

    def news(self) -> None:
        """The outbox has something new."""
        if self._uplink is not None:
            self._uplink.notify()

    def after_tick(self, effects: Effects) -> None:
        """Notices from one tick's decision what the cloud wants to know."""
        decision, plans = effects.decision, self._control.plans
        self._follow(decision, plans)
        self.commands.after_tick(effects)
        shown = (
            decision.source,
            self._control.override,
            self.commands.book,
            plans.local and plans.local.made_utc_s,
            plans.rolling and plans.rolling.version,
            plans.yearly and plans.yearly.version,
            tuple(held and held.version for held in map(self._control.order_documents.of, OrderKind)),
            tuple(self._control.state.conditions),
            tuple(device.word for device in self._devices),
            self._control.trust.trusted,
        )
        if shown != self._shown:
            self._shown = shown
            if self._uplink is not None:
                self._uplink.status_changed()
            if self._forecasts is not None:
                self._forecasts.may_differ()
        if self._forecasts is not None:
            self._forecasts.after_tick()

    async def beat(self) -> None:
        """Publishes the status again, and the forecast where it says more than before."""
        if self._uplink is not None:
            self._uplink.status_changed()
        if self._forecasts is not None:
            self._forecasts.may_differ()

    def facts(self) -> dict[str, Any] | None:
        """The link as `ems status` shows it; None on a site without a broker."""
        if self._uplink is None or self._site.cloud is None:
            return None
        return {
            "broker": self._site.cloud.broker.partition("?")[0],
            "connected": self._uplink.connected,
            "link": self._site.cloud.link,
            "trouble": None if self._uplink.connected else self._uplink.last_trouble,
            "raised": [
                {"code": code, "severity": severity, "text": text}
                for code, (severity, text) in self._uplink.raised.items()
            ],
            "outbox_depth": self._store.outbox_depth,
            "confirmed": self._store.confirmed,
            "certificates": self._renewal.facts() if self._renewal is not None else [],
        }

    @property
    def link(self) -> tuple[Transport, Uplink] | None:
        """The way to the broker and the session with it; None on a site without one."""
        if self._uplink is None or self._site.cloud is None:
            return None
        return transport(self._site.cloud), self._uplink

    def start_live(self, minutes: float) -> Refused | None:
        """The cloud sees a frame of every second for so many minutes; None, or why not."""
        return NO_BROKER if self._uplink is None else self._uplink.start_live(minutes)

    async def resend(self, stream: str, from_seq: int, to_seq: int) -> Resending | Refused:
        """What will be sent once more of a stream (`telemetry`, `full_rate`, `ack`, `event`, `ledger`), or why not."""
        return NO_BROKER if self._uplink is None else await self._uplink.resend(stream, from_seq, to_seq)

    def sampled(self, sample: Sample) -> None:
        """Shows the sample to a cloud that asked for live frames."""
        if self._uplink is not None and self._uplink.wants_live(sample.at_utc_s):
            self._uplink.show(telemetry_frame(self._site.site.id, None, [sample]))

    def held(self, kind: DocumentKind) -> Document | None:
        """The document of this kind that is in force."""
        if isinstance(kind, OrderKind):
            return self._control.order_documents.of(kind)
        return self._control.plans.of(kind)

    async def import_plan(self, payload: bytes, who: str) -> Outcome | Refused:
        """The answer to a document that a technician brought."""
        outcome = await self._desk.import_document(self._keys.brought(payload))
        log.info("plan_imported", who=who, outcome=str(outcome))
        if isinstance(outcome, Outcome) and outcome.stage is not Stage.REJECTED:
            text = f"{who} brought {outcome.kind} version {outcome.version}: {outcome.stage.value}"
            data = {"who": who, "kind": outcome.kind, "version": outcome.version, "sha256": outcome.sha256}
            now_utc_s = self._clock.utc_s()
            await self._tell(Event(now_utc_s, EventState.NOTED, Severity.INFO, "plan_imported", "site", text, data))
        return outcome

    def _make_renewal(self, section: CloudSection) -> Renewal:
        assert self._uplink is not None, "made before"
        return Renewal(
            transport(section),
            self._uplink,
            tell=self._tell,
            utc_s=self._clock.utc_s,
            trusted=lambda: self._control.clock_now().trusted,
        )

    async def _tell(self, event: Event) -> None:
        with suppress(StorageFailed):
            await self._store.append_event(event)
            self.news()

    def _make_uplink(self, section: CloudSection) -> Uplink:
        spread_s = min(section.reconnect_spread, section.reconnect_max)
        link = LinkOptions(
            first_wait_s=max(SHORTEST_WAIT_S, spread_s / 2.0), longest_wait_s=section.reconnect_max, spread_s=spread_s
        )
        return Uplink(
            site_id=self._site.site.id,
            transport=transport(section),
            outbox=self._store,
            status=self._status,
            on_document=self._receive,
            on_command=self._receive_command,
            utc_s=self._clock.utc_s,
            keys=self._keys,
            options=UplinkOptions(
                confirm=Confirm(section.confirm),
                resend_after_s=section.resend_after,
                history_per_s=section.history_per_s,
                link=link,
            ),
            open_client=self._open_client,
        )

    async def _receive(self, kind: DocumentKind, arrived: Arrived) -> Outcome:
        return await self._desk.receive(kind, arrived)

    async def _receive_command(self, arrived: Arrived) -> Outcome:
        return await self.commands.receive(arrived)

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
            orders=control.order_documents,
            awards=control.in_force.awards,
            outlook=control.outlook,
            override=override_facts(control.override),
            latches=latch_facts(control.state.latches),
            commands=self.commands.facts(),
        )
        return status_message(self._site.site.id, status)

    def _limits(self) -> PlanLimits:
        return plan_limits(self._control.rules)

    def _judge(self, document: Document) -> Verdict:
        """Whether the document may come into force here and now."""
        control, now_utc_s = self._control, self._clock.utc_s()
        if isinstance(document, Plan):
            return admit(document, control.plans, self._limits(), now_utc_s)
        load_w = control.decisions[-1].load_w if control.decisions else None
        return admit_orders(document, control.order_documents.of(document.kind), control.rules, now_utc_s, load_w)

    def _in_force(self, document: Document) -> None:
        entries = document.power_w if isinstance(document, Plan) else document.entries
        log.info("document_stored", kind=document.kind, version=document.version, entries=len(entries))
        if isinstance(document, Plan):
            self._control.replace_plan(document)
        else:
            self._control.replace_orders(document)

    def _follow(self, decision: Decision, plans: Plans) -> None:
        """Queues `active` when a plan first decides, and `expired` when its last slot has ended."""
        source: Source | None = decision.source
        if source is Source.LOCAL_PLAN:
            # What was planned anew is still the cloud's plan that decides.
            beneath = cloud_slot_at(plans, decision.utc_s)
            source = beneath[0] if beneath is not None else None
        for kind, plan in ((PlanKind.ROLLING, plans.rolling), (PlanKind.YEARLY, plans.yearly)):
            if plan is None:
                continue
            if source == kind.value and plan.version == decision.version:
                self._reached(plan, Stage.ACTIVE)
            if decision.utc_s >= plan.end_utc_s and self._control.trust.trusted:
                self._reached(plan, Stage.EXPIRED)
        if self._control.trust.trusted:
            self._follow_orders(decision.utc_s)

    def _follow_orders(self, utc_s: float) -> None:
        """Queues `active` when the first of a document's orders begins, and `expired` when the last has ended."""
        for document in map(self._control.order_documents.of, OrderKind):
            if document is None or document.end_utc_s is None:
                continue
            if utc_s >= document.end_utc_s:
                self._reached(document, Stage.EXPIRED)
            elif not self._has_told(document, Stage.ACTIVE) and document.running(utc_s):
                self._reached(document, Stage.ACTIVE)

    def _has_told(self, document: Document, stage: Stage) -> bool:
        return self._told.get((document.kind, stage)) == document.sha256

    def _reached(self, document: Document, stage: Stage) -> None:
        """Once per document and stage of this process; the desk keeps it to once ever."""
        if not self._has_told(document, stage) and not self._stages.full():
            self._told[document.kind, stage] = document.sha256
            self._stages.put_nowait((document, stage))

    async def _tell_stages(self) -> None:
        while True:
            document, stage = await self._stages.get()
            await self._desk.mark(document, stage)
