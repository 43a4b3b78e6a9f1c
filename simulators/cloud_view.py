"""The simulated cloud's account: of each site, of all of them, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from simulators.cloud_account import Delays
from simulators.cloud_desk import SiteDesk

MOST_ROWS = 30
"""Of the table; sites with faults come first."""
FAULTS = (
    "gaps", "other_gaps", "conflicts", "duplicate_samples", "malformed", "commands_ended_twice", "commands_overdue",
    "believed_what_is_forged",
)  # fmt: skip
"""What must be 0 for a complete account."""


def site_account(desk: SiteDesk, now_s: float) -> dict[str, Any]:
    """All that is known of one site, for --json; seconds, bytes."""
    counts, commands, status, newest = desk.counts(), desk.commands, desk.status() or {}, desk.newest()
    messages, size, heard_s = desk.traffic()
    held = {kind: (plan or {}).get("version") for kind, plan in (status.get("plans") or {}).items()}
    facts: dict[str, Any] = {
        "online": bool(status.get("online")),
        "source": status.get("source"),
        "soc_pct": None if newest is None else newest.soc_pct,
        "grid_w": None if newest is None else newest.grid_w,
        "heard_before_s": round(now_s - heard_s, 1) if heard_s else None,
        "messages": messages,
        "bytes": size,
        "telemetry_frames": counts.telemetry_frames,
        "telemetry_highest": counts.telemetry_highest,
        "samples": counts.samples,
        "gaps": counts.gaps,
        "other_gaps": counts.other_gaps,
        "conflicts": counts.conflicts,
        "duplicate_samples": counts.duplicates,
        "redelivered": counts.redelivered,
        "malformed": counts.malformed,
        "telemetry_delay": desk.delays["telemetry"].facts(),
        "versions_published": counts.versions,
        "versions_held": held,
        "plan_to_stored": desk.delays["plan"].facts(),
        "refusals": desk.refusals(),
        "commands_sent": commands.sent,
        "commands_ended": dict(commands.ends),
        "commands_open": commands.open,
        "commands_ended_twice": commands.twice,
        "commands_overdue": commands.overdue(now_s),
        "command_to_answer": commands.answers.facts(),
        "believed_what_is_forged": commands.believed + desk.believed_documents,
        "alarms": sorted({c["code"] for c in status.get("conditions", ()) if c["severity"] == "alarm"}),
    }
    facts["faults"] = [name for name in FAULTS if facts[name]] + ([] if messages else ["never_heard"])
    return facts


def account(
    desks: Iterable[SiteDesk], now_s: float, *, misdeeds: dict[str, int], trouble: str | None
) -> dict[str, Any]:
    """The whole account; `complete` is true when every site was heard and nothing in it is a fault."""
    every = list(desks)
    sites = {desk.site_id: site_account(desk, now_s) for desk in every}
    names = ("messages", "bytes", "telemetry_frames", "samples", "commands_sent", "commands_open", *FAULTS)
    totals: dict[str, Any] = {name: sum(site[name] for site in sites.values()) for name in names}
    for name, delays in (
        ("telemetry_delay", [desk.delays["telemetry"] for desk in every]),
        ("plan_to_stored", [desk.delays["plan"] for desk in every]),
        ("command_to_answer", [desk.commands.answers for desk in every]),
    ):
        totals[name] = _together(delays).facts()
    return {
        "complete": bool(sites) and not any(site["faults"] for site in sites.values()),
        "trouble": trouble,
        "misdeeds": misdeeds,
        "totals": totals,
        "sites": sites,
    }


def _together(delays: Sequence[Delays]) -> Delays:
    whole = Delays()
    for one in delays:
        whole.add(one)
    return whole


def table(found: dict[str, Any], title: str) -> Table:
    """The account for people: one line a site, those with faults first."""
    made = Table(title=title, title_justify="left", caption=_caption(found), caption_justify="left", expand=False)
    for name in ("site", "decides", "SoC %", "grid kW", "frames", "late p99", "plan", "commands", "refused", "faults"):
        made.add_column(name, justify="left" if name in {"site", "decides", "faults"} else "right")
    sites = sorted(found["sites"].items(), key=lambda one: (not one[1]["faults"], one[0]))
    for site_id, site in sites[:MOST_ROWS]:
        made.add_row(*_row(site_id, site))
    if len(sites) > MOST_ROWS:
        made.add_row(f"and {len(sites) - MOST_ROWS} more")
    return made


def _row(site_id: str, site: dict[str, Any]) -> list[str]:
    held, published = site["versions_held"].get("rolling"), site["versions_published"].get("rolling")
    faults = ", ".join(f"{name} {site[name]}" if name in site else name for name in site["faults"])
    ended = sum(site["commands_ended"].values())
    return [
        site_id,
        site["source"] if site["online"] else "away",
        _number(site["soc_pct"], 1),
        _number(None if site["grid_w"] is None else site["grid_w"] / 1e3, 1),
        str(site["telemetry_frames"]),
        _time(site["telemetry_delay"]["p99_s"]),
        "held" if held is not None and held == published else "sent" if held is None else f"{held - published:+d}",
        f"{ended}/{site['commands_sent']}",
        str(sum(site["refusals"].values())),
        faults or "none",
    ]


def _caption(found: dict[str, Any]) -> str:
    totals = found["totals"]
    parts = [f"{len(found['sites'])} sites, {totals['messages']} messages, {totals['bytes'] / 1e6:.1f} MB"]
    for name, words in (("plan_to_stored", "plan to stored"), ("command_to_answer", "command to answer")):
        parts.append(f"{words} p50 {_time(totals[name]['p50_s'])} p99 {_time(totals[name]['p99_s'])}")
    if found["misdeeds"]:
        parts.append("misbehaved: " + ", ".join(f"{kind} {count}" for kind, count in found["misdeeds"].items()))
    if found["trouble"]:
        parts.append(found["trouble"])
    return "\n".join(parts)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1.0 else f"{seconds:.1f} s"
