"""The only place that builds the real parts and wires them together."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog

from agent.cloud.frame import MEANS_IN_A_FRAME, summary_frame, telemetry_frame
from agent.cloud.messages import ack_message, event_message, ledger_message
from agent.config import ConfigError, DeviceSection, SiteFile, load
from agent.core.admission import plan_limits
from agent.core.clock_trust import EARLIEST_UTC_S
from agent.core.decision import Condition, State
from agent.core.events import Event
from agent.core.ledger import slot_account
from agent.core.orders import OrderDocuments
from agent.core.plan import Plans
from agent.core.points import device_points
from agent.core.records import StorageFailed, Stream
from agent.replan.kept import kept_from_json
from agent.runtime import logs
from agent.runtime.board import Board, DeviceHealth
from agent.runtime.checkup_side import CheckupSide
from agent.runtime.clock_word import ClockWord
from agent.runtime.cloud_side import CloudSide
from agent.runtime.commissioning import CommissioningSide
from agent.runtime.commissioning_facts import SiteFacts
from agent.runtime.control import ControlLoop
from agent.runtime.device_conditions import device_conditions, wear_conditions
from agent.runtime.device_droops import DeviceDroops
from agent.runtime.device_side import DeviceSide
from agent.runtime.documents_held import documents_held
from agent.runtime.ending import end_within
from agent.runtime.live import Live
from agent.runtime.local_socket import LocalSocket
from agent.runtime.metrics import MetricsFile
from agent.runtime.models import LearnedModels, models_held
from agent.runtime.notify import Notifier
from agent.runtime.outside import Outside
from agent.runtime.poller import EndpointPoller, Polled, phase_s
from agent.runtime.pv_ceilings import PvCeilings
from agent.runtime.recorder import Recorder, Summaries
from agent.runtime.reload import LiveParts, Reloading
from agent.runtime.replan_side import ReplanOptions, ReplanSide, with_kept
from agent.runtime.requests import Requests
from agent.runtime.safe_mode import SafeMode
from agent.runtime.site_authority import SiteAuthority
from agent.store import AlreadyRunning, Announce, Held, Quota, Store
from drivers.device import BatteryDevice, Device, PvDevice, open_device
from drivers.endpoint import Endpoint, parse_url
from drivers.link import Link
from drivers.profile.settings import OwnersSettings
from drivers.profile.wear import StoredWrites
from drivers.tls import BadTls

log = structlog.get_logger(__name__)

EARLY_EVENTS = 100
"""Events that may happen before there is a store to write them to."""
FIRST_ROUND_S = 3.0
"""The first tick waits this long for every device to be read once; after that it works with what there is."""
ENDED_WITHIN_S = 9.0
"""From a stop to the end of the process, also where the disk takes nothing any more."""


class CannotStart(Exception):  # noqa: N818  # the daemon's last word, not a fault in it
    """Nothing was started; the text says why and what to do next."""


def serve(config: Path) -> None:
    """Runs the daemon until SIGTERM or SIGINT; raises CannotStart before anything was touched."""
    try:
        site = load(config)
    except ConfigError as error:
        raise CannotStart(f"{error}\nNothing was started. Mend the site file, then: ems config check") from error
    logs.configure()
    faulthandler.enable()  # a watchdog's SIGABRT, or a fault in a library, leaves in the journal where it was
    asyncio.run(Daemon(site, Outside(end_within=end_within)).run())


class Daemon:
    """One running agent."""

    def __init__(self, site: SiteFile, outside: Outside | None = None) -> None:
        self._site = site
        self._outside = outside = outside or Outside()
        self._clock = clock = outside.clock
        self._rules = site.rules()
        self._board = Board(self._rules)
        self._boot_id = outside.new_id()
        self._notifier = Notifier()
        self._read_only = site.control.mode == "read_only"
        self._links: dict[Endpoint, Link] = {}
        self._early: deque[Event] = deque(maxlen=EARLY_EVENTS)
        self._recorded: Callable[[Event], None] | None = None
        self._settings = OwnersSettings()
        self._stored_writes = StoredWrites(clock.utc_s)
        self._health: list[DeviceHealth] = []
        self._devices: dict[str, Device] = {}
        self._link_of: dict[str, Link] = {}
        self._batteries: dict[str, BatteryDevice] = {}
        self._pvs: dict[str, PvDevice] = {}
        self._started_mono_s = clock.mono_s()
        self._metrics: MetricsFile | None = None
        self._polled: dict[str, Polled] = {}
        self._sections = list(site.device)
        self._commissioning: CommissioningSide | None = None
        self._reloading: Reloading | None = None
        self._safe_mode: SafeMode | None = None
        self._disk_conditions: Callable[[], tuple[Condition, ...]] = tuple

    async def run(self) -> None:
        """Returns after a clean stop; CannotStart when another instance owns the store."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: log.info("reload", text="too early: still starting"))
        site_id = self._site.site.id
        announce = Announce(
            ack=lambda seq, outcome: ack_message(site_id, seq, outcome),
            event=lambda seq, event: event_message(site_id, seq, event),
            ledger=lambda seq, row: ledger_message(site_id, seq, row),
        )
        try:
            quota = Quota.of_mb(self._site.store.telemetry_mb)
            store = await Store.open(Path(self._site.store.directory), announce, self._clock.utc_s, quota)
        except AlreadyRunning as error:
            raise CannotStart(str(error)) from error
        except StorageFailed as error:
            where = self._site.store.directory
            raise CannotStart(f"{where}: {error}; it must be writable: look at df and mount") from error
        except OSError as error:
            where = self._site.store.directory
            raise CannotStart(f"{where}: {error.strerror}; store.directory must be writable for this user") from error
        try:
            await self._live(store, stop)
        finally:
            await store.close()
            for link in self._links.values():
                await link.close()

    async def _live(self, store: Store, stop: asyncio.Event) -> None:
        self._settings = OwnersSettings(lambda text: _kept(store.keep_settings, text))
        self._stored_writes = StoredWrites(self._clock.utc_s, lambda text: _kept(store.keep_stored_writes, text))
        self._links = self._open_links()
        pollers = self._pollers()
        async with asyncio.TaskGroup() as tasks:
            polling = [tasks.create_task(poller.run(), name="poller") for poller in pollers]
            live = await self._wired(store, await store.load(), tasks)
            socket = await self._open_socket(store, live)
            housekeeper = self._outside.housekeeper({
                "last_utc": lambda: self._keep_time(store, live.control),
                "status": live.cloud.beat,
                "models": live.models.save,
            })  # fmt: skip
            background = [tasks.create_task(run(), name=name) for name, run in live.beside()]
            await self._first_round(pollers)
            after_tick = live.after_tick(
                self._outside, self._notifier, lambda: housekeeper.look(self._clock.utc_s(), self._clock.mono_s())
            )
            ticking = tasks.create_task(live.control.run(after_tick), name="control")
            if live.replanning is not None:
                background.append(tasks.create_task(live.replanning.run(), name="replanning"))
            if self._metrics is not None:
                background.append(tasks.create_task(self._metrics.run(), name="metrics"))
            # What start-up left stays for good: looked through with all else, it would hold the loop up for 70 ms.
            gc.collect()
            gc.freeze()
            gc.enable()
            self._notifier.send("READY=1")
            log.info("started", site=self._site.site.id, boot_id=self._boot_id)
            await stop.wait()
            self._outside.end_within(ENDED_WITHIN_S)
            self._notifier.send("STOPPING=1")
            housekeeper.stop()
            ticking.cancel()
            await live.end(polling)
            for task in background:
                task.cancel()
            await socket.stop()
        log.info("stopped")

    async def _wired(self, store: Store, held: Held, tasks: asyncio.TaskGroup) -> Live:
        """The running parts, with what was held on disk in them."""
        self._settings.restore(held.settings)
        self._stored_writes.restore(held.stored_writes)
        control = self._control(held, tasks)
        cloud = CloudSide(
            site=self._site, store=store, control=control, devices=self._health, boot_id=self._boot_id,
            clock=self._clock, open_client=self._outside.open_client,
        )  # fmt: skip
        cloud.commands.restore(held)
        recorder = self._recorder(store, cloud)
        self._disk_conditions = recorder.conditions
        authority = SiteAuthority(
            store=store, control=control, limits=lambda: plan_limits(control.rules), tell=recorder.tell,
            clock=self._clock,
        )  # fmt: skip
        authority.restore(held)
        self._tell_from_now_on(recorder.tell)
        facts = SiteFacts(control, self._sections, self._devices, self._health, cloud.facts)
        self._commissioning = commissioning = CommissioningSide(store, control, facts, recorder.tell, self._clock)
        commissioning.restore(held.commissioning)
        replanning = self._replanning(held, store, control, recorder)
        parts = LiveParts(control, cloud, replanning, self._polled, self._sections)
        self._reloading = reloading = Reloading(self._site, parts, tell=self._tell, clock=self._clock)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloading.hung_up)
        safe_mode = self._safe_mode = SafeMode(store=store, control=control, tell=self._tell, clock=self._clock)
        await safe_mode.begin(held, version("ems-agent"))
        models = LearnedModels(
            store=store, control=control, tell=recorder.tell, clock=self._clock, held=control.state.models
        )
        return Live(control, cloud, recorder, authority, commissioning, safe_mode, models, replanning, reloading)

    async def _open_socket(self, store: Store, live: Live) -> LocalSocket:
        control, recorder, cloud, replanning = live.control, live.recorder, live.cloud, live.replanning
        requests = Requests(
            site_id=self._site.site.id,
            version=version("ems-agent"),
            boot_id=self._boot_id,
            control=control,
            recorder=recorder,
            store=store,
            devices=self._health,
            models=live.models,
            authority=live.authority,
            reloading=live.reloading,
            safe_mode=live.safe_mode,
            clock_word=ClockWord(
                store=store, control=control, commands_since=cloud.commands.since, tell=recorder.tell, clock=self._clock
            ),
            commissioning=live.commissioning,
            commands_facts=cloud.commands.facts,
            device_side=DeviceSide(
                self._sections,
                self._devices,
                self._link_of,
                self._health,
                self._clock,
                control,
                recorder.tell,
            ),
            checkup=CheckupSide(control, lambda: cloud.link, self._clock.utc_s),
            cloud_facts=cloud.facts,
            import_plan=cloud.import_plan,
            replan_facts=replanning.facts if replanning is not None else None,
        )
        api = self._site.api
        socket = LocalSocket(Path(api.socket), requests.handlers(), api.read_group, api.operator_group)
        await socket.start()
        self._metrics = MetricsFile.of(self._site, requests.facts, self._clock)
        return socket

    def _pollers(self) -> list[EndpointPoller]:
        behind: dict[Endpoint, list[Polled]] = {}
        for device in self._site.device:
            endpoint = parse_url(device.url)
            self._polled[device.id] = self._opened(device, endpoint)
            behind.setdefault(endpoint, []).append(self._polled[device.id])
        return [
            EndpointPoller(polled, self._board, self._clock, self._tell, phase_s=phase_s(index))
            for index, polled in enumerate(behind.values())
        ]

    def _opened(self, section: DeviceSection, endpoint: Endpoint) -> Polled:
        link = self._links[endpoint]
        device = open_device(self._site.spec(section), link, self._clock.mono_s, self._settings, self._stored_writes)
        self._devices[section.id] = device
        self._link_of[section.id] = link
        if isinstance(device, BatteryDevice):
            self._batteries[section.id] = device
        elif isinstance(device, PvDevice):
            self._pvs[section.id] = device
        health = DeviceHealth(section.id, f"{endpoint} unit {section.unit_id}")
        self._health.append(health)
        return Polled(device, section.poll, health, link)

    def _open_links(self) -> dict[Endpoint, Link]:
        """One link per endpoint, shared by its unit ids, as patient as the most patient of them asks for."""
        timeouts_s: dict[Endpoint, float] = {}
        for section in self._site.device:
            endpoint = parse_url(section.url)
            timeouts_s[endpoint] = max(section.timeout, timeouts_s.get(endpoint, 0.0))
        tls = self._site.modbus_tls.files() if self._site.modbus_tls is not None else None
        try:
            return {
                endpoint: Link(
                    endpoint, timeout_s=timeout_s, clock=self._clock.mono_s, tls=tls, read_only=self._read_only
                )
                for endpoint, timeout_s in timeouts_s.items()
            }
        except BadTls as error:
            raise CannotStart(f"modbus_tls: {error}; nothing was started") from error

    def _tell(self, event: Event) -> None:
        """Takes over an event at any time; what comes before there is a recorder waits for it."""
        if self._recorded is None:
            self._early.append(event)
        else:
            self._recorded(event)

    def _tell_from_now_on(self, recorded: Callable[[Event], None]) -> None:
        self._recorded = recorded
        while self._early:
            recorded(self._early.popleft())

    def _recorder(self, store: Store, cloud_side: CloudSide) -> Recorder:
        cloud = self._site.cloud
        site_id, board = self._site.site.id, self._board
        stream, summaries = Stream.TELEMETRY, None
        if cloud is not None and cloud.link == "metered":
            period_s, stream = cloud.aggregate, Stream.FULL_RATE
            summaries = Summaries(
                period_s * MEANS_IN_A_FRAME, lambda seq, frames: summary_frame(site_id, seq, frames, period_s)
            )
        return Recorder(
            store=store,
            boot_id=self._boot_id,
            frame_s=cloud.frame if cloud is not None else 60.0,
            sample_s=self._rules.tick_s,
            build_frame=lambda seq, samples: telemetry_frame(site_id, seq, samples, stream),
            points=lambda: device_points(board.batteries, board.pvs, board.meter, self._clock.mono_s()),
            summaries=summaries,
            on_kept=cloud_side.news,
            on_sample=cloud_side.sampled,
        )

    def _control(self, held: Held, tasks: asyncio.TaskGroup) -> ControlLoop:
        def spawn(job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            return tasks.create_task(job)

        account = slot_account(held.open_slot) if held.open_slot is not None else None
        plans, orders = self._documents(held)
        return ControlLoop(
            rules=self._rules,
            board=self._board,
            batteries=self._batteries,
            clock=self._clock,
            plans=plans,
            order_documents=orders,
            floor_utc_s=max(held.last_trusted_utc_s or 0.0, EARLIEST_UTC_S),
            spawn=spawn,
            started_mono_s=self._started_mono_s,
            pv_ceilings=PvCeilings(self._pvs),
            droops=DeviceDroops(self._batteries, self._rules.delegated),
            found_beside=self._found_beside,
            read_only=self._read_only,
            state=State(account=account, models=models_held(held.models)),
        )

    def _found_beside(self) -> tuple[Condition, ...]:
        return (
            *device_conditions(self._health, read_only=self._read_only),
            *(self._commissioning.conditions() if self._commissioning is not None else ()),
            *wear_conditions(self._devices.values()),
            *(self._reloading.conditions() if self._reloading is not None else ()),
            *(self._safe_mode.conditions() if self._safe_mode is not None else ()),
            *self._disk_conditions(),
        )

    def _documents(self, held: Held) -> tuple[Plans, OrderDocuments]:
        plans, orders = documents_held(held, self._site.site.id)
        if self._site.replan.enabled:
            plans = with_kept(plans, kept_from_json(held.replanning))
        return plans, orders

    def _replanning(self, held: Held, store: Store, control: ControlLoop, recorder: Recorder) -> ReplanSide | None:
        if not self._site.replan.enabled:
            return None
        return ReplanSide(
            control=control,
            options=ReplanOptions.of(self._site.replan),
            orders=lambda: (control.in_force.orders, control.in_force.awards),
            profile=kept_from_json(held.replanning).profile,
            keep=store.keep_replanning,
            tell=recorder.tell,
            clock=self._clock,
            solve=self._outside.solve,
        )

    async def _first_round(self, pollers: list[EndpointPoller]) -> None:
        rounds = [asyncio.ensure_future(poller.first_round.wait()) for poller in pollers]
        _, missing = await asyncio.wait(rounds, timeout=FIRST_ROUND_S)
        for task in missing:
            task.cancel()

    async def _keep_time(self, store: Store, control: ControlLoop) -> None:
        if control.trust.proven:
            await store.set_last_utc(control.trust.floor_utc_s)


async def _kept(keep: Callable[[str], Awaitable[None]], text: str) -> None:
    """Keeps what is known of the devices on disk; without a disk this process still knows it."""
    try:
        await keep(text)
    except StorageFailed as error:
        log.warning("device_notes_not_kept", error=str(error), text="a restart would not know what this run knows")
