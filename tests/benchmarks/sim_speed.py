"""How quickly a site is simulated: `python -m tests.benchmarks.sim_speed [--days 1]`.

`ems simulate` on the example site, the real control tick once a simulated second, beside the fixed pure-Python loop of
`step_time` in the same run. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median
from time import process_time
from typing import Any

from tests.benchmarks.daemon_cost import ROOT, environment
from tests.benchmarks.figures import Figure
from tests.benchmarks.step_time import reference

SITE = "config/site.example.toml"
LOOPS = 50


def measure(days: int) -> dict[str, Any]:
    """All figures, in processor time: other work on the machine does not count."""
    command = [sys.executable, "-m", "agent.cli.main", "simulate", SITE, "--days", str(days), "--tick", "1"]
    done = subprocess.run(
        [*command, "--no-references", "--json"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    result = json.loads(done.stdout.splitlines()[-1])["result"]
    loops = []
    for _ in range(LOOPS):
        began = process_time()
        reference()
        loops.append(process_time() - began)
    return {
        "days": days,
        "days_per_s": round(days / result["cpu_s"], 3),
        "us_per_tick": round(result["us_per_tick"], 1),
        "reference_loop_us": round(median(loops) * 1e6, 1),
        "violations": result["violations"]["count"],
    }


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of `measure`."""
    a_day = (
        "days of a site simulated in a second of one core, `ems simulate` at 1 s (beside: ticks that last as one loop)"
    )
    return [
        Figure("simulate.days", a_day, result["days_per_s"], "days/s",
               round(1e6 / result["reference_loop_us"] / 86_400, 4), "one reference loop a tick", None, "more"),
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=1)
    print(json.dumps(measure(parser.parse_args().days), indent=2))
