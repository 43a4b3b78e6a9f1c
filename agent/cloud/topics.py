"""The topics of one site."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.records import DOCUMENT_KINDS, DocumentKind


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic that the agent of `site_id` uses."""

    site_id: str

    @property
    def prefix(self) -> str:
        """All topics of the site begin with this."""
        return f"ems/v1/{self.site_id}/"

    def edge(self, name: str) -> str:
        """A topic from the site: status, telemetry, history, ack, event, ledger, evidence."""
        return f"{self.prefix}edge/{name}"

    def plan(self, kind: DocumentKind) -> str:
        """The topic of the documents of one kind."""
        return f"{self.prefix}cloud/plan/{kind.value}"

    @property
    def watermark(self) -> str:
        """Up to where the cloud has stored what the site sent."""
        return f"{self.prefix}cloud/watermark"

    @property
    def command(self) -> str:
        """Commands, each on its own, not retained."""
        return f"{self.prefix}cloud/command"

    @property
    def subscribed(self) -> tuple[str, ...]:
        """All topics to the site, the watermark last."""
        return (*(self.plan(kind) for kind in DOCUMENT_KINDS), self.command, self.watermark)
