"""How long a re-planning takes from request to checked plan, process start included.

`python -m tests.benchmarks.replan_time`. 96 and 192 half-hour slots of real prices, PV, load and an award. Prints one
JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from statistics import median
from typing import Any

from agent.core.plan import Target
from agent.core.replan_request import ReplanRequest, ReplanSlot
from agent.core.replan_rules import rule_plan
from agent.replan.check import check
from agent.replan.cost import cost
from agent.replan.model import solve
from agent.replan.runner import Replanned, replan
from simulators.market import SHOW_START, load_jepx
from tests.benchmarks.daemon_cost import timed_s
from tests.benchmarks.figures import Figure

RUNS = 10
SLOT_S = 1800.0
BARE = """
import numpy
from scipy.optimize import linprog
linprog(numpy.cos(numpy.arange(192)), A_ub=numpy.tril(numpy.ones((96, 192))), b_ub=numpy.full(96, 9.0), bounds=(0, 1))
"""


def request(count: int) -> ReplanRequest:
    """A site of 1 MWh with PV and load that sold half of its horizon, with an evening award each day."""
    prices = load_jepx("kyushu").window(SHOW_START.timestamp(), count)
    slots = []
    for index, price in enumerate(prices):
        start = SHOW_START.timestamp() + index * SLOT_S
        hour = index % 48 / 2.0
        awarded = 17.0 <= hour < 20.0
        slots.append(
            ReplanSlot(
                start, start + SLOT_S, Target.GRID, 100e3 * math.sin(index) if index < count // 2 else None,
                price, 12.0, 300e3 * max(0.0, math.sin((hour - 6.0) / 12.0 * math.pi)), -80e3,
                500e3, 500e3, 400e3, 400e3,
                *((100e3, 100e3, 25e3, 25e3) if awarded else ()),
            )
        )  # fmt: skip
    return ReplanRequest(tuple(slots), 37.0, 10.0, 90.0, 1e6, 0.95, 0.95, 1.0, 50.0, 8.0)


async def measure(count: int) -> dict[str, Any]:
    """Median and worst of `RUNS` runs, and what the solver and the check take of it."""
    asked = request(count)
    took_s = []
    for _ in range(RUNS):
        began = time.perf_counter()
        outcome = await replan(asked)
        took_s.append(time.perf_counter() - began)
        assert isinstance(outcome, Replanned), outcome
    began = time.perf_counter()
    proposal = solve(asked)
    solved = time.perf_counter()
    assert not isinstance(check(asked, proposal), str)
    checked = time.perf_counter()
    return {
        "slots": count,
        "median_s": round(median(took_s), 3),
        "worst_s": round(max(took_s), 3),
        "of": RUNS,
        "model_and_solver_s": round(solved - began, 4),
        "check_s": round(checked - solved, 4),
        "used_milp": proposal.used_milp,
        "cost_optimal": round(cost(asked, proposal.battery_w)),
        "cost_rule_based": round(cost(asked, [slot.battery_w for slot in rule_plan(asked)])),
    }


def bare_s() -> float:
    """Seconds, median: a Python process that loads scipy and solves a linear program of as many variables."""
    return median(timed_s(BARE) for _ in range(RUNS))


def both() -> dict[str, Any]:
    """Two horizons, and the bare process beside them."""
    return {"horizons": [asyncio.run(measure(count)) for count in (96, 192)], "bare_s": round(bare_s(), 3)}


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of `both`."""
    does = "a bare process that loads scipy and solves a linear program"
    return [
        Figure(f"replan.{one['slots']}", f"planning anew, {one['slots']} half hours with an award: request to checked plan",
               one["median_s"], "s", result["bare_s"], does)
        for one in result["horizons"]
    ]  # fmt: skip


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(json.dumps(both(), indent=2))
