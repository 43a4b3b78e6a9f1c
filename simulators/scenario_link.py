"""From the cloud to the site within a scenario: documents of the contract, through the agent's codec and admission."""

from __future__ import annotations

import json
from collections import Counter

from agent.cloud.wire import parse_document
from agent.core.admission import Accepted, PlanLimits, Refused, admit
from agent.core.plan import Plan, PlanKind, Plans
from agent.core.records import ParsedDocument
from agent.core.rules import SiteRules
from simulators.cloud_messages import SCHEMA, iso_utc


def encoded(plan: Plan, site_id: str) -> bytes:
    """The plan as a document of the contract."""
    fields = {
        "schema": SCHEMA,
        "site_id": site_id,
        "kind": plan.kind.value,
        "version": plan.version,
        "issued_at": iso_utc(plan.issued_utc_s),
        "start": iso_utc(plan.start_utc_s),
        "slot_s": plan.slot_s,
        "unit": "W",
        "positive": "export",
        "target": plan.target.value,
        "power": plan.power_w,
        "soc_end_pct": plan.soc_end_pct,
        "price": plan.price_per_kwh,
    }
    return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()


class Link:
    """The site's end: reads documents, admits them, and counts what became of each."""

    def __init__(self, rules: SiteRules) -> None:
        self._site_id = rules.site_id
        self._limits = PlanLimits(
            sum(battery.rated_discharge_w for battery in rules.batteries),
            sum(battery.rated_charge_w for battery in rules.batteries),
            rules.export_limit_w,
            rules.import_limit_w,
        )
        self.outcomes: Counter[str] = Counter()
        """Documents by outcome; a refused one by reason and field."""

    def received(self, plan: Plan, held: Plans, site_utc_s: float) -> Plans:
        """The plans in force after this document reached the site, whose clock shows `site_utc_s`."""
        kind = PlanKind(plan.kind)
        parsed = parse_document(kind, encoded(plan, self._site_id), self._site_id)
        if not isinstance(parsed, ParsedDocument):
            return self._refused(parsed.refused, held)
        assert isinstance(parsed.content, Plan), "a plan document holds a plan"
        verdict = admit(parsed.content, held, self._limits, site_utc_s)
        if isinstance(verdict, Refused):
            return self._refused(verdict, held)
        self.outcomes["accepted" if isinstance(verdict, Accepted) else "repeated"] += 1
        return held.replaced(parsed.content) if isinstance(verdict, Accepted) else held

    def _refused(self, refused: Refused, held: Plans) -> Plans:
        self.outcomes[f"refused: {refused.reason} in {refused.field}"] += 1
        return held
