"""A site of several batteries with PV, load and lag, driven by the real envelope, dispatch and pacing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agent.core.curtailment import limits_now, pv_ceiling_w
from agent.core.dispatch import DispatchState, Request, dispatch
from agent.core.envelope import BatteryMemory, BatteryMoment, battery_unit, connection_bounds
from agent.core.envelope_rules import BatteryLimits
from agent.core.ramp import RampRules
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from agent.core.snapshot import BatterySample, Quality, Reading

REACTION_TICKS = 5


def reading(value):
    return Reading(value, 0.0) if value is not None else Reading(None, 0.0, Quality.MISSING)


@dataclass
class Cell:
    """One true battery. It takes `lag` ticks until a written setpoint becomes power."""

    device_id: str
    soc_pct: float = 50.0
    capacity_wh: float = 1e6
    rated_w: float = 500e3
    ready: bool = True
    silent: bool = False
    live_w: float | None = None
    lag: int = 1
    power_w: float = 0.0
    sent_w: float | None = None
    due: int = 0
    held_w: float = 0.0

    def sample(self):
        if self.silent:
            return BatterySample(self.device_id)
        return BatterySample(
            self.device_id, reading(self.power_w), reading(self.soc_pct), reading(self.capacity_wh),
            reading(self.rated_w), reading(self.rated_w), reading(self.live_w), reading(self.live_w),
            reading(float(self.ready)), reading(self.held_w),
        )  # fmt: skip

    def write(self, power_w):
        """One write at a time is under way; a newer one waits for it, as the ledger has it."""
        if not self.silent and self.sent_w is None:
            self.sent_w, self.due = power_w, self.lag

    def second(self, dt_s, efficiency):
        if self.sent_w is not None and self.due == 0:
            self.held_w, self.sent_w = self.sent_w, None
        self.due -= 1
        self.power_w = self.held_w if self.ready else 0.0
        cell_w = self.power_w / efficiency if self.power_w > 0 else self.power_w * efficiency
        self.soc_pct -= cell_w * dt_s / 3600.0 / self.capacity_wh * 100.0


@dataclass
class Fleet:
    """The site. `tick` runs one period of control and plant and returns the dispatch."""

    cells: list
    export_w: float = 10e6
    import_w: float = 10e6
    pv_w: float = 0.0
    pv_potential_w: float = 0.0
    pv_rated_w: float = 0.0
    load_w: float = 0.0
    efficiency: float = 0.95
    limits: BatteryLimits = BatteryLimits()  # noqa: RUF009
    ramp: RampRules = RampRules()  # noqa: RUF009
    orders: tuple = ()
    t: float = 0.0
    slot_s: float = 1800.0
    dt_s: float = 1.0
    soc_noise: object = None
    state: DispatchState = field(default_factory=DispatchState)
    memory: dict = field(default_factory=dict)
    ceiling_w: float | None = None
    units: tuple = ()

    def __post_init__(self):
        self.rules = tuple(
            BatteryRules(c.device_id, c.rated_w, c.rated_w, 10.0, 90.0, self.efficiency, 60.0, 500.0)
            for c in self.cells
        )
        alone = self.pv_rated_w == 0.0 and self.load_w == 0.0
        self.site = SiteRules(
            "s", 1.0, self.rules, () if alone else ("pv",), "m", self.export_w, self.import_w, not alone, LocalRule.IDLE
        )

    @property
    def grid_w(self):
        return self.pv_w + self.load_w + sum(cell.power_w for cell in self.cells)

    def unit(self, rules, cell):
        reaction_s = REACTION_TICKS * self.dt_s
        ahead_s = max(self.slot_s - self.t % self.slot_s, reaction_s)
        moment = BatteryMoment(
            self.t,
            self.dt_s,
            ahead_s,
            reaction_s,
            may_hold_w=None if cell.sent_w is None else (cell.sent_w, cell.sent_w),
            pv_w=self.pv_w,
        )
        sample = cell.sample()
        if self.soc_noise is not None and not cell.silent:
            sample = replace(sample, soc_pct=reading(cell.soc_pct + self.soc_noise()))
        before = self.memory.get(cell.device_id, BatteryMemory())
        unit, self.memory[cell.device_id] = battery_unit(rules, self.limits, sample, moment, before)
        return unit

    def tick(self, target_w, droop_w=0.0):
        self.units = tuple(self.unit(r, c) for r, c in zip(self.rules, self.cells, strict=True))
        now = limits_now(self.export_w, self.import_w, self.orders, self.t)
        known_w = sum(c.power_w for c in self.cells if not c.silent)
        silent_w = tuple(w for c in self.cells if c.silent for w in (c.held_w, (c.sent_w or c.held_w) - c.held_w))
        bounds = connection_bounds(self.site, now, self.grid_w - known_w, silent_w)
        request = Request(target_w, droop_w)
        done, self.state = dispatch(request, self.units, bounds, self.ramp, self.state, mono_s=self.t)
        for cell in self.cells:
            cell.write(done.shares_w[cell.device_id])
        if self.pv_rated_w:
            self.ceiling_w = pv_ceiling_w(now.export_w, self.load_w, done.hard_lower_w, self.pv_rated_w, self.ceiling_w)
        for cell in self.cells:
            cell.second(self.dt_s, self.efficiency)
        allowed_w = self.ceiling_w if self.ceiling_w is not None else self.pv_rated_w
        self.pv_w = min(self.pv_potential_w, allowed_w)
        self.t += self.dt_s
        return done

    def spread_pct(self):
        socs = [cell.soc_pct for cell in self.cells]
        return max(socs) - min(socs)
