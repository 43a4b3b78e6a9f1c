"""What a plan costs: the objective of re-planning, and its value for any plan, by a plain walk through the slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.plan import Target
from agent.core.replan_request import ReplanRequest, rooms
from agent.core.replan_rules import cell_wh

SOC_WEIGHT = 1000.0
OVERDRAW_WEIGHT = 300.0
SURPLUS_WEIGHT = 30.0
RESERVE_WEIGHT = 5.0
"""Penalties as multiples of `Weights.unit`, in the order in which clashes are softened: the SoC band last (per kWh
outside and slot), then too much import (per kWh), PV that must be limited (per kWh), award energy (per kWh and slot).
Each is above anything that trading can earn."""
NO_PRICE_CYCLE_WEIGHT = 1e-4
NO_PRICE_TERMINAL_WEIGHT = 1e-2
"""Without prices the deviation counts 1; wear and the energy left over only break ties."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Prices per kWh for the objective, what is missing replaced; all in one currency."""

    price: tuple[float, ...]
    imbalance: tuple[float, ...]
    cycle: float
    terminal: float
    unit: float
    """More than any kWh can earn or cost; the scale of the penalties."""


def weights(request: ReplanRequest) -> Weights:
    """The prices to plan by.

    A missing price counts as the mean of the known ones, so that nothing is traded on it. A missing imbalance price
    counts as the mean absolute price: to buy back what was sold costs about that. Without any price the least
    deviation from the promises is sought.
    """
    known = [slot.price_per_kwh for slot in request.slots if slot.price_per_kwh is not None]
    count = len(request.slots)
    if not known:
        terminal = 0.0 if request.terminal_soc_pct is None else NO_PRICE_TERMINAL_WEIGHT
        return Weights((0.0,) * count, (1.0,) * count, NO_PRICE_CYCLE_WEIGHT, terminal, 2.0)
    mean, mean_size = sum(known) / len(known), sum(abs(price) for price in known) / len(known)
    price = tuple(mean if slot.price_per_kwh is None else slot.price_per_kwh for slot in request.slots)
    imbalance = tuple(
        mean_size if slot.imbalance_price_per_kwh is None else max(slot.imbalance_price_per_kwh, 0.0)
        for slot in request.slots
    )
    cycle, terminal = request.cycle_cost_per_kwh, request.terminal_value_per_kwh
    unit = max(map(abs, price)) + max(imbalance) + cycle + terminal
    return Weights(price, imbalance, cycle, terminal, unit or 1.0)


def cost(request: ReplanRequest, battery_w: Sequence[float]) -> float:
    """What these battery powers cost, penalties included; less is better, income counts below 0."""
    by = weights(request)
    energy_wh, total = request.energy_now_wh, 0.0
    for index, (slot, room) in enumerate(zip(request.slots, rooms(request), strict=True)):
        power_w, hours = battery_w[index], slot.hours
        grid_w = slot.others_w + power_w
        surplus_w = max(0.0, grid_w - slot.export_limit_w)
        overdraw_w = max(0.0, -grid_w - slot.import_limit_w)
        earned = by.price[index] * power_w - by.cycle * max(power_w, 0.0)
        if slot.sold_w is not None:
            kept_w = power_w if slot.target is Target.BATTERY else grid_w - surplus_w
            earned -= by.imbalance[index] * abs(kept_w - slot.sold_w)
        earned -= by.unit * (SURPLUS_WEIGHT * surplus_w + OVERDRAW_WEIGHT * overdraw_w)
        energy_wh -= cell_wh(request, power_w, hours)
        outside_wh = max(room.band_low_wh - energy_wh, energy_wh - room.band_high_wh, 0.0)
        short_wh = max(room.reserve_low_wh - energy_wh, 0.0) + max(energy_wh - room.reserve_high_wh, 0.0)
        total += by.unit * (SOC_WEIGHT * outside_wh + RESERVE_WEIGHT * short_wh) - earned * hours
    return (total + by.terminal * _left_over_wh(request, energy_wh)) / 1000.0


def _left_over_wh(request: ReplanRequest, energy_wh: float) -> float:
    """Energy missing at the end, or (with nothing wanted there) minus what is left."""
    if request.terminal_soc_pct is None:
        return -energy_wh
    return max(request.capacity_wh * request.terminal_soc_pct / 100.0 - energy_wh, 0.0)
