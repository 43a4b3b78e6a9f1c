"""A plan's way from the cloud to the battery's terminals, and what happens where it says nothing."""

from statistics import fmean

import pytest
from integration_site import TICK_S, document, edge_ahead, near, unix, until


@pytest.fixture
def site(parts, mosquitto):
    broker = mosquitto()
    plant = parts.plant()
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker).start()
    return plant, cloud, agent


def test_a_published_plan_is_received_stored_and_active_and_the_battery_follows_it(site):
    plant, cloud, agent = site
    cloud.send(document(1, [120.0] * 600))
    acks = [cloud.ack(1, stage) for stage in ("received", "stored", "active")]
    assert len({ack["sha256"] for ack in acks}) == 1
    assert acks[0]["seq"] is None
    assert acks[1]["seq"] < acks[2]["seq"]
    until(lambda: near(plant.battery_w, 120_000.0), "the battery discharges as planned")
    until(lambda: agent.status()["counters"]["writes_verified"] >= 2, "the setpoint is verified")
    status = until(lambda: cloud.status["source"] == "rolling" and cloud.status, "the status names the source")
    assert status["online"] is True
    assert status["plans"]["rolling"]["version"] == 1
    assert status["plans"]["rolling"]["sha256"] == acks[0]["sha256"]
    assert status["plans"]["yearly"] is None
    assert status["devices"] == {"bess": "good", "pv": "good", "grid-meter": "good"}


def test_a_plan_in_the_clouds_own_unit_and_sign_means_the_same_power(site):
    plant, cloud, _ = site
    cloud.send(document(1, [0.09] * 600, unit="MW", positive="import"))
    until(lambda: near(plant.battery_w, -90_000.0), "the battery charges")


def test_a_plan_for_the_connection_point_leaves_room_for_pv_and_load(site):
    plant, cloud, _ = site
    cloud.send(document(1, [100.0] * 300, slot_s=2, target="grid"))

    def five_slots_long():
        """In the mean: within a slot the tracker makes good what a late tick missed."""
        lately = list(plant.truths.values())[-10:]
        if len(lately) < 10:
            return False
        grid_w, battery_w = fmean(t.grid_w for t in lately), fmean(t.battery_w for t in lately)
        return near(grid_w, 100_000.0) and near(battery_w, 80_000.0)

    until(five_slots_long, "50 kW of PV less 30 kW of load and 80 kW of battery export what was sold", 60.0)


def test_when_the_agent_is_killed_the_retained_status_says_offline(site, parts):
    _, cloud, agent = site
    until(lambda: cloud.status["online"], "online")
    agent.kill()
    until(lambda: cloud.status == {"schema": "1.0", "site_id": "test-01", "online": False}, "the will")


def source_changes(agent, to):
    return [event for event in agent.events("source_changed") if event["data"]["to"] == to]


def test_when_the_rolling_plan_runs_out_the_yearly_one_decides_within_a_tick_and_then_the_local_rule(site):
    plant, cloud, agent = site
    start = edge_ahead()
    cloud.send(document(1, [50.0] * 2, start=start, kind="yearly"), "yearly")
    cloud.send(document(1, [100.0], start=start))
    cloud.ack(1, "stored")
    until(lambda: source_changes(agent, "yearly"), "the yearly plan decides")
    until(lambda: near(plant.battery_w, 50_000.0), "its power")
    back = until(lambda: [e for e in source_changes(agent, "local_rule") if e["data"]["from"] == "yearly"], "the rule")
    until(lambda: near(plant.battery_w, 0.0), "the battery rests: the last value is not held")
    assert_at(agent, source_changes(agent, "rolling")[0], start)
    assert_at(agent, source_changes(agent, "yearly")[0], start + 1)
    assert_at(agent, back[0], start + 2)
    assert "ended" in back[0]["text"]
    cloud.ack(1, "expired")
    cloud.ack(1, "expired", "yearly")


def test_a_slot_without_a_number_is_filled_from_the_yearly_plan_for_that_slot_only(site):
    _, cloud, agent = site
    start = edge_ahead()
    cloud.send(document(1, [40.0] * 10, start=start, kind="yearly"), "yearly")
    cloud.send(document(1, [100.0, None, 80.0, 80.0, 80.0, 80.0], start=start))
    until(lambda: start + 2 in agent.slots(), "three slots are done")
    rows = agent.slots()
    assert [rows[start + i]["source"] for i in range(3)] == ["rolling", "yearly", "rolling"]
    assert [rows[start + i]["planned_wh"] * 3.6 for i in range(3)] == pytest.approx([100.0, 40.0, 80.0])
    assert_at(agent, source_changes(agent, "yearly")[0], start + 1)
    assert_at(agent, source_changes(agent, "rolling")[1], start + 2)


def assert_at(agent, event, utc_s):
    """The event belongs to the first tick of the slot that begins at `utc_s`; a busy machine may skip ticks, counted."""
    late_s = unix(event["at"]) - utc_s
    ticks = 1 + agent.status()["counters"]["late_ticks"]
    assert -0.01 <= late_s <= ticks * TICK_S + 0.05, late_s
