"""Joins the commands of the cloud with the control loop and with what they ask of the link and the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agent.cloud.evidence_message import evidence_message
from agent.cloud.mqtt_link import PublishRefused
from agent.cloud.signatures import Arrived
from agent.cloud.stamp import iso
from agent.cloud.uplink import Uplink
from agent.core.admission import PlanLimits, Refused
from agent.core.command import Command, FcrEvidence, Resend
from agent.core.command_book import CommandBook
from agent.core.decision import Effects
from agent.core.records import Outcome, StorageFailed
from agent.runtime.clock import Clock
from agent.runtime.command_desk import CommandDesk, Reach
from agent.runtime.control import ControlLoop
from agent.store import Held, Store

EVIDENCE_CHUNK_ROWS = 600
"""Ten minutes of seconds, about 40 kB: one message."""
WRITE_FIRST_S = 0.05
"""Nothing is said of a command before its setpoint is written, unless that takes longer."""
LOOK_EVERY_S = 0.2
"""How often it is looked whether the broker has taken a whole range."""


class CommandSide:
    """The command desk, and what its commands reach."""

    def __init__(
        self,
        *,
        site_id: str,
        limits: Callable[[], PlanLimits],
        store: Store,
        control: ControlLoop,
        clock: Clock,
        uplink: Uplink | None,
        on_answered: Callable[[], None],
    ) -> None:
        self._site_id = site_id
        self._store = store
        self._control = control
        self._clock = clock
        self._uplink = uplink
        self._desk = CommandDesk(
            store=store,
            site_id=site_id,
            limits=limits,
            clock=clock,
            reach=Reach(
                in_force=self._in_force,
                act=self._act,
                trusted=self._trusted,
                safe_mode=lambda: bool(control.safe_mode),
                report=uplink.status_changed if uplink is not None else _nothing,
                live=self._live,
                work=self._work,
            ),
            read_only=control.read_only,
            courtesy=uplink.courtesy if uplink is not None else lambda _outcome: None,
            on_answered=on_answered,
        )

    @property
    def book(self) -> CommandBook:
        """The commands in force."""
        return self._desk.book

    def restore(self, held: Held) -> None:
        """Goes on with the commands that a restart interrupted."""
        at_least_utc_s = max(self._clock.utc_s(), held.last_trusted_utc_s or 0.0)
        self._desk.restore(held.commands, at_least_utc_s, since_utc_s=held.commands_since_utc_s)

    def since(self, utc_s: float) -> None:
        """Commands issued before `utc_s` are refused from now on: what was taken then may not be remembered."""
        self._desk.since(utc_s)

    async def receive(self, arrived: Arrived) -> Outcome:
        """The answer to one command."""
        return await self._desk.receive(arrived)

    def after_tick(self, effects: Effects) -> None:
        """Notices which command decided, and whose time is over."""
        self._desk.after_tick(effects.decision.command_id, clock_trusted=self._control.trust.trusted)

    async def run(self) -> None:
        """Brings commands to their end, for ever."""
        await self._desk.run()

    def facts(self) -> list[dict[str, Any]]:
        """The commands in force, for status and people."""
        return [
            {"id": one.command.command_id, "type": one.command.type.value, "until": iso(one.term.until_utc_s)}
            for one in self._desk.book.all
        ]

    def _in_force(self, book: CommandBook) -> None:
        self._control.order, self._control.narrowings = book.order, book.narrowings

    def _trusted(self) -> bool:
        """Judged anew: a command may come before the first tick, or after a step of the clock since the last one."""
        return self._control.clock_now().trusted

    async def _act(self) -> None:
        self._control.act_now()
        await self._control.written(WRITE_FIRST_S)

    def _live(self, seconds: float) -> None:
        if self._uplink is not None:
            self._uplink.start_live(seconds / 60.0)

    async def _work(self, command: Command) -> Refused | str:
        try:
            match command.params:
                case Resend(stream, from_seq, to_seq):
                    return await self._resend(stream.value, from_seq, to_seq)
                case FcrEvidence(from_utc_s, to_utc_s):
                    return await self._evidence(command.command_id, from_utc_s, to_utc_s)
                case _:
                    raise AssertionError("only these are worked off")
        except StorageFailed as failure:
            return Refused("storage_failed", None, str(failure))
        except PublishRefused as refusal:
            return Refused("publish_refused", None, f"the broker refuses it: {refusal}")

    async def _resend(self, stream: str, from_seq: int, to_seq: int) -> Refused | str:
        assert self._uplink is not None, "commands come over the uplink"
        asked = await self._uplink.resend(stream, from_seq, to_seq)
        if isinstance(asked, Refused):
            return asked
        while self._uplink.still_sends(asked):
            await self._clock.sleep_until(self._clock.mono_s() + LOOK_EVERY_S)
        return f"{asked.messages} of {to_seq - from_seq + 1} messages were kept and are sent again"

    async def _evidence(self, command_id: str, from_utc_s: float, to_utc_s: float) -> str:
        assert self._uplink is not None, "commands come over the uplink"
        part = seconds = 0
        cursor_utc_s, last = from_utc_s, False
        while not last:
            rows = await self._store.evidence(cursor_utc_s, to_utc_s, EVIDENCE_CHUNK_ROWS)
            last = len(rows) < EVIDENCE_CHUNK_ROWS
            part, seconds = part + 1, seconds + len(rows)
            span = (from_utc_s, to_utc_s)
            await self._uplink.deliver(
                "evidence", evidence_message(self._site_id, command_id, part, rows, span, last=last)
            )
            cursor_utc_s = rows[-1].utc_s + 1.0 if rows else to_utc_s
            await asyncio.sleep(0)
        return f"{seconds} seconds in {part} messages"


def _nothing() -> None:
    """For a site without a broker."""
