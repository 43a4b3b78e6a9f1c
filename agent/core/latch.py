"""The safety latch: what a battery's own alarms stop stays stopped until somebody on site resets it.

An emergency stop anywhere stops every battery of the site; an open breaker, a BMS fault or an insulation fault stops
the battery that tells it, and the others go on. A latched battery is at 0 kW, without ramp and without frequency
response. That the alarm goes away by itself ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

from agent.core.kept_text import moment
from agent.core.snapshot import BatterySample, Quality


class Alarm(IntFlag):
    """A safety alarm of a battery system; a sample holds the sum of those that stand."""

    E_STOP = 1
    BREAKER = 2
    BMS_FAULT = 4
    INSULATION = 8


ALARM_WORDS: Mapping[Alarm, str] = {
    Alarm.E_STOP: "emergency stop",
    Alarm.BREAKER: "breaker open",
    Alarm.BMS_FAULT: "BMS fault",
    Alarm.INSULATION: "insulation fault",
}
_ALL = sum(Alarm)


@dataclass(frozen=True, slots=True)
class Latch:
    """One battery that stopped, and why."""

    device_id: str
    alarms: Alarm
    """All that stood since the latch fell."""
    since_utc_s: float

    @property
    def words(self) -> str:
        """The alarms for people."""
        return ", ".join(word for alarm, word in ALARM_WORDS.items() if alarm & self.alarms)


Latches = Mapping[str, Latch]
NO_LATCHES: Latches = {}


def latched(before: Latches, batteries: Iterable[BatterySample], utc_s: float) -> Latches:
    """The latches after these (aged) readings; the same object while nothing changed."""
    after: dict[str, Latch] | None = None
    for sample in batteries:
        value = sample.alarms.value
        alarms = Alarm(int(value) & _ALL) if value else None
        if not alarms:
            continue
        held = before.get(sample.device_id)
        if held is not None and held.alarms | alarms == held.alarms:
            continue
        since_utc_s = held.since_utc_s if held is not None else utc_s
        after = dict(before) if after is None else after
        after[sample.device_id] = Latch(
            sample.device_id, alarms | held.alarms if held is not None else alarms, since_utc_s
        )
    return before if after is None else after


def why_stopped(latches: Latches, device_id: str) -> str:
    """Why this battery must be at 0 kW, "" when no latch says so."""
    if not latches:
        return ""
    held = latches.get(device_id)
    if held is not None:
        return held.words
    stop = next((latch for latch in latches.values() if latch.alarms & Alarm.E_STOP), None)
    return f"{ALARM_WORDS[Alarm.E_STOP]} at {stop.device_id}" if stop is not None else ""


def why_site_stopped(latches: Latches, device_ids: Iterable[str]) -> str:
    """Why no battery of the site may move, "" while any of them may."""
    if not latches:
        return ""
    reasons = {device_id: why_stopped(latches, device_id) for device_id in device_ids}
    if not all(reasons.values()):
        return ""
    return ", ".join(f"{device_id}: {latches[device_id].words}" for device_id in reasons if device_id in latches)


@dataclass(frozen=True, slots=True)
class LatchStands:
    """A latch that cannot be reset now: which, and why not."""

    device_id: str
    why: str


def reset(latches: Latches, batteries: Sequence[BatterySample], mono_s: float) -> LatchStands | None:
    """What still stands against a reset; None when every latch may go, by fresh readings without an alarm."""
    samples = {sample.device_id: sample for sample in batteries}
    for device_id, latch in latches.items():
        sample = samples.get(device_id)
        if sample is None:
            continue
        alarms = sample.alarms.at(mono_s)
        if alarms.value and int(alarms.value) & _ALL:
            words = Latch(device_id, Alarm(int(alarms.value) & _ALL), 0.0).words
            return LatchStands(device_id, f"the alarm stands: {words}")
        power = sample.power_w.at(mono_s)
        if power.value is None:
            return LatchStands(device_id, f"its readings are {power.quality}: fresh ones are needed ({latch.words})")
        # Another device may stand in the place of the one that stopped, and tell no alarms: then it must be ready.
        replaced = alarms.quality is Quality.MISSING and sample.ready.at(mono_s).value == 1
        if alarms.value is None and not replaced:
            return LatchStands(device_id, f"its alarms are {alarms.quality}: fresh ones are needed ({latch.words})")
    return None


def latches_record(latches: Latches) -> list[dict[str, Any]]:
    """The latches as they are kept on disk."""
    return [
        {"device_id": latch.device_id, "alarms": int(latch.alarms), "since_utc_s": latch.since_utc_s}
        for latch in latches.values()
    ]


def restored_latches(record: object, device_ids: Iterable[str]) -> Latches:
    """The latches of the batteries that the site has, as `latches_record` wrote them; what cannot be read stops all."""
    known, found = tuple(device_ids), {}
    if not isinstance(record, list):
        record = [{"device_id": device_id} for device_id in known]
    for entry in record:
        device_id = entry.get("device_id") if isinstance(entry, dict) else None
        if not isinstance(device_id, str) or device_id not in known:
            continue
        alarms = entry.get("alarms")
        found[device_id] = Latch(
            device_id,
            Alarm(alarms & _ALL) if type(alarms) is int and alarms & _ALL else Alarm.BMS_FAULT,
            _since(entry.get("since_utc_s")),
        )
    return found


def _since(kept: object) -> float:
    try:
        return moment(kept)
    except ValueError:
        return 0.0
