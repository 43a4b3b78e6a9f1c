"""What a day of telemetry takes, on the wire and on disk: `python -m tests.benchmarks.frame_bytes`.

30 points at 1 s on signals as noisy as measured ones: frequency of the Continental grid and irradiance of a cloudy day as
they were measured (`simulators/data`), a battery that follows a plan at the connection point through them, meters and cells
with the resolution of real ones. The agent's frames go through the real store; beside them, on the same signals and in the
same run, a bare JSON message per sample, and columns as plain JSON with zstd. Prints one JSON object; exit code 1 when a
target is missed.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import zstandard

from agent.cloud.frame import MEANS_IN_A_FRAME, read_frame, summary_frame, telemetry_frame
from agent.core.records import Sample, Stream
from agent.store import Quota
from agent.store.telemetry import TelemetryDb
from tests.benchmarks.figures import Figure

DATA = Path(__file__).parents[2] / "simulators/data"
SITE, BOOT, T0 = "bench-01", "3f2a9c4e51d04b7e", 1705276800.0
DAY_S = 86_400
FRAME_S = 60
TARGET_MB = 4.0
TOPIC_BYTES = len(f"ems/v1/{SITE}/edge/telemetry")
SEGMENT_BYTES, TCP_IP_BYTES, TLS_BYTES = 1448, 52, 29
"""Payload of a TCP segment on Ethernet; its headers with time stamps; what a TLS 1.2 record with AES-GCM adds."""
POINTS = 30


def column(name: str) -> dict[int, float]:
    """A file of `simulators/data` as {first column: second column}."""
    path = DATA / name
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        rows = csv.reader(stream)
        next(rows)
        return {int(row[0]): float(row[1]) for row in rows}


class Wander:
    """Noise with a memory: wanders around 0 by `spread`, forgotten after `memory_s`."""

    def __init__(self, chance: random.Random, spread: float, memory_s: float) -> None:
        self._chance, self._keep = chance, math.exp(-1.0 / memory_s)
        self._push = spread * math.sqrt(1.0 - self._keep**2)
        self._at = chance.gauss(0.0, spread)

    def next(self) -> float:
        self._at = self._at * self._keep + self._chance.gauss(0.0, self._push)
        return self._at


def read(value: float, noise: float, step: float, chance: random.Random) -> float:
    """As a device with this noise and resolution tells it."""
    return round(round((value + chance.gauss(0.0, noise)) / step) * step, 6)


def day(hours: float, seed: int) -> Iterator[Sample]:
    """The samples, one a second, from 06:00 on so that the sun shines on a short run too."""
    chance = random.Random(seed)
    noise = partial(read, chance=chance)
    hertz, sun = column("grid_frequency_ce_day.csv.gz"), column("irradiance_1min_day.csv")
    clouds, load, heat = Wander(chance, 0.05, 20.0), Wander(chance, 4e3, 45.0), Wander(chance, 0.8, 3600.0)
    lag_w, soc, export_wh, import_wh, last_hz = [0.0, 0.0], [55.0, 54.0], 8.125e7, 2.5e7, 50.0
    for second in range(int(hours * 3600)):
        now = (second + 6 * 3600) % DAY_S
        minute, part = divmod(now, 60)
        ghi = sun[minute] + (sun[(minute + 1) % 1440] - sun[minute]) * part / 60.0
        pv_w = ghi * 300.0 * max(0.0, 1.0 + clouds.next())
        load_w = -45e3 + load.next()
        plan_w = 2e5 * math.sin(second // 1800 * 1.7)
        target_w = plan_w - pv_w - load_w
        grid_w = sum(lag_w) + pv_w + load_w
        export_wh, import_wh = export_wh + max(grid_w, 0.0) / 3600.0, import_wh + max(-grid_w, 0.0) / 3600.0
        last_hz = hertz.get(now, last_hz)
        points: dict[str, float | None] = {}
        for i in range(2):
            held_w = round(target_w * (0.5 + 0.01 * i) / 100.0) * 100.0
            lag_w[i] += (held_w - lag_w[i]) * 0.7
            soc[i] = min(max(soc[i] - lag_w[i] / 1e6 / 36.0, 5.0), 95.0)
            volts = 3.2 + soc[i] * 0.0025 - lag_w[i] * 2e-8
            points |= {
                f"bess-{i}.power_w": noise(lag_w[i], 250.0, 100.0), f"bess-{i}.soc_pct": noise(soc[i], 0.0, 0.1),
                f"bess-{i}.held_setpoint_w": held_w, f"bess-{i}.live_discharge_limit_w": 250e3,
                f"bess-{i}.live_charge_limit_w": noise(min(250e3, (96.0 - soc[i]) * 2e4), 0.0, 1e3),
                f"bess-{i}.ready": 1.0, f"bess-{i}.temperature_c": noise(27.0 + heat.next(), 0.05, 0.1),
                f"bess-{i}.cell_min_v": noise(volts - 0.012, 0.0007, 0.001),
                f"bess-{i}.cell_max_v": noise(volts + 0.009, 0.0007, 0.001),
            }  # fmt: skip
        points |= {
            "pv.power_w": noise(pv_w, 60.0, 10.0), "pv.limited": 0.0,
            "meter.export_wh": export_wh // 10.0 * 10.0, "meter.import_wh": import_wh // 10.0 * 10.0,
        }  # fmt: skip
        jitter_s = 0.001 * chance.randrange(3)
        yield Sample(
            BOOT, T0 + second + jitter_s, noise(grid_w, 120.0, 10.0), noise(sum(lag_w), 350.0, 100.0),
            points["pv.power_w"], noise(load_w, 130.0, 10.0), sum(soc) / 2.0, last_hz,
            target_w, min(max(target_w, -5e5), 5e5), "rolling", points,
        )  # fmt: skip


def flat(sample: Sample) -> dict[str, Any]:
    """Every point of a sample by name."""
    names = ("grid_w", "battery_w", "pv_w", "load_w", "soc_pct", "frequency_hz", "target_w", "setpoint_w")
    return {name: round(getattr(sample, name), 4) for name in names} | dict(sample.points)


def wire_bytes(payload_bytes: int) -> int:
    """A message of MQTT 5 with QoS 1 over TLS, its acknowledgement, and the headers of all segments."""
    packet = payload_bytes + TOPIC_BYTES + 8
    segments = -(-(packet + TLS_BYTES) // SEGMENT_BYTES)
    return packet + TLS_BYTES + segments * TCP_IP_BYTES + (4 + TLS_BYTES + TCP_IP_BYTES) + TCP_IP_BYTES


class Frames:
    """What each way of writing the same samples takes."""

    def __init__(self) -> None:
        self.payload: Counter[str] = Counter()
        self.wire: Counter[str] = Counter()
        self.cpu_s: Counter[str] = Counter()
        self._full: list[tuple[int, bytes]] = []
        self._zstd = zstandard.ZstdCompressor(level=3)

    def count(self, way: str, payload: bytes) -> None:
        self.payload[way] += len(payload)
        self.wire[way] += wire_bytes(len(payload))

    def bare(self, samples: list[Sample]) -> None:
        head = {"schema": "1.0", "site_id": SITE}
        for sample in samples:
            body = {**head, "at": round(sample.at_utc_s, 3), "source": sample.source, **flat(sample)}
            self.count("json_per_sample", json.dumps(body, separators=(",", ":")).encode())

    def plain_columns(self, seq: int, samples: list[Sample]) -> None:
        began = time.process_time()
        rows = [flat(sample) for sample in samples]
        start_ms = round(samples[0].at_utc_s * 1000)
        body = {
            "schema": "1.0", "site_id": SITE, "stream": "telemetry", "seq": seq, "boot_id": BOOT, "start": start_ms,
            "t_ms": [round(s.at_utc_s * 1000) - start_ms for s in samples],
            "columns": {name: [row[name] for row in rows] for name in rows[0]} | {"source": [s.source for s in samples]},
        }  # fmt: skip
        payload = self._zstd.compress(json.dumps(body, separators=(",", ":")).encode())
        self.cpu_s["json_columns_zstd"] += time.process_time() - began
        self.count("json_columns_zstd", payload)

    def ours(self, seq: int, samples: list[Sample]) -> bytes:
        began = time.process_time()
        payload = telemetry_frame(SITE, seq, samples)
        self.cpu_s["agent"] += time.process_time() - began
        self.count("agent", payload)
        self._full.append((seq, payload))
        if len(self._full) == MEANS_IN_A_FRAME:
            self.count("agent_metered", summary_frame(SITE, seq, self._full, 60.0))
            self._full.clear()
        return payload


def on_disk(store: TelemetryDb, folder: Path) -> int:
    """Bytes of the database after its write-ahead log is folded in."""
    store.database.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(path.stat().st_size for path in folder.glob("telemetry.db*"))


def measure(hours: float, seed: int) -> dict[str, Any]:
    """All figures, scaled to a day."""
    frames, samples = Frames(), list(day(hours, seed))
    assert len(flat(samples[0])) == POINTS
    scale = 24.0 / hours / 1e6
    with tempfile.TemporaryDirectory() as folder:
        store = TelemetryDb(Path(folder), Quota())
        store.start(None, dict.fromkeys(Stream, (0, 0)))
        before = 0
        for begin in range(0, len(samples), FRAME_S):
            part = samples[begin : begin + FRAME_S]
            for sample in part:
                store.add_sample(sample)
            store.seal_frame(lambda seq, these: frames.ours(seq, list(these)), part[-1].at_utc_s, Stream.TELEMETRY)
            if not before:  # with the pages that samples wait in, which are used over and over
                before = on_disk(store, Path(folder))
            frames.bare(part)
            frames.plain_columns(begin // FRAME_S + 1, part)
        disk = (on_disk(store, Path(folder)) - before) * scale
        whole = [sample for _, payload in store.kept(Stream.TELEMETRY, 0, 2**62, 10**6) for sample in rows_of(payload)]
        store.database.close()
    assert len(whole) == len(samples), "every sample can be read again"
    ways = {
        way: {
            "payload_mb_per_day": round(size * scale, 2),
            "wire_mb_per_day": round(frames.wire[way] * scale, 2),
            "cpu_ms_per_frame": round(frames.cpu_s[way] / (len(samples) / FRAME_S) * 1e3, 2),
        }
        for way, size in frames.payload.items()
    }
    met = ways["agent"]["wire_mb_per_day"] <= TARGET_MB and disk <= TARGET_MB
    return {
        "points": POINTS, "hours": hours, "frame_s": FRAME_S, "ways": ways, "disk_mb_per_day": round(disk, 2),
        "target_mb_per_day": TARGET_MB, "met": met,
    }  # fmt: skip


def rows_of(payload: bytes) -> list[int]:
    """The times of a frame's rows."""
    return list(read_frame(payload).t_ms)


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of `measure`."""
    ours, bare = result["ways"]["agent"], result["ways"]["json_per_sample"]
    does = "a JSON message per sample"
    return [
        Figure("frames.wire", f"a day of {POINTS} points at 1 s on the wire, all headers", ours["wire_mb_per_day"], "MB",
               bare["wire_mb_per_day"], does, TARGET_MB),
        Figure("frames.disk", "the same on disk", result["disk_mb_per_day"], "MB", bare["payload_mb_per_day"],
               f"{does}, its bytes alone", TARGET_MB),
        Figure("frames.metered", "the same on a metered link, means of a minute",
               result["ways"]["agent_metered"]["wire_mb_per_day"], "MB", bare["wire_mb_per_day"], does),
    ]  # fmt: skip


def main() -> int:
    """0 when the targets are met, 1 when not."""
    parser = argparse.ArgumentParser(description="What a day of telemetry takes on the wire and on disk.")
    parser.add_argument("--hours", type=float, default=24.0, help="hours of samples that are written (default 24)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result = measure(options.hours, options.seed)
    print(json.dumps(result, indent=2))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
