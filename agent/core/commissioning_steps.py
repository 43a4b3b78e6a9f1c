"""The steps of commissioning in their order, and which of them a site has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.commissioning_checks import (
    at_once,
    cloud_script,
    judge_cloud,
    judge_identity,
    judge_limits,
    judge_readings,
    read_script,
)
from agent.core.commissioning_limits import LIMIT_SHARE, PROBE_SHARE, WORK_SHARE
from agent.core.commissioning_moves import (
    dead_man_script,
    energy_script,
    judge_dead_man,
    judge_energy,
    judge_limit,
    judge_step,
    limit_script,
    step_script,
)
from agent.core.commissioning_response import judge_response, response_script
from agent.core.commissioning_signs import judge as judge_signs
from agent.core.commissioning_signs import script as sign_script
from agent.core.commissioning_terms import Step
from agent.core.droop import DroopTable
from agent.core.droop_products import PRODUCTS
from agent.core.rules import BatteryRules, SiteRules

STEPS = (
    Step("identity", "identity of every device", at_once, judge_identity, "nothing moves", vital=True),
    Step("limits", "static limits", at_once, judge_limits, "nothing moves", vital=True),
    Step(
        "readings", "readings at rest", read_script, judge_readings, "the battery rests", per_battery=True, vital=True
    ),
    Step(
        "sign_scale", "sign and scale", sign_script, judge_signs,
        f"{{battery}} charges, then discharges with {PROBE_SHARE:.0%} of its rating ({{probe}}), some ten seconds each",
        per_battery=True, moves=True, vital=True,
    ),
    Step(
        "step_response", "step response", step_script, judge_step,
        f"{{battery}} goes to {WORK_SHARE:.0%} of its rating ({{work}}) and back, some ten seconds each",
        per_battery=True, moves=True,
    ),
    Step(
        "dead_man", "dead-man", dead_man_script, judge_dead_man,
        "{battery} goes to {work}, then is left alone until it ends that by itself ({dead_man} expected)",
        per_battery=True, moves=True,
    ),
    Step(
        "energy", "SoC and energy", energy_script, judge_energy,
        "{battery} works with {work} for up to a minute, the other way",
        per_battery=True, moves=True,
    ),
    Step(
        "connection_limit", "connection limit", limit_script, judge_limit,
        f"{{battery}} is asked for {{work}} against a connection limit that leaves {LIMIT_SHARE:.0%} of its rating",
        per_battery=True, moves=True,
    ),
    Step("cloud", "cloud round trip", cloud_script, judge_cloud, "nothing moves"),
    Step(
        "fcr", "frequency response", response_script, judge_response,
        "{battery} answers a frequency that is shifted on purpose, down and up, with {work}; it counts as a test",
        per_battery=True, moves=True,
    ),
)  # fmt: skip
BY_NAME = {step.name: step for step in STEPS}


@dataclass(frozen=True, slots=True)
class StepKey:
    """One step of one site, such as `dead_man:bess`."""

    name: str
    device_id: str | None = None

    def __str__(self) -> str:
        """As it is written in results and reports."""
        return self.name if self.device_id is None else f"{self.name}:{self.device_id}"

    @property
    def step(self) -> Step:
        """What is done in it."""
        return BY_NAME[self.name]

    @property
    def title(self) -> str:
        """For people."""
        return self.step.title if self.device_id is None else f"{self.step.title} of {self.device_id}"


def site_steps(rules: SiteRules) -> tuple[StepKey, ...]:
    """All steps of this site in their order: battery after battery within each step."""
    found: list[StepKey] = []
    for step in STEPS:
        if step.per_battery:
            found += [StepKey(step.name, battery.device_id) for battery in rules.batteries]
        else:
            found.append(StepKey(step.name))
    return tuple(found)


def about(key: StepKey, rules: SiteRules) -> str:
    """What will happen in this step, for the operator who is asked."""
    battery = _battery(rules, key.device_id)
    if battery is None:
        return key.step.about
    rated_kw = min(battery.rated_charge_w, battery.rated_discharge_w) / 1e3
    return key.step.about.format(
        battery=battery.device_id,
        probe=f"{PROBE_SHARE * rated_kw:g} kW",
        work=f"{WORK_SHARE * rated_kw:g} kW",
        dead_man=f"{battery.dead_man_s:g} s",
    )


def _battery(rules: SiteRules, device_id: str | None) -> BatteryRules | None:
    return next((one for one in rules.batteries if one.device_id == device_id), None)


def tried_table(rules: SiteRules) -> DroopTable | None:
    """The product that is tried: the site's first one, else the first preset for its grid."""
    tables: Sequence[DroopTable] = (*(rules.products[name] for name in sorted(rules.products)), *PRODUCTS.values())
    return next((table for table in tables if table.nominal_hz == rules.nominal_hz), None)
