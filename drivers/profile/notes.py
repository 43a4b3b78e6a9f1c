"""What is known of devices over restarts of the agent, as one text: a JSON object with an entry per device."""

from __future__ import annotations

from typing import Any, TypeGuard

from agent.core.kept_text import number, read_back


def by_device(text: str | None) -> dict[str, Any]:
    """The entry of each device; a text that cannot be read counts as nothing."""
    try:
        notes = read_back(text) if text else {}
    except ValueError:
        return {}
    return notes if isinstance(notes, dict) else {}


def is_number(value: object) -> TypeGuard[float]:
    """Whether an entry's value is a finite number, and no truth value."""
    try:
        number(value)
    except ValueError:
        return False
    return True
