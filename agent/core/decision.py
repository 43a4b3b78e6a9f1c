"""What one tick is given, what it keeps, what it asks for, and the row that says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.authority import Authority, PowerOrder, Source
from agent.core.awards import NO_AWARDS, AwardBook
from agent.core.battery_model import BatteryModel
from agent.core.bounds import Clip, Softened
from agent.core.command_limits import Narrowing
from agent.core.delegation import DroopLine, DroopWrite
from agent.core.dispatch import DispatchState
from agent.core.envelope import BatteryMemory
from agent.core.events import Event, Severity
from agent.core.evidence import EvidenceRow
from agent.core.latch import Latches
from agent.core.made_often import made_often
from agent.core.orders import NO_ORDERS, Orders
from agent.core.override import Override
from agent.core.plan import Plans, Slot, Target
from agent.core.pv_limit import CeilingWrite, PvState
from agent.core.reserve_duty import ReserveState
from agent.core.skew import At, Pairing
from agent.core.slot_energy import SlotAccount, SlotRecord
from agent.core.snapshot import BatterySample, CeilingOutcome, DroopOutcome, MeterSample, PvSample, WriteOutcome
from agent.core.trial import Trial
from agent.core.writes import WriteReason, WriteState


@made_often
@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a tick may know."""

    utc_s: float
    mono_s: float
    clock_trusted: bool
    plans: Plans
    batteries: tuple[BatterySample, ...]
    pvs: tuple[PvSample, ...]
    meter: MeterSample | None
    orders: Orders = NO_ORDERS
    awards: AwardBook = NO_AWARDS
    """The awards of `orders` that stand at this site, from `agent.core.awards.book`."""
    notices: tuple[Condition, ...] = ()
    """What was found wrong beside the tick, such as awards to come that will not be met."""
    outcomes: tuple[WriteOutcome, ...] = ()
    """The writes that came to their end since the last tick."""
    ceiling_outcomes: tuple[CeilingOutcome, ...] = ()
    """The same of PV ceilings."""
    droop_outcomes: tuple[DroopOutcome, ...] = ()
    """The same of the devices' own droop."""
    override: Override | None = None
    """What somebody on site asks for; over when its own term says so."""
    order: PowerOrder | None = None
    """What a command of the cloud asks for; over when its own term says so."""
    narrowings: tuple[Narrowing, ...] = ()
    """Limits that the cloud narrowed."""
    trial: Trial | None = None
    """What commissioning tries now; `awards` are then the one that it plays, or none."""
    safe_mode: str = ""
    """Why the agent moves no power after a crash loop, "" outside safe mode."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now; it becomes an event when it begins and when it ends."""

    code: str
    subject: str
    severity: Severity
    text: str
    data: Mapping[str, str | float | int | None] = field(default_factory=dict)
    """Of the event with which it begins."""


@made_often
@dataclass(frozen=True, slots=True)
class State:
    """What a tick leaves for the next one."""

    last_mono_s: float | None = None
    last_utc_s: float | None = None
    source: Source | None = None
    account: SlotAccount | None = None
    writes: tuple[WriteState, ...] = ()
    memories: Mapping[str, BatteryMemory] = field(default_factory=dict)
    models: Mapping[str, BatteryModel] = field(default_factory=dict)
    """What was learned of each battery, by device id."""
    dispatch: DispatchState = field(default_factory=DispatchState)
    reserve: ReserveState = field(default_factory=ReserveState)
    conditions: Mapping[tuple[str, str], Condition] = field(default_factory=dict)
    pv: PvState = field(default_factory=PvState)
    latches: Latches = field(default_factory=dict)
    """The safety latches that fell, by device; they outlive the process."""
    droops: tuple[DroopLine, ...] = ()
    """What is known of the own droop of the batteries that may answer by it."""
    pairing: Pairing | None = None
    """PV and load as last believed, and the readings that told them apart."""
    told: tuple[At, ...] = ()
    """The last setpoints of the site."""
    planning: Authority | None = None
    """The layer of the plans."""


@made_often
@dataclass(frozen=True, slots=True)
class SetpointWrite:
    """Asks the shell to write one battery's setpoint, once, and to report the read-back."""

    device_id: str
    power_w: float
    reason: WriteReason


@made_often
@dataclass(frozen=True, slots=True)
class Decision:
    """The row of one tick: who decided what, what cut it, what was asked of whom. All powers W, + toward the grid."""

    utc_s: float
    mono_s: float
    source: Source
    version: int | None
    why: str
    slot: Slot | None
    target: Target
    planned_w: float
    """The plan's own power at its own place."""
    target_w: float
    """Wanted battery power before limits."""
    setpoint_w: float
    """Battery power after limits, the sum of `shares_w`."""
    baseline_w: float
    """The same without frequency response."""
    clips: tuple[Clip, ...]
    softened: tuple[Softened, ...]
    """Bounds that had to be broken because harder ones stood against them."""
    shares_w: Mapping[str, float]
    battery_w: float | None
    pv_w: float | None
    load_w: float | None
    grid_w: float | None
    soc_pct: float | None
    """Of all batteries, weighted by capacity; missing when one is missing."""
    frequency_hz: float | None
    slot_done_wh: float | None
    """Energy delivered so far in the slot, at the promised place."""
    writes: tuple[SetpointWrite, ...]
    command_id: str | None = None
    """The command that decides."""
    awards_suspended: bool = False
    """True while whoever decides says that sold reserve is not answered."""
    pv_ceiling_w: float | None = None
    """What the PV inverters that may be limited may give together; None = all they can."""
    by_device_w: Mapping[str, float] = field(default_factory=dict)
    """Of `shares_w`, what devices are expected to give by their own droop, on top of their setpoints."""


@made_often
@dataclass(frozen=True, slots=True)
class Effects:
    """What the shell must do after a tick."""

    decision: Decision
    writes: tuple[SetpointWrite, ...]
    events: tuple[Event, ...]
    running: SlotAccount | None
    """The slot that runs, as far as it came: kept on disk, so that a restart in its middle goes on counting."""
    closed: SlotRecord | None
    """A slot that ended, for the ledger."""
    evidence: tuple[EvidenceRow, ...] = ()
    """Whole seconds of frequency response that are complete now."""
    ceiling_writes: tuple[CeilingWrite, ...] = ()
    droop_writes: tuple[DroopWrite, ...] = ()
