"""What is known of devices over restarts of the agent, as one text: a JSON object with an entry per device."""

from __future__ import annotations

import json
import math
from typing import Any, TypeGuard


def by_device(text: str | None) -> dict[str, Any]:
    """The entry of each device; a text that cannot be read counts as nothing."""
    try:
        notes = json.loads(text) if text else {}
    except ValueError:
        return {}
    return notes if isinstance(notes, dict) else {}


def is_number(value: object) -> TypeGuard[float]:
    """Whether an entry's value is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
