"""Awards from the cloud to the battery's terminals: arrived, answered by power, on record, forecast, kept over kill -9."""

import json
import math
import time
from dataclasses import replace

import pytest
from integration_site import SITE_FILE, STILL, award, document, ems, near, orders, until

from simulators.battery import BatteryConfig

LAG_S = 0.1
TO_90_PCT_S = LAG_S * math.log(10.0)
"""The battery's power comes near its setpoint by a time constant of `LAG_S`."""
LATEST_S = TO_90_PCT_S + 0.5
SLOW = SITE_FILE.replace('tick = "200 ms"', 'tick = "1 s"').replace('poll = "200 ms"', 'poll = "1 s"')
"""A site as most are: one decision and one reading a second, unless an award needs more."""
LAGGING = replace(STILL, battery=BatteryConfig(capacity_wh=100_000.0, lag_s=LAG_S))


@pytest.fixture
def site(parts, mosquitto):
    broker = mosquitto()
    plant = parts.plant(config=LAGGING)
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker, text=SLOW).start()
    return broker, plant, cloud, agent


def in_force(cloud, agent, *, product="ce-fcr-offset", power_kw=50.0, for_s=3600.0, version=1):
    """An award that runs, acknowledged; the loop is at its speed."""
    start = int(time.time()) - 1
    cloud.send(orders("awards", version, [award("a1", power_kw, start, start + for_s, product=product)]), "awards")
    cloud.ack(version, "stored", "awards")
    until(lambda: (agent.awards()["now"] or {}).get("tick_s", 1.0) < 1.0, "the award is in force")
    return start


def step_s(plant, by_hz, wanted_w):
    """Seconds from a step of the frequency until the battery has gone 90 % of the way to its new power."""
    before_w = plant.battery_w
    plant.shift_frequency(by_hz)
    begun = time.monotonic()
    until(lambda: abs(plant.battery_w - wanted_w) <= 0.1 * abs(wanted_w - before_w), f"{wanted_w} W at {by_hz:+} Hz")
    return time.monotonic() - begun


def test_the_battery_follows_the_frequency_on_top_of_its_plan_within_its_lag_and_half_a_second(site):
    _, plant, cloud, agent = site
    cloud.send(document(1, [20.0] * 600))
    until(lambda: near(plant.battery_w, 20_000.0, 200.0), "the plan is executed")
    start = in_force(cloud, agent)
    # -0.2 Hz is the whole award, +0.105 Hz is half of it the other way, 0.005 Hz lies in the dead band.
    took = [step_s(plant, -0.2, 70_000.0), step_s(plant, 0.105, -5_000.0), step_s(plant, -0.005, 20_000.0)]
    assert max(took) <= LATEST_S, took
    plant.shift_frequency(-0.1)
    second = int(time.time()) + 3  # the battery is read once a second
    rows = until(lambda: (r := agent.evidence(start, second + 1)).get(second) and r, "evidence up to then")
    now = agent.awards()["now"]
    share = (0.1 - 0.01) / (0.2 - 0.01)
    assert near(now["baseline_w"], 20_000.0, 1.0)
    assert near(now["response_w"], share * 50_000.0, 1.0)
    assert cloud.ack(1, "active", "awards")
    assert sorted(rows) == list(range(min(rows), second + 1)), "no second is missing"
    row = rows[second]
    assert row["award_ids"] == ["a1"]
    assert (row["award_up_w"], row["award_down_w"], row["clock_trusted"]) == (50_000.0, 50_000.0, True)
    assert row["frequency_hz"] == pytest.approx(49.9)
    assert near(row["baseline_w"], 20_000.0, 1.0)
    assert near(row["response_w"], share * 50_000.0, 1.0)
    assert near(row["power_w"], 20_000.0 + share * 50_000.0, 250.0), "within 0.5 % of the award"
    assert row["ticks"] >= 4
    assert all(row["trouble"] is None for row in rows.values())


def test_a_product_that_must_be_full_within_a_second_has_ten_ticks_a_second(site):
    _, plant, cloud, agent = site
    start = in_force(cloud, agent, product="gb-dc")
    assert agent.awards()["now"]["tick_s"] == 0.1
    assert step_s(plant, -0.5, 50_000.0) <= LATEST_S
    polls = agent.device("grid-meter")["polls"]
    second = int(time.time()) + 1
    row = until(lambda: agent.evidence(start, second + 1).get(second), "a whole second")
    assert 8 <= row["ticks"] <= 10
    assert agent.device("grid-meter")["polls"] - polls >= 8, "the meter is read as often"


def test_without_an_award_and_after_it_the_loop_and_the_meter_keep_their_own_pace(site):
    _, plant, cloud, agent = site

    def pace():
        """Ticks and readings in two seconds."""
        counters, polls, begun = agent.status()["counters"], agent.device("grid-meter")["polls"], time.monotonic()
        until(lambda: time.monotonic() - begun >= 2.0, "two seconds")
        return agent.status()["counters"]["ticks"] - counters["ticks"], agent.device("grid-meter")["polls"] - polls

    assert max(pace()) <= 3
    start = in_force(cloud, agent, for_s=6.0)
    assert min(pace()) >= 7
    cloud.ack(1, "expired", "awards")
    until(lambda: agent.awards()["now"] is None, "no award any more")
    assert max(pace()) <= 3
    plant.shift_frequency(-0.2)
    until(lambda: near(agent.status()["frequency_hz"], 49.8, 0.01), "the frequency is seen")
    assert near(plant.battery_w, 0.0, 100.0), "nobody pays for it now"
    assert max(agent.evidence(start, time.time())) <= start + 6


def test_an_award_killed_right_after_stored_is_answered_after_the_restart_without_any_broker(site):
    broker, plant, cloud, agent = site
    start = int(time.time())
    document_ = orders("awards", 7, [award("a1", 50.0, start, start + 3600)])
    cloud.send(document_, "awards")
    cloud.ack(7, "stored", "awards")
    agent.kill()
    broker.kill()
    agent.start()
    assert agent.status()["orders"]["awards"]["version"] == 7
    until(lambda: agent.awards()["now"] is not None, "the award is in force")
    until(lambda: agent.device("grid-meter")["polls"] >= 5, "the loop is at its speed")
    assert step_s(plant, 0.2, -50_000.0) <= LATEST_S


def test_an_award_that_the_battery_cannot_sustain_is_told_at_once_with_what_is_missing_and_until_when(site):
    _, _, cloud, agent = site
    start = (int(time.time()) // 1800 + 8) * 1800
    # 200 kW for 30 min needs 100 kWh each way; at 50 % of 100 kWh there are 42.75 to give and 47.4 to take.
    cloud.send(orders("awards", 1, [award("a1", 200.0, start, start + 1800)]), "awards")
    event = until(lambda: [e for e in cloud.events if e["code"] == "award_short"], "the cloud is told")[0]
    assert (event["state"], event["severity"], event["subject"]) == ("raised", "alarm", "a1")
    assert event["data"]["shortfall_kwh"] == pytest.approx(100.0 - 42.75, abs=3.0)
    assert event["data"]["shortfall_kw"] == 0.0
    told = until(lambda: cloud.status["awards"] and cloud.status["awards"][0], "the status names the award")
    assert (told["id"], told["met"]) == ("a1", False)
    assert told["shortfall_wh"] / 1000 == pytest.approx(event["data"]["shortfall_kwh"], abs=1.0)
    # An award that fits comes in its place: the alarm ends.
    cloud.send(orders("awards", 2, [award("a1", 50.0, start, start + 1800)]), "awards")
    until(lambda: ("award_short", "a1") not in agent.conditions(), "the alarm ends")
    until(lambda: cloud.status["awards"][0]["met"], "the status says so")
    cloud.ack(1, "superseded", "awards")


def test_a_lost_meter_is_told_before_the_award_begins(site):
    _, plant, cloud, agent = site
    start = (int(time.time()) // 1800 + 8) * 1800
    cloud.send(orders("awards", 1, [award("a1", 50.0, start, start + 1800)]), "awards")
    until(lambda: [line for line in agent.awards()["awards"] if line["met"]], "it will be met")
    plant.faults["meter"].silent = True
    until(lambda: ("award_short", "a1") in agent.conditions(), "the cloud is told that it will not")
    plant.faults["meter"].silent = False
    until(lambda: ("award_short", "a1") not in agent.conditions(), "all is well again")


def test_awards_that_cannot_be_are_refused_whole_and_those_in_force_stay(site):
    _, _, cloud, agent = site
    start = int(time.time())
    good = award("a1", 50.0, start, start + 3600)
    cloud.send(orders("awards", 1, [good]), "awards")
    cloud.ack(1, "stored", "awards")
    cloud.send(orders("awards", 2, [good, award("a2", 526.0, start + 7200, start + 9000)]), "awards")
    ack = cloud.ack(2, "rejected", "awards")
    assert (ack["reason"], ack["field"]) == ("beyond_rating", "awards[1].power")
    assert [line["id"] for line in agent.awards()["awards"]] == ["a1"]
    assert cloud.status["plans"]["awards"]["version"] == 1


def test_a_curtailment_and_an_outage_bind_at_once_and_end(site):
    _, plant, cloud, _ = site
    cloud.send(document(1, [90.0] * 600))
    until(lambda: near(plant.battery_w, 90_000.0), "the plan is executed")
    start, note = int(time.time()), "the load is 30.0 kW now"
    limit = {
        "id": "c1",
        "start": start_of(start),
        "end": start_of(start + 8),
        "export_limit": 60.0,
        "import_limit": 5.0,
    }
    cloud.send(orders("curtailments", 1, [limit]), "curtailments")
    assert note in cloud.ack(1, "stored", "curtailments")["detail"]
    # 50 kW of PV less 30 kW of load leave 40 kW of the 60 to the battery.
    until(lambda: near(plant.battery_w, 40_000.0), "no more than the order allows")
    until(lambda: near(plant.battery_w, 90_000.0), "it ends by itself")
    cloud.ack(1, "expired", "curtailments")
    work = {"id": "w1", "start": start_of(start), "end": start_of(start + 3600), "device": "bess"}
    cloud.send(orders("outages", 1, [work]), "outages")
    until(lambda: near(plant.battery_w, 0.0, 100.0), "the battery rests")
    cloud.send(orders("outages", 2, []), "outages")
    until(lambda: near(plant.battery_w, 90_000.0), "the outage was withdrawn")


def start_of(utc_s):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(utc_s))


def test_a_technician_brings_awards_on_a_stick_sees_them_and_exports_what_was_given(parts, tmp_path):
    plant = parts.plant(config=LAGGING)
    agent = parts.agent(plant, text=SLOW).start()
    start = int(time.time())
    stick = tmp_path / "awards.json"
    stick.write_bytes(orders("awards", 3, [award("a1", 50.0, start, start + 3600)]))
    done = ems("plan", "import", str(stick), socket_path=agent.socket)
    assert done.stdout == f"{stick}: awards 3 stored\n"
    plant.shift_frequency(-0.2)
    until(lambda: near(plant.battery_w, 50_000.0), "the whole award")
    second = int(time.time()) + 1
    until(lambda: agent.evidence(second, second + 1), "a second of it")
    shown = ems("awards", socket_path=agent.socket).stdout
    assert "in force" in shown
    assert "response +50.0 kW on +0.0 kW" in shown
    assert "will be met" in shown
    assert max(map(len, shown.splitlines())) < 80
    span = ("--from", start_of(second), "--to", start_of(second + 1))
    header, row = ems("awards", "evidence", *span, socket_path=agent.socket).stdout.splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert (cells["award_ids"], cells["clock_trusted"], cells["trouble"]) == ("a1", "1", "")
    assert near(float(cells["response_w"]), 50_000.0, 500.0)
    (line,) = ems("awards", "evidence", *span, "--format", "jsonl", socket_path=agent.socket).stdout.splitlines()
    assert json.loads(line)["award_ids"] == ["a1"]
