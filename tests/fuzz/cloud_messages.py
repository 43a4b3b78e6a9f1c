"""Mutated messages at every parser of the cloud side: `python -m tests.fuzz.cloud_messages --count N`.

Each of N messages per parser begins as a good one and is damaged: values swapped for hostile ones, keys doubled, bytes
flipped, cut, repeated, spliced, compressed, signed. A parser must answer each with a value: an exception is a fault,
and so is one message that takes more than 50 ms of processor time, or memory that grows. A fault is printed with the
seed, the number and the message itself. Each parser has a process of its own, `--jobs` of them at a time, and tells
how far it is after every million. Prints one JSON object; exit code 1 after a fault. SIGTERM ends it early, with the
verdict on what came so far.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import gc
import gzip
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import orjson
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.cloud.signatures import KeyRing
from agent.cloud.wire import document_kind, parse_document, parse_watermark
from agent.cloud.wire_command import parse_command
from agent.core.admission import Refused
from agent.core.orders import OrderKind
from agent.core.plan import PlanKind

SITE = "demo-01"
TARGET_MS = 50.0
TARGET_GROWTH_MB = 8.0
TARGET_PEAK_MB = 150.0
"""Above the start at any time, free pages included: the service has 400 MB, and the agent takes 60 of them."""
BLOCK = 500
"""Messages from one state of the generator: to see one again, its block is run again."""
FAULTS_KEPT = 10
TOLD_EVERY = 1_000_000
HUGE_SHARE = 1 / 2000
"""Messages with a tail of some 600 kB; each costs as much as a hundred others."""
PADDING = (10,) * 10 + (10_000,) * 9 + (3_000_000,)
"""Bytes that compress to nothing; of the bombs there are few, for the same reason."""
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RING = KeyRing({"fuzz": SIGNING_KEY.public_key().public_bytes_raw()})
HEAD = {"schema": "1.0", "site_id": SITE, "version": 5, "issued_at": "2024-01-15T02:55:00Z"}
TIMES = {"start": "2024-01-15T03:00:00Z", "end": "2024-01-15T04:00:00Z"}
PLAN = {
    **HEAD, "kind": "rolling", "start": TIMES["start"], "slot_s": 1800, "unit": "kW", "positive": "export",
    "target": "grid", "power": [-400.0, 0, None, 350.5] * 12, "soc_end_pct": [40.0, 60.0, None, 42.0] * 12,
    "price": [4.2, 3.9, 6.0, 19.8] * 12,
}  # fmt: skip
AWARD = {"id": "a-1", "product": "fcr-n", "power": 200.0, "direction": "both", **TIMES}
COMMAND = {
    "schema": "1.0", "site_id": SITE, "id": "c-1", "type": "set_power", "issued_at": TIMES["start"],
    "expires_at": TIMES["end"],
    "params": {"power": 100.0, "duration_s": 600, "unit": "kW", "positive": "export", "target": "battery"},
}  # fmt: skip
WATERMARK = {"schema": "1.0", "site_id": SITE, "stored": {"telemetry": 1204, "ack": 42, "event": 17, "ledger": 96}}
SEEDS: dict[str, tuple[dict[str, Any], Callable[[bytes], object]]] = {
    "rolling": (PLAN, lambda payload: parse_document(PlanKind.ROLLING, payload, SITE)),
    "yearly": (PLAN | {"kind": "yearly"}, lambda payload: parse_document(PlanKind.YEARLY, payload, SITE)),
    "awards": (
        {**HEAD, "kind": "awards", "unit": "kW", "awards": [AWARD, AWARD | {"id": "a-2"}]},
        lambda payload: parse_document(OrderKind.AWARDS, payload, SITE),
    ),
    "curtailments": (
        {**HEAD, "kind": "curtailments", "unit": "kW", "curtailments": [{"id": "c", "export_limit": 1.0, **TIMES}]},
        lambda payload: parse_document(OrderKind.CURTAILMENTS, payload, SITE),
    ),
    "outages": (
        {**HEAD, "kind": "outages", "outages": [{"id": "o", "device": "bess", **TIMES}]},
        lambda payload: parse_document(OrderKind.OUTAGES, payload, SITE),
    ),
    "command": (COMMAND, lambda payload: parse_command(payload, SITE)),
    "watermark": (WATERMARK, lambda payload: parse_watermark(payload, SITE)),
    "brought": (PLAN, document_kind),
    "signed": (PLAN, RING.opened),
}
"""Parser by name: a good message for it, and the parser."""
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -0.0, -1, 1e308, -1e308, 5e-324, 2**53, 2**63, 2**64, 10**30, "", "x" * 5000, "\x00", "\ud800",
    "NaN", "1e999", "2024-02-30T00:00:00Z", "9999-12-31T23:59:59+23:59", "0001-01-01T00:00:00Z", [], {}, [[]], [{}],
    {"a": {"b": {}}}, [None] * 300, [1] * 3000, "../../etc/passwd", "a\nb", "💥", "demo-02",
)  # fmt: skip
SNIPPETS = (b"NaN", b"Infinity", b"1e999", b'"', b"{", b"[", b"}", b"]", b",", b":", b"\\u", b"\\ud800", b"\xff", b"\x00",
            b"9" * 400, b"[" * 400, b'{"a":' * 400, b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf", b"\r\n", b"-")  # fmt: skip


def changed(content: Any, rng: random.Random) -> Any:
    """The content with one value, key or entry made hostile, somewhere in its depth."""
    if isinstance(content, dict) and content and rng.random() < 0.8:
        key = rng.choice(list(content))
        what = rng.random()
        if what < 0.6:
            return content | {key: changed(content[key], rng)}
        if what < 0.75:
            return {k: v for k, v in content.items() if k != key}
        if what < 0.9:
            return content | {rng.choice(("version", "x", "", key.upper(), "💥", key + " ")): rng.choice(HOSTILE)}
        return {rng.choice((k, k[::-1])): v for k, v in content.items()}
    if isinstance(content, list) and content and rng.random() < 0.8:
        place = rng.randrange(len(content))
        what = rng.random()
        if what < 0.6:
            return [*content[:place], changed(content[place], rng), *content[place + 1 :]]
        if what < 0.8:
            return content * rng.choice((2, 3, 40))
        return content[:place] + content[place + 1 :]
    return rng.choice(HOSTILE)


def damaged(payload: bytes, rng: random.Random) -> bytes:
    """The bytes with a little less sense."""
    place = rng.randrange(len(payload) + 1)
    other = rng.randrange(len(payload) + 1)
    match rng.randrange(6):
        case 0:
            return payload[:place] + bytes([rng.randrange(256)]) + payload[place + 1 :]
        case 1:
            return payload[:place] + rng.choice(SNIPPETS) + payload[place:]
        case 2:
            return payload[: min(place, other)] + payload[max(place, other) :]
        case 3:
            return payload[:place] + payload[min(place, other) : max(place, other)] + payload[place:]
        case 4:
            return payload[:place]
        case _:
            return payload[place:] + payload[:place]


def packed(payload: bytes, rng: random.Random) -> bytes:
    """Compressed one way or another."""
    match rng.randrange(5):
        case 0:
            return gzip.compress(payload, 1)
        case 1:
            return zlib.compress(payload, 1)
        case 2:
            return zstandard.ZstdCompressor(level=1).compress(payload)
        case 3:
            stream = zstandard.ZstdCompressor(level=1, write_content_size=False).compressobj()
            return stream.compress(payload) + stream.flush()
        case _:
            return gzip.compress(payload + b" " * rng.choice(PADDING), 1)


GOOD_HEADER = {"alg": "Ed25519", "kid": "fuzz"}


def sealed(header: bytes, payload: bytes) -> bytes:
    """A JWS with this header and a signature that holds."""
    signing_input = (
        base64.urlsafe_b64encode(header).rstrip(b"=") + b"." + base64.urlsafe_b64encode(payload).rstrip(b"=")
    )
    return signing_input + b"." + base64.urlsafe_b64encode(SIGNING_KEY.sign(signing_input)).rstrip(b"=")


def signed(payload: bytes, rng: random.Random) -> bytes:
    """A JWS, often with something wrong in its header."""
    header = json.dumps(changed(GOOD_HEADER, rng) if rng.random() < 0.5 else GOOD_HEADER).encode()
    return sealed(damaged(header, rng) if rng.random() < 0.2 else header, payload)


def serialised(content: Any, rng: random.Random) -> bytes:
    """The content as JSON, now and then with escapes; what strict JSON cannot say is said loosely."""
    if rng.random() < 0.9:
        try:
            return orjson.dumps(content)
        except TypeError:  # half of a surrogate pair, or a huge integer
            pass
    return json.dumps(content, ensure_ascii=rng.random() < 0.8).encode("utf-8", "surrogatepass")


def mutated(seed: dict[str, Any], rng: random.Random, *, sign: bool) -> Iterator[bytes]:
    """Hostile messages, some to each content: making the content costs more than damaging its bytes."""
    while True:
        content: Any = seed
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            content = changed(content, rng)
        whole = serialised(content, rng)
        yield dressed(whole, rng, sign=sign)
        for _ in range(rng.randrange(3)):
            yield dressed(damaged(whole, rng), rng, sign=sign)


def dressed(payload: bytes, rng: random.Random, *, sign: bool) -> bytes:
    """As it comes over the wire: as it is, or with a huge tail, compressed, signed; and then damaged again."""
    if rng.random() < HUGE_SHARE:
        payload = payload[:-1] + b"," * rng.randrange(2) + rng.choice((b"1,", b"[],", b'{"a":1},', b'"x",')) * 200_000
        payload = damaged(payload, rng) if rng.random() < 0.5 else payload
    if rng.random() < 0.05:
        payload = packed(payload, rng)
        payload = damaged(payload, rng) if rng.random() < 0.3 else payload
    if sign:
        payload = signed(payload, rng)
        payload = damaged(payload, rng) if rng.random() < 0.3 else payload
    return payload


def resident_mb(*, settled: bool = True) -> float:
    """Resident memory of this process; `settled` without what is free and was only not given back to the system yet.

    One message of a megabyte leaves tens of megabytes of free pages behind, now here, now there: that is no growth.
    """
    if settled:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
        if trim is not None:
            trim(0)
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def fuzz(name: str, count: int, seed: int, stopped: Callable[[], object] = bool) -> dict[str, Any]:
    """What became of `count` messages for one parser, fewer once `stopped`; `faults` is empty when all was well."""
    good, parse = SEEDS[name]
    faults: list[str] = []
    worst_s, taken, baseline_mb, most_mb, done = 0.0, 0, 0.0, 0.0, 0
    rng, begun_mb = random.Random(), resident_mb()
    messages = mutated(good, rng, sign=name == "signed")

    def found() -> dict[str, Any]:
        grown_mb = resident_mb() - baseline_mb if baseline_mb else 0.0
        grew = [f"{name}: memory grew by {grown_mb:.0f} MB"] if grown_mb > TARGET_GROWTH_MB else []
        peak_mb = max(most_mb - begun_mb, 0.0)
        grew += [f"{name}: {peak_mb:.0f} MB more memory for a while"] if peak_mb > TARGET_PEAK_MB else []
        return {"messages": done, "taken": taken, "worst_ms": round(worst_s * 1000, 1), "grown_mb": round(grown_mb, 1),
                "peak_mb": round(peak_mb, 1), "faults": faults[:FAULTS_KEPT] + grew}  # fmt: skip

    for number in range(count):
        if number % BLOCK == 0:
            if stopped() or len(faults) >= FAULTS_KEPT:
                break
            most_mb = max(most_mb, resident_mb(settled=False))
            rng.seed(f"{seed} {name} {number}")
            messages = mutated(good, rng, sign=name == "signed")
        if number == min(count // 4, 20_000):
            baseline_mb = resident_mb()
        payload = next(messages)
        done += 1
        took_s, answer, fault = judged(parse, payload)
        if fault:
            faults.append(f"seed {seed}, {name} {number}: {fault}")
            print(faults[-1], file=sys.stderr, flush=True)
        worst_s = max(worst_s, took_s)
        taken += not fault and not isinstance(answer, Refused) and not hasattr(answer, "refused")
        if done % TOLD_EVERY == 0:
            print(name, found(), file=sys.stderr, flush=True)
    return found()


def judged(parse: Callable[[bytes], object], payload: bytes) -> tuple[float, object, str]:
    """Seconds of processor time, the parser's answer, and what is wrong with either, "" when all is well."""
    begun_s = time.thread_time()
    try:
        answer = parse(payload)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the fault that is looked for
        return 0.0, None, f"{type(error).__name__}: {error}; {payload[:2000]!r}"
    took_s = time.thread_time() - begun_s
    if took_s * 1000 > TARGET_MS:
        # Once more: the collector of garbage may have had its turn.
        begun_s = time.thread_time()
        parse(payload)
        took_s = min(took_s, time.thread_time() - begun_s)
    if took_s * 1000 > TARGET_MS:
        return took_s, answer, f"took {took_s * 1000:.0f} ms; {len(payload)} bytes, {payload[:200]!r}"
    return took_s, answer, ""


_stop: Event
_begun_by: int


def _begin(stop: Event) -> None:
    """In each process: signals are for the one that began it, and without that one nobody hears the verdict."""
    global _stop, _begun_by
    _stop, _begun_by = stop, os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _fuzzed(count: int, seed: int, name: str) -> tuple[str, dict[str, Any]]:
    return name, fuzz(name, count, seed, lambda: _stop.is_set() or os.getppid() != _begun_by)


def main() -> int:
    """The exit code, after all parsers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="Messages for each parser.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(SEEDS), help="One parser instead of all.")
    parser.add_argument("--jobs", type=int, default=1, help="Processes at a time, each with a parser of its own.")
    asked = parser.parse_args()
    # Each parser begins with a process of its own, so that what one of them leaves is not the memory of the next.
    apart = multiprocessing.get_context("spawn")
    stop = apart.Event()
    figures: dict[str, Any] = {}
    with apart.Pool(asked.jobs, _begin, (stop,), maxtasksperchild=1) as pool:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        work = partial(_fuzzed, asked.count, asked.seed)
        for name, found in pool.imap_unordered(work, [asked.only] if asked.only else list(SEEDS)):
            figures[name] = found
            print(name, "done:", found, file=sys.stderr, flush=True)
        pool.close()
        pool.join()
    print(json.dumps({"seed": asked.seed} | figures, indent=2))
    return 1 if any(found["faults"] for found in figures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
