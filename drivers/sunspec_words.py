"""The words of SunSpec enumerations and bit fields, for people who look at a device or write to it.

Kept apart from the layouts, since the daemon needs none of them while it controls.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources

from drivers.codec import Value


def words(key: str) -> Mapping[str, int]:
    """Each word of a point (`701.St`, `714.Prt.2.DCSta`) with its value, or the number of its bit; {} for others."""
    model, _, name = key.partition(".")
    model = model.split("#", 1)[0]
    return _published().get(model, {}).get(".".join(part for part in name.split(".") if not part.isdigit()), {})


def label(key: str, kind: str, value: Value | None) -> str | None:
    """What a value of this point is called; the words of all bits that are set; None where it has no name.

    `kind` is the type of the point, as `enum16` or `bitfield32`.
    """
    known = words(key)
    if not known or not isinstance(value, int):
        return None
    if not kind.startswith("bitfield"):
        return next((word for word, number in known.items() if number == value), None)
    named = [word for word, bit in known.items() if value >> bit & 1]
    unnamed = value & ~sum({1 << bit for bit in known.values()})
    return ", ".join([*named, *([f"0x{unnamed:X} without a name"] if unnamed else [])]) or "none"


@cache
def _published() -> dict[str, dict[str, dict[str, int]]]:
    text = (resources.files("drivers") / "sunspec_words.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
