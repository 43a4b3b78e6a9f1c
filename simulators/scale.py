"""The sizing tables of docs/scale.md, from measured figures; `python -m simulators.scale docs/scale.md` writes them.

What is measured is in `simulators/data/fleet_*.json`, as `ems fleet-sim --json` told it. What is assumed stands here
as a constant with its reason; what follows is arithmetic.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from agent.cloud.reconnect import LinkOptions, wait_s

SITES = 100_000
SITES_PER_NODE = 20_000
"""With one node lost, the others carry so many each. Clustered brokers are run with several times as many."""
CLUSTER_FACTOR = 8.0
"""Of a clustered broker with replication and shared subscriptions over one mosquitto: assumed, not measured."""
OTHER_PER_SITE_AND_DAY = 400.0
"""Beside frames and status: 48 slots of the ledger, a forecast at each plan and change, acks, events."""
RETAINED_BYTES = {
    "yearly plan": 96_000,
    "rolling plan": 2_100,
    "awards, curtailments, outages": 3_000,
    "watermark": 120,
    "status": 1_000,
    "forecast": 6_000,
}
"""Per site; the yearly plan compressed (`python -m tests.benchmarks.year_plan`)."""
RETAINED_MESSAGES = 8
DOCUMENTS_PER_DAY = 16
"""That a site which is away misses: a rolling plan every two hours, and some orders."""
SESSION_DAYS = 30
"""How long the agent asks the broker to keep its session."""
KAFKA_REPLICAS = 3
KAFKA_DAYS = 7
BYTES_PER_PARTITION_AND_S = 2_000_000
SITES_PER_PARTITION = 2_000
"""So that one consumer can read a partition again in minutes and keep its sites' sequences in memory."""
HISTORY_OVER_STEADY = 10.0
"""After an outage the fleet may send so many times what it sends every day."""
HANDSHAKES_PER_NODE = 2_000.0
"""New TLS connections a second that a listener lets in (`max_conn_rate`)."""
OUTAGES_S = (0.0, 10.0, 300.0)
SPREADS_S = (10.0, 60.0)
SIMULATED_SITES = 20_000
FRAMES_PER_DAY = 1_440


@dataclass(frozen=True, slots=True)
class Measured:
    """What is taken from the figures; per site, second, message."""

    messages_per_site_s: float
    payload_bytes_per_site_s: float
    wire_bytes_per_site_day: float
    broker_us_per_message: float
    broker_kb_per_session: float
    broker_us_per_connect: float
    plans_per_s: float


def figures(name: str) -> dict[str, Any]:
    """One run of `ems fleet-sim --json`."""
    found: dict[str, Any] = json.loads(files("simulators").joinpath(f"data/{name}.json").read_text())
    return found


def measured() -> Measured:
    """The figures of a thousand sites; the slower of two runs for plans, TLS for what it costs."""
    run, busy, tls = figures("fleet_1000"), figures("fleet_1000_1s"), figures("fleet_1000_tls")
    steady = run["steady"]
    return Measured(
        steady["messages_per_s"] / run["sites"],
        steady["payload_bytes_per_s"] / run["sites"],
        steady["wire_bytes_per_site_and_day"],
        tls["steady"]["broker_cpu_us_per_message"],
        tls["memory"]["broker_kb_per_session"],
        tls["herd"]["broker_cpu_us_per_connect"],
        min(one["plan"]["plans_per_s"] for one in (run, busy, tls)),
    )


def nodes(sites: int) -> int:
    """Brokers of the cluster: one may be lost."""
    return math.ceil(sites / SITES_PER_NODE) + 1


def messages_per_s(found: Measured, sites: int) -> float:
    """From all sites, on a day like any other."""
    return sites * (found.messages_per_site_s + OTHER_PER_SITE_AND_DAY / 86_400.0)


def partitions(found: Measured, sites: int) -> int:
    """Of the telemetry topic: a power of two that need not change when the fleet doubles."""
    by_bytes = sites * found.payload_bytes_per_site_s / BYTES_PER_PARTITION_AND_S
    return 1 << math.ceil(math.log2(max(1.0, by_bytes, sites / SITES_PER_PARTITION)))


def history_per_s(found: Measured, sites: int) -> float:
    """What the site file should say, so that a fleet that comes back sends no more than a bounded multiple."""
    whole = HISTORY_OVER_STEADY * messages_per_s(found, sites) / sites
    return math.floor(whole * 10.0) / 10.0


def worst_second_share(outage_s: float, spread_s: float, sites: int = SIMULATED_SITES) -> tuple[float, float]:
    """By the agent's own rule: the share of the fleet that tries, and that comes back, in the worst second."""
    chance = random.Random(1).random
    options = LinkOptions(first_wait_s=spread_s / 2.0, spread_s=spread_s)
    tries: Counter[int] = Counter()
    back: Counter[int] = Counter()
    for _ in range(sites):
        at_s, failures = wait_s(0, options, chance), 0
        tries[int(at_s)] += 1
        while at_s < outage_s:
            failures += 1
            at_s += wait_s(failures, options, chance)
            tries[int(at_s)] += 1
        back[int(at_s)] += 1
    return max(tries.values()) / sites, max(back.values()) / sites


def sizing(found: Measured, sites: int) -> list[tuple[str, str, str]]:
    """What, how much, and how it was worked out."""
    rate, count = messages_per_s(found, sites), nodes(sites)
    each, payload = found.payload_bytes_per_site_s, sites * found.payload_bytes_per_site_s
    kept, pace = sum(RETAINED_BYTES.values()), history_per_s(found, sites)
    cores = rate * found.broker_us_per_message * CLUSTER_FACTOR / 1e6
    memory_gb = sites * found.broker_kb_per_session * CLUSTER_FACTOR / 1e6
    yearly_kb = RETAINED_BYTES["yearly plan"] / 1e3
    plan_s, again_s = (sites * each_s / (found.plans_per_s * count) for each_s in (1, RETAINED_MESSAGES))
    kafka_tb = payload * 86_400 * KAFKA_DAYS * KAFKA_REPLICAS / 1e12
    told = {
        "messages from sites": (
            f"{rate:,.0f}/s",
            f"{found.messages_per_site_s:.4f}/s a site measured, and {OTHER_PER_SITE_AND_DAY:.0f} a day",
        ),
        "their payload": (
            f"{payload / 1e6:.1f} MB/s, {payload * 86_400 / 1e12:.2f} TB a day",
            f"{each:.1f} B/s a site measured",
        ),
        "on the wire, without TLS and TCP": (
            f"{found.wire_bytes_per_site_day / 1e6:.1f} MB a site and day",
            "measured, both ways",
        ),
        "broker nodes": (f"{count}", f"{SITES_PER_NODE:,} sites a node, and one that may be lost"),
        "processor for messages": (
            f"{cores:.1f} cores in all",
            f"{found.broker_us_per_message:.0f} µs a message measured with TLS, times {CLUSTER_FACTOR:g}",
        ),
        "memory for sessions": (
            f"{memory_gb:.1f} GB in all",
            f"{found.broker_kb_per_session:g} kB a session measured with TLS, times {CLUSTER_FACTOR:g}",
        ),
        "retained messages": (
            f"{sites * RETAINED_MESSAGES:,}, {sites * kept / 1e9:.1f} GB",
            f"{RETAINED_MESSAGES} a site, {kept / 1e3:.1f} kB, of which the yearly plan {yearly_kb:.0f}",
        ),
        "queue of a site that is away": (
            f"{DOCUMENTS_PER_DAY * SESSION_DAYS} messages at most",
            f"{DOCUMENTS_PER_DAY} documents a day for {SESSION_DAYS} days",
        ),
        "a rolling plan to all": (
            f"{plan_s:.0f} s",
            f"{found.plans_per_s:,.0f}/s through one broker measured (the slowest run), on {count} nodes",
        ),
        "all retained documents again, after a total loss": (f"{again_s / 60:.1f} min", "likewise"),
        "Kafka, telemetry": (
            f"{partitions(found, sites)} partitions, {kafka_tb:.1f} TB",
            f"{SITES_PER_PARTITION:,} sites a partition; {KAFKA_DAYS} days, {KAFKA_REPLICAS} replicas",
        ),
        "`history_per_s` in the site files": (
            f"{pace:g}",
            f"all together at most {HISTORY_OVER_STEADY:g} times the ordinary {rate:,.0f}/s",
        ),
        "a day's backlog is in after": (f"{FRAMES_PER_DAY / pace / 60:.0f} min", f"{FRAMES_PER_DAY} frames so"),
    }
    return [(what, how_much, why) for what, (how_much, why) in told.items()]


def herds(found: Measured, sites: int) -> list[tuple[str, ...]]:
    """Outages and spreads: connections in the worst second, and what they cost."""
    rows: list[tuple[str, ...]] = []
    for outage_s in OUTAGES_S:
        for spread_s in SPREADS_S:
            tries, back = worst_second_share(outage_s, spread_s)
            rate, cores = sites * back, sites * back * found.broker_us_per_connect / 1e6
            per_node = rate / nodes(sites)
            numbers = (f"{sites * tries:,.0f}", f"{rate:,.0f}", f"{per_node:,.0f}", f"{cores:.1f}")
            rows.append((f"{outage_s:g} s", f"{spread_s:g} s", *numbers))
    return rows


HERD_HEAD = (
    "broker away", "`reconnect_spread`", "attempts in the worst second", "connections in it", "per node",
    "cores for TLS",
)  # fmt: skip


def tables() -> dict[str, str]:
    """Each generated table by its name in the page."""
    found = measured()
    small, run, busy, tls = (figures(f"fleet_{name}") for name in ("200", "1000", "1000_1s", "1000_tls"))
    return {
        "sizing": _table(("what", f"{SITES:,} sites", "from"), sizing(found, SITES)),
        "herds": _table(HERD_HEAD, herds(found, SITES)),
        "figures": _table(
            ("figure", "200 sites", "1000 sites", "1000 sites, a frame a second", "1000 sites, TLS with certificates"),
            [(what, *(_found(one, path, form) for one in (small, run, busy, tls))) for what, path, form in FIGURES],
        ),
    }  # fmt: skip


FIGURES = (
    ("messages/s at the cloud", "steady.messages_per_s", "{:g}"),
    ("frame to cloud, p50", "steady.frame_to_cloud.p50_s", "{:.4f} s"),
    ("frame to cloud, p99", "steady.frame_to_cloud.p99_s", "{:.4f} s"),
    ("on the wire, a site and day", "steady.wire_bytes_per_site_and_day", "{:,.0f} B"),
    ("broker, a site and second", "steady.broker_cpu_ms_per_site_and_s", "{:g} ms"),
    ("broker, a message", "steady.broker_cpu_us_per_message", "{:g} µs"),
    ("broker, a connection", "herd.broker_cpu_us_per_connect", "{:g} µs"),
    ("broker, memory of a session", "memory.broker_kb_per_session", "{:g} kB"),
    ("light client, a site and second", "steady.fleet_cpu_ms_per_site_and_s", "{:g} ms"),
    ("a plan of 96 slots stored by all", "plan.seconds_to_all", "{:g} s"),
    ("published to stored, p50", "plan.published_to_stored.p50_s", "{:.3f} s"),
    ("published to stored, p99", "plan.published_to_stored.p99_s", "{:.3f} s"),
    ("all lines cut, all back after", "herd.seconds_to_all", "{:g} s"),
    ("connections in the worst second", "herd.most_in_one_second", "{}"),
    ("frames lost", "account.gaps", "{}"),
)
"""What, where in the figures, how it is written."""


def _found(run: dict[str, Any], path: str, form: str) -> str:
    value: Any = run
    for name in path.split("."):
        value = None if value is None else value.get(name)
    return "-" if value is None else form.format(value)


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" if line[0] != "---" else f"|{'|'.join(line)}|" for line in lines)


def written(page: str) -> str:
    """The page with its tables made anew."""
    for name, table in tables().items():
        begin, end = f"<!-- scale {name} -->\n", "<!-- end -->"
        assert page.count(begin) == 1, f"the page has no place for the table {name}"
        before, after = page.split(begin)
        page = f"{before}{begin}{table}\n{end}{after.split(end, 1)[1]}"
    return page


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(written(place.read_text()))
