"""A whole site driven through `step()` only: batteries that may fail, PV, load, a meter, a frequency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

from core_site import T0, good, missing

from agent.core.authority import PowerOrder
from agent.core.awards import AwardBook, book
from agent.core.command_limits import Narrowing
from agent.core.decision import Effects, Inputs, State
from agent.core.droop_products import PRODUCTS
from agent.core.envelope_rules import BatteryLimits
from agent.core.orders import NO_ORDERS, Award, Direction, Orders
from agent.core.override import Override
from agent.core.plan import Plans
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from agent.core.snapshot import BatterySample, MeterSample, PvSample, Reading, WriteOutcome
from agent.core.step import step
from agent.core.trial import Trial, tried_rules
from simulators.invariants import Invariants


def rules_of(count: int = 1, rated_w: float = 500e3, each: BatteryLimits | None = None, **site: object) -> SiteRules:
    """A site of `count` equal batteries with PV, load and wide connection limits unless `site` says otherwise."""
    batteries = tuple(
        BatteryRules(f"b{i}", rated_w, rated_w, 10.0, 90.0, 0.95, 60.0, 500.0, each or BatteryLimits())
        for i in range(count)
    )
    base = SiteRules("s1", 1.0, batteries, ("pv",), "meter", 50e6, 50e6, has_load=True, local_rule=LocalRule.IDLE)
    return replace(base, **site)


def award(
    award_id: str = "a1", power_w: float = 100e3, start: float = 0.0, end: float = 1800.0,
    product: str = "ce-fcr-offset", direction: Direction = Direction.BOTH,
) -> Award:  # fmt: skip
    """An award that starts and ends so many seconds from T0."""
    return Award(award_id, product, T0 + start, T0 + end, power_w, direction)


def booked(*awards: Award, rated_w: float = 500e3) -> AwardBook:
    """The awards that stand at a site of this rating; the others have no effect."""
    return book(awards, PRODUCTS, rated_discharge_w=rated_w, rated_charge_w=rated_w)[0]


@dataclass
class Cell:
    """One true battery: it takes a new setpoint `write_s` after it was asked, and does what it can at once."""

    device_id: str
    soc_pct: float = 50.0
    capacity_wh: float = 1e6
    rated_w: float = 500e3
    ready: bool = True
    silent: bool = False
    """It neither answers reads nor writes; what it holds goes on until its dead-man."""
    refuses: bool = False
    """It answers every write with an exception and keeps what it holds."""
    live_w: float | None = None
    alarms: int = 0
    """As `agent.core.latch.Alarm`."""
    dead_man_s: float = 60.0
    write_s: float = 0.3
    power_w: float = 0.0
    held_w: float | None = None
    fed_s: float = -1e9
    told: list[tuple[float, float]] = field(default_factory=list)
    """Writes under way: when they land, and what they say."""

    def sample(self, now_s: float) -> BatterySample:
        live = missing(now_s) if self.live_w is None else good(self.live_w, now_s)
        held = missing(now_s) if self.held_w is None else good(self.held_w, now_s)
        return BatterySample(
            self.device_id, good(self.power_w, now_s), good(self.soc_pct, now_s), good(self.capacity_wh, now_s),
            good(self.rated_w, now_s), good(self.rated_w, now_s), live, live, good(float(self.ready), now_s), held,
            alarms=good(float(self.alarms), now_s),
        )  # fmt: skip

    def live_through(self, dt_s: float, efficiency: float) -> None:
        able = self.ready and self.held_w is not None
        self.power_w = self.held_w if able and self.held_w is not None else 0.0
        cell_w = self.power_w / efficiency if self.power_w > 0 else self.power_w * efficiency
        self.soc_pct -= cell_w * dt_s / 3600.0 / self.capacity_wh * 100.0


Curve = Callable[[float], float]


@dataclass
class Site:
    """The site and the loop around `step()`; `run` gives the effects of each tick. Every tick meets the invariants."""

    rules: SiteRules
    cells: list[Cell]
    plans: Plans = Plans()  # noqa: RUF009 (frozen)
    orders: Orders = NO_ORDERS
    awards: AwardBook = AwardBook()  # noqa: RUF009 (frozen)
    override: Override | None = None
    order: PowerOrder | None = None
    narrowings: tuple[Narrowing, ...] = ()
    trial: Trial | None = None
    pv_w: Curve = lambda _t: 0.0
    load_w: Curve = lambda _t: 0.0
    frequency_hz: Callable[[float], float | None] = lambda _t: 50.0
    trusted: bool = True
    meter_good: bool = True
    meter_counts: bool = True
    """Whether the meter has energy counters."""
    tick_s: float = 1.0
    t: float = 0.0
    net_wh: float = 0.0
    state: State = field(default_factory=State)
    outcomes: list[WriteOutcome] = field(default_factory=list)
    silent_samples: dict[str, BatterySample] = field(default_factory=dict)
    log: list[tuple[Inputs, Effects]] = field(default_factory=list)
    grid_log: list[tuple[float, float]] = field(default_factory=list)
    """The true connection power, several times per tick, so that the moments between two writes are seen."""
    events: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.invariants = Invariants(self.rules, seed=0)

    @property
    def grid_w(self) -> float:
        return self.pv_w(self.t) + self.load_w(self.t) + sum(cell.power_w for cell in self.cells)

    @property
    def conditions(self) -> set[tuple[str, str]]:
        return set(self.state.conditions)

    def inputs(self) -> Inputs:
        now_s = self.t
        frequency = self.frequency_hz(now_s)
        counters = (good(1e9 + self.net_wh, now_s), good(1e9, now_s)) if self.meter_counts else ()
        meter = MeterSample(
            "meter", good(self.grid_w, now_s), missing(now_s) if frequency is None else good(frequency, now_s),
            *counters,
        )  # fmt: skip
        if not self.meter_good:
            meter = MeterSample("meter", missing(now_s), missing(now_s), missing(now_s), missing(now_s))
        pvs = tuple(
            PvSample(pv_id, good(self.pv_w(now_s) / len(self.rules.pv_ids), now_s)) for pv_id in self.rules.pv_ids
        )
        outcomes, self.outcomes = tuple(self.outcomes), []
        return Inputs(
            T0 + now_s, now_s, self.trusted, self.plans, tuple(self._sample(cell) for cell in self.cells), pvs, meter,
            self.orders, self.trial.awards if self.trial else self.awards, outcomes=outcomes, override=self.override, order=self.order,
            narrowings=self.narrowings, trial=self.trial,
        )  # fmt: skip

    def _sample(self, cell: Cell) -> BatterySample:
        return BatterySample(cell.device_id) if cell.silent else cell.sample(self.t)

    def tick(self) -> Effects:
        """One tick of control, then the site lives until the next one."""
        given = self.inputs()
        before = self.state
        self.state, effects = step(tried_rules(self.rules, self.trial), before, given)
        self.log.append((given, effects))
        self.events += effects.events
        battery_w = sum(cell.power_w for cell in self.cells)
        plant = SimpleNamespace(
            devices=(), now_s=self.t, grid_w=self.grid_w, battery_w=battery_w, slowest_lag_s=max(c.write_s for c in self.cells)
        )  # fmt: skip
        self.invariants.check(len(self.log), given, effects, self.state, plant)
        assert not self.invariants.violations, self.invariants.violations[0].text
        by_id = {cell.device_id: cell for cell in self.cells}
        for write in effects.writes:
            by_id[write.device_id].told.append((self.t + by_id[write.device_id].write_s, write.power_w))
        self._live(4)
        return effects

    def _live(self, parts: int) -> None:
        dt_s = self.tick_s / parts
        for _ in range(parts):
            for cell in self.cells:
                self._land(cell)
                cell.live_through(dt_s, 0.95)
            grid_w = self.grid_w
            self.grid_log.append((self.t, grid_w))
            self.net_wh += grid_w * dt_s / 3600.0
            self.t = round(self.t + dt_s, 6)

    def _land(self, cell: Cell) -> None:
        """Writes that arrive by now, one after the other; a slow or mute device fails them."""
        for at_s, power_w in [one for one in cell.told if one[0] <= self.t]:
            cell.told.remove((at_s, power_w))
            ok = not cell.silent and not cell.refuses
            if ok:
                cell.held_w, cell.fed_s = power_w, self.t
            reason = "" if ok else "refused"
            self.outcomes.append(WriteOutcome(cell.device_id, power_w, power_w if ok else None, ok, reason, self.t))
        if cell.held_w is not None and self.t - cell.fed_s > cell.dead_man_s:
            cell.held_w = 0.0

    def run(self, seconds: float) -> list[Effects]:
        """The effects of as many ticks as fit into `seconds`."""
        return [self.tick() for _ in range(round(seconds / self.tick_s))]

    def raised(self, code: str) -> list[tuple[str, str]]:
        """State and subject of each event of this code so far."""
        return [(event.state.value, event.subject) for event in self.events if event.code == code]


def site(count: int = 1, **changes: object) -> Site:
    """A site of `count` batteries with wide limits; `rules` and everything else may be given."""
    rules = changes.pop("rules", None) or rules_of(count)
    cells = changes.pop("cells", None) or [Cell(battery.device_id) for battery in rules.batteries]
    return Site(rules, cells, **changes)


def aged(value: float | None, at: float) -> Reading:
    return missing(at) if value is None else good(value, at)
