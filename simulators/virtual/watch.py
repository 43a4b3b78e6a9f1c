"""What must hold in every run of the whole shell, seen from outside of it: at each tick, each second, and at the end.

The invariants of the core are those of `simulators.invariants`. Here are those that need a shell: normal again within
five minutes, the dead-man of the device, and what the cloud sees.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from agent.core.decision import Effects
from agent.core.events import Severity
from agent.core.rules import BatteryRules, SiteRules
from agent.runtime.control import ControlLoop
from simulators.invariants import Invariants
from simulators.scenario_plant import SitePlant
from simulators.site import Truth
from simulators.virtual.world import World

LOST_BY_A_KILL = 2
"""Ticks whose sample was on its way to the disk."""
DEAD_MAN_SLACK_S = 15.0
"""After the dead-man's time for the inverter to come to rest."""
RATING_SLACK = 1.02
LAG_S = 1.0
"""Of the simulated inverter with its line, rounded up."""
NORMAL_AFTER_S = 300.0
OF_THE_SITE = frozenset({"connection_limit_exceeded", "curtailment_exceeded", "pv_cannot_be_limited"})
"""Alarms that sun, load or an order raise with everything working."""
DEVICES_SETTLE_S = 60.0
"""After a device or the agent was broken: its dead-man, and some ticks."""
TICK_GAP_S = 2.0
"""Beside two ticks."""
SETTLE_S = 900.0
"""At the end, for what waits to arrive and for commands to end."""


@dataclass
class Broken:
    """One rule that did not hold."""

    at_s: float
    what: str


@dataclass
class _Physics:
    """The true battery, as `Invariants` wants to see it."""

    soc_pct: float = 50.0
    power_w: float = 0.0


@dataclass
class _Device:
    rules: BatteryRules
    physics: _Physics = field(default_factory=_Physics)
    told_soc_pct: float | None = None
    droop: None = None

    def soc_error_pct(self, _now_s: float) -> float:
        """How far what the device tells is from the truth."""
        return 0.0 if self.told_soc_pct is None else self.told_soc_pct - self.physics.soc_pct


@dataclass
class _Plant:
    """The true site, as `Invariants` wants to see it."""

    devices: list[_Device]
    now_s: float = 0.0
    grid_w: float = 0.0
    battery_w: float = 0.0
    slowest_lag_s: float = LAG_S


class Watch:
    """Looks at one world; `broken` must stay empty."""

    def __init__(self, world: World, rules: SiteRules) -> None:
        self._world = world
        self._rules = rules
        self.invariants = Invariants(rules, world.site.seed)
        self.broken: list[Broken] = []
        self.ticks = 0
        self.beats = 0
        """Ticks without those that a command asked for in between: each gives one sample."""
        self._counted_s = 0.0
        self.digest = hashlib.sha256()
        """Of every decision and of the plant, tick by tick."""
        self._devices = [_Device(battery) for battery in rules.batteries]
        self._plant = _Plant(self._devices)
        self.devices_good_from_s = 0.0
        """Until then a device, or the agent, may be unable to do what the connection needs."""
        self._ticked_s: float | None = None
        world.on_tick.append(self.ticked)
        world.on_truth.append(self.truth)

    def ticked(self, control: ControlLoop, effects: Effects) -> None:
        """One control tick."""
        self.ticks += 1
        now_s = self._world.loop.time()
        if self._ticked_s is None or now_s - self._counted_s > 0.5 * self._rules.tick_s:
            self.beats, self._counted_s = self.beats + 1, now_s
        self._ticked_s = now_s
        inputs = control.last_inputs
        assert inputs is not None, "a tick has inputs"
        truth = self._world.plant.truth()
        for device, sample in zip(self._devices, inputs.batteries, strict=True):
            device.physics.soc_pct, device.physics.power_w = truth.soc_pct, truth.battery_w
            device.told_soc_pct = sample.soc_pct.value
        plant = self._plant
        plant.now_s, plant.grid_w, plant.battery_w = self._world.loop.time(), truth.grid_w, truth.battery_w
        if plant.now_s < self.devices_good_from_s:
            plant.grid_w = 0.0
        self.invariants.check(self.ticks, inputs, effects, control.state, cast("SitePlant", plant))
        decision = effects.decision
        self.digest.update(struct.pack("<ddd", decision.utc_s, decision.setpoint_w, truth.battery_w))

    def truth(self, truth: Truth) -> None:
        """The plant, as often as it is polled."""
        world, site = self._world, self._world.site
        if abs(truth.battery_w) > RATING_SLACK * 1000.0 * site.rated_kw:
            self.add(f"the battery gives {truth.battery_w:.0f} W, its rating is {site.rated_kw:g} kW")
        down_s = 0.0 if world.down_since_s is None else world.loop.time() - world.down_since_s
        if down_s > site.dead_man_s + DEAD_MAN_SLACK_S and abs(truth.battery_w) > 0.01 * 1000.0 * site.rated_kw:
            self.add(f"the agent is dead for {down_s:.0f} s and the battery gives {truth.battery_w:.0f} W")

    def check_normal(self) -> None:
        """To be called when everything has worked for `NORMAL_AFTER_S`."""
        for what in self._abnormal():
            self.add(f"not normal {NORMAL_AFTER_S:.0f} s after the last fault: {what}")

    def _abnormal(self) -> list[str]:
        world, control = self._world, self._world.control
        if control is None or self._ticked_s is None:
            return ["no agent ticks"]
        found = []
        if world.loop.time() - self._ticked_s > 2.0 * self._rules.tick_s + TICK_GAP_S:
            found.append(f"the last tick was {world.loop.time() - self._ticked_s:.0f} s ago")
        if not control.trust.trusted:
            found.append(f"the clock is not trusted: {control.trust.why}")
        for condition in control.state.conditions.values():
            if condition.severity is Severity.ALARM and condition.code not in OF_THE_SITE:
                found.append(f"{condition.code} of {condition.subject}: {condition.text}")
        for line in control.state.writes:
            if line.failures or (line.owned_w is None and not line.in_flight):
                found.append(f"no setpoint of {line.device_id} is owned")
        if not world.broker.connected:
            found.append("not connected to the broker")
        elif world.cloud.status is None or not world.cloud.status.get("online"):
            found.append("the cloud sees it as offline")
        if control.plans.rolling is None:
            found.append("no rolling plan is held")
        late_s = world.cloud.utc_s() - world.cloud.newest_utc_s
        if late_s > 3 * world.site.frame_s + 60.0:
            found.append(f"the newest sample at the cloud is {late_s:.0f} s old")
        return found

    def check_end(self, *, disk_was_good: bool = True) -> None:
        """To be called `SETTLE_S` after everything works: what the cloud has must be complete.

        With a disk that took everything also every tick of every life of the agent must be there, up to the last frame.
        """
        cloud, site = self._world.cloud, self._world.site
        least = self.beats - (site.frame_s + 2 * site.tick_s) / site.tick_s - LOST_BY_A_KILL * self._world.starts
        if disk_was_good and cloud.instants.samples < least:
            self.add(f"{self.beats} ticks, but only {cloud.instants.samples} samples came")
        for finding in cloud.findings:
            self.add(f"seen by the cloud: {finding}")
        for stream, missing in cloud.unexplained_gaps().items():
            self.add(f"{len(missing)} of {stream} never came and nobody said so: {_short(missing)}")
        if cloud.instants.duplicates:
            self.add(f"{cloud.instants.duplicates} samples came in two frames")
        unanswered = cloud.unanswered()
        if unanswered:
            self.add(f"commands without an outcome: {_short(unanswered)}")

    def add(self, what: str) -> None:
        """One rule did not hold, now."""
        self.broken.append(Broken(self._world.loop.time(), what))

    def all_broken(self) -> list[str]:
        """Everything that did not hold, for people."""
        told = [violation.text for violation in self.invariants.violations]
        return told + [f"at {one.at_s:.1f} s: {one.what}" for one in self.broken]


def _short(items: Sequence[Any]) -> str:
    return ", ".join(map(str, items[:5])) + (" …" if len(items) > 5 else "")
