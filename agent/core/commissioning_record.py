"""What commissioning leaves on disk: its results, to be resumed and reported, and what it measured of each battery."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any

from agent.core.commissioning_terms import DeviceFacts, Finding, Result, Word
from agent.core.decision import Condition
from agent.core.events import Severity
from agent.core.kept_text import moment, number, text_of
from agent.core.measured import Measured
from agent.core.rules import SiteRules


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of the last commissioning."""

    results: Mapping[str, Result] = field(default_factory=dict)
    """By step, such as `dead_man:bess`."""
    measured: Mapping[str, Measured] = field(default_factory=dict)
    """By battery; of earlier commissionings where the last one did not get so far."""
    devices: tuple[DeviceFacts, ...] = ()
    """As they were then."""
    word: Word | None = None
    """The verdict; None while it runs, and when the process ended before it did."""
    why: str = ""
    """What ended it early."""
    who: str = ""
    begun_utc_s: float = 0.0
    ended_utc_s: float | None = None


NOTHING_KEPT = Record()


def measured_of(
    results: Mapping[str, Result], before: Measured | None, device: DeviceFacts, who: str, utc_s: float
) -> Measured | None:
    """What these results tell of one battery, on top of what was measured of the same device before; None = nothing."""
    step = results.get(f"step_response:{device.device_id}")
    dead_man = results.get(f"dead_man:{device.device_id}")
    if before is not None and not before.same_device(device.manufacturer, device.model, device.serial):
        before = None
    found: dict[str, Any] = {}
    if step is not None:
        found |= {key: step.measures.get(key) for key in ("lag_s", "settling_s", "accuracy_w")}
    if dead_man is not None and (had := dead_man.measures.get("has_dead_man")) is not None:
        found |= {"has_dead_man": had > 0.0, "dead_man_s": dead_man.measures.get("dead_man_s")}
    if not any(value is not None for value in found.values()):
        return before
    known = replace(before, at_utc_s=utc_s) if before is not None else Measured(utc_s)
    return replace(
        known, **found, manufacturer=device.manufacturer, model=device.model, serial=device.serial,
        firmware=device.firmware, who=who,
    )  # fmt: skip


def as_measured(
    rules: SiteRules, measured: Mapping[str, Measured], devices: Iterable[DeviceFacts]
) -> tuple[SiteRules, tuple[Condition, ...]]:
    """The rules with what was measured of the very devices that answer now, and what is to be told about the others.

    A device that has not said yet who it is counts as the one that was measured.
    """
    known = {device.device_id: device for device in devices}
    batteries, told = [], []
    for battery in rules.batteries:
        found, device = measured.get(battery.device_id), known.get(battery.device_id)
        if found is not None and device is not None and (device.model or device.serial or device.manufacturer):
            if not found.same_device(device.manufacturer, device.model, device.serial):
                told.append(_swapped(battery.device_id, found, device))
                found = None
            elif found.firmware != device.firmware:
                told.append(_other_firmware(battery.device_id, found, device))
        batteries.append(battery if battery.measured == found else replace(battery, measured=found))
    if all(one is other for one, other in zip(batteries, rules.batteries, strict=True)):
        return rules, tuple(told)
    return replace(rules, batteries=tuple(batteries)), tuple(told)


def _swapped(device_id: str, found: Measured, device: DeviceFacts) -> Condition:
    was, now = _named(found.model, found.serial), _named(device.model, device.serial)
    text = (
        f"another device ({now}) stands where {was} was commissioned: its lag and dead-man are not known, what was "
        "measured is not used; run ems commission"
    )
    return Condition("not_commissioned", device_id, Severity.WARNING, text)


def _other_firmware(device_id: str, found: Measured, device: DeviceFacts) -> Condition:
    text = (
        f"its firmware is {device.firmware or 'not told'}, it was commissioned with {found.firmware or 'none told'}: "
        "lag and dead-man may have changed; run ems commission"
    )
    return Condition("commissioned_otherwise", device_id, Severity.WARNING, text)


def _named(model: str | None, serial: str | None) -> str:
    return " ".join(part for part in (model, f"serial {serial}" if serial else None) if part) or "a nameless one"


def failed_condition(record: Record) -> tuple[Condition, ...]:
    """That the last commissioning found faults, until one passes."""
    wrong = [key for key, result in record.results.items() if result.word is Word.FAILED]
    if not wrong:
        return ()
    text = f"commissioning failed: {', '.join(sorted(wrong))}; ems commission --last says why, --resume goes on"
    return (Condition("commissioning_failed", "site", Severity.WARNING, text),)


def record_json(record: Record) -> dict[str, Any]:
    """The record as it is kept on disk, and told."""
    return {
        "results": {key: result_json(result) for key, result in record.results.items()},
        "measured": {
            device_id: {key: _plain(value) for key, value in asdict(found).items()}
            for device_id, found in record.measured.items()
        },
        "devices": [asdict(device) for device in record.devices],
        "word": record.word,
        "why": record.why,
        "who": record.who,
        "begun_utc_s": record.begun_utc_s,
        "ended_utc_s": record.ended_utc_s,
    }


def result_json(result: Result) -> dict[str, Any]:
    """One result for programs."""
    return {
        "word": result.word,
        "findings": [asdict(finding) for finding in result.findings],
        "measures": {key: _figure(value) for key, value in result.measures.items()},
        "begun_utc_s": result.begun_utc_s,
        "ended_utc_s": result.ended_utc_s,
        "series": [[_figure(value) for value in row] for row in result.series],
    }


def _plain(value: Any) -> Any:
    """Without what JSON cannot write: a measurement that did not come to an end is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _figure(value: float | None) -> float | None:
    return round(value, 4) if value is not None and math.isfinite(value) else None


def restored_record(content: object) -> Record | None:
    """The record that `record_json` wrote; None when it cannot be read."""
    try:
        assert isinstance(content, dict)
        return Record(
            {key: _restored_result(result) for key, result in content["results"].items()},
            {device_id: _restored(Measured, found) for device_id, found in content["measured"].items()},
            tuple(_restored(DeviceFacts, device) for device in content["devices"]),
            Word(content["word"]) if content["word"] is not None else None,
            text_of(content["why"]),
            text_of(content["who"]),
            moment(content["begun_utc_s"]),
            None if content["ended_utc_s"] is None else moment(content["ended_utc_s"]),
        )
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _restored(kind: Any, content: Mapping[str, Any]) -> Any:
    """A flat record; what a later version added is left out."""
    return kind(**{one.name: _as_declared(one, content[one.name]) for one in fields(kind) if one.name in content})


def _as_declared(one: Field[Any], value: Any) -> Any:
    """The value, if it is of the kind that the field is declared as."""
    kind, _, none = str(one.type).partition(" | ")
    if value is None and none == "None":
        return None
    if kind == "bool":
        return _truth(value)
    if kind == "str":
        return text_of(value)
    assert kind == "float", f"{one.name} is kept as {one.type}"
    found = moment(value) if one.name.endswith("_utc_s") else number(value)
    if one.name.endswith("_s") and found < 0.0:
        raise ValueError(f"{one.name} is a time")
    return found


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is wanted")  # noqa: TRY004 (one kind of error for whoever reads)
    return value


def _maybe_number(value: object) -> float | None:
    return None if value is None else number(value)


def _restored_result(content: Mapping[str, Any]) -> Result:
    return Result(
        Word(content["word"]),
        tuple(
            Finding(Word(one["word"]), text_of(one["code"]), text_of(one["text"]), text_of(one["hint"]))
            for one in content["findings"]
        ),
        {text_of(key): _maybe_number(value) for key, value in content["measures"].items()},
        moment(content["begun_utc_s"]),
        moment(content["ended_utc_s"]),
        tuple(tuple(map(_maybe_number, row)) for row in content["series"]),
    )
