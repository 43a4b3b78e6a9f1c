"""`make test-install`: the agent on a real booted Debian, from the installation to the power cut. Needs root.

SUITE=bookworm (Debian 12, the default) or trixie (13). The fresh Debian is kept in $CACHE for the next time. Exit code
0: every step held; 1: one did not, and the rest was not tried; 2: this machine cannot run the test.
"""

import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from bundles import TARGETS, Bundles
from gateway import Gateway
from machine import Failed, Machine, base, missing
from site_inside import put_simulator
from steps import FIRST_VERSION, STEPS


def main():
    """The exit code."""
    suite = os.environ.get("SUITE", "bookworm")
    lacks = missing()
    if suite not in TARGETS:
        lacks.append(f"SUITE to be one of {', '.join(TARGETS)}, not {suite}")
    if platform.machine() != "x86_64":
        lacks.append(f"an x86-64 machine, this is {platform.machine()}")
    if lacks:
        print("make test-install cannot run here. It needs", *lacks, sep="\n  ", file=sys.stderr)
        return 2
    cache = Path(os.environ.get("CACHE", "/var/tmp/ems-agent-install"))
    with tempfile.TemporaryDirectory(prefix="ems-install-", dir="/var/tmp") as scratch:
        began_s = time.monotonic()
        machine = Machine(Path(scratch) / "gateway", base(suite, cache))
        bundles = Bundles(Path(scratch), suite)
        put_simulator(machine.root, bundles.of(FIRST_VERSION))
        print(f"Debian {suite} and a bundle for it, made ready in {time.monotonic() - began_s:.1f} s", flush=True)
        try:
            return walk(Gateway(machine, bundles))
        finally:
            machine.off()


def walk(gateway):
    """The exit code after the steps, each told when it is done."""
    whole_s = time.monotonic()
    for number, (name, step) in enumerate(STEPS, 1):
        began_s = time.monotonic()
        try:
            seen = step(gateway)
        except Failed as failure:
            told(number, "FAILED", began_s, name)
            print(failure, *last_words(gateway), sep="\n", flush=True)
            return 1
        told(number, "held", began_s, name, seen)
    print(f"all {len(STEPS)} steps held, in {time.monotonic() - whole_s:.0f} s")
    return 0


def told(number, word, began_s, name, seen=None):
    print(
        f"{number:3}  {word:6} {time.monotonic() - began_s:6.1f} s  {name}" + (f": {seen}" if seen else ""), flush=True
    )


def last_words(gateway):
    """What the services wrote last, the agent and what changes its version."""
    for unit in ("ems-agent", "ems-agent-update"):
        yield f"--- journal of {unit}"
        try:
            yield gateway.journal(40, unit)
        except Failed as failure:
            yield f"{failure}\n{gateway.machine.console()[-2000:]}"


if __name__ == "__main__":
    sys.exit(main())
