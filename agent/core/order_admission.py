"""Whether awards, curtailment orders or outages that arrived may come into force: accepted, repeated, or refused.

The counterpart of `agent.core.admission` for documents of orders. A document is taken whole or refused whole: an award
that cannot stand refuses all of them, and those of the document before stay in force. An order that is merely hard to
keep (an import limit below the load) is taken, and that is told with the answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.core.admission import Accepted, Refused, Verdict, issued_too_far_ahead, of_this_version
from agent.core.awards import AwardRefused
from agent.core.orders import Award, Curtailment, OrderDocument, Outage
from agent.core.orders_in_force import booked
from agent.core.rules import SiteRules


def admit_orders(
    document: OrderDocument, held: OrderDocument | None, rules: SiteRules, now_utc_s: float, load_w: float | None
) -> Verdict:
    """The verdict on `document` at `now_utc_s`, given the one of its kind that is held.

    `load_w` is the load behind the connection point now (<= 0), None when it is not known.
    """
    decided = of_this_version(document, held) or issued_too_far_ahead(document, now_utc_s)
    if decided is not None:
        return decided
    awards = [entry for entry in document.entries if isinstance(entry, Award)]
    curtailments = [entry for entry in document.entries if isinstance(entry, Curtailment)]
    outages = [entry for entry in document.entries if isinstance(entry, Outage)]
    return (
        _refuse_awards(awards, rules, now_utc_s)
        or _refuse_double("curtailments", [(order.order_id, order) for order in curtailments])
        or _refuse_double("outages", [(outage.outage_id, outage) for outage in outages])
        or _refuse_devices(outages, rules)
        or Accepted(_below_load(curtailments, load_w, now_utc_s))
    )


def _refuse_awards(awards: list[Award], rules: SiteRules, now_utc_s: float) -> Refused | None:
    _, refused = booked(rules, awards)
    first = next((one for one in refused if not awards[one.index].end_utc_s <= now_utc_s), None)
    return _as_refusal(first) if first is not None else None


def _as_refusal(award: AwardRefused) -> Refused:
    field = "id" if award.field == "award_id" else award.field
    return Refused(award.reason, f"awards[{award.index}].{field}", award.detail)


def _refuse_double(name: str, entries: Iterable[tuple[str, Curtailment | Outage]]) -> Refused | None:
    """The very same entry twice counts once, as with awards."""
    seen: dict[str, Curtailment | Outage] = {}
    for index, (entry_id, entry) in enumerate(entries):
        if seen.setdefault(entry_id, entry) != entry:
            return Refused("duplicate_id", f"{name}[{index}].id", f"{entry_id!r} stands for another entry already")
    return None


def _refuse_devices(outages: list[Outage], rules: SiteRules) -> Refused | None:
    known = {*(battery.device_id for battery in rules.batteries), *rules.pv_ids, rules.meter_id, None}
    for index, outage in enumerate(outages):
        if outage.device_id not in known:
            there = ", ".join(sorted(device_id for device_id in known if device_id))
            detail = f"no device {outage.device_id!r} here; this site has {there}, and null for all of it"
            return Refused("unknown_device", f"outages[{index}].device", detail)
    return None


def _below_load(curtailments: list[Curtailment], load_w: float | None, now_utc_s: float) -> str | None:
    if load_w is None:
        return None
    hard = [
        f"{order.order_id} ({order.import_limit_w / 1e3:g} kW)"
        for order in curtailments
        if order.import_limit_w is not None and order.import_limit_w < -load_w and order.end_utc_s > now_utc_s
    ]
    if not hard:
        return None
    return (
        f"the load is {-load_w / 1e3:.1f} kW now, above the import limit of {', '.join(hard)}: the agent cannot cut "
        f"a load; the batteries and PV give what they can, and what is missing is told as curtailment_exceeded"
    )
