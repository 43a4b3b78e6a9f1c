"""Whether a command may have its effect, and how many may come at all.

The wire layer has already turned the message into a `Command` (or refused it), and its signature was checked before
that where the site asks for one. Whether the same id was there before is asked of the disk, in the same transaction in
which it is kept: an id has one outcome, across restarts and whatever the clock does meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.admission import MAX_ISSUED_AHEAD_S, Accepted, PlanLimits, Refused, refuse_power
from agent.core.command import (
    LONGEST_COMMAND_S,
    Command,
    FcrEvidence,
    Move,
    NarrowLimits,
    Release,
    Resend,
    SetPower,
)
from agent.core.command_book import CommandBook

MOST_NARROWINGS = 8
"""Narrowings in force at the same time; each is looked at in every tick."""
LONGEST_EVIDENCE_S = 7 * 86_400.0
MOST_RESENT = 100_000
"""Sequences of one resend: two months of frames of a minute."""
BURST = 100
"""Commands that may come at once."""
PER_SECOND = 10.0
"""Commands that may come in the long run; each costs two to four writes to the disk."""
MOST_JOBS = 8
"""Ranges and reports of evidence that may wait to be worked off."""


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """What a command is measured against."""

    plan: PlanLimits
    """Ratings of the batteries and the site's own connection limits."""
    clock_trusted: bool
    read_only: bool = False
    """True while the site file forbids every write: nothing could move."""
    safe_mode: bool = False
    """True while nothing may move after a crash loop."""
    remembered_since_utc_s: float = 0.0
    """What was taken before is not remembered, for certain: a record was lost."""
    jobs_waiting: int = 0
    """Ranges and reports of evidence that wait to be worked off."""


def admit_command(command: Command, book: CommandBook, limits: CommandLimits, now_utc_s: float) -> Accepted | Refused:
    """The verdict on a command whose id is new, at `now_utc_s`."""
    return (
        _refuse_time(command, now_utc_s, clock_trusted=limits.clock_trusted)
        or _refuse_params(command, book, limits, now_utc_s)
        or _refuse_now(command, limits)
        or Accepted()
    )


def _refuse_time(command: Command, now_utc_s: float, *, clock_trusted: bool) -> Refused | None:
    if not clock_trusted:
        detail = "the site's clock is not trusted, so it cannot be known whether this command still counts"
        return Refused("clock_untrusted", None, detail)
    ahead_s = command.issued_utc_s - now_utc_s
    if ahead_s > MAX_ISSUED_AHEAD_S:
        return Refused("from_the_future", "issued_at", f"issued {ahead_s:.0f} s ahead of the site's clock")
    valid_s = command.expires_utc_s - command.issued_utc_s
    if valid_s <= 0.0:
        return Refused("bad_value", "expires_at", "expires_at must be later than issued_at")
    if valid_s > LONGEST_COMMAND_S:
        detail = f"at most {LONGEST_COMMAND_S / 3600:.0f} h after issued_at; send it again when it is needed"
        return Refused("too_long", "expires_at", detail)
    if command.expires_utc_s <= now_utc_s:
        late_s = now_utc_s - command.expires_utc_s
        return Refused("command_expired", "expires_at", f"it came {late_s:.1f} s too late; nothing was done")
    return None


def _refuse_params(command: Command, book: CommandBook, limits: CommandLimits, now_utc_s: float) -> Refused | None:
    if limits.read_only and isinstance(command.params, Move):
        return Refused("read_only", "type", "the site is being commissioned (control.mode): its agent writes nothing")
    if limits.safe_mode and isinstance(command.params, Move):
        return Refused("safe_mode", "type", "the agent crashed again and again and moves no power for a while")
    match command.params:
        case SetPower(target, power_w, _):
            return refuse_power(power_w, target, limits.plan, "params.power")
        case NarrowLimits() as narrow:
            return _refuse_narrowing(narrow, book, limits.plan)
        case Release(command_id):
            if command_id is not None and book.of(command_id) is None:
                return Refused("unknown_command", "params.id", f"no command {command_id} is in force here")
        case Resend(_, from_seq, to_seq):
            if to_seq < from_seq:
                return Refused("bad_value", "params.to_seq", "to_seq must not be below from_seq")
            if to_seq - from_seq >= MOST_RESENT:
                return Refused("too_long", "params.to_seq", f"at most {MOST_RESENT} sequences at once")
        case FcrEvidence(from_utc_s, to_utc_s):
            if not from_utc_s < to_utc_s:
                return Refused("bad_value", "params.to", "to must be later than from")
            if to_utc_s - from_utc_s > LONGEST_EVIDENCE_S:
                return Refused("too_long", "params.to", f"at most {LONGEST_EVIDENCE_S / 86_400:.0f} days at once")
            if from_utc_s >= now_utc_s:
                return Refused("bad_value", "params.from", "there is no evidence of a time to come")
        case _:
            pass
    return None


def _refuse_now(command: Command, limits: CommandLimits) -> Refused | None:
    """What may be asked for, and yet not at this time."""
    if command.issued_utc_s < limits.remembered_since_utc_s:
        detail = "the site cannot know any more whether it came before; send it again under a new id"
        return Refused("record_lost", "issued_at", detail)
    if isinstance(command.params, Resend | FcrEvidence) and limits.jobs_waiting >= MOST_JOBS:
        return Refused("too_many", None, f"{MOST_JOBS} such requests wait already: send it again later")
    return None


def _refuse_narrowing(narrow: NarrowLimits, book: CommandBook, own: PlanLimits) -> Refused | None:
    for name, asked_w, own_w in (
        ("export_limit", narrow.export_limit_w, own.export_w),
        ("import_limit", narrow.import_limit_w, own.import_w),
        ("discharge_limit", narrow.discharge_limit_w, own.discharge_w),
        ("charge_limit", narrow.charge_limit_w, own.charge_w),
    ):
        if asked_w is not None and asked_w > own_w:
            detail = f"{asked_w / 1e3:g} kW is above the site's own {own_w / 1e3:g} kW: limits are only ever narrowed"
            return Refused("not_tighter", f"params.{name}", detail)
    if len(book.narrowings) >= MOST_NARROWINGS:
        detail = f"{MOST_NARROWINGS} narrowings are in force: release one, or wait for one to end"
        return Refused("too_many", None, detail)
    return None


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many more commands may come just now; it fills up again with time."""

    left: float = float(BURST)
    at_mono_s: float = float("-inf")


def one_more(allowance: Allowance, mono_s: float) -> tuple[Allowance, Refused | None]:
    """What is left after one more command, and its refusal when that is one too many."""
    left = min(allowance.left + max(mono_s - allowance.at_mono_s, 0.0) * PER_SECOND, float(BURST))
    if left < 1.0:
        detail = f"more than {PER_SECOND:g} commands a second: this one was not judged and may be sent again"
        return Allowance(left, mono_s), Refused("rate_limited", None, detail)
    return Allowance(left - 1.0, mono_s), None
