"""TOML that people write, site files and profiles: read with mistrust, refused in words for people."""

from __future__ import annotations

import tomllib
from typing import Any

MOST_NESTED = 16
"""Tables and lists in each other; a site file has four."""
MOST, LEAST = 2**64 - 1, -(2**63)
"""Whole numbers of 64 bits, as registers hold them; Python reads any, also such as no float holds."""


class BadToml(ValueError):  # noqa: N818  # named for what the file is
    """The text cannot be used; `str()` says why, to be put after the file's name."""


def parse(raw: bytes | str) -> dict[str, Any]:
    """The tables of the text; `BadToml` where there are none."""
    try:
        found = tomllib.loads(raw if isinstance(raw, str) else raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadToml(f"is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise BadToml(f"is not TOML: {error}") from error
    except RecursionError as error:
        raise BadToml("is not TOML for this agent: its tables or lists are nested too deep") from error
    except ValueError as error:  # Python's limit of digits
        raise BadToml("is not TOML: it has a number of thousands of digits") from error
    waiting: list[tuple[str, Any, int]] = [("", found, 0)]
    while waiting:
        where, value, depth = waiting.pop()
        if depth > MOST_NESTED:
            first = where.split(".", 1)[0]
            raise BadToml(f"is not TOML for this agent: {first} is nested more than {MOST_NESTED} deep")
        if isinstance(value, dict):
            waiting += [(f"{where}.{key}" if where else key, inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(where, inner, depth + 1) for inner in value]
        elif isinstance(value, int) and not LEAST <= value <= MOST:
            raise BadToml(f"is not TOML: {where} is a whole number of more than 64 bits")
    return found
