"""The format of a device profile: what its TOML file may say, key by key.

Only the form is checked here; `drivers.profile.check` tells what does not make sense. A Modbus table is "input"
(function 4) or "holding" (function 3, written with 6 or 16). Addresses are those on the wire, once `address_offset`
has been added. `docs/adding-a-device.md` leads from a vendor's register list to a finished profile.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.quantity import Time
from drivers.profile.units import UNITS

TYPE_REGISTERS: Final[dict[str, int]] = {
    **dict.fromkeys(("u16", "i16", "enum16", "bitfield16"), 1),
    **dict.fromkeys(("u32", "i32", "f32", "enum32", "bitfield32"), 2),
    **dict.fromkeys(("u64", "i64", "f64", "bitfield64"), 4),
}
"""Registers per type; a string states its own length."""
Type = Literal[
    "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64",
    "enum16", "enum32", "bitfield16", "bitfield32", "bitfield64", "string",
]  # fmt: skip
Order = Literal["high_first", "low_first"]
Positive = Literal["discharge", "charge", "export", "import", "generation", "consumption", "magnitude", "site"]
TOWARD_GRID: Final[dict[str, int]] = {
    "discharge": 1, "export": 1, "generation": 1,
    "charge": -1, "import": -1, "consumption": -1,
}  # fmt: skip
"""Factor from a directed point to our sign, where + is toward the grid."""
MAGNITUDE: Final = "magnitude"
ASK_SITE: Final = "site"

PointName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Address = Annotated[int, Field(ge=0, le=65535)]
Range = Annotated[list[float | int], Field(min_length=2, max_length=2)]


class Part(BaseModel):
    """One table of a profile."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # nested tables are built within the whole alone: less memory
        populate_by_name=True,
    )


class About(Part):
    """Where the profile comes from."""

    maker: str
    models: Annotated[list[str], Field(min_length=1)]
    """The models that it is for, as the maker calls them."""
    source: str
    """The document or code that the registers were taken from, with its version."""
    date: date
    """When they were taken from there."""
    tried: str = ""
    """The hardware and firmware that it was tried on; empty: none so far."""
    notes: str = ""


class Condition(Part):
    """Something that a point says; every key that is stated must hold. A point without a value fulfils nothing."""

    point: PointName
    is_: str | int | list[str | int] | None = Field(default=None, alias="is")
    """The value, or one of several: labels of an enumeration, numbers, or texts."""
    is_not: str | int | list[str | int] | None = None
    bits: list[str] | None = None
    """Bits of a bit field that are all set."""
    no_bits: list[str] | None = None
    """Bits of a bit field that are all clear."""
    at_least: float | int | None = None
    at_most: float | int | None = None
    matches: str | None = None
    """A regular expression that the whole text matches."""


class Identity(Part):
    """Who the device is, and what must be true before it is believed or written to."""

    check: list[Condition] = []
    """All must hold; else another device answers here. At least one."""
    model: PointName | None = None
    """The point that tells the model: a text, or an enumeration whose label is shown."""
    serial: PointName | None = None
    firmware: PointName | None = None


class Defaults(Part):
    """What holds for every point that does not say otherwise."""

    function: Literal[3, 4] = 3
    """3 reads holding registers, 4 input registers. A writable point is always a holding register."""
    write_function: Literal[6, 16] = 16
    word_order: Order = "high_first"
    """Of values of several registers: which word comes first."""
    byte_order: Order = "high_first"
    """Within each register; Modbus prescribes high_first, few devices differ."""
    address_offset: Annotated[int, Field(ge=-50000, le=50000)] = 0
    """Added to each address of this file: -1 where the vendor counts registers from 1."""
    sentinels: dict[Type, list[int]] = Field(default_factory=dict)
    """Raw numbers that mean "no value", by type. A float that is no number never has a value."""


class Reads(Part):
    """How the device likes to be read."""

    max_registers: Annotated[int, Field(ge=1, le=125)] = 125
    max_gap: Annotated[int, Field(ge=0, le=124)] = 16
    """Registers between two points that are read along, where the device allows it."""
    even_counts: bool = False
    """Only even numbers of registers may be asked for."""
    blocks: list[Annotated[list[Address], Field(min_length=2, max_length=2)]] = Field(default_factory=list)
    """First and last register of each stretch that one request may read; empty: wherever points lie close."""


class Pacing(Part):
    """How fast the device may be asked."""

    between_requests: Annotated[Time, Field(ge=0, le=5)] = 0.0
    after_connect: Annotated[Time, Field(ge=0, le=10)] = 0.0
    before_read_back: Annotated[Time, Field(ge=0, le=5)] = 0.0
    """From a write until the register shows it."""


class Point(Part):
    """One value in the device's registers."""

    address: Address
    type: Type
    length: Annotated[int, Field(ge=1, le=125)] | None = None
    """Registers of a string."""
    function: Literal[3, 4] | None = None
    word_order: Order | None = None
    byte_order: Order | None = None
    scale: float | int = 1
    """value = raw x scale + offset, in `unit`."""
    scale_from: PointName | None = None
    """A point whose value n multiplies this one by 10^n (a scale factor register)."""
    offset: float | int = 0
    unit: str = ""
    positive: Positive | None = None
    """What a positive value means. Required for powers and for signed currents; "site": the site file states it."""
    sentinels: list[int] | None = None
    """Raw numbers that mean "no value"; replaces the default of its type."""
    plausible: Range | None = None
    """Lowest and highest value that can be true, in `unit`."""
    resolution: Annotated[float | int, Field(gt=0)] | None = None
    """The step of the true value where it is coarser than the register's."""
    values: dict[str, int] | None = None
    """Enumeration: label = number."""
    bits: dict[str, Annotated[int, Field(ge=0, le=63)]] | None = None
    """Bit field: label = bit, 0 is the lowest."""
    write: Literal["volatile", "stored", "command"] | None = None
    """Makes the point writable. "stored" wears out: written only when it differs, and seldom. "command" acts once
    when it is written, and reading it back tells nothing."""
    readable: bool = True
    write_function: Literal[6, 16] | None = None
    write_range: Range | None = None
    """Lowest and highest value that the device takes, in `unit`."""
    verified: bool = True
    """False: nobody has confirmed it. Such a point is read, and never written."""
    unit_id: PointName | None = None
    """A name in [unit_ids]: the point lies behind another unit id of the same endpoint."""
    note: str = ""

    @property
    def may_be_written(self) -> bool:
        """Whether it is declared writable, and somebody has confirmed it."""
        return self.write is not None and self.verified


class Write(Part):
    """One value for one point."""

    point: PointName
    set: str | float | int | None = None
    """A fixed value in the point's unit, or a label of its enumeration."""
    from_: Literal["power", "dead_man", "saved", "count"] | None = Field(default=None, alias="from")
    """The setpoint (in the point's unit, sign and resolution, rounded toward zero), the dead-man time of the site
    file, the value saved before take-over, or a number that counts up."""
    of: PointName | None = None
    """For a setpoint in percent: the point that is 100 %."""
    share: Annotated[float | int, Field(gt=0, le=1)] = 1
    """The part of the setpoint that goes here, where several phases have one register each."""


class Step(Part):
    """Waits, writes, waits: in this order, each where stated."""

    when: Condition | None = None
    """Read first; the step is left out unless this holds."""
    write: Write | list[Write] | None = None
    """In this order, one frame each unless `one_frame`."""
    one_frame: bool = False
    """All writes of this step in one frame: their registers follow one another."""
    until: Condition | None = None
    """Read again and again until this holds."""
    within: Annotated[Time, Field(gt=0, le=120)] | None = None
    """...for so long; then the take-over has failed."""

    @property
    def writes(self) -> list[Write]:
        """The writes as a list."""
        return [] if self.write is None else self.write if isinstance(self.write, list) else [self.write]


Steps = Annotated[list[Step], Field(max_length=32)]


class DeadMan(Part):
    """What ends a setpoint when nobody refreshes it; exactly one of point, fixed and none."""

    point: PointName | None = None
    """Takes the time, and starts anew with each write. Written before each setpoint."""
    fixed: Annotated[Time, Field(gt=0, le=3600)] | None = None
    """A time that cannot be set."""
    none: str | None = None
    """There is none; the text says where that is known from."""
    reverts_to: Literal["rest", "own_control"] = "own_control"
    """What the device does then: 0 W, or what its own settings say."""
    fed_by_reads: bool = False
    """Polling keeps it quiet too, so that it does not notice that the control has stopped."""
    if_kept: bool = False
    """Not every device keeps what is written to `point`: one that does not has no dead-man, and is told so."""


class Control(Part):
    """How the device is told what to do.

    Either `setpoint`, or all of `charge`, `discharge` and `rest` (the last one is 0 W).
    """

    dead_man: DeadMan
    remote: Condition | None = None
    """Holds while the device accepts remote control; else nothing is written."""
    save: dict[PointName, str | int | float] = Field(default_factory=dict)
    """Settings of the owner, read before take-over and put back by `release`. The value stands in where the device
    already holds what take-over writes, so that the owner's own setting is not known any more."""
    take_over: Steps = []
    setpoint: Steps = []
    charge: Steps = []
    discharge: Steps = []
    rest: Steps = []
    release: Steps = []
    heartbeat: PointName | None = None
    """A point that counts up with each setpoint, and every second while the agent controls."""
    confirm: Literal["read_back", "acknowledgement"] = "read_back"
    """"acknowledgement": the setpoint cannot be read, so that only the measured power proves it."""
    group_within: Annotated[Time, Field(gt=0, le=600)] | None = None
    """All writes of one setpoint must arrive within this time, or the device takes none of them."""
    stored_writes_per_day: Annotated[int, Field(ge=1, le=1000)] = 24
    """Budget for points with write = "stored", all of them together."""


class Combined(Part):
    """A reading made of several points; exactly one key."""

    sum: list[PointName] | None = None
    """Added up, each in our sign; without one of them there is no sum."""
    product: list[PointName] | None = None
    """Such as a current and a voltage."""
    smallest: list[PointName | list[PointName]] | None = None
    """The smallest there is; a list inside is a product."""
    first: list[PointName] | None = None
    """The first that has a value."""


Source = PointName | Combined


class Alarms(Part):
    """What stops the agent until somebody on site resets it; each stands while any of its conditions holds.

    Only what is dangerous: what the device cures by itself belongs into `ready`.
    """

    emergency_stop: list[Condition] = Field(default_factory=list)
    """Stops every battery of the site."""
    breaker_open: list[Condition] = Field(default_factory=list)
    bms_fault: list[Condition] = Field(default_factory=list)
    insulation_fault: list[Condition] = Field(default_factory=list)


class Battery(Part):
    """The readings of a battery system, by the names of `agent.core.snapshot.BatterySample`, and its control."""

    power_w: Source
    soc_pct: Source | None = None
    """Missing where only the battery's own electronics know it: then the agent keeps the battery at rest."""
    capacity_wh: Source | None = None
    rated_discharge_w: Source | None = None
    rated_charge_w: Source | None = None
    live_discharge_limit_w: Source | None = None
    live_charge_limit_w: Source | None = None
    temperature_c: Source | None = None
    cell_min_v: Source | None = None
    cell_max_v: Source | None = None
    ready: list[Condition] = Field(default_factory=list)
    """Power is possible while all hold."""
    alarms: Alarms = Alarms()
    control: Control | None = None
    """Missing: the battery can only be looked at."""


class Pv(Part):
    """The readings of a PV inverter."""

    power_w: Source
    control: Control | None = None
    """How its power is limited: the setpoint is the ceiling. Missing: it cannot be."""
    limit_covers: Literal["pv", "inverter"] = "pv"
    """"inverter": the limit is for PV and battery together, so that the battery's power is added to the ceiling."""


class Meter(Part):
    """The readings of a meter at the connection point."""

    power_w: Source
    frequency_hz: Source | None = None
    export_wh: Source | None = None
    import_wh: Source | None = None


class SunSpec(Part):
    """A device that describes itself by its SunSpec models, and so has no points here."""

    roles: Annotated[list[Literal["battery", "pv", "meter"]], Field(min_length=1)]
    """What it may be used as."""
    models: list[Annotated[list[int], Field(min_length=1)]] = Field(default_factory=list)
    """Of each list in here it has at least one model, or it is another device than this profile is for."""
    maker: str | None = None
    """A regular expression that the maker's name (1.Mn) matches as a whole."""
    model: str | None = None
    """The same for the model's name (1.Md)."""
    base_address: Address | None = None
    """Where its map begins, if not at 40000, 0 or 50000."""
    positive: Literal["export", "import"] | None = None
    """What the positive power of its meter means, where the maker fixes it; else the site file states it."""


class Profile(Part):
    """One device, as data. Its name is that of its file."""

    schema_: Literal[1] = Field(alias="schema")
    about: About
    sunspec: SunSpec | None = None
    """Instead of identity, points and roles: what can be found by its SunSpec models."""
    identity: Identity = Identity()
    defaults: Defaults = Defaults()
    reads: Reads = Reads()
    pacing: Pacing = Pacing()
    unit_ids: dict[PointName, Annotated[int, Field(ge=0, le=255)]] = Field(default_factory=dict)
    """Other unit ids of the same endpoint, by a name that points use."""
    points: Annotated[dict[PointName, Point], Field(max_length=500)] = Field(default_factory=dict)
    battery: Battery | None = None
    pv: Pv | None = None
    meter: Meter | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that it fills."""
        if self.sunspec is not None:
            return tuple(self.sunspec.roles)
        return tuple(role for role in ("battery", "pv", "meter") if getattr(self, role) is not None)

    @property
    def beside_pv(self) -> Source | None:
        """The battery's power, where the limit of the PV role covers both."""
        if self.pv is None or self.battery is None or self.pv.limit_covers == "pv":
            return None
        return self.battery.power_w

    @property
    def frequency_resolution_hz(self) -> float | None:
        """The step of the meter's frequency, None where the profile does not tell: a float shows any step."""
        source = self.meter.frequency_hz if self.meter is not None else None
        point = self.points.get(source) if isinstance(source, str) else None
        if point is None or point.unit not in UNITS:
            return None
        own = None if point.type in ("f32", "f64") or point.scale_from is not None else abs(point.scale)
        step = point.resolution if point.resolution is not None else own
        return None if step is None else step * float(UNITS[point.unit].factor)
