"""The commands in force, and how each comes to its one end.

received -> rejected | accepted -> done | failed | expired. Accepted is said when the command is durable and its effect
begins. Done: it had its effect, for its whole time or until a later command ended it. Expired: its time ran out without
any effect, because something above it decided, or the agent was down. Failed: it was begun and could not be finished.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from agent.core.authority import PowerOrder
from agent.core.command import (
    Command,
    Hold,
    Live,
    Move,
    NarrowLimits,
    Neutral,
    Release,
    Report,
    SetPower,
)
from agent.core.command_limits import Narrowing
from agent.core.plan import Target
from agent.core.reasons import REASONS
from agent.core.records import Stage
from agent.core.term import Term, begun


@dataclass(frozen=True, slots=True)
class InForce:
    """One command whose effect lasts."""

    command: Command
    term: Term
    had_effect: bool = False
    """True once it decided something, or could not but have an effect."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The one terminal outcome of a command that was accepted."""

    command: Command
    stage: Stage
    detail: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        """As with `Refused`."""
        assert self.reason is None or self.reason in REASONS, self.reason


@dataclass(frozen=True, slots=True)
class CommandBook:
    """All commands whose effect lasts, now."""

    move: InForce | None = None
    """The one that moves the batteries: set_power, hold or neutral."""
    limits: tuple[InForce, ...] = ()
    """narrow_limits, each with its own end; they count together."""
    live: InForce | None = None

    @property
    def all(self) -> tuple[InForce, ...]:
        """Every command in force."""
        return tuple(one for one in (self.move, *self.limits, self.live) if one is not None)

    def of(self, command_id: str) -> InForce | None:
        """The command of this id."""
        return next((one for one in self.all if one.command.command_id == command_id), None)

    @property
    def order(self) -> PowerOrder | None:
        """What the control tick is told of the command that moves the batteries."""
        if self.move is None:
            return None
        return power_order(self.move.command, self.move.term)

    @property
    def narrowings(self) -> tuple[Narrowing, ...]:
        """What the control tick is told of narrowed limits."""
        return tuple(
            Narrowing(one.command.command_id, one.command.params, one.term)
            for one in self.limits
            if isinstance(one.command.params, NarrowLimits)
        )

    def without(self, gone: Iterable[InForce]) -> CommandBook:
        """The book without these."""
        ids = {one.command.command_id for one in gone}

        def kept(one: InForce | None) -> InForce | None:
            return one if one is not None and one.command.command_id not in ids else None

        limits = tuple(one for one in self.limits if one.command.command_id not in ids)
        return CommandBook(kept(self.move), limits, kept(self.live))

    def with_(self, one: InForce) -> CommandBook:
        """The book with this command in force."""
        match one.command.params:
            case SetPower() | Hold() | Neutral():
                return replace(self, move=one)
            case NarrowLimits():
                return replace(self, limits=(*self.limits, one))
            case Live():
                return replace(self, live=one)
            case _:
                return self


def power_order(command: Command, term: Term) -> PowerOrder:
    """A command that moves the batteries, as the control tick takes it."""
    params = command.params
    assert isinstance(params, Move), "only these move the batteries"
    match params:
        case SetPower(target, power_w, _):
            words = f"set_power {power_w / 1e3:+g} kW at the {_PLACE[target]}"
            return PowerOrder(command.command_id, words, target, power_w, term)
        case Hold():
            return PowerOrder(command.command_id, "hold", Target.BATTERY, 0.0, term)
        case Neutral():
            return PowerOrder(command.command_id, "neutral", Target.BATTERY, 0.0, term, suspends_awards=True)


_PLACE = {Target.BATTERY: "battery", Target.GRID: "connection point"}


def taken(book: CommandBook, command: Command, utc_s: float, mono_s: float) -> tuple[CommandBook, tuple[Ended, ...]]:
    """The book once `command` is accepted, and what came to its end with that; the command itself may be among it.

    What is worked off beside the control loop (resend, fcr_evidence) changes nothing here and ends later.
    """
    match command.params:
        case Release(command_id):
            gone = [one for one in (book.of(command_id) if command_id else book.move,) if one is not None]
            words = ", ".join(one.command.command_id for one in gone) or "nothing was in force"
            return book.without(gone), (*_ended_by(gone, command), Ended(command, Stage.DONE, f"released: {words}"))
        case Report():
            return book, (Ended(command, Stage.DONE),)
        case SetPower() | Hold() | Neutral():
            replaced = [book.move] if book.move is not None else []
        case Live():
            replaced = [book.live] if book.live is not None else []
        case NarrowLimits():
            replaced = []
        case _:
            return book, ()
    duration_s = command.duration_s
    assert duration_s is not None, "what is in force ends by itself"
    one = InForce(command, begun(utc_s, mono_s, duration_s), not isinstance(command.params, Move))
    return book.without(replaced).with_(one), _ended_by(replaced, command)


def in_force_again(command: Command, term: Term) -> InForce:
    """A command found on disk at start."""
    return InForce(command, term, not isinstance(command.params, Move))


def decided(book: CommandBook, command_id: str | None) -> CommandBook:
    """The book after a tick in which this command decided; the same object when that is not new."""
    move = book.move
    if command_id is None or move is None or move.had_effect or move.command.command_id != command_id:
        return book
    return replace(book, move=replace(move, had_effect=True))


def ended(book: CommandBook, utc_s: float, mono_s: float, *, clock_trusted: bool) -> tuple[CommandBook, list[Ended]]:
    """The book without the commands whose time is over, and how each ended."""
    over = [one for one in book.all if one.term.over(utc_s, mono_s, clock_trusted=clock_trusted)]
    if not over:
        return book, []
    return book.without(over), [_at_its_end(one) for one in over]


def _at_its_end(one: InForce) -> Ended:
    if one.had_effect:
        return Ended(one.command, Stage.DONE)
    since = "" if one.term.witnessed else " after a restart of the agent"
    return Ended(one.command, Stage.EXPIRED, f"its time ran out before it could decide{since}", "never_decided")


def _ended_by(gone: Iterable[InForce], by: Command) -> tuple[Ended, ...]:
    return tuple(
        Ended(one.command, Stage.DONE, f"ended before its time by {by.type} {by.command_id}")
        if one.had_effect
        else Ended(
            one.command, Stage.EXPIRED, f"ended by {by.type} {by.command_id} before it could decide", "never_decided"
        )
        for one in gone
    )
