"""The verdicts of `ems doctor` on the site, from what the running daemon says of it: facts in, findings out.

The facts are the answers of the local socket as they came (`status`, `devices`, `checkup`), for they may be those of
another version of the daemon; a key that is not there is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from agent.core.checkup import Finding, Grade
from agent.core.commissioning_terms import GOOD
from agent.core.snapshot import STALE_AFTER_S

Answer = Mapping[str, Any]

ERRORS_MANY_PCT, ERRORS_SOME_PCT = 20.0, 1.0
"""Of a device's polls of the last hour."""
SLOW_SHARE = 0.8
"""Of the time that an answer is waited for: beyond it the slowest answers are lost."""
BALANCE_SHARE, BALANCE_LEAST_W = 0.02, 1_000.0
"""Of the batteries' rating: what meters of class 1 may disagree by; and what small ones may."""
REVERSED_SLOPE, LOW_SLOPE, HIGH_SLOPE = -0.5, 0.5, 1.5
ENDS_SOON_S = 6 * 3600.0


def site(status: Answer, devices: Sequence[Answer], seen: Answer, now_utc_s: float) -> Iterator[Finding]:
    """The findings on devices, energy, plans and whoever decides."""
    for device in devices:
        yield from _device(device)
    yield from _balance(seen)
    yield from _meter(seen)
    yield from _frequency(seen)
    yield from _plans(status, now_utc_s)
    yield from _deciding(status)
    for condition in status.get("conditions", ()):
        grade = Grade.FAILED if condition["severity"] == "alarm" else Grade.WARNING
        text = f"{condition['code']}: {condition['text']}"
        yield Finding("site", condition["subject"], grade, text, f"docs/events.md, {condition['code']}")


def _device(device: Answer) -> Iterator[Finding]:
    name = device["device_id"]
    if device["stranger"]:
        todo = f"ems devices check {name}; nothing is written to it meanwhile"
        yield Finding("device", f"{name} identity", Grade.FAILED, device["stranger"], todo)
    elif device["identity"] is None:
        text = device["last_error"] or "it was never read"
        todo = "power, cable, address and unit id; docs/devices.md, when a device is missing"
        yield Finding("device", f"{name} identity", Grade.FAILED, text, todo)
        return
    else:
        profile = f"profile {device['profile']}" if device["profile"] else "SunSpec"
        yield Finding("device", f"{name} identity", Grade.OK, f"{device['identity']}, {profile}")
    yield _age(name, device)
    yield _errors(name, device)
    yield from _latency(name, device)
    if device["remote"] is False:
        todo = "set it to remote at the device"
        yield Finding("device", f"{name} remote", Grade.FAILED, "local: it takes no setpoints", todo)
    elif device["remote"]:
        yield Finding("device", f"{name} remote", Grade.OK, "remote: it takes setpoints")
    if device["dead_man"] is False:
        text = "none: it would hold its last setpoint for ever if the agent died"
        todo = "switch it on at the device, or add a relay that does it"
        yield Finding("device", f"{name} dead-man", Grade.WARNING, text, todo)
    elif device["dead_man"]:
        yield Finding("device", f"{name} dead-man", Grade.OK, "it ends a setpoint by itself")


def _age(name: str, device: Answer) -> Finding:
    age_s = device["age_s"]
    if age_s is None or age_s > STALE_AFTER_S:
        text = "never read" if age_s is None else f"last read {age_s:.0f} s ago"
        todo = f"{device['last_error'] or 'no error was told'}; ems devices trace {name} shows the line"
        return Finding("device", f"{name} age", Grade.FAILED, text, todo)
    return Finding("device", f"{name} age", Grade.OK, f"read {age_s:.1f} s ago")


def _errors(name: str, device: Answer) -> Finding:
    hour = device["last_hour"]
    if not hour["polls"]:
        return Finding("device", f"{name} errors", Grade.UNCHECKED, "not polled in the last hour")
    failed, share_pct = sum(hour["errors"].values()), hour["error_pct"]
    text = f"{failed} of {hour['polls']} polls of the last hour failed"
    if not failed:
        return Finding("device", f"{name} errors", Grade.OK, text)
    kinds = ", ".join(f"{count} {kind}" for kind, count in hour["errors"].items())
    grade = Grade.FAILED if share_pct > ERRORS_MANY_PCT else Grade.WARNING if share_pct > ERRORS_SOME_PCT else Grade.OK
    todo = "" if grade is Grade.OK else f"cable, termination, a second client; ems devices trace {name}"
    return Finding("device", f"{name} errors", grade, f"{text} ({share_pct:.1f} %): {kinds}", todo)


def _latency(name: str, device: Answer) -> Iterator[Finding]:
    p95_ms, waits_ms = device["latency_ms"]["p95"], device["unit"]["waits_up_to_ms"]
    if p95_ms is None:
        return
    text = f"a reading takes {device['latency_ms']['median']:.0f} ms, 95 of 100 at most {p95_ms:.0f} ms"
    if waits_ms and p95_ms > SLOW_SHARE * waits_ms:
        text += f"; an answer is waited for {waits_ms:.0f} ms"
        todo = "read it less often (poll), or allow more (timeout) in the site file"
        yield Finding("device", f"{name} latency", Grade.WARNING, text, todo)
    else:
        yield Finding("device", f"{name} latency", Grade.OK, text)


def _balance(seen: Answer) -> Iterator[Finding]:
    """Whether grid = battery + PV + load can be true."""
    residual_w, rated_w = seen.get("residual_w"), seen.get("rated_w")
    if rated_w is None:
        return
    if residual_w is None:
        text = "grid, battery and PV were not all read in the last minutes"
        yield Finding("site", "energy balance", Grade.UNCHECKED, text)
        return
    tolerance_w = max(BALANCE_SHARE * rated_w, BALANCE_LEAST_W)
    left = f"grid - battery - PV is {residual_w / 1000:+.1f} kW"
    if seen.get("has_load"):
        if residual_w > tolerance_w:
            text = f"{left}: what is left as the load would feed into the grid"
            todo = "sign or scale of meter, battery or PV, or a generator that the site file does not have"
            yield Finding("site", "energy balance", Grade.FAILED, text, todo)
        else:
            yield Finding("site", "energy balance", Grade.OK, f"{left}: a load of {abs(residual_w) / 1000:.1f} kW")
    elif abs(residual_w) > tolerance_w:
        todo = "sign or scale of meter, battery or PV; or a load that the site file does not have (load = true)"
        yield Finding("site", "energy balance", Grade.FAILED, f"{left} and should be 0", todo)
    else:
        yield Finding("site", "energy balance", Grade.OK, f"{left}: it closes")


def _meter(seen: Answer) -> Iterator[Finding]:
    """Whether the meter follows the batteries."""
    if "follows" not in seen or not seen.get("has_meter"):
        return
    follows = seen["follows"]
    if follows is None:
        text = "the batteries moved too little lately to tell; ems commission tests it by small moves"
        yield Finding("site", "meter sign", Grade.UNCHECKED, text)
        return
    slope, moves = follows["slope"], follows["moves"]
    text = f"the meter moves {slope:+.2f} W for each W of the batteries ({moves} moves)"
    if slope < REVERSED_SLOPE:
        todo = "meter or battery is reversed: positive in the site file, or the direction of the transformers"
        yield Finding("site", "meter sign", Grade.FAILED, text, todo)
    elif slope > HIGH_SLOPE or (slope < LOW_SLOPE and not follows["closed_loop"]):
        todo = "a wrong scale, or the meter does not measure where the batteries connect"
        yield Finding("site", "meter sign", Grade.WARNING, text, todo)
    else:
        yield Finding("site", "meter sign", Grade.OK, text)


def _frequency(seen: Answer) -> Iterator[Finding]:
    if "frequency_step_hz" not in seen or not seen.get("has_meter"):
        return
    stated_hz, needed_hz = seen.get("frequency_resolution_hz"), seen.get("needed_resolution_hz")
    known_hz = stated_hz if stated_hz is not None else seen["frequency_step_hz"]
    if known_hz is None:
        text = "not stated, and the frequency did not change lately"
        grade = Grade.UNCHECKED if needed_hz is None else Grade.WARNING
        todo = "look whether the meter measures frequency; state frequency_resolution in the site file"
        yield Finding("site", "frequency resolution", grade, text, todo)
        return
    text = f"{1000 * known_hz:g} mHz {'as stated' if stated_hz is not None else 'as seen'}"
    if needed_hz is not None and known_hz > 1.001 * needed_hz:
        text += f"; the products of this site ask for {1000 * needed_hz:g} mHz"
        yield Finding("site", "frequency resolution", Grade.WARNING, text, "a finer meter, or another of its registers")
    else:
        yield Finding("site", "frequency resolution", Grade.OK, text)


def _plans(status: Answer, now_utc_s: float) -> Iterator[Finding]:
    held = {**status.get("plans", {}), **status.get("orders", {})}
    for name, document in held.items():
        if document is None:
            if name == "rolling":
                text = "none is held: the yearly plan or the local rule decides"
                yield Finding("plans", name, Grade.WARNING, text, "ask the cloud for one, or ems plan import FILE")
            continue
        if document["end"] is None:
            yield Finding("plans", name, Grade.OK, f"version {document['version']}, empty")
            continue
        left_s = datetime.fromisoformat(document["end"]).timestamp() - now_utc_s
        text = f"version {document['version']}, until {document['end']}"
        if name in {"rolling", "yearly"} and left_s <= 0:
            todo = "the cloud sent no newer one: look at the broker lines; ems plan import FILE brings one"
            yield Finding("plans", name, Grade.WARNING, f"{text}: it is over", todo)
        elif name == "rolling" and left_s < ENDS_SOON_S:
            todo = "a newer one is due; look at the broker lines if none comes"
            yield Finding("plans", name, Grade.WARNING, f"{text}: {left_s / 3600:.1f} h left", todo)
        else:
            yield Finding("plans", name, Grade.OK, text)


def _deciding(status: Answer) -> Iterator[Finding]:
    override = status.get("override")
    if override is not None:
        text = f"{override['who']} decides until {override['until']}: {override['reason']}"
        yield Finding("site", "override", Grade.WARNING, text, "ems override clear ends it")
    else:
        yield Finding("site", "override", Grade.OK, "none")
    latches = status.get("latches", ())
    for latch in latches:
        text = f"{latch['alarms']} since {latch['since']}: 0 kW until it is reset on site"
        todo = 'mend the cause, then ems latch reset --reason "..."'
        yield Finding("site", f"latch {latch['device_id']}", Grade.FAILED, text, todo)
    if not latches:
        yield Finding("site", "safety latch", Grade.OK, "not fallen")
    yield from _commissioned(status.get("commissioning"))
    clock = status.get("clock", {"trusted": True})
    if not clock["trusted"]:
        todo = "set the clock (the lines on the clock); plans are not executed meanwhile"
        yield Finding("clock", "trusted by the daemon", Grade.FAILED, clock["why"], todo)
    disk = status.get("disk", {})
    if disk.get("failing") or disk.get("telemetry_fault"):
        text = "; ".join(filter(None, [*disk.get("failing", {}).values(), disk.get("telemetry_fault")]))
        yield Finding("disk", "writing", Grade.FAILED, text, "df and dmesg; control goes on from memory meanwhile")


def _commissioned(told: Answer | None) -> Iterator[Finding]:
    if told is None:
        return
    if told["running"] is not None:
        yield Finding("site", "commissioning", Grade.WARNING, "it runs now", "wait until it is over, or ems commission")
    elif told["verdict"] is None:
        todo = "ems commission proves signs, scales, lag and dead-man within minutes"
        yield Finding("site", "commissioning", Grade.WARNING, "the site was never commissioned", todo)
    elif told["verdict"] in GOOD:
        yield Finding("site", "commissioning", Grade.OK, f"{told['verdict']}, {told['ended']}")
    else:
        todo = "ems commission --last says why, --resume goes on"
        yield Finding("site", "commissioning", Grade.WARNING, f"{told['verdict']}, {told['ended']}", todo)
