"""The life of a document: parsed, admitted, on disk, answered. The same path for the cloud and for a USB stick.

Documents are plans, awards, curtailments and outages; what may come into force is judged in the core.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from agent.cloud.answer_limit import AnswerLimit, Written
from agent.cloud.signatures import Arrived
from agent.cloud.wire import RefusedDocument, document_kind, parse_document
from agent.core.admission import Accepted, Refused, Repeated, Verdict
from agent.core.events import Event, EventState, Severity
from agent.core.records import Document, DocumentKind, Outcome, ParsedDocument, Stage, StorageFailed

PARSE_ASIDE_BYTES = 64 * 1024
"""A larger payload is parsed on another thread: hostile ones take 100 ms, a year of half hours 15 ms."""


class DocumentStore(Protocol):
    """What the desk needs of the store; each call may raise `StorageFailed`."""

    async def save_document(self, content: Document, document: bytes, outcome: Outcome) -> None:
        """Durable when it returns, the outcome with it."""

    async def record_outcome(self, outcome: Outcome, *, once: bool = False) -> None:
        """Durable and queued for the cloud."""

    async def outcomes(self, kind: str, version: int | None, sha256: str) -> Sequence[Outcome]:
        """What became of one document, oldest first."""

    async def append_event(self, event: Event) -> None:
        """Durable and queued for the cloud."""


class DocumentDesk:
    """Takes documents, one at a time, and answers each. Never raises for what a document contains."""

    def __init__(
        self,
        *,
        store: DocumentStore,
        site_id: str,
        held: Callable[[DocumentKind], Document | None],
        judge: Callable[[Document], Verdict],
        utc_s: Callable[[], float],
        on_stored: Callable[[Document], None],
        courtesy: Callable[[Outcome], None],
        on_answered: Callable[[], None],
    ) -> None:
        """`judge` says whether a document may come into force, given what is held; `on_stored` brings it into force.

        `courtesy` tells an outcome once, outside the sequence.
        `on_answered` is called when the outbox has something new.
        """
        self._store = store
        self._site_id = site_id
        self._held = held
        self._judge = judge
        self._utc_s = utc_s
        self._on_stored = on_stored
        self._courtesy = courtesy
        self._on_answered = on_answered
        self._limit = AnswerLimit()
        self._one_at_a_time = asyncio.Lock()

    async def receive(self, kind: DocumentKind, arrived: Arrived) -> Outcome:
        """The answer to a document that came on the topic of `kind`: rejected, or stored and in force."""
        async with self._one_at_a_time:
            content = arrived.content
            if isinstance(content, Refused):
                sha256 = hashlib.sha256(arrived.payload).hexdigest()
                return await self._reject(kind, None, sha256, content)
            if len(content) > PARSE_ASIDE_BYTES:
                parsed = await asyncio.to_thread(parse_document, kind, content, self._site_id)
            else:
                parsed = parse_document(kind, content, self._site_id)
            if isinstance(parsed, RefusedDocument):
                self._courtesy(self._outcome(kind, parsed.version, parsed.sha256, Stage.RECEIVED))
                return await self._reject(kind, parsed.version, parsed.sha256, parsed.refused)
            self._courtesy(self._of(parsed.content, Stage.RECEIVED))
            return await self._take(parsed)

    async def import_document(self, brought: Arrived) -> Outcome | Refused:
        """The answer to a document that a technician brought; it names its kind itself, or is refused here."""
        content = brought.content
        kind = content if isinstance(content, Refused) else document_kind(content)
        return kind if isinstance(kind, Refused) else await self.receive(kind, brought)

    async def mark(self, content: Document, stage: Stage) -> None:
        """The document reached this stage (active, expired); told once, however often it is called."""
        outcome = self._of(content, stage)
        try:
            await self._store.record_outcome(outcome, once=True)
        except StorageFailed:
            self._courtesy(outcome)
        self._on_answered()

    async def _take(self, parsed: ParsedDocument) -> Outcome:
        content, before = parsed.content, self._held(parsed.content.kind)
        verdict = self._judge(content)
        if isinstance(verdict, Refused):
            return await self._reject(content.kind, content.version, content.sha256, verdict)
        stored = self._of(content, Stage.STORED)
        if isinstance(verdict, Repeated):
            await self._answer(stored)
            return stored
        assert isinstance(verdict, Accepted)
        stored = replace(stored, detail=verdict.note)
        try:
            await self._store.save_document(content, parsed.document, stored)
        except StorageFailed as failure:
            refused = Refused("storage_failed", None, f"{failure}; the document in force stays")
            return await self._reject(content.kind, content.version, content.sha256, refused)
        self._on_stored(content)
        await self._supersede(before)
        self._on_answered()
        return stored

    async def _supersede(self, before: Document | None) -> None:
        if before is None:
            return
        with suppress(StorageFailed):
            reached = await self._store.outcomes(before.kind.value, before.version, before.sha256)
            if not any(outcome.stage is Stage.EXPIRED for outcome in reached):
                await self._store.record_outcome(self._of(before, Stage.SUPERSEDED), once=True)

    async def _reject(self, kind: DocumentKind, version: int | None, sha256: str, refused: Refused) -> Outcome:
        outcome = self._outcome(kind, version, sha256, Stage.REJECTED, refused)
        written = await self._answer(outcome)
        if written and refused.reason == "version_conflict":
            text = f"a second document of kind {kind.value} came with the version of the one held: {refused.detail}"
            await self._alarm("version_conflict", text, outcome)
        return outcome

    async def _answer(self, outcome: Outcome) -> bool:
        """True when the answer is on disk and has a sequence; a repeated one, or one of a flood, is only told."""
        verdict = self._limit.judge(outcome)
        if verdict is Written.FLOOD_BEGINS:
            text = "so many documents are refused that no more of the answers are kept: 30 a minute are"
            await self._alarm("answers_not_kept", text, outcome)
        if verdict is not Written.YES:
            self._courtesy(outcome)
            return False
        try:
            await self._store.record_outcome(outcome)
        except StorageFailed:
            self._courtesy(outcome)
            return False
        self._on_answered()
        return True

    async def _alarm(self, code: str, text: str, outcome: Outcome) -> None:
        data = {"kind": outcome.kind, "version": outcome.version, "sha256": outcome.sha256}
        event = Event(outcome.at_utc_s, EventState.NOTED, Severity.ALARM, code, "cloud", text, data)
        with suppress(StorageFailed):
            await self._store.append_event(event)
            self._on_answered()

    def _of(self, content: Document, stage: Stage) -> Outcome:
        return self._outcome(content.kind, content.version, content.sha256, stage)

    def _outcome(
        self, kind: DocumentKind, version: int | None, sha256: str, stage: Stage, refused: Refused | None = None
    ) -> Outcome:
        if refused is None:
            return Outcome(self._utc_s(), kind.value, version, sha256, stage)
        return Outcome(self._utc_s(), kind.value, version, sha256, stage, refused.reason, refused.field, refused.detail)
