"""How far control ticks stray while the disk misbehaves: `python -m tests.benchmarks.disk_faults [--seconds 20]`.

The whole daemon with broker and simulated plant, five ticks a second; ticks are heard from outside, as the watchdog hears them. Prints
the distance of the ticks from their beat in ms, median, p99 and worst, for a sound disk and for each fault.
"""

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from integration_site import TICK_S, Agent, CountingCloud, SitePlant, document, until
from integration_ticks import Ticks

from tests.conftest import Mosquitto
from tests.disk_shim import Disk

FAULTS = {
    "sound": Disk.heal,
    "full": Disk.full,
    "read-only": Disk.read_only,
    "fsync fails": Disk.fsync_fails,
    "writes fail": Disk.writes_fail,
    "fsync takes 5 s": lambda disk: disk.slow(5.0),
}


def measured(place, seconds):
    """Milliseconds from the beat by fault: [median, p99, worst, ticks heard]."""
    binary = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    with contextlib.ExitStack() as ending:
        broker = Mosquitto(binary, place).start()
        ending.callback(broker.stop)
        plant, ticks, disk = SitePlant(), Ticks(), Disk(place)
        ending.callback(plant.close)
        ending.callback(ticks.close)
        cloud = CountingCloud(broker)
        ending.callback(cloud.close)
        agent = Agent(place, plant, broker=broker.url)
        agent.environment = disk.environment(place / "store") | ticks.environment
        ending.callback(agent.close)
        agent.start()
        cloud.send(document(1, [40.0, -40.0] * 1000))
        cloud.ack(1, "active")
        found = {}
        for version, (name, begin) in enumerate(FAULTS.items(), start=2):
            begin(disk)
            began = time.time()
            cloud.send(document(version, [40.0, -40.0] * 1000))
            until(lambda began=began: time.time() - began > seconds, "its time", seconds + 10.0)
            off_s = sorted(abs(at - round(at / TICK_S) * TICK_S) for at in ticks.since(began))
            disk.heal()
            p99 = off_s[int(0.99 * (len(off_s) - 1))]
            found[name] = [*(round(1000 * one, 1) for one in (statistics.median(off_s), p99, off_s[-1])), len(off_s)]
        return found


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=20.0)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="disk_") as place:
        print(json.dumps(measured(Path(place), asked.seconds)))


if __name__ == "__main__":
    main()
