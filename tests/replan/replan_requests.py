"""Requests for the tests of re-planning: one small battery by hand, and any request that a site could have."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from agent.core.plan import Target
from agent.core.replan_request import ReplanRequest, ReplanSlot
from agent.replan.problem import Proposal

T0 = 1_700_000_000.0 - 1_700_000_000 % 1800

SLOT = ReplanSlot(
    T0, T0 + 3600.0, Target.BATTERY, None, None, None, 0.0, 0.0, 50e3, 50e3, 1e6, 1e6
)  # fmt: skip


def request(*slots: dict, hours: float = 1.0, **changes) -> ReplanRequest:
    """100 kWh, 50 kW, no losses, empty, slots of an hour; each dict changes its slot."""
    made = tuple(
        replace(SLOT, start_utc_s=T0 + i * hours * 3600.0, end_utc_s=T0 + (i + 1) * hours * 3600.0, **slot)
        for i, slot in enumerate(slots)
    )
    asked = ReplanRequest(made, 0.0, 0.0, 100.0, 100e3, 1.0, 1.0)
    return replace(asked, **changes)


def priced(*prices: float | None, **changes) -> ReplanRequest:
    return request(*({"price_per_kwh": price} for price in prices), **changes)


def promised(*sold_w: float | None, **changes) -> ReplanRequest:
    return request(*({"sold_w": power_w} for power_w in sold_w), **changes)


def replayed(asked, *battery_w) -> Proposal:
    """A proposal whose SoC follows from its powers, in the test's own arithmetic."""
    energy_wh, soc_end_pct = asked.capacity_wh * asked.soc_now_pct / 100.0, []
    for slot, power_w in zip(asked.slots, battery_w, strict=True):
        efficiency = 1.0 / asked.discharge_efficiency if power_w > 0 else asked.charge_efficiency
        energy_wh -= (power_w * efficiency + asked.standby_w) * (slot.end_utc_s - slot.start_utc_s) / 3600.0
        soc_end_pct.append(100.0 * energy_wh / asked.capacity_wh)
    return Proposal(tuple(battery_w), tuple(soc_end_pct), used_milp=False)


POWERS = st.floats(0.0, 800e3) | st.just(0.0)


@st.composite
def any_slot(draw, start_utc_s: float, end_utc_s: float, *, priced: bool, awarded: bool) -> ReplanSlot:
    """Anything a slot can be: outages, loads beyond the connection, awards beyond the rating."""
    price = st.none() | st.floats(-40.0, 200.0) if priced else st.none()
    award = POWERS if awarded else st.just(0.0)
    return ReplanSlot(
        start_utc_s, end_utc_s, draw(st.sampled_from(Target)), draw(st.none() | st.floats(-1e6, 1e6)),
        draw(price), draw(st.none() | st.floats(-20.0, 100.0)) if priced else None,
        draw(POWERS), -draw(POWERS), draw(POWERS), draw(POWERS), draw(POWERS), draw(POWERS),
        draw(award), draw(award), draw(award), draw(award),
    )  # fmt: skip


@st.composite
def any_request(draw) -> ReplanRequest:
    """Any question that `refusal` passes, starts outside the SoC band included.

    The band is wider than what the standby loss drains meanwhile: below that, energy beyond the band in one slot spares
    lack of it in all later ones, which the solver may choose and the checker refuses.
    """
    priced, slots, start_utc_s = draw(st.booleans()), [], T0 + draw(st.sampled_from([0.0, 7.0, 1799.0]))
    awarded = draw(st.booleans())
    slot_s = draw(st.sampled_from([300.0, 900.0, 1800.0, 3600.0]))
    for _ in range(draw(st.integers(1, 12))):
        end_utc_s = (start_utc_s // slot_s + 1) * slot_s
        slots.append(draw(any_slot(start_utc_s, end_utc_s, priced=priced, awarded=awarded)))
        start_utc_s = end_utc_s
    low, capacity_wh = draw(st.floats(0.0, 60.0)), draw(st.floats(50e3, 3e6))
    standby_share = draw(st.sampled_from([0.0, 0.003, 0.02]))
    narrowest = low + 100.0 * standby_share * (start_utc_s - T0) / 3600.0
    return ReplanRequest(
        tuple(slots), draw(st.floats(0.0, 100.0)), low, draw(st.floats(narrowest, 100.0)),
        capacity_wh, draw(st.floats(0.7, 1.0)), draw(st.floats(0.7, 1.0)),
        draw(st.sampled_from([0.0, 1.0, 8.0])), draw(st.none() | st.floats(0.0, 100.0)), draw(st.floats(0.0, 30.0)),
        standby_share * capacity_wh,
    )  # fmt: skip
