"""Messages of the cloud: plans, orders, commands, watermarks, and the envelope that they may be signed in."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

from agent.cloud.messages import ack_message, orders_held, plan_held
from agent.cloud.wire import RefusedDocument, document_kind, parse_document, parse_watermark
from agent.cloud.wire_command import ParsedCommand, RefusedCommand, parse_command
from agent.core.admission import Accepted, PlanLimits, Refused, admit
from agent.core.command import LONGEST_COMMAND_S
from agent.core.command_admission import CommandLimits, admit_command
from agent.core.command_book import CommandBook
from agent.core.order_admission import admit_orders
from agent.core.orders import OrderDocument, OrderDocuments, OrderKind
from agent.core.orders_in_force import in_force
from agent.core.plan import Plan, PlanKind, Plans
from agent.core.reasons import REASONS
from agent.core.records import DOCUMENT_KINDS, Outcome, ParsedDocument, Stage
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from tests.fuzz.cloud_messages import PLAN, RING, SITE, sealed
from tests.fuzz.targets import hold

NOW_UTC_S = 1_705_287_600.0
"""2024-01-15T03:00:00Z, the beginning of what the kept messages plan."""
BATTERY = BatteryRules("bess", 500e3, 500e3, 5.0, 95.0, 0.95, 60.0, 500.0)
RULES = SiteRules(SITE, 1.0, (BATTERY,), ("pv",), "grid-meter", 400e3, 300e3, has_load=True, local_rule=LocalRule.IDLE)
LIMITS = PlanLimits(500e3, 500e3, 400e3, 300e3)
LARGEST = 2**53 - 1
LONGEST_DETAIL = 2_000


def plan(payload: bytes) -> None:
    """A payload on the topic that it names itself, of a plan where it names none."""
    _document(payload, PlanKind.ROLLING)


def orders(payload: bytes) -> None:
    """The same for awards, curtailments and outages."""
    _document(payload, OrderKind.AWARDS)


def _document(payload: bytes, otherwise: PlanKind | OrderKind) -> None:
    named = document_kind(payload)
    kind = otherwise if isinstance(named, Refused) else named
    parsed = parse_document(kind, payload, SITE)
    if isinstance(parsed, RefusedDocument):
        hold(parsed.version is None or 1 <= parsed.version <= LARGEST, "a version is a number that every reader keeps")
        _told(parsed.refused, Outcome(NOW_UTC_S, kind.value, parsed.version, parsed.sha256, Stage.REJECTED))
        return
    content = parsed.content
    hold(content.kind is kind, "a document is of the kind of its topic")
    hold(content.sha256 == hashlib.sha256(parsed.document).hexdigest(), "the hash is that of what is kept")
    hold(1 <= content.version <= LARGEST, "a version is a number that every reader keeps")
    other = next(one for one in DOCUMENT_KINDS if one is not kind)
    hold(isinstance(parse_document(other, payload, SITE), RefusedDocument), "no document counts as another kind")
    hold(isinstance(parse_document(kind, payload, "demo-02"), RefusedDocument), "no document counts at another site")
    again = parse_document(kind, parsed.document, SITE)
    hold(isinstance(again, ParsedDocument) and again.content == content, "what is kept reads the same after a restart")
    if isinstance(content, Plan):
        _plan(content)
    else:
        _orders(content)


def _plan(content: Plan) -> None:
    for name in ("soc_end_pct", "price_per_kwh", "imbalance_price_per_kwh"):
        values = getattr(content, name)
        hold(values is None or len(values) == len(content.power_w), f"{name} has a value per slot")
        hold(all(value is None or math.isfinite(value) for value in values or ()), f"{name} is finite")
    hold(all(pct is None or 0 <= pct <= 100 for pct in content.soc_end_pct or ()), "a SoC is a percentage")
    verdict = admit(content, Plans(), LIMITS, NOW_UTC_S)
    json.dumps(plan_held(content), allow_nan=False)
    if isinstance(verdict, Refused):
        _told(verdict, Outcome(NOW_UTC_S, content.kind.value, content.version, content.sha256, Stage.REJECTED))
        return
    lower_w, upper_w = LIMITS.meant_w(content.target)
    for index, power_w in enumerate(content.power_w[:50]):
        hold(power_w is None or lower_w <= power_w <= upper_w, "an accepted power is within the limits of the site")
        slot = content.slot_at(content.start_utc_s + (index + 0.5) * content.slot_s)
        hold((slot.power_w if slot else None) == power_w, "the slot of a time is the one that holds it")
    hold(content.slot_at(content.end_utc_s) is None, "a plan says nothing about the time after it")
    hold(content.end_utc_s > NOW_UTC_S, "an accepted plan says something about the time to come")


def _orders(content: OrderDocument) -> None:
    hold(all(entry.start_utc_s < entry.end_utc_s for entry in content.entries), "an order ends after it begins")
    verdict = admit_orders(content, None, RULES, NOW_UTC_S, -50e3)
    json.dumps(orders_held(OrderDocuments().replaced(content)), allow_nan=False)
    if isinstance(verdict, Refused):
        _told(verdict, Outcome(NOW_UTC_S, content.kind.value, content.version, content.sha256, Stage.REJECTED))
        return
    found = in_force(RULES, OrderDocuments().replaced(content), NOW_UTC_S)
    hold(not found.refused, "what was accepted stands")
    for sold in found.awards.sold:
        hold(0 < sold.award.power_w <= 1.05 * BATTERY.rated_discharge_w, "an accepted award is within the rating")
    for order in found.orders.curtailments:
        limits = (order.export_limit_w, order.import_limit_w)
        hold(all(w is None or 0 <= w < math.inf for w in limits), "a limit is a number that is not negative")
        hold(any(w is not None for w in limits), "a curtailment limits something")


def command(payload: bytes) -> None:
    """A payload on the topic of commands."""
    parsed = parse_command(payload, SITE)
    if isinstance(parsed, RefusedCommand):
        kind = parsed.type.value if parsed.type is not None else "unknown"
        outcome = Outcome(NOW_UTC_S, kind, None, parsed.sha256, Stage.REJECTED, subject="command")
        hold(parsed.command_id is None or 1 <= len(parsed.command_id) <= 64, "an id that is told back is one")
        _told(parsed.refused, outcome)
        return
    found = parsed.command
    hold(found.sha256 == hashlib.sha256(parsed.document).hexdigest(), "the hash is that of what is kept")
    hold(isinstance(parse_command(payload, "demo-02"), RefusedCommand), "no command counts at another site")
    again = parse_command(parsed.document, SITE)
    hold(isinstance(again, ParsedCommand) and again.command == found, "what is kept reads the same after a restart")
    hold(found.duration_s is None or 0 < found.duration_s <= LONGEST_COMMAND_S, "what a command begins ends in time")
    verdict = admit_command(found, CommandBook(), CommandLimits(LIMITS, clock_trusted=True), NOW_UTC_S)
    if isinstance(verdict, Accepted):
        hold(NOW_UTC_S < found.expires_utc_s <= found.issued_utc_s + LONGEST_COMMAND_S, "it is taken in its time")
        power_w = getattr(found.params, "power_w", 0.0)
        hold(abs(power_w) <= 1.05 * 500e3, "an accepted power is within the limits of the site")
    else:
        _told(verdict, Outcome(NOW_UTC_S, found.type.value, None, found.sha256, Stage.REJECTED, subject="command"))


def watermark(payload: bytes) -> None:
    """A payload on the topic of watermarks."""
    found = parse_watermark(payload, SITE)
    if isinstance(found, Refused):
        _told(found, Outcome(NOW_UTC_S, "watermark", None, hashlib.sha256(payload).hexdigest(), Stage.REJECTED))
        return
    hold(all(type(seq) is int and 0 <= seq <= LARGEST for seq in found.values()), "a sequence is a whole number")


SIGNED = json.dumps(PLAN).encode()
ENVELOPE = sealed(b'{"alg":"Ed25519","kid":"fuzz"}', SIGNED)


def signed(payload: bytes) -> None:
    """What claims to be signed: only what the cloud signed comes out. `$` stands for the one good envelope."""
    found = RING.opened(payload.replace(b"$", ENVELOPE, 1) if len(payload) < 200 else payload)
    if isinstance(found, Refused):
        _told(found, Outcome(NOW_UTC_S, "rolling", None, "0" * 64, Stage.REJECTED))
    else:
        hold(found == SIGNED, "only what was signed comes out of an envelope")


def _told(refused: Refused, outcome: Outcome) -> None:
    """A refusal has a reason of the contract, a place, words, and goes into an answer."""
    hold(refused.reason in REASONS, "a refusal has a reason of the contract")
    hold(refused.field is None or 0 < len(refused.field) <= 200, "a refusal names a field, or none")
    hold(0 < len(refused.detail) <= LONGEST_DETAIL, "a refusal has words, and not too many")
    ack = ack_message(SITE, 1, replace(outcome, reason=refused.reason, field=refused.field, detail=refused.detail))
    hold(json.loads(ack)["reason"] == refused.reason, "a refusal can be told")


FUNCTIONS = {"plan": plan, "orders": orders, "command": command, "watermark": watermark, "signed": signed}
