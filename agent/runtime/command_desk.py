"""The life of a command: judged, on disk, in force at once, and brought to its one end.

Nothing happens before the command is durable, and what happens is never repeated: an id that was there before gets the
answer that it had. After a restart what was in force goes on for the rest of its time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from agent.cloud.answer_limit import AnswerLimit, Written
from agent.cloud.signatures import Arrived
from agent.cloud.wire_command import ParsedCommand, RefusedCommand, parse_command
from agent.core.admission import MAX_ISSUED_AHEAD_S, PlanLimits, Refused
from agent.core.command import LONGEST_COMMAND_S, Command, FcrEvidence, Live, Report, Resend
from agent.core.command_admission import Allowance, CommandLimits, admit_command, one_more
from agent.core.command_book import CommandBook, Ended, decided, ended, in_force_again, taken
from agent.core.records import CommandEnd, CommandRecord, Outcome, Stage, StorageFailed
from agent.core.term import resumed
from agent.runtime.clock import Clock

log = structlog.get_logger(__name__)

RETRY_S = 5.0
"""A disk that refused a terminal outcome is asked again after this."""


class CommandStore(Protocol):
    """What the desk needs of the store; each call may raise `StorageFailed` and then had no effect."""

    async def take_command(self, record: CommandRecord, ends: Sequence[CommandEnd] = ()) -> CommandRecord | None:
        """None when durable; else what is known under the id."""

    async def end_commands(self, ends: Sequence[CommandEnd]) -> None:
        """Terminal outcomes, durable and queued; the first of an id counts."""

    async def announce_acks(self) -> None:
        """Durable outcomes are queued."""

    async def record_outcome(self, outcome: Outcome, *, once: bool = False) -> None:
        """Durable and queued."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What a command can move, beside the record of it."""

    in_force: Callable[[CommandBook], None]
    """Takes over the commands in force."""
    act: Callable[[], Awaitable[None]]
    """A control tick now; returns when what it wrote is at the devices, or a little later at most."""
    trusted: Callable[[], bool]
    """Whether the wall clock may be believed."""
    report: Callable[[], None]
    live: Callable[[float], None]
    """Live frames for so many seconds from now on; 0 ends them."""
    safe_mode: Callable[[], bool]
    """Whether nothing may move after a crash loop."""
    work: Callable[[Command], Awaitable[Refused | str]]
    """Works off a resend or fcr_evidence: what came of it, for people, or why it could not be finished."""


class CommandDesk:
    """Takes commands, one at a time, and answers each. Never raises for what a command contains."""

    def __init__(
        self,
        *,
        store: CommandStore,
        site_id: str,
        limits: Callable[[], PlanLimits],
        clock: Clock,
        reach: Reach,
        read_only: bool = False,
        courtesy: Callable[[Outcome], None],
        on_answered: Callable[[], None],
    ) -> None:
        """`courtesy` tells an outcome once, outside the sequence; `on_answered` hears of news in the outbox."""
        self._store = store
        self._site_id = site_id
        self._limits = limits
        self._clock = clock
        self._reach = reach
        self._read_only = read_only
        self._courtesy = courtesy
        self._on_answered = on_answered
        self._since_utc_s = 0.0
        self._answers = AnswerLimit()
        self._allowance = Allowance()
        self._one_at_a_time = asyncio.Lock()
        self._answering: set[asyncio.Future[Outcome]] = set()
        self._ends: deque[CommandEnd] = deque()
        self._wake = asyncio.Event()
        self._jobs: asyncio.Queue[Command] = asyncio.Queue()
        self.book = CommandBook()
        """The commands in force."""

    def restore(self, records: Sequence[CommandRecord], at_least_utc_s: float, *, since_utc_s: float = 0.0) -> None:
        """Goes on with what was accepted before the restart; it is `at_least_utc_s` now.

        Commands issued before `since_utc_s` are refused: what was taken then is not remembered.
        """
        self.since(since_utc_s)
        for record in records:
            parsed = parse_command(record.document or b"", self._site_id)
            if isinstance(parsed, ParsedCommand) and parsed.command.sha256 != record.sha256:
                parsed = RefusedCommand(Refused("bad_value", None, "it is damaged on the disk"), record.sha256)
            until_utc_s = record.until_utc_s
            if isinstance(parsed, ParsedCommand) and _goes_on(parsed.command, record, at_least_utc_s):
                self._jobs.put_nowait(parsed.command)
                continue
            if isinstance(parsed, RefusedCommand) or until_utc_s is None:
                detail = "the agent was away for too long to finish it; send it again under a new id"
                self._queue(CommandEnd(record.command_id, Stage.FAILED, self._clock.utc_s(), "interrupted", detail))
                continue
            # No longer than it said itself, whatever its row has become on the disk.
            until_utc_s = min(until_utc_s, at_least_utc_s + (parsed.command.duration_s or 0.0))
            term = resumed(until_utc_s, at_least_utc_s, self._clock.mono_s())
            self.book = self.book.with_(in_force_again(parsed.command, term))
            if isinstance(parsed.command.params, Live):
                self._reach.live(max(until_utc_s - at_least_utc_s, 0.0))
        self._reach.in_force(self.book)

    def since(self, utc_s: float) -> None:
        """Commands issued before `utc_s` are refused: what was taken then may not be remembered."""
        self._since_utc_s = utc_s

    async def receive(self, arrived: Arrived) -> Outcome:
        """The answer to a command that came from the broker: rejected, accepted, or what it was the first time.

        Whoever asks may go away meanwhile, as with a connection that breaks: what was begun is brought to its end, or a
        command would be accepted on disk and in force nowhere.
        """
        answering = asyncio.ensure_future(self._answered(arrived))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)
        return await asyncio.shield(answering)

    async def _answered(self, arrived: Arrived) -> Outcome:
        async with self._one_at_a_time:
            self._allowance, refused = one_more(self._allowance, self._clock.mono_s())
            sha256 = hashlib.sha256(arrived.payload).hexdigest()
            if refused is not None:
                return self._tell_once(self._unnamed(sha256, refused))
            if isinstance(arrived.content, Refused):
                return await self._answer_unnamed(self._unnamed(sha256, arrived.content))
            parsed = parse_command(arrived.content, self._site_id)
            if isinstance(parsed, RefusedCommand):
                return await self._refuse(parsed)
            refused = self._judge(parsed.command)
            if refused is not None:
                command = parsed.command
                told = RefusedCommand(refused, command.sha256, command.command_id, command.type)
                return await self._refuse(told, command.expires_utc_s)
            return await self._take(parsed)

    def after_tick(self, command_id: str | None, *, clock_trusted: bool) -> None:
        """Notices which command decided, and whose time is over."""
        utc_s, mono_s = self._clock.utc_s(), self._clock.mono_s()
        self.book, over = ended(decided(self.book, command_id), utc_s, mono_s, clock_trusted=clock_trusted)
        if over:
            self._reach.in_force(self.book)
            for one in over:
                self._end(one)

    async def run(self) -> None:
        """Writes terminal outcomes and works off what takes longer, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_ends())
            tasks.create_task(self._work())

    def _judge(self, command: Command) -> Refused | None:
        limits = CommandLimits(
            self._limits(), self._reach.trusted(), self._read_only, self._reach.safe_mode(),
            self._since_utc_s, self._jobs.qsize(),
        )  # fmt: skip
        verdict = admit_command(command, self.book, limits, self._clock.utc_s())
        return verdict if isinstance(verdict, Refused) else None

    async def _take(self, parsed: ParsedCommand) -> Outcome:
        command, utc_s, mono_s = parsed.command, self._clock.utc_s(), self._clock.mono_s()
        _, ends = taken(self.book, command, utc_s, mono_s)
        duration_s = command.duration_s
        record = CommandRecord(
            command.command_id, command.sha256, command.type.value, utc_s, command.expires_utc_s, Stage.ACCEPTED,
            parsed.document, None if duration_s is None else utc_s + duration_s, utc_s,
        )  # fmt: skip
        known = await self._keep(record, [self._as_end(one, utc_s) for one in ends])
        if known is not None:
            return known
        # Made anew: the book may have changed while the disk was busy.
        self.book, _ = taken(self.book, command, utc_s, mono_s)
        self._reach.in_force(self.book)
        await self._reach.act()
        self._courtesy(replace(record.outcome, stage=Stage.RECEIVED))
        match command.params:
            case Report():
                self._reach.report()
            case Live(duration_s):
                self._reach.live(duration_s)
            case Resend() | FcrEvidence():
                self._jobs.put_nowait(command)
            case _:
                self._end_live_if_released(ends)
        log.info("command_accepted", id=command.command_id, type=command.type.value)
        await self._announce()
        return record.outcome

    def _end_live_if_released(self, ends: Sequence[Ended]) -> None:
        if any(isinstance(one.command.params, Live) for one in ends):
            self._reach.live(0.0)

    async def _refuse(self, parsed: RefusedCommand, expires_utc_s: float | None = None) -> Outcome:
        refused, now_utc_s = parsed.refused, self._clock.utc_s()
        kind = parsed.type.value if parsed.type is not None else "unknown"
        if parsed.command_id is None:
            return await self._answer_unnamed(self._unnamed(parsed.sha256, refused, kind))
        # An end far ahead is one of the things that are refused: the id is kept for as long as one could count.
        latest_utc_s = now_utc_s + LONGEST_COMMAND_S + MAX_ISSUED_AHEAD_S
        record = CommandRecord(
            parsed.command_id, parsed.sha256, kind, now_utc_s,
            latest_utc_s if expires_utc_s is None else min(expires_utc_s, latest_utc_s), Stage.REJECTED,
            None, None, now_utc_s, refused.reason, refused.field, refused.detail,
        )  # fmt: skip
        known = await self._keep(record, ())
        if known is not None:
            return known
        await self._announce()
        return record.outcome

    async def _keep(self, record: CommandRecord, ends: Sequence[CommandEnd]) -> Outcome | None:
        """None when the record is durable; else the answer, for the id was there before or the disk refused."""
        try:
            known = await self._store.take_command(record, ends)
        except StorageFailed as failure:
            detail = f"{failure}; nothing was done"
            return self._tell_once(_rejected(record, Refused("storage_failed", None, detail)))
        if known is None:
            return None
        if known.sha256 == record.sha256:
            return self._tell_once(known.outcome)
        detail = f"{record.command_id} stands for another command, which is {known.stage}: use a new id for a new one"
        return self._tell_once(_rejected(record, Refused("id_conflict", "id", detail)))

    async def _announce(self) -> None:
        with suppress(StorageFailed):  # durable, and announced as soon as the disk allows
            await self._store.announce_acks()
        self._on_answered()

    async def _answer_unnamed(self, outcome: Outcome) -> Outcome:
        """Answers a message without an id; so many of them are only told that they cannot fill the disk."""
        if self._answers.judge(outcome) is not Written.YES:
            return self._tell_once(outcome)
        try:
            await self._store.record_outcome(outcome)
        except StorageFailed:
            return self._tell_once(outcome)
        self._on_answered()
        return outcome

    def _unnamed(self, sha256: str, refused: Refused, kind: str = "unknown") -> Outcome:
        return Outcome(
            self._clock.utc_s(), kind, None, sha256, Stage.REJECTED, refused.reason, refused.field, refused.detail,
            "command",
        )  # fmt: skip

    def _tell_once(self, outcome: Outcome) -> Outcome:
        self._courtesy(outcome)
        return outcome

    def _end(self, one: Ended) -> None:
        if isinstance(one.command.params, Live):
            self._reach.live(0.0)
        log.info("command_ended", id=one.command.command_id, type=one.command.type.value, stage=one.stage.value)
        self._queue(self._as_end(one, self._clock.utc_s()))

    @staticmethod
    def _as_end(one: Ended, utc_s: float) -> CommandEnd:
        return CommandEnd(one.command.command_id, one.stage, utc_s, one.reason, one.detail)

    def _queue(self, end: CommandEnd) -> None:
        self._ends.append(end)
        self._wake.set()

    async def _write_ends(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch = tuple(self._ends)
            try:
                await self._store.end_commands(batch)
            except StorageFailed as failure:
                log.warning("command_end_not_kept", reason=str(failure))
                await self._clock.sleep_until(self._clock.mono_s() + RETRY_S)
                self._wake.set()
                continue
            for _ in batch:
                self._ends.popleft()
            self._on_answered()

    async def _work(self) -> None:
        while True:
            command = await self._jobs.get()
            found = await self._reach.work(command)
            if isinstance(found, Refused):
                end = Ended(command, Stage.FAILED, found.detail, found.reason)
            else:
                end = Ended(command, Stage.DONE, found)
            self._end(end)


def _goes_on(command: Command, record: CommandRecord, now_utc_s: float) -> bool:
    """Whether it is worked off once more from its beginning: sending the same messages again does no harm.

    Not for ever: one that never comes to its end would be begun at every start.
    """
    return isinstance(command.params, Resend | FcrEvidence) and now_utc_s - record.received_utc_s < LONGEST_COMMAND_S


def _rejected(record: CommandRecord, refused: Refused) -> Outcome:
    return Outcome(
        record.received_utc_s, record.type, None, record.sha256, Stage.REJECTED, refused.reason, refused.field,
        refused.detail, "command", record.command_id,
    )  # fmt: skip
