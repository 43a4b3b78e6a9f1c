"""Devices that are silent, lie, answer nonsense or forget: never a number, never a crash, the others unaffected."""

from integration_site import document, free_port, near, until


def cleared(agent, code, subject):
    def found():
        return [e for e in agent.events(code) if (e["subject"], e["state"]) == (subject, "cleared")]

    return until(found, f"{code} of {subject} is cleared")[0]


def test_a_silent_battery_is_no_number_and_not_written_to_while_pv_and_meter_keep_their_cadence(parts):
    plant = parts.plant()
    agent = parts.agent(plant, dead_man="60 s").start()  # no refresh is due during the test
    agent.import_plan(document(1, [90.0] * 600))
    until(lambda: near(agent.status()["powers_w"]["battery"], 90_000.0), "the plan is executed and measured")
    before = agent.status()
    polls = {device["device_id"]: device["polls"] for device in before["devices"]}
    plant.faults["battery"].silent = True
    alarm = agent.told("device_silent", "bess")
    status = agent.status()
    assert alarm["severity"] == "alarm"
    assert status["powers_w"]["battery"] is None
    assert status["soc_pct"] is None
    assert status["setpoint_w"] == 0.0
    assert status["counters"]["writes"] == before["counters"]["writes"], "no write without fresh readings"
    assert "no answer within 0.3 s" in agent.device("bess")["last_error"]
    plant.reboot_battery()
    until(lambda: near(plant.battery_w, 0.0, 100.0), "after its own power cut it rests")
    plant.faults["battery"].silent = False
    passed_s = status["uptime_s"] - before["uptime_s"]
    assert passed_s > 9.5, "good readings count for 10 s"
    assert status["counters"]["ticks"] - before["counters"]["ticks"] > 0.8 * passed_s / 0.2
    assert near(status["powers_w"]["pv"], 50_000.0)
    assert status["powers_w"]["grid"] is not None
    for device in status["devices"][1:]:
        assert device["failures"] == 0
        assert device["polls"] - polls[device["device_id"]] > 0.8 * passed_s / 0.2
    cleared(agent, "device_silent", "bess")
    until(lambda: near(plant.battery_w, 90_000.0), "the setpoint is asserted again")


def test_a_meter_that_answers_sentinels_is_no_number_and_the_site_rests_at_its_connection_limit(site):
    plant, agent = site
    plant.faults["meter"].sentinels = True
    agent.told("device_silent", "grid-meter")
    until(lambda: near(plant.battery_w, 0.0, 100.0), "the battery rests: its power might break the limit")
    status = agent.status()
    assert status["powers_w"]["grid"] is None
    assert status["powers_w"]["load"] is None
    assert near(status["powers_w"]["pv"], 50_000.0)
    assert "connection power unknown" in {clip["limit"] for clip in status["clips"]}
    plant.faults["meter"].sentinels = False
    cleared(agent, "device_silent", "grid-meter")
    until(lambda: near(plant.battery_w, 70_000.0), "the plan goes on")


def test_a_battery_that_answers_sentinels_gets_no_write_and_is_no_number(site):
    plant, agent = site
    plant.faults["battery"].sentinels = True
    agent.told("device_silent", "bess")
    status = agent.status()
    assert status["powers_w"]["battery"] is None
    assert status["soc_pct"] is None
    ticks, writes = status["counters"]["ticks"], status["counters"]["writes"]
    until(lambda: agent.status()["counters"]["ticks"] > ticks + 3, "decisions go on")
    assert agent.status()["counters"]["writes"] == writes
    plant.faults["battery"].sentinels = False
    cleared(agent, "device_silent", "bess")
    until(lambda: near(plant.battery_w, 70_000.0), "the plan goes on")


def test_a_battery_that_answers_nonsense_never_becomes_a_number_and_nothing_else_suffers(site):
    plant, agent = site
    polls = agent.device("grid-meter")["polls"]
    plant.faults["battery"].garbage = True
    seen = []

    def tried_often():
        status = agent.status()
        seen.append((status["powers_w"]["battery"], status["soc_pct"]))
        return agent.device("bess")["failures"] >= 3

    until(tried_often, "three failed readings")
    assert all(near(power_w, 70_000.0) and 45.0 < soc_pct < 51.0 for power_w, soc_pct in seen), "the last good ones"
    assert agent.device("bess")["health"] == "failing"
    assert agent.device("grid-meter")["failures"] == 0
    until(lambda: agent.device("grid-meter")["polls"] > polls + 3, "the meter is read on")
    assert agent.process.poll() is None


def test_a_pv_inverter_that_is_not_there_at_start_is_named_and_the_battery_follows_the_plan(parts):
    plant = parts.plant()
    agent = parts.agent(plant, pv_port=free_port()).start()
    alarm = agent.told("device_silent", "pv")
    assert "no reading yet" in alarm["text"]
    assert agent.device("pv")["health"] == "failing"
    assert "Connection refused" in agent.device("pv")["last_error"]
    agent.import_plan(document(1, [100.0] * 300, slot_s=2, target="grid"))
    until(lambda: near(plant.truth().grid_w, 100_000.0), "the meter is enough to keep the promise")
    status = agent.status()
    assert status["powers_w"]["pv"] is None
    assert status["powers_w"]["load"] is None
    assert ("device_silent", "pv") in agent.conditions()


def test_a_battery_that_accepts_setpoints_and_does_not_apply_them_is_found_out(site):
    plant, agent = site
    verified = agent.status()["counters"]["writes_verified"]
    plant.faults["battery"].lie = True
    agent.import_plan(document(2, [20.0] * 600))
    agent.told("setpoint_refused", "bess")
    outcome = agent.ask("explain")["result"]["last_outcomes"]["bess"]
    assert outcome["confirmed"] is False
    assert outcome["wanted_w"] == 20_000.0
    assert outcome["held_w"] == 70_000.0
    assert "accepted but not applied" in outcome["reason"]
    assert agent.status()["counters"]["writes_verified"] == verified
    assert near(plant.battery_w, 70_000.0)


def test_a_battery_that_reboots_is_noticed_and_written_to_again(site):
    plant, agent = site
    plant.faults["battery"].reboot = True
    lost = until(lambda: agent.events("setpoint_lost"), "the loss is told")[0]
    assert lost["subject"] == "bess"
    assert lost["data"] == {"ours_w": 70_000.0, "found_w": None}
    until(lambda: near(plant.battery_w, 70_000.0), "the setpoint is asserted again")
    assert len(agent.events("setpoint_lost")) == 1


def test_a_setpoint_changed_by_somebody_else_is_told_and_put_right(site):
    plant, agent = site
    plant.another_controller_writes(33_000.0)
    lost = until(lambda: agent.events("setpoint_lost"), "the change is told")[0]
    assert lost["data"] == {"ours_w": 70_000.0, "found_w": 33_000.0}
    until(lambda: near(plant.battery_w, 70_000.0), "the setpoint is ours again")


def test_the_heartbeats_of_a_battery_count_on_between_setpoints(site):
    plant, agent = site
    before, beats = agent.status()["counters"]["writes"], plant.site.battery._controller_heartbeat
    until(lambda: plant.site.battery._controller_heartbeat >= beats + 3, "the device hears from its controller")
    assert agent.status()["counters"]["writes"] <= before + 1, "and not by setpoints"
    assert plant.site.battery._bank_heartbeat >= beats + 3
