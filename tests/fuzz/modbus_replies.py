"""Replies that are right, wrong, late, doubled, cut, spliced and random, by the million: `python -m tests.fuzz.modbus_replies`.

The real link over a real socket, with Modbus TCP and with RTU frames over TCP, against a peer that answers each request
with a seeded mutation of the right reply. Every register's value follows from its unit and address, so that an
answer taken for another request shows as a wrong value. A mutation that is by itself a flawless answer to the request in
flight (nothing in the protocol could tell it) is not sent. Prints one JSON object; exit code 1 when a wrong value
was taken, anything but a `DeviceError` came out, the event loop met an exception, or a request never ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drivers.endpoint import Endpoint, RtuTcpEndpoint, TcpEndpoint
from drivers.errors import DeviceError
from drivers.link import Link
from simulators.rtu_frames import crc, framed

UNITS = (1, 2, 3)
COUNTS = (1, 2, 2, 3, 10, 50)
TIMEOUT_S = 0.005
LOST_AFTER_S = 30.0
"""A request that takes so long is a task lost."""
JUMP_S = 0.3
"""The link's clock after each failure: back-offs and pauses are over..."""
TURNS = 10
"""...and what was on its way by then has come: so many turns of the loop, though the machine be busy. In that time the link
leaves a line with RTU frames to fall silent."""
LATEST_S = 9.0
"""An answer is never later than this by the link's clock; it states 10 s as its limit."""


def register(unit: int, address: int) -> int:
    """What this register holds, for ever."""
    return (unit * 40_503 + address * 7_919) & 0xFFFF


@dataclass
class Clock:
    """Real time, and jumps."""

    jumped_s: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.jumped_s


@dataclass
class Peer:
    """Answers requests of one framing, seldom rightly."""

    framing: str
    source: random.Random
    clock: Clock
    sent: Counter[str] = field(default_factory=Counter)
    late: list[tuple[bytes, float]] = field(default_factory=list)
    before: bytes = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.late, self.before = [], b""
        try:
            while True:
                head = await reader.readexactly(12 if self.framing == "tcp" else 8)
                for piece in self.reply(head):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    def reply(self, head: bytes) -> list[bytes]:
        """What goes out for this request, in pieces."""
        body = head[6:] if self.framing == "tcp" else head[:-2]
        unit, function, address, count = body[0], body[1], int.from_bytes(body[2:4], "big"), body[5]
        data = b"".join(register(unit, address + at).to_bytes(2, "big") for at in range(count))
        pdu = bytes((function, len(data))) + data
        right = self.frame(head[:2], unit, pdu)
        owing = self.late and self.source.random() < 0.5
        kind = self.source.choice(("after the late ones", "only the late ones", "silence") if owing else KINDS)
        out = MUTATIONS[kind](self, right, head[:2], unit, pdu)
        honest = out.startswith(right) or kind in LATE
        if not honest and self.flawless(out, head[:2], unit, function, count):
            kind, out = "right", right
        if kind not in LATE:
            self.late.clear()  # devices answer in order: what is older than this never comes
        self.sent[kind] += 1
        self.before = right
        if self.source.random() < 0.2 and len(out) > 1:
            cut = self.source.randrange(1, len(out))
            return [out[:cut], out[cut:]]
        return [out] if out else []

    def frame(self, transaction: bytes, unit: int, pdu: bytes) -> bytes:
        if self.framing == "rtu":
            return framed(unit, pdu)
        return transaction + bytes(2) + (len(pdu) + 1).to_bytes(2, "big") + bytes((unit,)) + pdu

    def flawless(self, out: bytes, transaction: bytes, unit: int, function: int, count: int) -> bool:
        """Whether the first bytes are, to the letter, an answer to the request in flight."""
        head = bytes((unit, function, 2 * count))
        if self.framing == "tcp":
            start = transaction + bytes(2) + (len(head) + 2 * count).to_bytes(2, "big") + head
            return out.startswith(start) and len(out) >= len(start) + 2 * count
        body = out[: len(head) + 2 * count]
        return body.startswith(head) and out[len(body) : len(body) + 2] == crc(body)

    def due(self) -> bytes:
        """The answers that were kept back, and are still expected."""
        kept = b"".join(frame for frame, since_s in self.late if self.clock() - since_s < LATEST_S)
        self.late.clear()
        return kept

    def random_bytes(self) -> bytes:
        return self.source.randbytes(self.source.choice((1, 3, 5, 8, 9, 20, 260, 5000)))


Mutation = Callable[[Peer, bytes, bytes, int, bytes], bytes]


def _flipped(peer: Peer, frame: bytes, bits: int) -> bytes:
    out = bytearray(frame)
    for _ in range(bits):
        at = peer.source.randrange(8 * len(out))
        out[at // 8] ^= 1 << at % 8
    return bytes(out)


def _keep_back(peer: Peer, right: bytes) -> bytes:
    peer.late.append((right, peer.clock()))
    return b""


def _spliced(peer: Peer, right: bytes) -> bytes:
    cut = peer.source.randrange(len(right) + 1)
    return right[:cut] + peer.before[peer.source.randrange(len(peer.before) + 1) :]


MUTATIONS: dict[str, Mutation] = {
    "right": lambda peer, right, *_: right,
    "after the late ones": lambda peer, right, *_: peer.due() + right,
    "late": lambda peer, right, *_: _keep_back(peer, right),
    "only the late ones": lambda peer, right, *_: peer.due(),
    "silence": lambda *_: b"",
    "twice": lambda peer, right, *_: 2 * right,
    "the one before": lambda peer, right, *_: peer.before,
    "the one before, then right": lambda peer, right, *_: peer.before + right,
    "one bit": lambda peer, right, *_: _flipped(peer, right, 1),
    "many bits": lambda peer, right, *_: _flipped(peer, right, peer.source.randrange(2, 20)),
    "cut": lambda peer, right, *_: right[: peer.source.randrange(len(right))],
    "longer": lambda peer, right, *_: right + peer.random_bytes(),
    "random": lambda peer, *_: peer.random_bytes(),
    "spliced": lambda peer, right, *_: _spliced(peer, right),
    "exception": lambda peer, right, tid, unit, pdu: peer.frame(
        tid, unit, bytes((pdu[0] | 0x80, peer.source.randrange(256)))
    ),
    "other unit": lambda peer, right, tid, unit, pdu: peer.frame(tid, peer.source.randrange(256), pdu),
    "other function": lambda peer, right, tid, unit, pdu: peer.frame(
        tid, unit, bytes((peer.source.randrange(256),)) + pdu[1:]
    ),
    "fewer": lambda peer, right, tid, unit, pdu: peer.frame(tid, unit, bytes((pdu[0], pdu[1] - 2)) + pdu[2:-2]),
    "more": lambda peer, right, tid, unit, pdu: peer.frame(tid, unit, bytes((pdu[0], pdu[1] + 2)) + pdu[2:] + b"\1\1"),
    "other transaction": lambda peer, right, tid, unit, pdu: peer.frame(peer.source.randbytes(2), unit, pdu),
    "transaction 0": lambda peer, right, tid, unit, pdu: peer.frame(bytes(2), unit, pdu),
}
LATE = ("late", "silence", "only the late ones")
"""After these an older answer may still come."""
KINDS = [*MUTATIONS, *["right"] * 12, *["after the late ones"] * 2]


@dataclass
class Tally:
    """What came of it."""

    taken: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    lost: int = 0
    failed: tuple[int, int, bool] | None = None
    """Unit, count and table of the last request, if it failed."""


async def ask(link: Link, source: random.Random, clock: Clock, tally: Tally) -> None:
    """One request, and its judgement."""
    unit, count, holding = source.choice(UNITS), source.choice(COUNTS), source.random() < 0.8
    if tally.failed is not None and source.random() < 0.6:
        unit, count, holding = tally.failed  # another place of the same shape: an older answer would look like its own
    tally.failed = (unit, count, holding)
    address = source.randrange(60_000)
    read = link.read_holding if holding else link.read_input
    try:
        async with asyncio.timeout(LOST_AFTER_S):
            got = await read(unit, address, count)
    except TimeoutError:
        tally.lost += 1
    except DeviceError as error:
        tally.refused[type(error).__name__] += 1
        resting_s = link.unit(unit).retry_in_s or 0.0
        clock.jumped_s += max(JUMP_S, resting_s if type(error).__name__ == "UnitResting" else 0.0)
        if type(error).__name__ == "LinkDown":
            clock.jumped_s += 5.0
        for _ in range(TURNS):
            await asyncio.sleep(0)
    except Exception as error:  # noqa: BLE001  # that is what is looked for
        tally.crashes.append(repr(error))
    else:
        tally.taken += 1
        tally.failed = None
        if got != tuple(register(unit, address + at) for at in range(count)):
            tally.wrong.append(f"unit {unit}, {count} registers from {address}: {got[:4]}")


async def run(framing: str, count: int, seed: int) -> dict[str, Any]:
    """What came of `count` replies."""
    source, clock, tally = random.Random(f"{seed} {framing}"), Clock(), Tally()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: tally.crashes.append(str(context.get("exception") or context)))
    peer = Peer(framing, random.Random(f"{seed} {framing} peer"), clock)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint: Endpoint = TcpEndpoint("127.0.0.1", port) if framing == "tcp" else RtuTcpEndpoint("127.0.0.1", port)
    link = Link(endpoint, timeout_s=TIMEOUT_S, clock=clock)
    while sum(peer.sent.values()) < count:
        await ask(link, source, clock, tally)
    await link.close()
    server.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return {
        "framing": framing,
        "replies": sum(peer.sent.values()),
        "taken": tally.taken,
        "wrong_values": len(tally.wrong),
        "crashes": len(tally.crashes),
        "tasks_lost": tally.lost,
        "refused": dict(tally.refused),
        "kinds": dict(peer.sent),
        "examples": (tally.wrong + tally.crashes)[:5],
    }


def fuzz(count: int, seed: int) -> list[dict[str, Any]]:
    """Half of the replies in each framing."""
    return [asyncio.run(run(framing, count // 2, seed)) for framing in ("tcp", "rtu")]


def clean(results: list[dict[str, Any]]) -> bool:
    """Whether nothing went wrong."""
    return not any(one["wrong_values"] or one["crashes"] or one["tasks_lost"] for one in results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began_s = time.monotonic()
    found = fuzz(arguments.count, arguments.seed)
    print(json.dumps({"seconds": round(time.monotonic() - began_s, 1), "runs": found}, indent=2))
    sys.exit(0 if clean(found) else 1)
