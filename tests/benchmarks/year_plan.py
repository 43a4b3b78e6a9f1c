"""A year's plan on real prices: its size on the wire, from its arrival to `stored`, and how long it holds up the loop.

`python -m tests.benchmarks.year_plan`: 17 568 half-hours with power, SoC, price and imbalance price, signed, through
the desk onto a real disk, while a heartbeat on the same loop measures the longest gap. Prints one JSON object; exit
code 1 when a target is missed.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import random
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.cloud.documents import DocumentDesk
from agent.cloud.messages import ack_message, event_message, ledger_message
from agent.cloud.signatures import KeyRing
from agent.core.admission import PlanLimits, admit
from agent.core.plan import PlanKind, Plans
from agent.core.records import Document, Stage
from agent.store import Announce, Store
from simulators.market import SLOTS_PER_DAY, load_jepx
from tests.benchmarks.figures import Figure

SITE = "demo-01"
SLOTS = 17_568
RUNS = 20
MAX_PACKET_BYTES = 128 * 1024
"""What common cloud brokers take at most."""
TARGET_STORED_MS, TARGET_BLOCKED_MS = 200.0, 20.0
LIMITS = PlanLimits(1e6, 1e6, 1e6, 1e6)
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
HEADER = base64.urlsafe_b64encode(b'{"alg":"Ed25519","kid":"bench"}').rstrip(b"=")


def year_document(version: int, start_utc_s: float) -> bytes:
    """A plan from real prices: 500 kW bought in the cheapest quarter of each day, sold in the dearest, PV of the hour."""
    prices = load_jepx().per_kwh[:SLOTS]
    clouds = random.Random(1)
    power, soc_end, soc_pct = [], [], 50.0
    for index, price in enumerate(prices):
        day = sorted(prices[index // SLOTS_PER_DAY * SLOTS_PER_DAY :][:SLOTS_PER_DAY])
        battery_kw = -500.0 if price <= day[11] else 500.0 if price >= day[36] else 0.0
        pv_kw = max(0.0, 300.0 * (1.0 - abs(index % SLOTS_PER_DAY - 24) / 12)) * clouds.uniform(0.3, 1.0)
        soc_pct = min(95.0, max(5.0, soc_pct - battery_kw / 40.0))
        power.append(round(battery_kw + pv_kw, 1))
        soc_end.append(round(soc_pct, 1))
    content = {
        "schema": "1.0", "site_id": SITE, "kind": "yearly", "version": version, "issued_at": iso(start_utc_s),
        "start": iso(start_utc_s), "slot_s": 1800, "unit": "kW", "positive": "export", "target": "grid",
        "power": power, "soc_end_pct": soc_end, "price": list(prices),
        "imbalance_price": [round(1.3 * price + 2.0, 2) for price in prices],
    }  # fmt: skip
    return json.dumps(content, separators=(",", ":")).encode()


def iso(utc_s: float) -> str:
    """As the contract writes times."""
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def signed(content: bytes) -> bytes:
    """As the cloud signs."""
    signing_input = HEADER + b"." + base64.urlsafe_b64encode(content).rstrip(b"=")
    return signing_input + b"." + base64.urlsafe_b64encode(SIGNING_KEY.sign(signing_input)).rstrip(b"=")


def sizes(document: bytes) -> dict[str, int]:
    """Bytes on the wire, by how it is sent."""
    packed = {"gzip": gzip.compress(document, 9), "zstd": zstandard.ZstdCompressor(level=19).compress(document)}
    return {"plain": len(document)} | {
        f"{name}{how}": len(seal(content))
        for name, content in packed.items()
        for how, seal in (("", bytes), ("_signed", signed))
    }


class Site:
    """Desk and store as the app wires them."""

    def __init__(self, store: Store) -> None:
        self.plans = Plans()
        self.desk = DocumentDesk(
            store=store,
            site_id=SITE,
            held=self._held,
            judge=lambda document: admit(document, self.plans, LIMITS, time.time()),  # type: ignore[arg-type]
            utc_s=time.time,
            on_stored=self._on_stored,
            courtesy=lambda _outcome: None,
            on_answered=lambda: None,
        )

    def _held(self, kind: Any) -> Document | None:
        return self.plans.of(kind)

    def _on_stored(self, document: Document) -> None:
        self.plans = self.plans.replaced(document)  # type: ignore[arg-type]


async def longest_gap_s(stop: asyncio.Event) -> float:
    """How long the loop was held up at most."""
    longest, last = 0.0, time.perf_counter()
    while not stop.is_set():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last - 0.001), now
    return longest


async def measure(runs: int) -> dict[str, Any]:
    """All figures."""
    start_utc_s = time.time() // 1800 * 1800
    ring = KeyRing({"bench": SIGNING_KEY.public_key().public_bytes_raw()})
    announce = Announce(
        ack=partial(ack_message, SITE), event=partial(event_message, SITE), ledger=partial(ledger_message, SITE)
    )
    took_ms, gaps_ms = [], []
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(Path(folder) / "store", announce, time.time)
        site = Site(store)
        for version in range(1, runs + 1):
            payload = signed(gzip.compress(year_document(version, start_utc_s), 9))
            stop = asyncio.Event()
            beating = asyncio.create_task(longest_gap_s(stop))
            await asyncio.sleep(0.02)
            begun = time.perf_counter()
            outcome = await site.desk.receive(PlanKind.YEARLY, ring.arrived(payload))
            took_ms.append((time.perf_counter() - begun) * 1000)
            stop.set()
            gaps_ms.append(await beating * 1000)
            if outcome.stage is not Stage.STORED:
                raise SystemExit(f"the plan was refused: {outcome}")
        await store.close()
    return {
        "slots": SLOTS,
        "bytes": sizes(year_document(1, start_utc_s)),
        "arrival_to_stored_ms": {"median": round(median(took_ms), 1), "worst": round(max(took_ms), 1), "of": runs},
        "loop_blocked_ms": {"median": round(median(gaps_ms), 1), "worst": round(max(gaps_ms), 1)},
    }


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of `measure`."""
    return [
        Figure("year.stored", f"a year's plan of {SLOTS:,} slots, signed: arrival to stored, median",
               result["arrival_to_stored_ms"]["median"], "ms", None, "", TARGET_STORED_MS),
        Figure("year.blocked", "for so long it holds the loop up at worst", result["loop_blocked_ms"]["worst"], "ms",
               None, "", TARGET_BLOCKED_MS),
    ]  # fmt: skip


def missed(result: dict[str, Any]) -> list[str]:
    """The targets that were not met."""
    found = [f"{name}: {count} bytes" for name, count in result["bytes"].items() if name != "plain"]
    found = [line for line in found if int(line.split()[1]) > MAX_PACKET_BYTES]
    if result["arrival_to_stored_ms"]["worst"] > TARGET_STORED_MS:
        found.append(f"from arrival to stored took more than {TARGET_STORED_MS} ms")
    if result["loop_blocked_ms"]["worst"] > TARGET_BLOCKED_MS:
        found.append(f"the loop was held up for more than {TARGET_BLOCKED_MS} ms")
    return found


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        found = asyncio.run(measure(RUNS))
        print(json.dumps(found, indent=2))
        problems = missed(found)
        print("\n".join(problems), file=sys.stderr)
        sys.exit(1 if problems else 0)
