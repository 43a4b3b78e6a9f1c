"""Plan documents as the contract has them: slots of power, in our unit and sign, or refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import FailFast, Field

from agent.cloud.wire_fields import W_PER_UNIT, Message, Percent, Time, Unit, Version, validated
from agent.core.admission import Refused
from agent.core.plan import Plan, PlanKind, Target

CLOCK_GRAIN_S = 0.0005
"""Half a millisecond: the finest time that the contract writes."""
MOST_SLOTS = 172_800
"""48 hours of one second, or a year of three minutes; more does not fit into a document of real numbers."""


class PlanMessage(Message):
    """A plan document, still in the cloud's unit and sign."""

    kind: Literal["rolling", "yearly"] = Field(description="must match the topic")
    version: Version = Field(
        description="strictly increasing per kind. The same version with the same bytes is answered again and changes "
        "nothing; with other bytes it is refused and alarmed"
    )
    issued_at: Time = Field(description="when the cloud made it; at most 5 minutes ahead of the site's clock")
    start: Time = Field(description="beginning of the first slot; a whole multiple of `slot_s` in Unix time")
    slot_s: int = Field(ge=1, le=3600, description="slot length, s")
    unit: Unit = Field(description="of `power`")
    positive: Literal["export", "import"] = Field(description="what a positive number means")
    target: Literal["battery", "grid"] = Field(
        description="`battery`: power at the battery terminals. `grid`: what was sold at the connection point; the "
        "site keeps the slot's *energy*"
    )
    power: Annotated[list[float | None], FailFast()] = Field(
        min_length=1,
        max_length=MOST_SLOTS,
        description="one number per slot; `null` = no plan for this slot, the next layer decides. At most 48 hours in "
        "`rolling`, 366 days in `yearly`",
    )
    slot_start: Annotated[list[Time] | None, FailFast()] = Field(
        default=None,
        description="the start of each slot, as a cross-check. A hole is refused as `gap`, an earlier one as `overlap`",
    )
    soc_end_pct: Annotated[list[Percent | None] | None, FailFast()] = Field(
        default=None, description="per slot: the state of charge that the plan expects at its end"
    )
    price: Annotated[list[float | None] | None, FailFast()] = Field(
        default=None,
        description="per slot, in the market's currency per kWh: what energy is worth. The site uses it when it must "
        "plan anew by itself; without prices it seeks the least deviation",
    )
    imbalance_price: Annotated[list[float | None] | None, FailFast()] = Field(
        default=None, description="per slot, likewise: what a kWh of deviation costs"
    )


def plan(content: dict[str, Any], sha256: str, site_id: str) -> Plan | Refused:
    """The plan in W, positive toward the grid, or why it is refused."""
    message = validated(PlanMessage, content, site_id)
    if isinstance(message, Refused):
        return message
    return _refuse_lengths(message) or _refuse_slot_starts(message) or _plan(message, sha256)


def _refuse_lengths(message: PlanMessage) -> Refused | None:
    wanted = len(message.power)
    for name in ("slot_start", "soc_end_pct", "price", "imbalance_price"):
        values = getattr(message, name)
        if values is not None and len(values) != wanted:
            return Refused("wrong_length", name, f"{len(values)} values for {wanted} slots in power")
    return None


def _refuse_slot_starts(message: PlanMessage) -> Refused | None:
    for index, found in enumerate(message.slot_start or ()):
        wanted = message.start + index * message.slot_s
        if abs(found - wanted) > CLOCK_GRAIN_S:
            reason, words = ("gap", "after") if found > wanted else ("overlap", "before")
            detail = f"this slot begins {abs(found - wanted):g} s {words} the time that start and slot_s give"
            return Refused(reason, f"slot_start[{index}]", detail)
    return None


def _plan(message: PlanMessage, sha256: str) -> Plan:
    sign = 1.0 if message.positive == "export" else -1.0
    factor = sign * W_PER_UNIT[message.unit]
    return Plan(
        kind=PlanKind(message.kind),
        version=message.version,
        sha256=sha256,
        issued_utc_s=message.issued_at,
        start_utc_s=message.start,
        slot_s=message.slot_s,
        target=Target(message.target),
        # "+ 0.0" turns the -0.0 of an imported zero into a plain one
        power_w=tuple(None if power is None else power * factor + 0.0 for power in message.power),
        soc_end_pct=None if message.soc_end_pct is None else tuple(message.soc_end_pct),
        price_per_kwh=None if message.price is None else tuple(message.price),
        imbalance_price_per_kwh=None if message.imbalance_price is None else tuple(message.imbalance_price),
    )
