"""Kills a process that stores plans, over and over, and looks at what is left: `kill_storm.py --kills 100`.

Prints {"kills", "stored", "torn", "lost", "repeated", "samples", ...}: plans acknowledged in all, plans on disk that
are not whole, plans acknowledged and then not there, sequences that came twice with other content, samples kept in
all, and of those the ones lost or in two frames. Exit code 0 only if nothing went wrong. The judge reads the files with SQLite alone and shares no code with the store.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from store_values import BUILD_FRAME, NOW, event, open_store, plan, sample, slot  # noqa: E402 - the paths come first

from agent.core.records import Stream  # noqa: E402
from simulators.cloud_messages import column_values, read_message  # noqa: E402

SLOTS = 400
LONGEST_LIFE_S = 0.04


async def store_for_ever(directory, say):
    """Stores plan after plan, with telemetry and events between; says each number once it is durable."""
    store = await open_store(directory)
    held = (await store.load()).documents
    version = held[0].version if held else 0
    while True:
        version += 1
        await store.save_document(*plan(version, size=SLOTS))
        say({"version": version})
        await store.append_event(event(number=version))
        for i in range(3):
            await store.append_sample(sample(NOW + version * 10 + i, boot=f"{os.getpid()}"))
            say({"sample": NOW + version * 10 + i})
        await store.seal_frame(BUILD_FRAME)
        await store.save_slot(slot(NOW + version * 1800))
        for stream in Stream:
            for seq, payload in await store.pending(stream, await store.last_seq(stream) - 1, 1):
                say({"stream": stream.value, "seq": seq, "sha256": hashlib.sha256(payload).hexdigest()})
        if version % 20 == 0:
            await store.confirm(Stream.TELEMETRY, await store.last_seq(Stream.TELEMETRY) - 50)


def one_life(directory, chance):
    """What the child said before it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            asyncio.run(store_for_ever(directory, lambda said: os.write(writing, json.dumps(said).encode() + b"\n")))
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        first = pipe.readline() if chance.random() < 0.8 else b""  # the others die while they open their files
        time.sleep(chance.uniform(0, LONGEST_LIFE_S))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        lines = [first, *pipe.readlines()]
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


class Judge:
    """Remembers what was said, and looks for it on disk."""

    def __init__(self, directory):
        self._directory = directory
        self._content = {}
        self._frame_of = {}
        self._said_samples = set()
        self.stored = 0
        self.wrong = Counter(torn=0, lost=0, repeated=0, samples_lost=0, samples_doubled=0)

    @property
    def samples(self):
        return len(self._said_samples)

    def hear(self, said):
        for line in said:
            if "version" in line:
                self.stored = max(self.stored, line["version"])
            elif "sample" in line:
                self._said_samples.add(line["sample"])
            else:
                self._meet(line["stream"], line["seq"], line["sha256"])

    def _meet(self, stream, seq, sha256):
        self.wrong["repeated"] += self._content.setdefault((stream, seq), sha256) != sha256

    def look(self):
        self._look_at_plans()
        telemetry = sqlite3.connect(self._directory / "telemetry.db")
        waiting = "SELECT stream, seq, payload FROM outbox"
        for stream, seq, payload in telemetry.execute(
            f"{waiting} UNION ALL {waiting.replace('outbox', 'ledger_outbox')}"
        ):
            self._meet(stream, seq, hashlib.sha256(payload).hexdigest())
            for instant in instants(read_message(payload, "demo-01")):
                self.wrong["samples_doubled"] += self._frame_of.setdefault(instant, seq) != seq
        staged = {row[0] for row in telemetry.execute("SELECT at_utc_s FROM staged")}
        telemetry.close()
        self.wrong["samples_doubled"] += len(staged & self._frame_of.keys())
        self.wrong["samples_lost"] += len(self._said_samples - staged - self._frame_of.keys())

    def _look_at_plans(self):
        control = sqlite3.connect(self._directory / "control.db")
        rows = control.execute("SELECT version, sha256, document FROM plans ORDER BY version DESC").fetchall()
        outcomes = {row[0] for row in control.execute("SELECT version FROM outcomes WHERE stage = 'stored'")}
        control.close()
        for version, sha256, document in rows:
            whole = hashlib.sha256(document).hexdigest() == sha256 and document == plan(version, size=SLOTS)[1]
            self.wrong["torn"] += not (whole and version in outcomes)
        self.wrong["lost"] += not rows or rows[0][0] < self.stored or self.stored not in outcomes


def instants(message):
    """The times of a frame's samples; none for another message."""
    start = datetime.fromisoformat(message["start"]).timestamp() if "start" in message else 0
    return [start + t_ms / 1000 for t_ms in column_values(message.get("t_ms", []))]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    chance = random.Random(asked.seed)
    directory = Path(tempfile.mkdtemp(prefix="kill_storm_"))
    judge = Judge(directory)
    for _ in range(asked.kills):
        judge.hear(one_life(directory, chance))
        if judge.stored:
            judge.look()
    shutil.rmtree(directory)
    print(json.dumps({"kills": asked.kills, "stored": judge.stored, "samples": judge.samples} | judge.wrong))
    return int(sum(judge.wrong.values()) > 0)


if __name__ == "__main__":
    sys.exit(main())
