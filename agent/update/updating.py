"""Carries out an update, step by step, and finishes one that was interrupted; `core.update_steps` says what is next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.core.update_health import Healthy, Look, NotYet, Unhealthy, verdict
from agent.core.update_steps import Came, End, Journal, Phase, after, to_remove, unfit
from agent.update.house import House
from agent.update.not_done import NotDone
from agent.update.release import read_release, unpack

LOOK_EVERY_S = 1.0


class Gateway(Protocol):
    """What an update does outside the folders of the versions; each may be done again."""

    def build(self, unpacked: Path) -> None:
        """The version of an unpacked bundle is in its folder, complete; raises `NotDone`."""

    def site_refusal(self, version: str) -> str | None:
        """Why that version cannot use the site file that the one in use can; None when it can, or neither."""

    def keep_a_copy(self) -> None:
        """A sound copy of what must not be lost lies beside it; raises `NotDone`."""

    def switch(self, version: str) -> None:
        """That version, with its units, is the one in use from the next start on; raises `NotDone`."""

    def restart(self) -> None:
        """The agent was stopped, if it ran, and is being started."""

    def look(self) -> Look | None:
        """What the daemon says of itself; None when there is none that answers."""

    def mono_s(self) -> float:
        """A clock that only runs forward."""

    def sleep(self, seconds: float) -> None:
        """Returns after that time."""


@dataclass(frozen=True, slots=True)
class Result:
    """How it ended, for whom, and why."""

    end: End
    old: str
    new: str
    why: str


class Updating:
    """One process that changes the version in use; `say` takes each step in words."""

    def __init__(self, house: House, gateway: Gateway, say: Callable[[str], None]) -> None:
        self._house, self._gateway, self._say = house, gateway, say

    def update(self, bundle: Path, keys: Path, *, unsigned: bool) -> Result:
        """The bundle's version is in use and works, or the one before it is; raises `NotDone` when nothing changed."""
        with self._house.alone(wait=False):
            self._finish_what_was_begun()
            old = self._used()
            self._house.clear_incoming()
            self._say(f"reading {bundle.name}")
            try:
                offered = unpack(bundle, keys, self._house.incoming, unsigned=unsigned)
                held = read_release(self._house.home(old), self._house.home(old))
                misfit = unfit(old, offered.version, held.schema, offered.schema)
                if misfit is not None:
                    raise NotDone("update", misfit, "nothing was changed; ems backup and a new install go back further")
                return self._run(Journal(Phase.PREPARING, old, offered.version), None)
            except NotDone:
                self._house.clear_incoming()
                raise

    def back(self) -> Result:
        """The version before the one in use is in use again, if it works; raises `NotDone` when there is none."""
        with self._house.alone(wait=False):
            self._finish_what_was_begun()
            old, new = self._used(), self._house.previous()
            if new is None:
                raise NotDone(
                    "update", f"there is no other version than {old} on this gateway", "ems update BUNDLE.tar"
                )
            self._gateway.keep_a_copy()
            return self._run(Journal(Phase.SWITCHING, old, new), self._gateway.look())

    def resume(self) -> Result | None:
        """How the update that was interrupted ended now; None when there was none. Waits for one under way."""
        with self._house.alone(wait=True):
            return self._finish_what_was_begun()

    def _used(self) -> str:
        version = self._house.current()
        assert version is not None, "looked at when the lock was taken"
        return version

    def _finish_what_was_begun(self) -> Result | None:
        found = self._house.journal()
        if found is None:
            return None
        journal, before = found
        self._say(f"the update from {journal.old} to {journal.new} was interrupted while {journal.phase.value}")
        return self._go_on(journal, before, Came.INTERRUPTED, "it was interrupted")

    def _run(self, journal: Journal, before: Look | None) -> Result:
        """One phase after the other until the end; each is in the journal before it is begun."""
        self._house.write_journal(journal, before)
        try:
            if journal.phase is Phase.PREPARING:
                before = self._prepare(journal)
                came, why = Came.WELL, ""
            else:
                came, why = self._switched(journal, before)
        except NotDone as said:
            if journal.phase is Phase.PREPARING:
                self._close(journal, End.NOTHING_CHANGED)
                raise
            came, why = Came.BADLY, said.why
        return self._go_on(journal, before, came, why)

    def _go_on(self, journal: Journal, before: Look | None, came: Came, why: str) -> Result:
        then = after(journal, came, why)
        if isinstance(then, Journal):
            return self._run(then, before)
        self._close(journal, then)
        return Result(then, journal.old, journal.new, journal.why or why)

    def _prepare(self, journal: Journal) -> Look | None:
        """What the version in use says of itself, once the new one can take its place."""
        house, gateway = self._house, self._gateway
        self._say(f"putting version {journal.new} beside {journal.old}, which goes on")
        gateway.build(house.incoming)
        house.clear_incoming()
        refusal = gateway.site_refusal(journal.new)
        if refusal is not None:
            why = f"version {journal.new} cannot use the site file: {refusal}"
            raise NotDone("update", why, "nothing was changed; mend the site file as the release notes say, try again")
        gateway.keep_a_copy()
        return gateway.look()

    def _switched(self, journal: Journal, before: Look | None) -> tuple[Came, str]:
        """Whether the wanted version is in use and does what the one before the update did."""
        wanted, gateway = journal.wanted, self._gateway
        back = f": {journal.why}" if journal.phase is Phase.GOING_BACK else ""
        self._say(f"{'going back' if back else 'switching'} to version {wanted}{back}")
        gateway.switch(wanted)
        running = gateway.look()
        if running is None or running.version != wanted:
            gateway.restart()
        started_s, told = gateway.mono_s(), ""
        looks: list[Look | None] = []
        while True:
            looks.append(gateway.look())
            found = verdict(wanted, before, looks, started_s, gateway.mono_s())
            match found:
                case Healthy():
                    return Came.WELL, ""
                case Unhealthy(why):
                    return Came.BADLY, why
                case NotYet(why):
                    if why != told:
                        self._say(f"  waiting: {why}")
                        told = why
                    gateway.sleep(LOOK_EVERY_S)

    def _close(self, journal: Journal, end: End) -> None:
        """What nobody needs any more is gone, the journal last."""
        house = self._house
        house.clear_incoming()
        used = house.current()
        assert used is not None, "an update never leaves a gateway without a version"
        # A version that had to be left, or that was not finished, is not one to go back to.
        before = journal.old if end is End.UPDATED else None
        removed = (
            to_remove(house.versions(), used, before)
            if end is End.UPDATED
            else [journal.new] * (journal.new != used and journal.new in house.versions())
        )
        for version in removed:
            house.remove(version)
        house.clear_journal()
