"""Faults for a scenario: bursts of a random subset of kinds, drawn from the seed, each healed before the next burst."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from simulators.scenario import SECONDS_PER_DAY, Faults, Scenario
from simulators.scenario_plant import BatteryTrouble, SitePlant

BURST_EVERY_S = 2 * 3600.0
LONGEST_S = 2400.0
SHORTEST_S = 5.0
LATEST_START_S = 1800.0
"""A burst's faults begin within this time of it, so that 2 h - 30 min - 40 min are left to be normal in."""
MOST_AT_ONCE = 3


class FaultKind(StrEnum):
    """What can go wrong, as the readings or the site show it."""

    DEVICE_SILENT = "device silent"
    SENTINEL = "sentinel readings"
    METER_SILENT = "stale meter"
    PV_SILENT = "stale PV"
    DERATE = "BMS derate"
    SOC_JUMP = "SoC jump"
    SOC_DRIFT = "SoC drift"
    CLOCK_STEP = "clock step"
    NOT_READY = "battery not ready"
    SETPOINT_LOST = "setpoint lost"
    WRITE_REFUSED = "write refused"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault over `[start_s, end_s)`, seconds from the start of the run."""

    kind: FaultKind
    start_s: float
    end_s: float
    device: int
    size: float
    """Derate: share left; SoC: percent; clock: seconds; else unused."""


def drawn(scenario: Scenario) -> list[Fault]:
    """The faults of this run, in order of their start; none when the scenario has none."""
    if scenario.faults is Faults.NONE:
        return []
    source = random.Random(f"swarm {scenario.seed}")
    kinds = [kind for kind in FaultKind if source.random() < 0.5] or [source.choice(list(FaultKind))]
    faults: list[Fault] = []
    burst_s = 600.0
    while burst_s + LATEST_START_S + LONGEST_S < scenario.days * SECONDS_PER_DAY:
        for kind in source.sample(kinds, k=min(len(kinds), source.randint(1, MOST_AT_ONCE))):
            start_s = burst_s + source.uniform(0.0, LATEST_START_S)
            end_s = start_s + source.choice((SHORTEST_S, 20.0, 90.0, 600.0, LONGEST_S))
            device = source.randrange(len(scenario.rules.batteries))
            faults.append(Fault(kind, start_s, end_s, device, _size(kind, source)))
        burst_s += BURST_EVERY_S
    return sorted(faults, key=lambda fault: fault.start_s)


def _size(kind: FaultKind, source: random.Random) -> float:
    match kind:
        case FaultKind.DERATE:
            return source.choice((0.0, 0.1, 0.5, 0.8))
        case FaultKind.SOC_JUMP | FaultKind.SOC_DRIFT:
            return source.choice((-8.0, -3.0, 3.0, 8.0))
        case FaultKind.CLOCK_STEP:
            # A step ahead is trusted and becomes the floor: after it the clock needs that long to be trusted again.
            return source.choice((-86_400.0, -3600.0, -30.0, 2.0, 120.0))
        case _:
            return 0.0


class Injector:
    """Brings the faults into the plant and takes them back."""

    def __init__(self, faults: list[Fault], plant: SitePlant) -> None:
        self.faults = faults
        self._plant = plant
        self._coming = list(reversed(faults))
        self._active: list[Fault] = []
        self._lost: set[int] = set()
        self.clock_offset_s = 0.0
        self.healed_at_s = 0.0
        """When the last fault ended."""

    @property
    def any_active(self) -> bool:
        """True while something is broken."""
        return bool(self._active)

    def advance_to(self, now_s: float) -> None:
        """The state of all faults at `now_s`."""
        begun = False
        while self._coming and self._coming[-1].start_s <= now_s:
            self._active.append(self._coming.pop())
            begun = True
        if not self._active:
            return
        ended = [fault for fault in self._active if fault.end_s <= now_s]
        if ended:
            self._active = [fault for fault in self._active if fault.end_s > now_s]
            self.healed_at_s = now_s
        if begun or ended or any(fault.kind is FaultKind.SOC_DRIFT for fault in self._active):
            self._apply(now_s)

    def _apply(self, now_s: float) -> None:
        plant = self._plant
        plant.meter_silent = plant.pv_silent = False
        self.clock_offset_s = 0.0
        for device in plant.devices:
            device.trouble = BatteryTrouble()
        for fault in self._active:
            self._apply_one(fault, now_s)

    def _apply_one(self, fault: Fault, now_s: float) -> None:
        plant, device = self._plant, self._plant.devices[fault.device]
        match fault.kind:
            case FaultKind.DEVICE_SILENT:
                device.trouble.silent = True
            case FaultKind.SENTINEL:
                device.trouble.sentinel = True
            case FaultKind.METER_SILENT:
                plant.meter_silent = True
            case FaultKind.PV_SILENT:
                plant.pv_silent = True
            case FaultKind.DERATE:
                device.trouble.derate = fault.size
            case FaultKind.SOC_JUMP:
                device.trouble.soc_offset_pct += fault.size
            case FaultKind.SOC_DRIFT:
                share = (now_s - fault.start_s) / (fault.end_s - fault.start_s)
                device.trouble.soc_offset_pct += fault.size * share
            case FaultKind.CLOCK_STEP:
                self.clock_offset_s += fault.size
            case FaultKind.NOT_READY:
                device.trouble.not_ready = True
            case FaultKind.SETPOINT_LOST:
                if id(fault) not in self._lost:
                    self._lost.add(id(fault))
                    device.setpoint_w = None
            case FaultKind.WRITE_REFUSED:
                device.trouble.refuses = True
