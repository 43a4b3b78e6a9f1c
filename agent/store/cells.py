"""Cells of a row as they should be: SQLite keeps any kind of value in any column, and a disk garbles what it likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from agent.core.kept_text import moment, text_of

_T = TypeVar("_T")

LATEST_UTC_S = 4_102_444_800.0
"""2100, where the contract's times end: a later one would stop all plans until then."""


class BadCell(ValueError):  # noqa: N818 - named for what was found
    """What stands in a row cannot have been written there."""


def whole(cell: object) -> int:
    """The cell as a whole number."""
    if isinstance(cell, bool) or not isinstance(cell, int):
        raise BadCell("a whole number is wanted")
    return cell


def blob(cell: object) -> bytes:
    """The cell as bytes."""
    if not isinstance(cell, bytes):
        raise BadCell("bytes are wanted")
    return cell


def maybe(kind: Callable[[object], _T], cell: object) -> _T | None:
    """The cell as `kind` makes it, or None."""
    return None if cell is None else kind(cell)


def time_kept(cell: object) -> float | None:
    """The Unix time that was written as a text; None where the disk garbled it, or made a distant one of it."""
    try:
        utc_s = moment(float(text_of(cell)))
    except ValueError:
        return None
    return utc_s if utc_s < LATEST_UTC_S else None


def readable(raw: bytes) -> str:
    """The text of a cell, also of a garbled one."""
    return raw.decode("utf-8", "replace")


def all_sound(make: Callable[..., _T], rows: Iterable[tuple[Any, ...]]) -> list[_T]:
    """What `make` makes of the rows; a row that it raises `ValueError` or `TypeError` for is left out."""
    found = []
    for row in rows:
        try:
            found.append(make(*row))
        except (TypeError, ValueError):
            continue
    return found
