"""`ems devices list`: how each device and its link do."""

from __future__ import annotations

from typing import Any

import typer

from agent.cli.client import WITHOUT_DAEMON, JsonOption, SocketOption, ask, show_json
from agent.cli.text import ago, fitted

TROUBLES = {
    "timeouts": "timeouts", "refusals": "refusals", "bad_replies": "bad answers", "late_replies": "late answers",
    "reconnects": "reconnects",
}  # fmt: skip
"""What a link counts, for people."""


def list_(socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """Show the site's devices as the daemon sees them.

    Of each: health, age of the newest reading, time that a reading takes (median and 95 of 100), errors of the last
    hour by kind, link, remote or local, dead-man, identity and profile.

    Health is good, failing (its last reading failed), wrong_identity (another device answers at its address: nothing
    is written to it) or unknown (never answered).

    Exit codes: 0 done; 3 the daemon is not reachable.
    """
    devices = ask(socket, "devices", as_json=as_json, without=WITHOUT_DAEMON)
    if as_json:
        show_json({"devices": devices})
        return
    for device in devices:
        typer.echo("\n".join(_lines(device)))


def _lines(device: dict[str, Any]) -> list[str]:
    """One device as text, 80 columns."""
    age = "never read" if device["age_s"] is None else f"read {device['age_s']:.1f} s ago"
    latency = device["latency_ms"]
    took = "" if latency["median"] is None else f" in {latency['median']:.0f} ms (p95 {latency['p95']:.0f} ms)"
    health = device["health"].upper() if device["stranger"] else device["health"]
    lines = [f"{device['device_id']:<16} {device['role']:<8} {health:<8} {age}{took}"]
    profile = f"profile {device['profile']}" if device["profile"] else "found by its SunSpec models"
    lines.append(f"    {device['identity'] or device['maker']}, {profile}")
    lines.append(f"    {device['endpoint']}, {_link(device['link'])}")
    lines.append(f"    {_last_hour(device['last_hour'])}")
    lines += [f"    {_unit(device['unit'])}"]
    stands = [text for text in (_remote(device["remote"]), _dead_man(device["dead_man"])) if text]
    lines += [f"    {', '.join(stands)}"] if stands else []
    lines += [f"    {device['last_error']}"] if device["last_error"] else []
    lines += [f"    not offered: {point}: {answer}" for point, answer in device["refused"].items()]
    return fitted(lines, 6)


def _unit(unit: dict[str, Any]) -> str:
    """How long its answers are waited for, and whether it is left alone."""
    usual = "" if unit["usually_ms"] is None else f", usually {unit['usually_ms']:.0f} ms"
    if unit["retry_in_s"] is None:
        return f"unit {unit['state']}; waited for up to {unit['waits_up_to_ms']:.0f} ms{usual}"
    left = "one trial under way" if unit["state"] == "probing" else f"next trial in {unit['retry_in_s']:.1f} s"
    return f"unit LEFT ALONE after {unit['failures_in_a_row']} failures in a row: {left}"


def _last_hour(hour: dict[str, Any]) -> str:
    if not hour["polls"]:
        return "not polled yet"
    failed = sum(hour["errors"].values())
    if not failed:
        return f"last hour: {hour['polls']} polls, no error"
    kinds = ", ".join(f"{count} {kind}" for kind, count in hour["errors"].items())
    return f"last hour: {hour['polls']} polls, {failed} failed ({hour['error_pct']:.1f} %): {kinds}"


def _link(link: dict[str, Any]) -> str:
    state = "NOT connected" if link["connected_s"] is None else f"connected for {ago(link['connected_s'])}"
    told = [f"{link[key]} {name}" for key, name in TROUBLES.items() if link[key]]
    echo = "; the adapter hears itself (local echo, left out)" if link["local_echo"] else ""
    return f"{state}; {', '.join(told) or 'no trouble'} since the start{echo}"


def _remote(remote: bool | None) -> str:
    return "" if remote is None else "remote" if remote else "LOCAL: it takes no setpoints"


def _dead_man(dead_man: bool | None) -> str:
    return "" if dead_man is None else "dead-man" if dead_man else "NO dead-man"
