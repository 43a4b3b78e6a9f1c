"""`make test-install`: the agent on a real booted Debian, from the installation to the power cut. Needs root.

Exit code 0: every step held; 1: one did not, and the rest was not tried; 2: this machine cannot run the test.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from gateway import Gateway, put_simulator
from machine import Failed, Machine, base, missing
from steps import STEPS


def main():
    if lacks := missing():
        print("make test-install cannot run here. It needs:", *lacks, sep="\n  ", file=sys.stderr)
        return 2
    suite = os.environ.get("SUITE", "bookworm")
    cache = Path(os.environ.get("CACHE", "/var/tmp/ems-agent-install"))
    with tempfile.TemporaryDirectory(prefix="ems-install-", dir="/var/tmp") as scratch:
        began_s = time.monotonic()
        machine = Machine(Path(scratch) / "gateway", base(suite, cache))
        put_simulator(machine.root)
        gateway = Gateway(machine)
        print(f"Debian {suite}, made ready in {time.monotonic() - began_s:.1f} s", flush=True)
        try:
            return walk(gateway)
        finally:
            machine.off()


def walk(gateway):
    """The exit code after the steps, each told when it is done."""
    for number, (name, step) in enumerate(STEPS, 1):
        began_s = time.monotonic()
        try:
            seen = step(gateway)
        except Failed as failure:
            print(f"{number:3}  FAILED  {time.monotonic() - began_s:6.1f} s  {name}\n{failure}", flush=True)
            print("--- journal of ems-agent\n" + last_words(gateway), flush=True)
            return 1
        print(
            f"{number:3}  held    {time.monotonic() - began_s:6.1f} s  {name}" + (f": {seen}" if seen else ""),
            flush=True,
        )
    print(f"all {len(STEPS)} steps held")
    return 0


def last_words(gateway):
    try:
        return gateway.journal("-60")
    except Failed as failure:
        return str(failure)


if __name__ == "__main__":
    sys.exit(main())
