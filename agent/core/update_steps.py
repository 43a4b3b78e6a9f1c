"""What to do next in an update of the agent itself, also after an interruption; `agent/update` does it. Pure.

One version is in use at any time. The journal says what was going on; it is on disk before the step is begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

MOST_TRIES = 2
"""A switch that was interrupted this often goes back: the new version may be what stopped the machine."""
KEPT_VERSIONS = 2
"""The one in use and the one before it."""


class Phase(StrEnum):
    """What is going on."""

    PREPARING = "preparing"
    """The new version is put beside the one in use, which goes on."""
    SWITCHING = "switching"
    """The new version becomes the one in use, is started, and has to prove itself."""
    GOING_BACK = "going_back"
    """The old version becomes the one in use again."""


class Came(StrEnum):
    """How a phase ended."""

    WELL = "well"
    BADLY = "badly"
    INTERRUPTED = "interrupted"


class End(StrEnum):
    """How an update ended."""

    NOTHING_CHANGED = "nothing_changed"
    UPDATED = "updated"
    WENT_BACK = "went_back"
    WENT_BACK_UNWELL = "went_back_unwell"
    """The old version is in use again, and does not do what it did before either."""


@dataclass(frozen=True, slots=True)
class Journal:
    """An update under way."""

    phase: Phase
    old: str
    """The version that was in use when it began."""
    new: str
    why: str = ""
    """Of going back."""
    tries: int = 1
    """How often this phase was begun."""

    @property
    def wanted(self) -> str:
        """The version that is to be in use at the end of this phase."""
        return self.new if self.phase is Phase.SWITCHING else self.old


def after(journal: Journal, came: Came, why: str = "") -> Journal | End:
    """What to begin next, or how it ended."""
    again = replace(journal, tries=journal.tries + 1)
    if journal.phase is Phase.PREPARING:
        return replace(journal, phase=Phase.SWITCHING, tries=1) if came is Came.WELL else End.NOTHING_CHANGED
    if journal.phase is Phase.SWITCHING:
        if came is Came.WELL:
            return End.UPDATED
        if came is Came.INTERRUPTED and journal.tries < MOST_TRIES:
            return again
        reason = why if came is Came.BADLY else f"its start was interrupted {journal.tries} times"
        return replace(journal, phase=Phase.GOING_BACK, why=reason, tries=1)
    if came is Came.INTERRUPTED:
        return again
    return End.WENT_BACK if came is Came.WELL else End.WENT_BACK_UNWELL


def to_remove(versions: Iterable[str], used: str, before: str | None) -> tuple[str, ...]:
    """The versions on disk that nobody needs any more."""
    return tuple(sorted(version for version in versions if version not in {used, before}))


def unfit(current: str, new: str, held: Mapping[str, int], offered: Mapping[str, int]) -> str | None:
    """Why the new version cannot take the place of the current one; None when it can.

    `held` and `offered` are the schema numbers of the databases that the two write. A database of a later schema is
    read by the version before it (`agent/store/schema.py`), but not by any earlier one.
    """
    if new == current:
        return f"version {new} is in use already"
    older = sorted(name for name, number in held.items() if offered.get(name, 0) < number - 1)
    if older:
        return f"version {new} is too old to read what version {current} keeps in {', '.join(older)}.db"
    return None
