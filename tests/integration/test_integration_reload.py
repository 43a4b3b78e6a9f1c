"""The site file changed under a running agent: taken over without a gap in control, or refused whole with the reason."""

import signal

from integration_site import document, ems, near, until

MOST_LATE = 3
"""Ticks of 0.2 s that a busy machine may cost; a restart costs more."""


def running(parts, **options):
    """An agent whose battery discharges with 80 kW by a plan."""
    plant = parts.plant()
    agent = parts.agent(plant, **options).start()
    agent.import_plan(document(1, [80.0] * 3000))
    until(lambda: near(plant.battery_w, 80_000.0), "the battery discharges")
    return plant, agent


def rewritten(agent, *changes):
    text = agent.file.read_text()
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    agent.file.write_text(text)


def asked(agent):
    return ems("reload", "--socket", str(agent.socket))


def test_changed_limits_are_taken_over_between_two_ticks_and_control_goes_on(parts):
    plant, agent = running(parts)
    before = agent.status()
    # 50 kW of PV and 30 kW of load: 20 kW go out without the battery, so 40 kW of it are left.
    rewritten(agent, ('export_limit = "600 kW"', 'export_limit = "60 kW"'), ('poll = "200 ms"', 'poll = "100 ms"'))
    said = asked(agent)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.split() == ["changed", "connection_point.export_limit,", "device[0]", "(bess).poll"]
    until(lambda: near(plant.battery_w, 40_000.0), "the new limit is kept")
    after = agent.status()
    assert (after["boot_id"], after["pid"]) == (before["boot_id"], before["pid"])
    assert after["counters"]["late_ticks"] - before["counters"]["late_ticks"] <= MOST_LATE
    assert after["counters"]["writes_failed"] == 0
    noted = agent.events("site_file_reloaded")
    assert noted[-1]["data"]["keys"] == "connection_point.export_limit, device[0] (bess).poll"
    polls = agent.device("bess")["polls"]
    ticks = agent.status()["counters"]["ticks"]
    until(lambda: agent.status()["counters"]["ticks"] >= ticks + 10, "ten ticks")
    assert agent.device("bess")["polls"] - polls >= 15, "twice in each tick"


def test_a_file_that_cannot_be_used_is_refused_whole_by_file_key_and_reason_and_control_goes_on(parts):
    plant, agent = running(parts)
    good = agent.file.read_text()
    before = agent.status()["counters"]
    rewritten(agent, ('export_limit = "600 kW"', 'export_limit = "60 kW"'), ('"500 kW"', '"500 A"'))
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: ("site_file_refused", "site") in agent.conditions(), "the refusal stands")
    (event,) = agent.events("site_file_refused")
    assert event["state"] == "raised"
    assert (event["data"]["file"], event["data"]["key"]) == (str(agent.file), "device[0] (bess).rated_power")
    assert "'A' is not a known unit" in event["data"]["reason"]
    shown = ems("status", "--socket", str(agent.socket)).stdout
    assert "WARNING  site: the site file is not in force" in shown
    rewritten(agent, ("schema = 1", "schema ="))
    said = asked(agent)
    assert said.returncode == 1
    assert f"{agent.file}: is not TOML: " in said.stderr
    until(lambda: len(agent.events("site_file_refused")) == 2, "another reason is told too")
    assert near(plant.battery_w, 80_000.0), "nothing of it counts"
    counters = agent.status()["counters"]
    assert counters["late_ticks"] - before["late_ticks"] <= MOST_LATE
    assert counters["writes_failed"] == 0
    assert counters["ticks"] > before["ticks"]
    agent.file.write_text(good)
    assert asked(agent).returncode == 0
    until(lambda: ("site_file_refused", "site") not in agent.conditions(), "it is over")


def test_a_change_that_needs_a_restart_refuses_the_file_whole_and_names_the_key(parts):
    plant, agent = running(parts)
    rewritten(agent, ('export_limit = "600 kW"', 'export_limit = "60 kW"'), ("unit_id = 2", "unit_id = 3"))
    rewritten(
        agent, ('role = "meter"\nurl', 'role = "meter"\nexpected_serial = "7"\nurl'), ("unit_id = 3\n", "unit_id = 4\n")
    )
    said = asked(agent)
    assert said.returncode == 1
    assert "device[1] (pv).unit_id: takes effect only with a restart" in said.stderr
    assert "device[2] (grid-meter).expected_serial: takes effect only with a restart" in said.stderr
    assert "export_limit" not in said.stderr
    site_file = agent.status()["site_file"]
    assert site_file["path"] == str(agent.file)
    assert len(site_file["refused"]) == 2
    written = agent.status()["counters"]["ticks"]
    until(lambda: agent.status()["counters"]["ticks"] > written + 5, "it goes on")
    assert near(plant.battery_w, 80_000.0), "the limit is the one of before"


def test_the_way_to_the_cloud_and_its_keys_are_changed_under_way(parts, mosquitto):
    first, second = mosquitto(), mosquitto()
    _, agent = running(parts, broker=first)
    until(lambda: agent.status()["cloud"]["connected"], "the first broker has it")
    cloud = parts.cloud(second)
    rewritten(agent, (first.url, second.url))
    assert asked(agent).returncode == 0
    until(lambda: cloud.statuses and cloud.status["online"], "the second broker has it")
    assert agent.status()["cloud"]["broker"] == second.url
    assert agent.events("signing_keys_changed") == []
    key = '[[cloud.signing_key]]\nid = "k1"\npublic_key = "Qedhea0OBDHxtKOb-o0aBx3R4Rx85jcHBe4GCxdefUE"\n[store]'
    rewritten(agent, ("[store]", key))
    said = asked(agent)
    assert said.stdout.split() == ["changed", "cloud.signing_key"]
    cloud.send(document(9, [10.0] * 600))
    until(
        lambda: "unsigned" in {ack["reason"] for ack in list(cloud.acks)}, "what nobody signed is refused from now on"
    )
    until(lambda: agent.events("signing_keys_changed"), "the keys are told")
