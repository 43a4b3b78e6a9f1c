"""Whether a condition of a profile holds, given what was read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from drivers.codec import Value
from drivers.profile.model import Condition, Profile
from drivers.read_plan import Reads


def holds(profile: Profile, condition: Condition, reads: Reads) -> bool | None:
    """True or False, or None while the point has no value: that fulfils nothing, and denies nothing either."""
    read = reads.get(condition.point)
    if read is None or read.value is None:
        return None
    value = read.value
    wanted, unwanted = _meant(profile, condition, condition.is_), _meant(profile, condition, condition.is_not)
    return (
        (wanted is None or value in wanted)
        and (unwanted is None or value not in unwanted)
        and _bits(profile, condition, value)
        and _within(condition, value)
        and (condition.matches is None or re.fullmatch(condition.matches, str(value)) is not None)
    )


def told(profile: Profile, condition: Condition) -> str:
    """The condition for people."""
    parts = [
        f"{key.rstrip('_').replace('_', ' ')} {getattr(condition, key)!r}"
        for key in Condition.model_fields
        if key != "point" and getattr(condition, key) is not None
    ]
    unit = profile.points[condition.point].unit
    return f"{condition.point} {' and '.join(parts)}{' ' + unit if unit else ''}"


def _meant(
    profile: Profile, condition: Condition, stated: str | int | list[str | int] | None
) -> Sequence[Value] | None:
    """The values as the point reads them."""
    if stated is None:
        return None
    values = profile.points[condition.point].values or {}
    texts = stated if isinstance(stated, list) else [stated]
    return [values.get(one, one) if isinstance(one, str) else one for one in texts]


def _bits(profile: Profile, condition: Condition, value: Value) -> bool:
    bits = profile.points[condition.point].bits or {}
    if not condition.bits and not condition.no_bits:
        return True
    if not isinstance(value, int):
        return False
    wanted = all(value >> bits[label] & 1 for label in condition.bits or ())
    return wanted and not any(value >> bits[label] & 1 for label in condition.no_bits or ())


def _within(condition: Condition, value: Value) -> bool:
    if condition.at_least is None and condition.at_most is None:
        return True
    if isinstance(value, str):
        return False
    low = condition.at_least is None or value >= condition.at_least
    return low and (condition.at_most is None or value <= condition.at_most)
