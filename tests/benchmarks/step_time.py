"""What one control tick costs: `python -m tests.benchmarks.step_time`.

`step()` alone, on inputs recorded in closed loop: one battery with PV and meter under a plan for the connection point,
the same with an award in force, and both with sixteen batteries. Each the best of many rounds in processor time, and as
the median ratio to a fixed pure-Python loop run between the rounds, so that figures of different machines and busy hours
compare. Prints one JSON object; exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
from statistics import median
from time import process_time
from typing import Any

from agent.core.awards import NO_AWARDS, AwardBook, book
from agent.core.battery_model import fresh_model
from agent.core.decision import Inputs, State
from agent.core.droop_products import PRODUCTS
from agent.core.orders import Award
from agent.core.plan import Plan, PlanKind, Plans, Target
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from agent.core.snapshot import BatterySample, MeterSample, PvSample, Reading, WriteOutcome
from agent.core.step import step
from tests.benchmarks.figures import Figure

TICKS = 50
TARGET_US = 100.0
"""One battery, PV and meter."""
TARGET_16_US = 500.0
START_UTC_S = 1_700_000_000.0 - 1_700_000_000 % 1800


def site(batteries: int) -> SiteRules:
    """A site of so many equal batteries with PV, load and a meter."""
    rules = tuple(BatteryRules(f"b{i}", 500e3, 500e3, 10.0, 90.0, 0.95, 60.0, 500.0) for i in range(batteries))
    limit_w = 400e3 * batteries
    return SiteRules("bench", 1.0, rules, ("pv",), "meter", limit_w, limit_w, has_load=True, local_rule=LocalRule.IDLE)


def learned(rules: SiteRules) -> State:
    """The state of a site that has run for days: what was learned of each battery is used."""
    model = replace(fresh_model(1e6, 0.95), stretches=20)
    return State(models={battery.device_id: model for battery in rules.batteries})


def recorded(rules: SiteRules, awards: AwardBook) -> list[Inputs]:
    """Some seconds of a day in closed loop: PV, load and frequency move, the batteries follow a second later."""
    count = len(rules.batteries)
    powers = tuple(200e3 * count * (-1) ** i for i in range(96))
    plans = Plans(Plan(PlanKind.ROLLING, 1, "hash", START_UTC_S, START_UTC_S, 1800, Target.GRID, powers))
    state, found, outcomes, net_wh = learned(rules), [], (), 0.0
    held_w = {battery.device_id: 0.0 for battery in rules.batteries}
    for t in range(TICKS):
        at = float(t)
        pv_w, load_w = 80e3 + 60e3 * math.sin(t / 7.0), -50e3 + 9e3 * math.sin(t / 3.0)
        grid_w = sum(held_w.values()) + pv_w + load_w
        net_wh += grid_w / 3600.0

        def now(value: float, read_mono_s: float = at) -> Reading:
            return Reading(value, read_mono_s)

        samples = tuple(
            BatterySample(
                device_id, now(power_w), now(50.0 - t * 1e-3 + index), now(1e6), now(500e3), now(500e3),
                now(450e3), now(450e3), now(1.0), now(power_w), has_dead_man=True,
            )
            for index, (device_id, power_w) in enumerate(held_w.items())
        )  # fmt: skip
        meter = MeterSample("meter", now(grid_w), now(50.0 + 0.03 * math.sin(t / 11.0)), now(1e9 + net_wh), now(1e9))
        given = Inputs(
            START_UTC_S + at, at, True, plans, samples, (PvSample("pv", now(pv_w)),), meter, awards=awards,
            outcomes=outcomes,
        )  # fmt: skip
        found.append(given)
        state, effects = step(rules, state, given)
        held_w |= {write.device_id: write.power_w for write in effects.writes}
        outcomes = tuple(
            WriteOutcome(write.device_id, write.power_w, write.power_w, ok=True, reason="", done_mono_s=at + 0.3)
            for write in effects.writes
        )
    return found


def reference() -> None:
    """The measure of this machine: ten thousand rounds of arithmetic, comparison and dictionary."""
    held = {"a": 0.0, "b": 1.0}
    for i in range(10_000):
        held["a"] = min(held["a"] + i * 0.5, 1e6) - held["b"]


def timed(rules: SiteRules, given: list[Inputs], rounds: int) -> tuple[float, float]:
    """Seconds per tick of the quickest round, and the median of its ratio to the reference run right before it."""
    best_s, ratios = math.inf, []
    for _ in range(rounds):
        state = learned(rules)
        began = process_time()
        reference()
        between = process_time()
        for one in given:
            state, _ = step(rules, state, one)
        took_s = (process_time() - between) / len(given)
        best_s = min(best_s, took_s)
        ratios.append(took_s / (between - began))
    return best_s, median(ratios)


def measure(rounds: int) -> dict[str, Any]:
    """All figures."""
    award = Award("a1", "ce-fcr-offset", START_UTC_S - 60, START_UTC_S + 7200, 100e3)
    awarded, refused = book((award,), PRODUCTS, rated_discharge_w=500e3, rated_charge_w=500e3)
    assert not refused
    one, sixteen = site(1), site(16)
    result: dict[str, Any] = {"ticks": TICKS, "best_of": rounds}
    for name, rules, awards in (
        ("one_battery", one, NO_AWARDS),
        ("one_battery_awarded", one, awarded),
        ("sixteen_batteries", sixteen, NO_AWARDS),
        ("sixteen_batteries_awarded", sixteen, awarded),
    ):
        best_s, ratio = timed(rules, recorded(rules, awards), rounds)
        result[name] = {"us_per_tick": round(best_s * 1e6, 1), "ratio_to_reference": round(ratio, 4)}
    result["targets_us"] = {"one_battery": TARGET_US, "sixteen_batteries": TARGET_16_US}
    result["met"] = all(result[name]["us_per_tick"] <= limit for name, limit in result["targets_us"].items())
    return result


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of `measure`; the loop is the median one of the rounds."""
    words = {"one_battery": "one battery, PV, meter, plan at the connection point", "one_battery_awarded": "... an award in force",
             "sixteen_batteries": "sixteen batteries", "sixteen_batteries_awarded": "... an award in force"}  # fmt: skip
    return [
        Figure(f"step.{name}", f"one control tick, `step()`: {words[name]}", result[name]["us_per_tick"], "µs",
               round(result[name]["us_per_tick"] / result[name]["ratio_to_reference"], 1), "a fixed pure-Python loop",
               result["targets_us"].get(name))
        for name in words
    ]  # fmt: skip


def main() -> int:
    """0 when the targets are met, 1 when not."""
    parser = argparse.ArgumentParser(description="What one control tick costs.")
    parser.add_argument("--rounds", type=int, default=150, help="the best of so many counts")
    result = measure(parser.parse_args().rounds)
    print(json.dumps(result, indent=2))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
