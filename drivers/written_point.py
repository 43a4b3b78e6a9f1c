"""A write by hand as it was worked out, or why it must not be; and how people state values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from drivers.codec import Value


class PointRefused(Exception):  # noqa: N818  # an answer, not a fault
    """A write that must not be: why, and what to do instead."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class PointWrite:
    """One write, worked out and not yet sent."""

    name: str
    unit: str
    old: Value | None
    """What the point holds now; None where it cannot be read."""
    old_label: str | None
    new: float | int
    """What the registers will mean, in `unit`: the value asked for, as fine as the register can say it."""
    new_label: str | None
    unit_id: int
    address: int
    registers: tuple[int, ...]
    kind: str
    """`volatile`, `stored` (wears out) or `command` (acts once)."""
    owned: bool
    """The agent's own control writes this point too."""
    budget_left: int | None
    """Writes that are left for registers that wear out; None for one that does not."""

    @property
    def changes_nothing(self) -> bool:
        """Whether the point holds the value already, and writing it again does nothing."""
        return self.kind != "command" and self.old == self.new


def number_in(text: str) -> float | int:
    """The number that somebody wrote, such as 12, -3.5 or 0x2A; `PointRefused` for anything else."""
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PointRefused(f"{text!r} is not a number", "write a number such as 12, -3.5 or 0x2A")
    return value


def within(name: str, value: float, limits: tuple[float, float], unit: str, owner: str) -> None:
    """`PointRefused` unless `value` is inside both `limits`; `owner` says whose they are."""
    low, high = limits
    if not low <= value <= high:
        shown = f" {unit}" if unit else ""
        why = f"{name}: {value:g}{shown} is outside {low:g} to {high:g}{shown}, {owner}"
        raise PointRefused(why, "give a value inside")


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names for people, the first `most` of them."""
    all_names = list(names)
    shown = ", ".join(all_names[:most]) or "none"
    return shown + (f" and {len(all_names) - most} more" if len(all_names) > most else "")
