"""Whether the agent became dearer: `python -m tests.benchmarks.gate`, after `make bench`.

Compares the ratios of build/bench.json, each figure over its bare reference of the same run, with those that were accepted
(`accepted_ratios.json`): times of different machines and busy hours do not compare, ratios do. Exit code 1 when one is
worse by more than its margin, or is gone. `--accept` takes the present ratios as the new ones, and keeps the margins.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import RESULTS, number, read

ACCEPTED = Path(__file__).parent / "accepted_ratios.json"
MARGIN = 0.5
"""Of ratios seen on a machine that others use too; a figure that strays more has its own in the file."""


def ratios(found: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """The ratio of each figure that has a reference, and whether less or more is better.

    Without those of other gateways, and those beside the C loop: not every machine can run it.
    """
    figures = [figure for name, one in found["parts"].items() if name != "peers" for figure in one["figures"]]
    return {
        figure["name"]: (figure["ratio"], figure["better"])
        for figure in figures
        if figure["ratio"] and not figure["name"].endswith(".c")
    }


def judged(accepted: Mapping[str, Mapping[str, float]], now: Mapping[str, tuple[float, str]]) -> list[str]:
    """A line for each figure that is worse than accepted by more than its margin, or missing."""
    found = []
    for name, kept in accepted.items():
        if name not in now:
            found.append(
                f"{name}: not measured; run make bench, or python -m tests.benchmarks.bench --only {name.split('.')[0]}"
            )
            continue
        ratio, better = now[name]
        worse = ratio / kept["ratio"] if better == "less" else kept["ratio"] / ratio
        if worse > 1.0 + kept["margin"]:
            found.append(
                f"{name}: {number(ratio)} times its reference, accepted are {number(kept['ratio'])} "
                f"({100 * (worse - 1):.0f} % worse, margin {100 * kept['margin']:.0f} %)"
            )
    return found


def accepted_anew(accepted: Mapping[str, Mapping[str, float]], now: Mapping[str, tuple[float, str]]) -> dict[str, Any]:
    """The present ratios, with the margins as they were."""
    return {
        name: {"ratio": round(ratio, 4), "margin": accepted.get(name, {}).get("margin", MARGIN)}
        for name, (ratio, _) in sorted({**now}.items())
    }


def main() -> int:
    """0 when nothing is worse by more than its margin."""
    parser = argparse.ArgumentParser(description="Whether the agent became dearer than what was accepted.")
    parser.add_argument("--accept", action="store_true", help="take the present ratios as the accepted ones")
    options = parser.parse_args()
    if not RESULTS.exists():
        print(f"{RESULTS} is not there: run make bench first", file=sys.stderr)
        return 1
    accepted = json.loads(ACCEPTED.read_text()) if ACCEPTED.exists() else {}
    now = ratios(read())
    if options.accept:
        ACCEPTED.write_text(json.dumps(accepted_anew(accepted, now), indent=1) + "\n")
        return 0
    found = judged(accepted, now)
    print("\n".join(found or [f"{len(accepted)} ratios within their margins"]), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
