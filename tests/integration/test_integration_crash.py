"""The agent or the broker killed with -9, and what must have survived."""

import itertools
import time

import pytest
from integration_site import TICK_S, document, edge_ahead, near, slot_now, until


def all_sent(agent, cloud):
    """Nothing is missing at the cloud, and nothing waits on the site's disk but the newest of each stream.

    With a slot a second a ledger row and a frame are always on their way, or wait for their watermark.
    """

    def done():
        whole = all(cloud.complete_to(stream) == len(cloud.seqs(stream)) for stream in ("telemetry", "ledger"))
        return whole and agent.status()["cloud"]["outbox_depth"] <= 4

    return done


def test_a_plan_killed_right_after_stored_is_executed_after_the_restart_without_any_broker(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker).start()
    cloud.send(document(7, [75.0] * 600))
    cloud.ack(7, "stored")
    agent.kill()
    broker.kill()
    agent.start()
    status = agent.status()
    assert status["cloud"]["connected"] is False
    assert (status["plans"]["rolling"]["version"], status["source"]) == (7, "rolling")
    until(lambda: near(plant.battery_w, 75_000.0), "the plan is executed")
    broker.start()
    until(lambda: agent.status()["cloud"]["connected"], "the link is back")
    until(all_sent(agent, cloud), "everything is at the cloud")
    assert "active" in {ack["stage"] for ack in cloud.acks if ack["version"] == 7}
    cloud.assert_complete()


def test_after_a_kill_the_running_slot_is_accounted_from_its_start_and_the_sequence_goes_on(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker).start()
    start = edge_ahead(12)  # long enough for a restart on a busy machine
    cloud.send(document(1, [100.0] * 100, start=start, slot_s=12))
    until(lambda: done_wh(agent) > 30.0, "some of the slot is delivered")
    frames = cloud.complete_to("telemetry")
    done_before_wh = done_wh(agent)
    agent.kill()
    agent.start()
    assert done_wh(agent) > done_before_wh - 100_000 * 2 * TICK_S / 3600, "all but the last ticks is on disk"
    row = until(lambda: agent.slots().get(start), "the slot is done")
    assert (row["source"], row["plan_version"]) == ("rolling", 1)
    covered = row["covered_s"] / 12
    assert 0.5 < covered < 1.0, "it knows what it has not seen"
    assert row["delivered_wh"] == pytest.approx(covered * row["planned_wh"], rel=0.1)
    until(lambda: cloud.complete_to("telemetry") > frames + 1, "telemetry goes on")
    until(all_sent(agent, cloud), "everything is at the cloud")
    cloud.assert_complete()


def test_after_a_kill_a_slot_sold_at_the_connection_point_is_brought_home_by_the_meters_counter(parts):
    plant = parts.plant()
    agent = parts.agent(plant).start()
    start = edge_ahead(3)
    agent.import_plan(document(1, [100.0] * 100, start=start, slot_s=3, target="grid"))
    until(lambda: done_wh(agent) > 20.0, "some of the slot is delivered")
    agent.kill()
    agent.start()
    row = until(lambda: agent.slots().get(start), "the slot is done")
    assert row["delivered_wh"] == pytest.approx(plant.net_wh(start, start + 3), abs=1.0), "as the plant knows it"
    assert row["delivered_wh"] == pytest.approx(row["planned_wh"], rel=0.1)


def done_wh(agent):
    """Delivered so far in the slot that runs."""
    slot = agent.status()["slot"]
    return slot["done_wh"] if slot is not None else 0.0


def test_while_the_broker_is_dead_the_plan_goes_on_and_afterwards_telemetry_is_complete(parts, mosquitto):
    sites = [running_site(parts, mosquitto(), confirm) for confirm in ("watermark", "puback")]
    killed_broker, restarted_broker = (broker for broker, *_ in sites)
    killed_broker.kill()
    # Killed, it may lose what it had acknowledged; only watermarks make that good, so this one ends in order.
    restarted_broker.terminate()
    killed = slot_now()
    for broker, plant, _, agent in sites:
        until(lambda agent=agent: killed + 2 in agent.slots(), "two whole slots without the broker")
        rows, status = agent.slots(), agent.status()
        broker.start()
        assert {rows[killed + i]["source"] for i in (1, 2)} == {"rolling"}
        for i in (1, 2):
            at_its_end = plant.truths[killed + i + 1]
            assert near(at_its_end.battery_w, rows[killed + i]["planned_wh"] * 3600), "each slot has its own power"
        assert status["cloud"]["connected"] is False
        assert status["cloud"]["outbox_depth"] >= 2
    for _, _, cloud, agent in sites:
        until(lambda agent=agent: agent.status()["cloud"]["connected"], "the link is back")
        until(lambda cloud=cloud: cloud.sample_times()[-1] > killed + 3, "the outage's telemetry is there")
        until(all_sent(agent, cloud), "everything is at the cloud")
        cloud.assert_complete()
        pauses = (after - before for before, after in itertools.pairwise(cloud.sample_times()))
        skipped = sum(max(0, round(pause_s / TICK_S) - 1) for pause_s in pauses)
        assert skipped <= agent.status()["counters"]["late_ticks"], "each tick of the outage has its sample"


def running_site(parts, broker, confirm):
    """Broker, plant, cloud and agent; the battery charges and discharges in turn, a frame has just come."""
    cloud = parts.cloud(broker, watermarks=confirm == "watermark")
    plant = parts.plant()
    agent = parts.agent(plant, broker, confirm=confirm).start()
    cloud.send(document(1, [40.0, -40.0] * 300, start=edge_ahead()))
    cloud.ack(1, "active")
    frames = len(cloud.seqs("telemetry"))
    until(lambda: len(cloud.seqs("telemetry")) > frames, "a frame")
    return broker, plant, cloud, agent


def test_the_simulated_battery_rests_by_its_own_dead_man_when_the_agent_is_killed_for_good(parts):
    plant = parts.plant()
    agent = parts.agent(plant, dead_man="2 s").start()
    agent.import_plan(document(1, [90.0] * 600))
    until(lambda: near(plant.battery_w, 90_000.0), "the battery discharges")
    refreshed = agent.status()["counters"]["writes_verified"]
    until(lambda: agent.status()["counters"]["writes_verified"] > refreshed + 2, "the setpoint is refreshed in time")
    assert plant.control.reversions == 0
    assert near(plant.battery_w, 90_000.0)
    agent.kill()
    killed = time.monotonic()
    until(lambda: near(plant.battery_w, 0.0, 100.0), "the battery rests")
    assert plant.control.reversions == 1
    assert time.monotonic() - killed < 2.5


def test_on_sigterm_it_ends_within_ten_seconds_with_the_battery_at_rest_and_says_goodbye(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker).start()
    cloud.send(document(1, [110.0] * 600))
    until(lambda: near(plant.battery_w, 110_000.0), "the battery discharges")
    assert agent.terminate() == 0
    assert plant.control.wanted_w == 0.0
    until(lambda: near(plant.battery_w, 0.0, 100.0), "the battery rests", 1.0)
    until(lambda: cloud.status["online"] is False, "status offline")
    assert not agent.socket.exists()


def test_on_sigterm_with_a_dead_battery_and_no_broker_it_ends_within_ten_seconds_too(parts):
    plant = parts.plant()
    agent = parts.agent(plant).start()
    plant.faults["battery"].silent = True
    assert agent.terminate() == 0
