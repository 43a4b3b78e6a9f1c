"""The cloud's optimiser: the best schedule for one battery on known prices (HiGHS: LP, MILP where needed).

Powers are kW, positive toward the grid; energies kWh; prices per kWh; all lists have one entry per slot.

The model, for each slot with charge c and discharge d (both >= 0, at the AC terminals), energy e at its end:
  e[t] = e[t-1] + (eta_c * c[t] - d[t] / eta_d) * h
  soc_min <= e[t] <= soc_max, softly (see `_SOFT_PENALTY`)
  -import_limit <= d[t] - c[t] + pv[t] + load[t] <= export_limit
  maximise sum price[t] * (d[t] - c[t]) * h - cycle_cost * sum d[t] * h - terminal_price * |e[T] - e_wanted|
With a negative price the LP may charge and discharge at once, to burn energy for money: no battery can. The
result is checked for that, and only then is a binary per slot added (either charge or discharge).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import bmat, csr_array, diags_array, eye_array

_SOFT_PENALTY = 1000.0
"""Price per kWh and slot outside the SoC band, above any price of energy: a battery that starts outside the
band must move toward it, and a hard band would have no solution."""
_LATER_COST = 1e-5
"""Price per kWh and slot of delay: of equal prices the earlier is used, for what is done cannot be missed."""
_LATER_SLOTS = 200
"""The delay counts no further, so that it stays far below any price over a whole year."""
_BOTH_TOLERANCE_KW = 1e-4
_MILP_TIME_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class BatteryModel:
    """What the optimiser believes about the battery."""

    capacity_kwh: float
    charge_kw: float
    discharge_kw: float
    charge_efficiency: float = 0.96
    """From the AC terminals into the cells."""
    discharge_efficiency: float = 0.96
    """From the cells to the AC terminals."""
    soc_min_pct: float = 10.0
    soc_max_pct: float = 90.0
    cycle_cost_per_kwh: float = 1.0
    """Wear, per kWh discharged."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Limits at the connection point, both >= 0."""

    export_kw: float
    import_kw: float


@dataclass(frozen=True, slots=True)
class Problem:
    """One horizon to plan. `pv_kw` is >= 0, `load_kw` is <= 0 (everything is positive toward the grid)."""

    prices: Sequence[float]
    slot_h: float
    soc_now_pct: float
    pv_kw: Sequence[float]
    load_kw: Sequence[float]
    soc_final_pct: float | None = None
    """Wanted at the end, softly; None = energy left over is worth nothing."""
    terminal_price_per_kwh: float = 8.0
    """What a missing kWh at the end costs; also what one too many costs."""

    def __post_init__(self) -> None:
        """All lists are of one length."""
        assert len(self.prices) == len(self.pv_kw) == len(self.load_kw) > 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """The plan; `profit` is in the prices' currency, wear paid, without the terminal term."""

    battery_kw: tuple[float, ...]
    grid_kw: tuple[float, ...]
    soc_end_pct: tuple[float, ...]
    profit: float
    used_milp: bool


class NoScheduleError(Exception):
    """No schedule although the SoC is soft: the connection limits cannot be held at all."""


def optimise(problem: Problem, battery: BatteryModel, connection: Connection) -> Schedule:
    """The most profitable schedule; NoScheduleError when PV or load alone break the connection limits."""
    count = len(problem.prices)
    cost, bounds, constraint = _model(problem, battery, connection)
    result = milp(cost, bounds=bounds, constraints=constraint)
    used_milp = False
    if result.x is not None and _charges_and_discharges(result.x, count):
        used_milp = True
        result = _solve_exclusive(cost, bounds, constraint, count, battery)
    if result.x is None:
        raise NoScheduleError(f"no schedule: {result.message}; check the PV and load forecast against the connection")
    return _schedule(result.x, problem, battery, used_milp)


def _charges_and_discharges(x: np.ndarray, count: int) -> bool:
    return bool(np.any(np.minimum(x[:count], x[count : 2 * count]) > _BOTH_TOLERANCE_KW))


def _model(
    problem: Problem, battery: BatteryModel, connection: Connection
) -> tuple[np.ndarray, Bounds, LinearConstraint]:
    """Variables, each of length T: c, d, e, below-band, above-band; then short and over at the end."""
    count, hours = len(problem.prices), problem.slot_h
    low, high = (battery.capacity_kwh * pct / 100.0 for pct in (battery.soc_min_pct, battery.soc_max_pct))
    prices = np.asarray(problem.prices, dtype=float)
    terminal = problem.terminal_price_per_kwh if problem.soc_final_pct is not None else 0.0
    delay = _LATER_COST * np.minimum(np.arange(count), _LATER_SLOTS)
    cost = np.concatenate(
        [
            (prices + delay) * hours,
            (battery.cycle_cost_per_kwh - prices + delay) * hours,
            np.zeros(count),
            np.full(2 * count, _SOFT_PENALTY),
            [terminal, terminal],
        ]
    )
    limits = (battery.charge_kw, battery.discharge_kw, battery.capacity_kwh)
    upper = np.concatenate([np.repeat(limits, count), np.full(2 * count + 2, np.inf)])
    rows = _rows(count, battery.charge_efficiency * hours, hours / battery.discharge_efficiency)
    others = np.asarray(problem.pv_kw, dtype=float) + np.asarray(problem.load_kw, dtype=float)
    start = np.zeros(count)
    start[0] = battery.capacity_kwh * problem.soc_now_pct / 100.0
    wanted = 0.0 if problem.soc_final_pct is None else battery.capacity_kwh * problem.soc_final_pct / 100.0
    lower = [start, -connection.import_kw - others, np.full(count, low), np.full(count, -np.inf), [wanted]]
    above = [start, connection.export_kw - others, np.full(count, np.inf), np.full(count, high), [wanted]]
    return cost, Bounds(0.0, upper), LinearConstraint(rows, np.concatenate(lower), np.concatenate(above))


@lru_cache(maxsize=8)
def _rows(count: int, charge_in: float, discharge_out: float) -> csr_array:
    """The constraints' left side; it is the same for each re-plan of a horizon."""
    eye, none, last = eye_array(count), csr_array((count, count)), csr_array((count, 1))
    step = eye - diags_array(np.ones(count - 1), offsets=-1, shape=(count, count))
    final = csr_array((np.ones(1), ([0], [count - 1])), shape=(1, count))
    empty_row = csr_array((1, count))
    return bmat(
        [
            [-charge_in * eye, discharge_out * eye, step, none, none, last, last],
            [-eye, eye, none, none, none, last, last],
            [none, none, eye, eye, none, last, last],
            [none, none, eye, none, -eye, last, last],
            [empty_row, empty_row, final, empty_row, empty_row, csr_array([[1.0]]), csr_array([[-1.0]])],
        ],
        format="csr",
    )


def _solve_exclusive(
    cost: np.ndarray, bounds: Bounds, constraint: LinearConstraint, count: int, battery: BatteryModel
) -> OptimizeResult:
    """The same with a binary b per slot: c <= b * charge_kw, d <= (1 - b) * discharge_kw."""
    size = len(cost)
    eye = eye_array(count)
    rest = csr_array((count, size - 2 * count))
    none = csr_array((count, count))
    exclusive = bmat(
        [[eye, none, rest, -battery.charge_kw * eye], [none, eye, rest, battery.discharge_kw * eye]],
        format="csr",
    )
    ceiling = np.concatenate([np.zeros(count), np.full(count, battery.discharge_kw)])
    widened = bmat([[constraint.A, csr_array((constraint.A.shape[0], count))]], format="csr")
    return milp(
        np.concatenate([cost, np.zeros(count)]),
        integrality=np.concatenate([np.zeros(size), np.ones(count)]),
        bounds=Bounds(0.0, np.concatenate([bounds.ub, np.ones(count)])),
        constraints=[
            LinearConstraint(widened, constraint.lb, constraint.ub),
            LinearConstraint(exclusive, -np.inf, ceiling),
        ],
        options={"time_limit": _MILP_TIME_LIMIT_S, "mip_rel_gap": 1e-3},
    )


def _schedule(x: np.ndarray, problem: Problem, battery: BatteryModel, used_milp: bool) -> Schedule:
    count = len(problem.prices)
    charge, discharge, energy = x[:count], x[count : 2 * count], x[2 * count : 3 * count]
    power = [float(value) for value in discharge - charge]
    wear = battery.cycle_cost_per_kwh * float(discharge.sum()) * problem.slot_h
    income = sum(p * kw for p, kw in zip(problem.prices, power, strict=True)) * problem.slot_h
    others = zip(power, problem.pv_kw, problem.load_kw, strict=True)
    return Schedule(
        tuple(power),
        tuple(battery_kw + pv_kw + load_kw for battery_kw, pv_kw, load_kw in others),
        tuple(float(value) for value in 100.0 * energy / battery.capacity_kwh),
        income - wear,
        used_milp,
    )
