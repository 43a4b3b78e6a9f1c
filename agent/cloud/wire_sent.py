"""What the site sends, as models: their JSON Schemas and the tables in the contract are made of these.

The agent builds its messages as plain values (`messages`, `frame`); tests hold all that it sends to these models.
A reader must ignore fields that it does not know: a later minor version may bring some.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.cloud.wire_fields import SCHEMA_PATTERN, SITE_ID_PATTERN, Sequence53, Time, Version
from agent.core.records import Stage

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seq = Annotated[Sequence53, Field(ge=1)]
Number = float | None
Numbers = list[float | None]
Texts = list[str | None]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False, populate_by_name=True)


class SentMessage(_Part):
    """What begins every message from the site."""

    document_schema: str = Field(alias="schema", pattern=SCHEMA_PATTERN, description="major and minor version")
    site_id: str = Field(pattern=SITE_ID_PATTERN, description="which site this is")


class DocumentHeld(_Part):
    """Which document of a kind is held."""

    version: Version = Field(description="its version")
    sha256: Sha256 = Field(description="over its bytes after decompression")
    end: Time | None = Field(description="when its last slot or order ends; null = it is empty")


class DocumentsHeld(_Part):
    """One of each kind, or null where none is held."""

    rolling: DocumentHeld | None = Field(description="the rolling plan that is held")
    yearly: DocumentHeld | None = Field(description="the yearly plan")
    awards: DocumentHeld | None = Field(description="the awards")
    curtailments: DocumentHeld | None = Field(description="the curtailments")
    outages: DocumentHeld | None = Field(description="the outages")


class LocalPlanHeld(_Part):
    """A plan that the site made anew by itself."""

    made_at: Time = Field(description="since when")
    end: Time = Field(description="until when")
    by: Literal["solver", "rules"] = Field(description="`rules` when the solver gave no answer in time")
    why: str = Field(description="what made it necessary")


class AwardLine(_Part):
    """An award that has not ended, with the newest forecast."""

    id: str = Field(description="as in the document")
    product: str = Field(description="its droop table")
    start: Time = Field(description="it counts from here")
    end: Time = Field(description="up to here")
    power_w: float = Field(ge=0, description="reserve sold")
    direction: Literal["both", "up", "down"] = Field(description="as in the document")
    met: bool | None = Field(description="whether it will be met; null = not forecast yet")
    shortfall_w: Number = Field(description="power that will be missing at worst")
    shortfall_wh: Number = Field(description="energy that will be missing at worst, at the terminals")
    cancel_by: Time | None = Field(description="until when the market takes it back")


class ConditionLine(_Part):
    """Something that is wrong now."""

    code: str = Field(description="what kind of thing")
    subject: str = Field(description="a device id, an award id, or `site`")
    severity: Literal["info", "warning", "alarm"] = Field(description="`alarm`: somebody must act")
    text: str = Field(description="for people")


class ClockState(_Part):
    """Whether the site knows what time it is."""

    trusted: bool = Field(description="without it no plan is executed")
    why: str = Field(description="why not; empty when trusted")


class Software(_Part):
    """What runs on the site."""

    version: str = Field(description="of the agent")
    boot_id: str = Field(description="of this run of it")


class OverrideLine(_Part):
    """What somebody on site decided for a time."""

    power_w: Number = Field(description="W toward the grid")
    target: Literal["battery", "grid"] = Field(description="where")
    until: Time = Field(description="it ends by itself")
    set_at: Time = Field(description="since when")
    who: str = Field(description="who set it")
    reason: str = Field(description="why, in their words")
    suspends_awards: bool = Field(description="sold reserve is not answered meanwhile")


class LatchLine(_Part):
    """A safety latch that fell."""

    device_id: str = Field(description="of the device that stopped")
    alarms: str = Field(description="what it said")
    since: Time = Field(description="when it fell")


class CommandLine(_Part):
    """A command in force."""

    id: str = Field(description="as in the command")
    type: str = Field(description="as in the command")
    until: Time = Field(description="it ends by itself")


class StatusMessage(SentMessage):
    """Who decides, what is held, what is wrong."""

    at: Time = Field(description="when this was so")
    online: Literal[True] = Field(description="false only in the will, which has nothing else")
    source: str = Field(description="who decides now")
    why: str = Field(description="the same in words")
    plans: DocumentsHeld = Field(description="what is held of each kind; null = none")
    local_plan: LocalPlanHeld | None = Field(description="the plan of the site's own making, while it is in force")
    awards: list[AwardLine] = Field(description="those that have not ended, by start, the first 200")
    devices: dict[str, str] = Field(description="by device id: `good`, or what is wrong with it")
    conditions: list[ConditionLine] = Field(description="what is wrong now")
    override: OverrideLine | None = Field(description="of somebody on site; null = none")
    latches: list[LatchLine] = Field(default=[], description="safety latches that fell and were not reset")
    commands: list[CommandLine] = Field(default=[], description="commands in force")
    clock: ClockState = Field(description="whether the site knows the time")
    software: Software = Field(description="what runs there")


class WillMessage(SentMessage):
    """What the broker says of a site whose connection broke."""

    online: Literal[False] = Field(description="the connection broke")


class AckMessage(SentMessage):
    """How far a document or command came."""

    stream: Literal["ack"] = Field(description="the stream that `seq` counts")
    seq: Seq | None = Field(description="null: told once, outside the sequence")
    at: Time = Field(description="when it came so far")
    subject: Literal["plan", "command"] = Field(description="what is answered")
    id: str | None = Field(default=None, description="of a command; null where it could not be read")
    kind: str | None = Field(description="kind of the document, type of the command")
    version: Version | None = Field(description="of the document; null where it could not be read")
    sha256: Sha256 = Field(description="over the bytes after decompression, or as they came where that failed")
    stage: Literal[tuple(Stage)] = Field(description="how far it came")  # type: ignore[valid-type] # made at import
    reason: str | None = Field(description="one of the reasons below, where it was refused")
    field: str | None = Field(description="the place of the fault, such as `power[7]`")
    detail: str | None = Field(description="for people")


class EventMessage(SentMessage):
    """A line of the site's history."""

    stream: Literal["event"] = Field(description="the stream that `seq` counts")
    seq: Seq = Field(description="rises by 1")
    at: Time = Field(description="when it happened")
    state: Literal["raised", "cleared", "noted"] = Field(
        description="a raised one is cleared under the same code and subject"
    )
    severity: Literal["info", "warning", "alarm"] = Field(description="`alarm`: somebody must act")
    code: str = Field(description="what kind of thing")
    subject: str = Field(description="a device id, an award id, `site` or `cloud`")
    text: str = Field(description="for people")
    data: dict[str, str | float | None] = Field(description="the same for programs; depends on `code`")


class EnergyPathsWh(_Part):
    """Which way the energy of a slot went, never negative."""

    pv_to_load: float = Field(ge=0, description="Wh from PV to the load")
    pv_to_battery: float = Field(ge=0, description="Wh from PV to the battery")
    pv_to_grid: float = Field(ge=0, description="Wh from PV to the grid")
    battery_to_load: float = Field(ge=0, description="Wh from the battery to the load")
    battery_to_grid: float = Field(ge=0, description="Wh from the battery to the grid")
    grid_to_load: float = Field(ge=0, description="Wh from the grid to the load")
    grid_to_battery: float = Field(ge=0, description="Wh from the grid to the battery")


class LedgerMessage(SentMessage):
    """A finished slot: promised, delivered, and by which paths."""

    stream: Literal["ledger"] = Field(description="the stream that `seq` counts")
    seq: Seq = Field(description="rises by 1")
    start: Time = Field(description="of the slot")
    end: Time = Field(description="of the slot")
    target: Literal["battery", "grid"] = Field(description="the promised place")
    source: str = Field(description="who decided")
    version: Version | None = Field(description="of the plan")
    planned_wh: Number = Field(
        description="promised; null where no plan had a slot: that time is told up to each half-hour"
    )
    delivered_wh: Number = Field(
        description="at the promised place: `battery`, or `grid` by the meter's energy counters where it has them, "
        "else by its power"
    )
    response_wh: Number = Field(description="the part of it that was frequency response")
    imbalance_wh: Number = Field(description="`delivered_wh - response_wh - planned_wh`")
    battery_wh: Number = Field(description="at the terminals")
    grid_wh: Number = Field(description="net energy through the connection point, by the same rule")
    unsplit_wh: Number = Field(
        description="energy that no path explains: of seconds in which battery, PV or meter could not be read, or the "
        "agent was down"
    )
    paths_wh: EnergyPathsWh | None = Field(
        description="`pv_to_grid + battery_to_grid - grid_to_load - grid_to_battery + unsplit_wh = grid_wh`. At each "
        "instant PV serves the load first, then the battery, then the grid; the battery serves what is left of the "
        "load, then the grid; the grid serves the rest"
    )
    covered_s: Number = Field(description="seconds in which the power at the promised place was known")
    planned_soc_end_pct: Number = Field(description="what the plan expected at the slot's end")
    soc_end_pct: Number = Field(description="state of charge at its end")


class Deltas(_Part):
    """Numbers as differences of whole numbers."""

    digits: int = Field(ge=0, le=9, description="decimals: the numbers are in units of 10^-digits")
    deltas: list[int | None] = Field(description="each to the number before it, the first to 0; null = not measured")


class Range(_Part):
    """A range of sequences, both ends included."""

    from_: Seq = Field(alias="from", description="its first sequence")
    to: Seq = Field(description="its last sequence")


class FrameMessage(SentMessage):
    """Measurements as columns; on the wire compressed with zstd."""

    stream: Literal["telemetry", "full_rate"] = Field(description="the stream that `seq` counts")
    seq: Seq | None = Field(description="null: a live frame, outside the sequence")
    boot_id: str = Field(description="of the run of the agent that measured")
    start: Time = Field(description="the time that `t_ms` counts from")
    period_s: float | None = Field(default=None, gt=0, description="only of means: the time that each row sums up")
    full_rate: Range | None = Field(
        default=None, description="only of means: the full-rate frames that they were made of"
    )
    t_ms: Deltas | list[int] = Field(description="of each row, ms after `start`; of means, the beginning of the period")
    columns: dict[str, Deltas | Numbers | Texts] = Field(description="by name, each as long as `t_ms`")


class ForecastSlot(_Part):
    """What the site will do in one slot."""

    start: Time = Field(description="of the slot, or now in the one that runs")
    end: Time = Field(description="its end")
    planned_w: float = Field(description="what the plan wants at the battery terminals, W toward the grid")
    power_w: float = Field(
        description="what the battery will do, within its limits, its state of charge and sold reserve"
    )
    soc_end_pct: Number = Field(description="state of charge that this leads to; null = not known")


class ForecastMessage(SentMessage):
    """What the site will do as things are: power and state of charge per slot, and what awards will lack."""

    at: Time = Field(description="when it was made")
    soc_pct: Number = Field(description="state of charge that it begins with")
    slots: list[ForecastSlot] = Field(description="from now on along the plans in force, at most 48 hours")
    awards: list[AwardLine] = Field(description="deliverability of each award, as in the status")


class EvidenceColumns(_Part):
    """Whole seconds of frequency response, W toward the grid."""

    power_w: Numbers = Field(description="battery power")
    baseline_w: Numbers = Field(description="what the plan wanted")
    award_up_w: Numbers = Field(description="reserve sold upward")
    award_down_w: Numbers = Field(description="reserve sold downward")
    response_w: Numbers = Field(description="what the droop asked for")
    frequency_hz: Numbers = Field(description="measured on site")
    clock_trusted: list[bool] = Field(description="whether the site knew the time")
    awards: list[int] = Field(description="which entry of the message's `awards` was in force")
    trouble: Texts = Field(
        description="why there was no response; `test` = commissioning played an award, no delivery; null = none"
    )
    ticks: list[int] = Field(description="ticks of the control loop in this second; 0 = it stood still")


class EvidenceMessage(SentMessage):
    """A part of the evidence that a command `fcr_evidence` asked for."""

    id: str = Field(description="of the command")
    part: int = Field(ge=1, description="counts from 1")
    last: bool = Field(description="no further part comes")
    from_: Time = Field(alias="from", description="the time asked for")
    to: Time = Field(description="up to here, not included")
    start: Time | None = Field(description="the time that `t_s` counts from; null = there is nothing")
    t_s: list[int] = Field(description="of each row, s after `start`; a second that is not there had no award")
    awards: list[list[str]] = Field(description="ids of awards that were in force together")
    columns: EvidenceColumns = Field(description="each as long as `t_s`")
