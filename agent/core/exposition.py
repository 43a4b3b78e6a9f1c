"""The status as metrics in the text format of Prometheus (exposition format 0.0.4), for a collector of text files.

Made from the answer to `status`, so that file, socket and cloud say the same. What is not known has no sample: a
missing value is never 0. Powers are W, + toward the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Status = Mapping[str, Any]
Sample = tuple[Mapping[str, str], float | None]
"""Labels and value; None: there is none now."""
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of samples."""

    name: str
    kind: Literal["gauge", "counter"]
    text: str
    """For people, with the unit."""
    samples: Callable[[Status], Iterator[Sample]]


def _one(value: Callable[[Status], float | None]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        yield {}, value(status)

    return samples


def _unix(iso: str | None) -> float | None:
    return None if iso is None else datetime.fromisoformat(iso).timestamp()


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100.0


def _powers(status: Status) -> Iterator[Sample]:
    for place, power_w in status["powers_w"].items():
        yield {"at": place}, power_w


def _writes(status: Status) -> Iterator[Sample]:
    for result in ("verified", "failed"):
        yield {"result": result}, status["counters"][f"writes_{result}"]


def _of_devices(value: Callable[[Mapping[str, Any]], float | None]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        for device in status["devices"]:
            yield {"device": device["device_id"]}, value(device)

    return samples


def _latency_s(device: Mapping[str, Any]) -> float | None:
    return None if device["latency_ms"] is None else device["latency_ms"] / 1000.0


def _conditions(status: Status) -> Iterator[Sample]:
    for found in status["conditions"]:
        yield {key: found[key] for key in ("code", "subject", "severity")}, 1.0


def _condition_counts(status: Status) -> Iterator[Sample]:
    for severity in ("alarm", "warning"):
        yield {"severity": severity}, sum(found["severity"] == severity for found in status["conditions"])


def _documents(value: Callable[[Mapping[str, Any]], float | None]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        for kind, held in {**status["plans"], **status["orders"]}.items():
            if held is not None:
                yield {"kind": kind}, value(held)

    return samples


def _cloud(value: Callable[[Mapping[str, Any]], float | None]) -> Callable[[Status], Iterator[Sample]]:
    return _one(lambda status: None if status["cloud"] is None else value(status["cloud"]))


def _certificates(status: Status) -> Iterator[Sample]:
    for one in (status["cloud"] or {}).get("certificates", ()):
        days = one["days_left"]
        yield {"certificate": one["certificate"]}, None if days is None else 86_400.0 * days


def _slot(key: str) -> Callable[[Status], Iterator[Sample]]:
    return _one(lambda status: None if status["slot"] is None else status["slot"][key])


METRICS = (
    Metric(
        "ems_build_info",
        "gauge",
        "Always 1; site and version are in its labels.",
        lambda s: iter([({"site": s["site"], "version": s["version"], "mode": s["mode"]}, 1.0)]),
    ),
    Metric("ems_uptime_seconds", "gauge", "Time since the agent started, s.", _one(lambda s: s["uptime_s"])),
    Metric(
        "ems_last_tick_time_seconds",
        "gauge",
        "When the last control tick decided, Unix time, s.",
        _one(lambda s: _unix(s["utc"])),
    ),
    Metric("ems_ticks_total", "counter", "Control ticks since the start.", _one(lambda s: s["counters"]["ticks"])),
    Metric(
        "ems_late_ticks_total",
        "counter",
        "Control ticks that were left out because one took too long.",
        _one(lambda s: s["counters"]["late_ticks"]),
    ),
    Metric(
        "ems_control_source_info",
        "gauge",
        "Always 1; who decides now is in its label.",
        lambda s: iter([({"source": s["source"]}, 1.0)]),
    ),
    Metric("ems_power_watts", "gauge", "Power by place, W, + toward the grid.", _powers),
    Metric("ems_target_watts", "gauge", "Wanted battery power before limits, W.", _one(lambda s: s["target_w"])),
    Metric("ems_setpoint_watts", "gauge", "Battery power after limits, W.", _one(lambda s: s["setpoint_w"])),
    Metric("ems_clips", "gauge", "Limits that cut the target now.", _one(lambda s: len(s["clips"]))),
    Metric("ems_soc_ratio", "gauge", "State of charge of all batteries, 0 to 1.", _one(lambda s: _share(s["soc_pct"]))),
    Metric("ems_frequency_hertz", "gauge", "Grid frequency at the meter, Hz.", _one(lambda s: s["frequency_hz"])),
    Metric("ems_slot_planned_watthours", "gauge", "Energy promised in the running slot, Wh.", _slot("planned_wh")),
    Metric("ems_slot_done_watthours", "gauge", "Energy delivered so far in the running slot, Wh.", _slot("done_wh")),
    Metric("ems_setpoint_writes_total", "counter", "Setpoints written, by what the read-back said.", _writes),
    Metric(
        "ems_device_up",
        "gauge",
        "1 while the device's last reading was good.",
        _of_devices(lambda device: float(device["health"] == "good")),
    ),
    Metric(
        "ems_device_reading_age_seconds",
        "gauge",
        "Since the device was last read, s.",
        _of_devices(lambda device: device["age_s"]),
    ),
    Metric("ems_device_polls_total", "counter", "Readings tried.", _of_devices(lambda device: device["polls"])),
    Metric(
        "ems_device_poll_failures_total", "counter", "Readings failed.", _of_devices(lambda device: device["failures"])
    ),
    Metric("ems_device_latency_seconds", "gauge", "How long the last reading took, s.", _of_devices(_latency_s)),
    Metric("ems_conditions", "gauge", "Things that are wrong now, by severity.", _condition_counts),
    Metric("ems_condition", "gauge", "Always 1; one sample for each thing that is wrong now.", _conditions),
    Metric(
        "ems_override_active", "gauge", "1 while somebody on site decides.", _one(lambda s: s["override"] is not None)
    ),
    Metric(
        "ems_safety_latches",
        "gauge",
        "Batteries stopped until somebody resets them.",
        _one(lambda s: len(s["latches"])),
    ),
    Metric("ems_clock_trusted", "gauge", "1 while the clock is believed.", _one(lambda s: s["clock"]["trusted"])),
    Metric("ems_plan_version", "gauge", "Version of each document held.", _documents(lambda held: held["version"])),
    Metric(
        "ems_plan_end_time_seconds",
        "gauge",
        "When the last slot or order of each document ends, Unix time, s.",
        _documents(lambda held: _unix(held["end"])),
    ),
    Metric(
        "ems_local_plan_active",
        "gauge",
        "1 while a plan of the site's own is in force.",
        _one(lambda s: s["local_plan"] is not None),
    ),
    Metric("ems_cloud_connected", "gauge", "1 while the broker has us.", _cloud(lambda cloud: cloud["connected"])),
    Metric(
        "ems_outbox_messages",
        "gauge",
        "Messages on disk that the cloud has not confirmed.",
        _cloud(lambda cloud: cloud["outbox_depth"]),
    ),
    Metric("ems_certificate_left_seconds", "gauge", "How long each certificate is still good, s.", _certificates),
    Metric(
        "ems_frames_sealed_total",
        "counter",
        "Telemetry frames put on disk since the start.",
        _one(lambda s: s["counters"]["frames_sealed"]),
    ),
    Metric(
        "ems_samples_dropped_total",
        "counter",
        "Samples that no disk took.",
        _one(lambda s: s["counters"]["samples_dropped"]),
    ),
    Metric(
        "ems_disk_failing",
        "gauge",
        "1 while something cannot be written to disk.",
        _one(lambda s: bool(s["disk"]["failing"] or s["disk"]["telemetry_fault"])),
    ),
)
"""Every metric there is, in the order of the file; docs/monitoring.md has them too."""


def exposition(status: Status) -> str:
    """The whole file."""
    lines: list[str] = []
    for metric in METRICS:
        lines.append(f"# HELP {metric.name} {metric.text}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        for labels, value in metric.samples(status):
            if value is not None and math.isfinite(value):
                lines.append(f"{metric.name}{_labelled(labels)} {_number(value)}")
    return "\n".join(lines) + "\n"


def _labelled(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    told = ",".join(f'{name}="{str(value).translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{told}}}"


def _number(value: float) -> str:
    return repr(float(value)) if not float(value).is_integer() else str(int(value))
