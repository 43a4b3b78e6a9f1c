"""What differs between two site files, and which of it a running agent can take over (`systemctl reload`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.site_file.section import Section

LIVE = frozenset(
    {
        "site.name",
        "site.timezone",
        *(f"control.{key}" for key in ("local_rule", "ramp_up", "ramp_down")),
        *(f"connection_point.{key}" for key in ("export_limit", "import_limit")),
        *(f"device.{key}" for key in ("poll", "raise_after", "dead_band")),
        *(f"device.{key}" for key in ("soc_min", "soc_max", "soc_reserve", "soc_taper", "soc_hysteresis")),
        *(f"device.{key}" for key in ("one_way_efficiency", "min_useful_power", "derating", "frequency_resolution")),
        "product",
        *(f"replan.{key}" for key in ("cycle_cost_per_kwh", "soc_tolerance", "settle", "min_interval", "repeat")),
        "replan.time_limit",
        *(f"cloud.{key}" for key in ("broker", "protocol", "user", "password_file", "headers", "tls", "proxy")),
        "cloud.signing_key",
    }
)
"""Keys, and whole sections, that a running agent takes over: limits, pacing, plan settings, the way to the cloud."""


@dataclass(frozen=True, slots=True)
class Change:
    """One key with another value than before."""

    key: str
    """As the problems of a site file name it: `device[0] (bess).soc_max`."""
    live: bool
    """False where only a restart brings it into force."""


def changes(before: Section, after: Section) -> tuple[Change, ...]:
    """Every key that differs between two site files, in the order of the file."""
    return tuple(_within(before, after, "", ""))


def _within(before: Section, after: Section, key: str, kind: str) -> Iterator[Change]:
    for name, field in type(before).model_fields.items():
        was, is_ = getattr(before, name), getattr(after, name)
        if was == is_:
            continue
        written = field.alias or name
        here, here_kind = _joined(key, written), _joined(kind, written)
        if isinstance(was, Section) and isinstance(is_, Section) and here_kind not in LIVE:
            yield from _within(was, is_, here, here_kind)
        elif here_kind not in LIVE and _same_members(was, is_):
            for index, (old, new) in enumerate(zip(was, is_, strict=True)):
                yield from _within(old, new, f"{here}[{index}] ({old.id})", here_kind)
        else:
            yield Change(here, here_kind in LIVE)


def _same_members(before: object, after: object) -> bool:
    """Whether both are lists of the same sections by their ids, so that they can be compared one by one."""
    if not isinstance(before, Sequence) or not isinstance(after, Sequence) or isinstance(before, str):
        return False
    ids = [[getattr(one, "id", None) for one in many] for many in (before, after)]
    return ids[0] == ids[1] and None not in ids[0]


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
