"""Kills the whole daemon over and over under load: `agent_kill_storm.py --kills 100 --seed 1`.

Real process, real files, real broker, a simulated plant over real Modbus. Meanwhile a cloud sends plans and commands; each life
ends by kill -9 at a random instant: while it starts, while it polls, takes plans and commands, publishes. After each kill the
files are looked at as they lie (copies of them, with SQLite alone); in the end the cloud must have everything once.

Prints {"kills", "plans_stored", "commands", "lost_plans", "torn", "broken", "unread_writes", "unanswered", "answered_twice", "gaps",
"back_in_control_s": [median, worst], ...}; exit code 0 only if nothing went wrong and control was always back within 15 s.
"""

import argparse
import hashlib
import json
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from integration_site import PLANNING_SITE_FILE, Agent, CountingCloud, SitePlant, document, until  # noqa: E402 - the paths come first

from tests.conftest import CONFIG, Mosquitto  # noqa: E402

TERMINAL = {"rejected", "done", "failed", "expired"}
IN_CONTROL_S = 15.0
READS, WRITES = {3, 4}, {6, 16}
"""Function codes of Modbus."""
PLAN_EVERY_S, COMMAND_EVERY_S = 0.4, 0.5
PROGRAM = "import agent.core.crash_loop as loop; loop.CRASHES = 1_000_000; from agent.cli.main import main; main()"
"""The daemon as it is, but for safe mode after a crash loop, in which it would move no power."""
MEASURED_EVERY = 5
"""Each life of so many goes on until a setpoint is verified, and is timed."""


class Load:
    """Plans and commands, one after another, until it is stopped."""

    def __init__(self, cloud, chance):
        self._cloud, self._chance = cloud, chance
        self._ending = threading.Event()
        self.commands = []
        self.version = 0
        self._thread = threading.Thread(target=self._send, name="load")
        self._thread.start()

    def _send(self):
        next_plan = next_command = time.monotonic()
        while not self._ending.wait(0.02):
            now = time.monotonic()
            if now >= next_plan:
                self.version += 1
                self._cloud.send(document(self.version, [self._chance.uniform(-90.0, 90.0) for _ in range(300)]))
                next_plan = now + PLAN_EVERY_S
            if now >= next_command:
                self._command()
                next_command = now + COMMAND_EVERY_S

    def _command(self):
        name = f"c{len(self.commands)}"
        self.commands.append(name)
        kind = self._chance.choice(["set_power", "hold", "neutral", "report", "narrow_limits"])
        params = {} if kind == "report" else {"duration_s": self._chance.uniform(0.5, 3.0)}
        if kind == "set_power":
            params["power"] = self._chance.uniform(-90.0, 90.0)
        if kind == "narrow_limits":
            params["charge_limit"] = 80.0
        self._cloud.command(kind, name, valid_s=600.0, **params)

    def stop(self):
        self._ending.set()
        self._thread.join()


class Storm:
    """One site, killed again and again."""

    def __init__(self, place, broker, chance):
        self._chance = chance
        self.plant, self.cloud = SitePlant(), CountingCloud(broker)
        self.agent = Agent(place, self.plant, broker=broker.url, dead_man="5 s", text=PLANNING_SITE_FILE)
        self.agent.program = [sys.executable, "-c", PROGRAM]
        self.agent.start()
        until(lambda: self.agent.status()["cloud"]["connected"], "the broker knows the site", 60.0)
        self.agent.kill()
        self.wrong = Counter(lost_plans=0, torn=0, broken=0, unread_writes=0)
        self.back_s = []
        self.in_flood = 0

    def stored(self):
        """The newest plan that the site said is on its disk."""
        found = [
            ack["version"] for ack in list(self.cloud.acks) if ack["stage"] == "stored" and ack["kind"] == "rolling"
        ]
        return max(found, default=0)

    def one_life(self, number):
        asked = self.plant.site._battery_server.asked
        asked.clear()
        born = time.monotonic()
        self.agent.spawn()
        if number % MEASURED_EVERY == 0:
            until(lambda: asked_a_write(asked), "a setpoint is written", 60.0)
            self.back_s.append(time.monotonic() - born)
        elif self._chance.random() < 0.3:
            pass  # dies while it starts
        else:
            until(lambda: asked, "it reads its devices", 60.0)
        time.sleep(self._chance.uniform(0.0, 1.0))
        promised = self.stored()
        self.agent.kill()
        self.look(asked, promised)

    def look(self, asked, promised):
        """The files as the killed process left them, and what it wrote to the battery."""
        functions = [request[0] for unit, request in list(asked) if unit == 1]
        written = [index for index, function in enumerate(functions) if function in WRITES]
        self.wrong["unread_writes"] += bool(written) and not READS & set(functions[: written[0]])
        with copied(self.agent.folder / "store") as directory:
            if not (directory / "control.db").exists():
                self.wrong["lost_plans"] += promised > 0
                return
            for name in ("control.db", "telemetry.db"):
                if (directory / name).exists():
                    self.wrong["broken"] += checked(directory / name) != "ok"
            database = sqlite3.connect(directory / "control.db")
            has_plans = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'plans'").fetchone()
            rows = database.execute("SELECT version, sha256, document FROM plans").fetchall() if has_plans else []
            database.close()
        self.wrong["torn"] += sum(hashlib.sha256(document).hexdigest() != sha256 for _, sha256, document in rows)
        self.wrong["lost_plans"] += max((row[0] for row in rows), default=0) < promised

    def end(self, commands):
        """The last life is not killed: what is left must come in order."""
        self.agent.start()

        def ended():
            found = [(ack["id"], ack["stage"], ack["seq"]) for ack in list(self.cloud.acks) if ack.get("id")]
            return Counter(name for name, stage, seq in found if stage in TERMINAL and seq is not None)

        with suppress(AssertionError):
            until(lambda: all(ended()[name] for name in commands), "every command has its outcome", 60.0)
        terminal = ended()
        with copied(self.agent.folder / "store") as directory:
            database = sqlite3.connect(directory / "control.db")
            taken = {row[0] for row in database.execute("SELECT command_id FROM commands")}
            database.close()
        # What the rate limit refuses is neither judged nor kept, and told once, if the line is up just then.
        self.in_flood = len({name for name in commands if not terminal[name]} - taken)
        self.wrong["unanswered"] = len({name for name in commands if not terminal[name]} & taken)
        # A slot and a frame of each second are always under way.
        until(lambda: self.agent.status()["cloud"]["outbox_depth"] <= 2, "everything is at the cloud", 120.0)
        self.wrong["answered_twice"] = sum(terminal[name] > 1 for name in commands)
        self.wrong["gaps"] = 0
        try:
            self.cloud.assert_complete()
        except AssertionError as gap:
            print(gap, file=sys.stderr)
            self.wrong["gaps"] = 1
        codes = {event["code"] for event in self.agent.ask("events", limit=500)["result"]}
        self.wrong["broken"] += "database_damaged" in codes or "document_damaged" in codes

    def close(self):
        self.agent.close()
        self.cloud.close()
        self.plant.close()


def asked_a_write(asked):
    return any(unit == 1 and request[0] in WRITES for unit, request in list(asked))


@contextmanager
def copied(directory):
    """The files as they lie: to look at them in their place would mend them."""
    place = Path(tempfile.mkdtemp(prefix="look_"))
    for name in ("control.db", "telemetry.db"):
        for side in ("", "-wal"):
            if (directory / f"{name}{side}").exists():
                shutil.copy2(directory / f"{name}{side}", place / f"{name}{side}")
    yield place
    shutil.rmtree(place)


def checked(path):
    database = sqlite3.connect(path)
    try:
        return database.execute("PRAGMA quick_check(1)").fetchone()[0]
    finally:
        database.close()


def quiet_broker(place):
    """A broker that is never killed: writing all it has to its disk with each change would make it the slowest part."""
    config = CONFIG.replace("autosave_on_changes true\nautosave_interval 1\n", "")
    assert config != CONFIG
    return Mosquitto(shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin"), place, config).start()


def storm(place, kills, seed, most_s):
    """What a storm of so many kills found; it ends early, and well, when its time is over."""
    chance = random.Random(seed)
    broker = quiet_broker(place)
    site = Storm(place, broker, chance)
    began, done = time.monotonic(), 0
    try:
        load = Load(site.cloud, chance)
        try:
            while done < kills and time.monotonic() - began < most_s:
                site.one_life(done)
                done += 1
                if done % 50 == 0:
                    print(f"{done} kills, {dict(site.wrong)}", file=sys.stderr, flush=True)
        finally:
            load.stop()
        site.end(load.commands)
    finally:
        site.close()
        broker.stop()
    late = sum(back_s > IN_CONTROL_S for back_s in site.back_s)
    told = {"kills": done, "plans_sent": load.version, "plans_stored": site.stored(), "commands": len(load.commands)}
    told["refused_in_flood"] = site.in_flood
    told["frames"] = len(site.cloud.seqs("telemetry"))
    told["back_in_control_s"] = [round(statistics.median(site.back_s), 2), round(max(site.back_s), 2)]
    return told | dict(site.wrong) | {"late": late}, sum(site.wrong.values()) + late


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--most-s", type=float, default=3600.0, help="begin no further life after this")
    asked = options.parse_args()
    place = Path(tempfile.mkdtemp(prefix="storm_"))
    try:
        told, wrong = storm(place, asked.kills, asked.seed, asked.most_s)
    finally:
        shutil.rmtree(place)
    print(json.dumps(told))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
