"""Thirty days without a broker, and then it is back: `python -m tests.benchmarks.month_away`.

43,200 frames of a minute with 30 points lie on real files, written through the store. Then the real daemon drains them
to a real mosquitto while it controls the simulated site. Counted from the cloud's side: what is missing, what came twice
with other content, how the control tick fared meanwhile. Prints one JSON object; exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import paho.mqtt.client as mqtt
import zstandard
from paho.mqtt.enums import CallbackAPIVersion

from agent.cloud.frame import read_frame, telemetry_frame
from agent.cloud.stamp import iso
from agent.core.records import Stream
from agent.store import Quota
from agent.store.control import ControlDb
from agent.store.telemetry import TelemetryDb
from agent.store.writer import LINEAGE
from simulators.broker import Broker
from simulators.demo_site import SITE_ID
from tests.benchmarks.daemon_cost import ask, cpu_s, resident_mb, simulator, site_file, start
from tests.benchmarks.frame_bytes import FRAME_S, day

MINUTES = 30 * 1440
TEMPLATES = 60
"""Different minutes of signals that are used over and over; times and sequences are each frame's own."""
LATE_MS = 50.0
HISTORY_PER_S = 1000
"""As fast as the line takes them: the worst for the control tick. The default of the site file is 20."""


def fill(directory: Path, minutes: int) -> float:
    """The frames of so many minutes, up to now, written through the store; the time of the first."""
    directory.mkdir(parents=True, exist_ok=True)
    begin_s = (time.time() // 60 - minutes - 1) * 60
    control, store = ControlDb(directory), TelemetryDb(directory, Quota())
    store.database._set_synchronous = lambda *_: None  # type: ignore[method-assign] # no power cut is tried here
    control.set_mark(LINEAGE, store.start(None, dict.fromkeys(Stream, (0, 0))))
    control.reserve(Stream.TELEMETRY, minutes)
    signals = list(day(TEMPLATES * FRAME_S / 3600, seed=1))
    parts = [signals[i * FRAME_S : (i + 1) * FRAME_S] for i in range(TEMPLATES)]
    templates = [
        orjson.loads(zstandard.ZstdDecompressor().decompress(telemetry_frame(SITE_ID, 1, part))) for part in parts
    ]
    quick = zstandard.ZstdCompressor(level=3)

    def build(seq: int, _samples: Any) -> bytes:
        at_utc_s = begin_s + (seq - 1) * FRAME_S
        frame = templates[seq % TEMPLATES] | {"seq": seq, "boot_id": "before", "start": iso(at_utc_s)}
        return quick.compress(orjson.dumps(frame))

    for minute in range(minutes):
        store.add_sample(parts[minute % TEMPLATES][0])
        store.seal_frame(build, begin_s + (minute + 1) * FRAME_S, Stream.TELEMETRY)
    store.database.close()
    control.database.close()
    return begin_s


class Account:
    """What has come at the cloud, by sequence; answers with a watermark twice a second."""

    def __init__(self, url: str) -> None:
        self.content: dict[int, bytes] = {}
        self.spans: dict[int, tuple[float, float]] = {}
        self.live_rows_s: list[float] = []
        self.redelivered = self.conflicts = 0
        self._stored = 0
        self._lock = threading.Lock()
        self._paho = mqtt.Client(CallbackAPIVersion.VERSION2, "the-cloud", protocol=mqtt.MQTTv5)
        self._paho.on_connect = lambda client, *_: client.subscribe(f"ems/v1/{SITE_ID}/edge/#", qos=1)
        self._paho.on_message = self._arrived
        host, port = url.removeprefix("mqtt://").split(":")
        self._paho.connect(host, int(port))
        self._paho.loop_start()

    def _arrived(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        if not message.topic.endswith(("/telemetry", "/history")):
            return
        frame = read_frame(bytes(message.payload))
        digest = hashlib.blake2b(message.payload, digest_size=16).digest()
        if frame.seq is None:
            return
        with self._lock:
            if frame.seq in self.content:
                self.redelivered += 1
                self.conflicts += self.content[frame.seq] != digest
                return
            self.content[frame.seq] = digest
            self.spans[frame.seq] = (frame.start_utc_s, frame.start_utc_s + frame.t_ms[-1] / 1000.0)
            if frame.boot_id != "before":
                self.live_rows_s += [frame.start_utc_s + t_ms / 1000.0 for t_ms in frame.t_ms]

    def say_stored(self) -> None:
        """Publishes up to where everything has come."""
        with self._lock:
            while self._stored + 1 in self.content:
                self._stored += 1
        body = {"schema": "1.0", "site_id": SITE_ID, "stored": {"telemetry": self._stored}}
        self._paho.publish(f"ems/v1/{SITE_ID}/cloud/watermark", json.dumps(body), qos=1, retain=True)

    @property
    def stored(self) -> int:
        """Everything up to here has come."""
        return self._stored

    def close(self) -> None:
        """Ends its thread."""
        self._paho.disconnect()
        self._paho.loop_stop()

    def overlapping(self) -> int:
        """Frames that tell of a time that another one tells of too: samples twice."""
        spans = sorted(self.spans.values())
        return sum(later[0] <= earlier[1] for earlier, later in pairwise(spans))


def measure(days: float, deadline_s: float) -> dict[str, Any]:
    """All figures."""
    minutes = int(days * 1440)
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        folder = Path(name)
        begun = time.monotonic()
        fill(folder / "store", minutes)
        filled_s = time.monotonic() - begun
        site, account = simulator(folder), Account(broker.url)
        try:
            config = site_file(folder, site, broker.url)
            config.write_text(config.read_text().replace("[cloud]", f"[cloud]\nhistory_per_s = {HISTORY_PER_S}"))
            process, _ = start(config, folder / "agent.log")
            result = drained(process, config.parent / "ems.sock", account, minutes, deadline_s)
            process.terminate()
            process.wait()
        finally:
            account.close()
            site.stop()
    return {"days": days, "frames": minutes, "written_in_s": round(filled_s, 1), **result}


def drained(
    process: subprocess.Popen[bytes], socket: Path, account: Account, frames: int, deadline_s: float
) -> dict[str, Any]:
    """What was seen while the frames came."""
    begun, cpu_before = time.monotonic(), cpu_s(process.pid)
    while account.stored < frames and time.monotonic() - begun < deadline_s:
        account.say_stored()
        time.sleep(0.5)
    took_s = time.monotonic() - begun
    cpu = cpu_s(process.pid) - cpu_before
    counters = ask(socket)["counters"]
    ended_s = time.time()
    quiet_until_s = ended_s + max(60.0, min(took_s, 300.0))
    while max(account.live_rows_s, default=0.0) < quiet_until_s and time.time() < quiet_until_s + 2 * FRAME_S:
        account.say_stored()
        time.sleep(0.5)  # the frame with the rows of that time is sealed at the end of its minute
    status = ask(socket)
    on_the_beat = sorted(account.live_rows_s)[1:]  # the very first tick of a run does not wait for the beat
    while_draining = [at for at in on_the_beat if at < ended_s]
    afterwards = [at for at in on_the_beat if at >= ended_s]
    p99_ms = deviation_p99_ms(while_draining)
    missing = frames - sum(seq <= frames for seq in account.content)
    result = {
        "drained_in_s": round(took_s, 1),
        "frames_per_s": round(frames / took_s),
        "lost": missing,
        "redelivered": account.redelivered,
        "same_sequence_other_content": account.conflicts,
        "overlapping_frames": account.overlapping(),
        "ticks": counters["ticks"],
        "late_ticks": counters["late_ticks"],
        "ticks_looked_at": [len(while_draining), len(afterwards)],
        "tick_deviation_p99_ms": p99_ms,
        "tick_deviation_p99_ms_afterwards": deviation_p99_ms(afterwards),
        "daemon_cpu_pct": round(100 * cpu / took_s, 1),
        "daemon_resident_mb": round(resident_mb(process.pid), 1),
        "waiting_afterwards": status["cloud"]["outbox_depth"],
    }
    wrong = (missing, account.conflicts, result["overlapping_frames"], counters["late_ticks"])
    return {**result, "met": not any(wrong) and p99_ms is not None and p99_ms <= LATE_MS}


def deviation_p99_ms(ticks_utc_s: list[float]) -> float | None:
    """How far ticks were from their whole second."""
    found = sorted(abs(at - round(at)) * 1e3 for at in ticks_utc_s)
    return round(found[int(len(found) * 0.99)], 1) if found else None


def main() -> int:
    """0 when the targets are met, 1 when not."""
    parser = argparse.ArgumentParser(description="Thirty days without a broker, and then it is back.")
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--deadline", type=float, default=600.0, help="seconds until it must be drained")
    options = parser.parse_args()
    result = measure(options.days, options.deadline)
    print(json.dumps(result, indent=2))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
