"""Whether a document of orders may come into force, and the age at which an energy counter no longer counts."""

from __future__ import annotations

from core_site import SITE, T0, meter

from agent.core.admission import Accepted, Refused
from agent.core.order_admission import admit_orders
from agent.core.orders import Curtailment, OrderDocument, OrderKind, Outage
from agent.core.slot_energy import MAX_COUNTER_AGE_S, net_counter_wh


def judged(kind, *entries, load_w=None):
    return admit_orders(OrderDocument(kind, 1, "h", T0, entries), None, SITE, T0, load_w)


def test_an_outage_names_a_device_of_the_site_or_all_of_it():
    known = [Outage(f"o{n}", T0, T0 + 60, device_id) for n, device_id in enumerate(("bess", "pv", "meter", None))]
    assert judged(OrderKind.OUTAGES, *known) == Accepted(None)
    refused = judged(OrderKind.OUTAGES, known[0], Outage("x", T0, T0 + 60, "bes"))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.field) == ("unknown_device", "outages[1].device")
    assert "bess, meter, pv" in refused.detail


def test_an_id_stands_for_one_order():
    order = Curtailment("c", T0, T0 + 60, 1e3)
    assert judged(OrderKind.CURTAILMENTS, order, order) == Accepted(None)
    refused = judged(OrderKind.CURTAILMENTS, order, Curtailment("c", T0, T0 + 60, 2e3))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.field) == ("duplicate_id", "curtailments[1].id")


def test_an_import_order_below_the_load_is_taken_and_told():
    order = Curtailment("c", T0, T0 + 60, import_limit_w=50e3)
    assert judged(OrderKind.CURTAILMENTS, order, load_w=-50e3) == Accepted(None)
    told = judged(OrderKind.CURTAILMENTS, order, load_w=-80e3)
    assert isinstance(told, Accepted)
    assert "the load is 80.0 kW now, above the import limit of c (50 kW)" in (told.note or "")


def test_an_old_energy_counter_is_not_carried_on_by_its_power():
    read = meter(100.0, 36e3, net_wh=500.0)
    assert net_counter_wh(read, 100.0 + MAX_COUNTER_AGE_S) == 500.0 + 10.0 * MAX_COUNTER_AGE_S
    assert net_counter_wh(read, 100.0 + MAX_COUNTER_AGE_S + 0.1) is None
    assert net_counter_wh(read, 100.0 - MAX_COUNTER_AGE_S - 0.1) is None
