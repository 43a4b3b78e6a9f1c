"""Kills a process that takes commands, over and over: `command_storm.py --commands 100000 --kills 2000`.

The parent is the cloud and the broker: it sends each command until it is answered, mixes in commands that were answered
long ago and others under the same id, and kills the process with -9 in between. Then it reads what is on disk with SQLite
alone. Prints {"commands", "kills", "answered_twice", "unanswered", "effects", "effects_twice", "effects_of_refused", ...};
exit code 0 only if every id has exactly one terminal outcome and at most one effect. SIGTERM ends it early, with the verdict
on what came so far.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import structlog

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE), str(HERE.parent / "store")]

from runtime_commands import Site, message  # noqa: E402 - the paths come first
from store_values import ANNOUNCE  # noqa: E402

from agent.core.records import Stream  # noqa: E402
from agent.store import Store  # noqa: E402

TERMINAL = {"rejected", "done", "failed", "expired"}
REFUSED = ("beyond", "late")
"""Commands of these names must not have any effect."""
REPORTED, SENT_AGAIN = "a report", "messages once more"
"""What is noted of commands that move nothing."""
AT_ONCE = 300
"""Commands of one life at most."""
SPEED = 50.0
"""The monotonic clock of the desk runs so much faster: effects of a second end within a life, the rate limit is wide."""


class FastClock:
    def utc_s(self):
        return time.time()

    def mono_s(self):
        return time.monotonic() * SPEED

    async def sleep_until(self, mono_s):
        await asyncio.sleep(max(0.0, mono_s / SPEED - time.monotonic()))


class NotingSite(Site):
    """Notes each effect before anything else can know of it."""

    def __init__(self, store, note):
        self._note = note
        self._moving = None
        super().__init__(store, FastClock())

    def restored(self):
        """What moves the battery goes on; that is no second effect."""
        self._moving = self.book.order and self.book.order.command_id

    async def _act(self):
        moving = self.book.order and self.book.order.command_id
        if moving not in {None, self._moving}:
            self._note(moving)
        self._moving = moving

    def _report(self):
        self._note(REPORTED)

    async def _work(self, _command):
        """Sending the same messages once more is no second effect: it begins again after a kill."""
        self._note(SENT_AGAIN)
        return "done"


def body(name, number, now_s):
    """The command of this number, the same whenever it is asked for."""
    chance = random.Random(number)
    issued = now_s
    kind = chance.choice(["set_power", "set_power", "hold", "neutral", "release", "report", "resend", "narrow_limits"])
    params = (
        {"duration_s": chance.uniform(0.5, 30.0)} if kind in {"set_power", "hold", "neutral", "narrow_limits"} else {}
    )
    if kind == "set_power":
        params["power"] = float(chance.randint(-400, 500))
    if kind == "resend":
        params = {"stream": "ack", "from_seq": 1, "to_seq": 5}
    if kind == "narrow_limits":
        params["charge_limit"] = float(chance.randint(0, 400))
    if name == "beyond":
        kind, params = "set_power", {"power": 9_000.0, "duration_s": 1.0}
    if name == "late":
        issued = now_s - 100_000.0
    return message(kind, f"{name}-{number}", issued=issued, valid_s=80_000.0, **params)


async def take(directory, payloads, confirmed, note, say, *, to_the_end):
    """One life of the process: what is in force goes on, the commands come, and then more time passes."""
    store = await Store.open(directory, ANNOUNCE, time.time)
    await store.confirm(Stream.ACK, confirmed)
    site = NotingSite(store, note)
    held = await store.load()
    site.desk.restore(held.commands, time.time())
    site.restored()
    working = asyncio.create_task(site.desk.run())
    ticking = asyncio.create_task(tick(site))
    for number, payload in payloads:
        outcome = await site.send(payload)
        if outcome.reason not in {"rate_limited", "storage_failed"}:
            say({"answered": number})
        if outcome.reason == "too_many":
            say({"crowded": 1})
    while to_the_end and (await store.load()).commands:  # noqa: ASYNC110 - the disk has no event
        await asyncio.sleep(0.02)
    if to_the_end:
        working.cancel()
        ticking.cancel()
        await store.close()
    else:
        await asyncio.Event().wait()


async def tick(site):
    while True:
        site.tick(site.book.order and site.book.order.command_id if site.book else None)
        await asyncio.sleep(0.01)


def one_life(directory, payloads, confirmed, effects, *, life_s):
    """What the child said; killed after `life_s`, or left to end by itself."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(reading)

        def say(line):
            os.write(writing, json.dumps(line).encode() + b"\n")

        def note(command_id):
            os.write(effects, f"{command_id}\n".encode())

        try:
            asyncio.run(take(directory, payloads, confirmed, note, say, to_the_end=life_s is None))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        if life_s is not None:
            time.sleep(life_s)
            os.kill(child, signal.SIGKILL)
        lines = pipe.readlines()
        _, status = os.waitpid(child, 0)
    assert life_s is not None or status == 0, "the last life must end well"
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


class Cloud:
    """Sends until it is answered, and counts the terminal outcomes that came with a sequence."""

    def __init__(self, commands, chance, directory):
        self.left = commands
        self.stopped = False
        self.number = 0
        self.unanswered = {}
        self.answered = []
        self.terminal = Counter()
        self.accepted = Counter()
        self.crowded = 0
        self.heard_to = 0
        self._chance = chance
        self._directory = directory

    def stop(self):
        """No further commands: what came so far is judged."""
        self.left, self.stopped = 0, True

    def batch(self):
        """What comes in this life: everything unanswered, new ones, old ones again, and others under an old id."""
        while len(self.unanswered) < AT_ONCE and self.left:
            self.left -= 1
            self.number += 1
            name = self._chance.choices(["c", "beyond", "late"], [18, 1, 1])[0]
            self.unanswered[self.number] = body(name, self.number, time.time())
        found = list(self.unanswered.items())
        again = self._chance.sample(self.answered, min(len(self.answered), len(found) // 10))
        for number, payload in again:
            other = payload.replace(b'"params"', b'"params" ') if self._chance.random() < 0.5 else payload
            found.insert(self._chance.randrange(len(found) + 1), (number, other))
        return found

    def hear(self, lines):
        for line in lines:
            self.crowded += line.get("crowded", 0)
            payload = self.unanswered.pop(line.get("answered"), None)
            if payload is not None:
                self.answered.append((line["answered"], payload))
                del self.answered[:-5_000]

    def read_acks(self):
        """The acks on disk that were not read before, by SQLite alone."""
        database = sqlite3.connect(self._directory / "telemetry.db")
        # Killed while it makes the file, the agent has no tables in it yet.
        made = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'outbox'").fetchone()
        sql = "SELECT seq, payload FROM outbox WHERE stream = 'ack' AND seq > ? ORDER BY seq"
        rows = database.execute(sql, (self.heard_to,)).fetchall() if made else []
        database.close()
        for seq, payload in rows:
            assert seq == self.heard_to + 1, f"the sequence jumps from {self.heard_to} to {seq}"
            self.heard_to = seq
            ack = json.loads(payload)
            if ack["stage"] in TERMINAL:
                self.terminal[ack["id"]] += 1
            elif ack["stage"] == "accepted":
                self.accepted[ack["id"]] += 1


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--commands", type=int, default=2000)
    options.add_argument(
        "--kills", type=int, default=50, help="at least so many; the rest of the commands comes without"
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--life", type=float, default=1.2, help="of the process at most, s")
    asked = options.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    chance = random.Random(asked.seed)
    directory = Path(tempfile.mkdtemp(prefix="command_storm_"))
    effects_file = directory / "effects"
    effects = os.open(effects_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    cloud = Cloud(asked.commands, chance, directory)
    kills, begun_s = 0, time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: cloud.stop())
    while cloud.left or (kills < asked.kills and not cloud.stopped):
        payloads = cloud.batch()
        cloud.hear(one_life(directory, payloads, cloud.heard_to, effects, life_s=chance.uniform(0.0, asked.life)))
        kills += 1
        if (directory / "telemetry.db").exists():
            cloud.read_acks()
        if kills % 100 == 0:
            print(f"{kills} kills, {cloud.number} commands, {time.monotonic() - begun_s:.0f} s", file=sys.stderr)
    while cloud.unanswered:
        cloud.hear(one_life(directory, cloud.batch(), cloud.heard_to, effects, life_s=None))
        cloud.read_acks()
    one_life(directory, [], cloud.heard_to, effects, life_s=None)
    cloud.read_acks()
    result = verdict(asked, cloud, kills, directory, effects_file.read_text().split("\n")[:-1])
    shutil.rmtree(directory)
    print(json.dumps(result))
    return int(any(result["wrong"].values()))


def verdict(asked, cloud, kills, directory, effects):
    """What the disk and the file of effects say."""
    had = Counter(name for name in effects if name not in {REPORTED, SENT_AGAIN})
    database = sqlite3.connect(directory / "control.db")
    stages = Counter(stage for (stage,) in database.execute("SELECT stage FROM commands"))
    database.close()
    return {
        "asked": asked.commands,
        "commands": cloud.number,
        "kills": kills,
        "stages": dict(stages),
        "effects": len(had),
        "refused_for_too_many": cloud.crowded,
        "wrong": {
            "ids_without_one_terminal_outcome": cloud.number - sum(count == 1 for count in cloud.terminal.values()),
            "ids_with_more": sum(count > 1 for count in cloud.terminal.values()),
            "ids_accepted_twice": sum(count > 1 for count in cloud.accepted.values()),
            "effects_twice": sum(count > 1 for count in had.values()),
            "effects_of_refused": sum(name.startswith(REFUSED) for name in had),
            "open": stages["accepted"],
        },
    }


if __name__ == "__main__":
    sys.exit(main())
