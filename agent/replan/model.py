"""The optimal plan by linear programming (HiGHS); the only module of the agent that loads scipy.

For each slot of h hours with charge c and discharge d at the terminals, energy e in the cells at its end, deviation
v+ - v- from the promise, surplus x (PV to be limited) and overdraw y at the connection point:
  e[t] = e[t-1] + (eta_c c - d / eta_d - standby) h           e stays between the band and the start, hard
  d - c + others - x <= export,  d - c + others + y >= -import
  d - c [- x at the connection point] - v+ + v- = promise
  reserve_low - r <= e <= reserve_high + r,  band_low - s <= e <= band_high + s
  maximise  price (d - c) h - imbalance (v+ + v-) h - cycle d h - penalties (x, y, r, s) - terminal value
The bounds of c and d always hold 0 (`agent.core.replan_request.Room`) and all else is soft, so that there is always a
solution. With negative prices the LP may charge and discharge at once, to burn energy for money; no battery can. That
is looked for, and only then is a binary per slot added.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import csr_array

from agent.core.plan import Target
from agent.core.replan_request import ReplanRequest, SlotRoom, rooms
from agent.replan.cost import OVERDRAW_WEIGHT, RESERVE_WEIGHT, SOC_WEIGHT, SURPLUS_WEIGHT, Weights, weights
from agent.replan.problem import Proposal

TIE_WEIGHT = 1e-6
"""Per kWh moved and, rising over the horizon, per kWh moved late: of equal plans the one that moves less and sooner."""
BOTH_SHARE = 1e-6
"""Charge and discharge at once below this share of the largest power is rounding."""
MILP_TIME_LIMIT_S = 2.0
MILP_GAP = 1e-4
C, D, E, MORE, LESS, SURPLUS, OVERDRAW, SHORT, OUTSIDE = range(9)
"""The variables of one slot, each a block of columns."""


class UnsolvedError(Exception):
    """The solver gave no plan; the text says what it said."""


class _Rows:
    """Rows of the constraint matrix as they are thought of, one at a time."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.columns: list[int] = []
        self.starts = [0]
        self.lower: list[float] = []
        self.upper: list[float] = []

    def add(self, lower: float, upper: float, *terms: tuple[int, float]) -> None:
        """The sum of coefficient * column lies in [lower, upper]."""
        for column, coefficient in terms:
            self.columns.append(column)
            self.values.append(coefficient)
        self.starts.append(len(self.columns))
        self.lower.append(lower)
        self.upper.append(upper)

    def constraint(self, width: int) -> LinearConstraint:
        shape = (len(self.lower), width)
        matrix = csr_array((self.values, self.columns, self.starts), shape=shape)
        return LinearConstraint(matrix, np.array(self.lower), np.array(self.upper))


class _Program:
    """The request in the solver's terms: powers per `unit_w`, energies per `unit_w` hour, money per `Weights.unit`."""

    def __init__(self, request: ReplanRequest) -> None:
        self.request = request
        self.count = len(request.slots)
        self.width = 9 * self.count + 1  # the last: energy missing at the end
        self.by = weights(request)
        self.rooms = rooms(request)
        self.unit_w = max(1.0, *(max(slot.charge_limit_w, slot.discharge_limit_w) for slot in request.slots))
        self.cost = np.zeros(self.width)
        self.upper = np.full(self.width, np.inf)
        self.lower = np.zeros(self.width)
        self.rows = _Rows()
        for index in range(self.count):
            self._slot(index, self.rooms[index], self.by)
        self._end()

    def column(self, kind: int, index: int) -> int:
        return kind * self.count + index

    def _slot(self, index: int, room: SlotRoom, by: Weights) -> None:
        """Bounds, cost and rows of one slot."""
        request, slot, hours = self.request, self.request.slots[index], self.request.slots[index].hours
        c, d, e, more, less, surplus, overdraw, short, outside = (self.column(kind, index) for kind in range(9))
        low, high, start = request.energy_min_wh, request.energy_max_wh, request.energy_now_wh
        self.upper[c], self.upper[d] = -room.lower_w / self.unit_w, room.upper_w / self.unit_w
        lost_wh = request.standby_w * (slot.end_utc_s - request.slots[0].start_utc_s) / 3600.0
        self.lower[e], self.upper[e] = (
            (min(low, start) - lost_wh) / self.unit_w,
            max(high, start - lost_wh) / self.unit_w,
        )
        price, tie = by.price[index] / by.unit, TIE_WEIGHT * (1.0 + index / self.count)
        self.cost[c] = (price + tie) * hours
        self.cost[d] = (by.cycle / by.unit - price + tie) * hours
        self.cost[surplus], self.cost[overdraw] = SURPLUS_WEIGHT * hours, OVERDRAW_WEIGHT * hours
        self.cost[short], self.cost[outside] = RESERVE_WEIGHT, SOC_WEIGHT
        add, unit_w = self.rows.add, self.unit_w
        stored = [(e, 1.0), (c, -request.charge_efficiency * hours), (d, hours / request.discharge_efficiency)]
        before = -request.standby_w * hours / unit_w
        if index:
            add(before, before, (self.column(E, index - 1), -1.0), *stored)
        else:
            add(before + start / unit_w, before + start / unit_w, *stored)
        others, export, imported = slot.others_w, slot.export_limit_w, slot.import_limit_w
        add(-np.inf, (export - others) / unit_w, (d, 1.0), (c, -1.0), (surplus, -1.0))
        add((-imported - others) / unit_w, np.inf, (d, 1.0), (c, -1.0), (overdraw, 1.0))
        add(room.band_low_wh / unit_w, np.inf, (e, 1.0), (outside, 1.0))
        add(-np.inf, room.band_high_wh / unit_w, (e, 1.0), (outside, -1.0))
        add(room.reserve_low_wh / unit_w, np.inf, (e, 1.0), (short, 1.0))
        add(-np.inf, room.reserve_high_wh / unit_w, (e, 1.0), (short, -1.0))
        wanted_w = slot.wanted_battery_w
        if wanted_w is not None:
            self.cost[more] = self.cost[less] = by.imbalance[index] / by.unit * hours
            at_grid = [(surplus, -1.0)] if slot.target is Target.GRID else []
            add(wanted_w / unit_w, wanted_w / unit_w, (d, 1.0), (c, -1.0), (more, -1.0), (less, 1.0), *at_grid)

    def _end(self) -> None:
        """What the energy left over is worth."""
        last, missing = self.column(E, self.count - 1), self.width - 1
        worth = self.by.terminal / self.by.unit
        if self.request.terminal_soc_pct is None:
            self.cost[last] -= worth
            return
        wanted_wh = self.request.capacity_wh * self.request.terminal_soc_pct / 100.0
        self.cost[missing] = worth
        self.rows.add(wanted_wh / self.unit_w, np.inf, (last, 1.0), (missing, 1.0))

    def solved(self, upper: np.ndarray) -> OptimizeResult:
        """The LP's answer under these upper bounds."""
        return milp(self.cost, bounds=Bounds(self.lower, upper), constraints=self.rows.constraint(self.width))

    def solved_exclusive(self) -> OptimizeResult:
        """The same with a binary b per slot: c <= b * its bound, d <= (1 - b) * its bound."""
        exclusive, count = _Rows(), self.count
        for index in range(count):
            c, d, b = index, count + index, self.width + index
            exclusive.add(-np.inf, 0.0, (c, 1.0), (b, -self.upper[c]))
            exclusive.add(-np.inf, self.upper[d], (d, 1.0), (b, self.upper[d]))
        width = self.width + count
        return milp(
            np.concatenate([self.cost, np.zeros(count)]),
            integrality=np.concatenate([np.zeros(self.width), np.ones(count)]),
            bounds=Bounds(np.concatenate([self.lower, np.zeros(count)]), np.concatenate([self.upper, np.ones(count)])),
            constraints=[self.rows.constraint(width), exclusive.constraint(width)],
            options={"time_limit": MILP_TIME_LIMIT_S, "mip_rel_gap": MILP_GAP},
        )

    def one_way(self, x: np.ndarray) -> np.ndarray:
        """Upper bounds that allow each slot only the direction in which it moves more: for when the MILP gives up."""
        charge, discharge = x[: self.count], x[self.count : 2 * self.count]
        upper = self.upper.copy()
        upper[: self.count][discharge >= charge] = 0.0
        upper[self.count : 2 * self.count][discharge < charge] = 0.0
        return upper


def solve(request: ReplanRequest) -> Proposal:
    """The best plan for this request, which `refusal` has passed; UnsolvedError when the solver gives none."""
    program = _Program(request)
    result = program.solved(program.upper)
    used_milp = result.x is not None and _both_at_once(result.x, program.count)
    if used_milp:
        relaxed, result = result.x, program.solved_exclusive()
        if result.x is None:
            result = program.solved(program.one_way(relaxed))
    if result.x is None:
        raise UnsolvedError(f"no plan: {result.message}")
    return _proposal(program, result.x, used_milp=used_milp)


def _both_at_once(x: np.ndarray, count: int) -> bool:
    return bool(np.any(np.minimum(x[:count], x[count : 2 * count]) > BOTH_SHARE))


def _proposal(program: _Program, x: np.ndarray, *, used_milp: bool) -> Proposal:
    """The net power inside its exact bounds, and the solver's own energy, for the checker to compare."""
    count, request = program.count, program.request
    net_w = (x[count : 2 * count] - x[:count]) * program.unit_w
    battery_w = tuple(
        min(max(float(power_w), room.lower_w), room.upper_w) for power_w, room in zip(net_w, program.rooms, strict=True)
    )
    energy_wh = x[2 * count : 3 * count] * program.unit_w
    soc_end_pct = tuple(float(value) for value in 100.0 * energy_wh / request.capacity_wh)
    return Proposal(battery_w, soc_end_pct, used_milp)
