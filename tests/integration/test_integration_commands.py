"""Commands end to end: a real broker, a real process, a battery that is seen to move."""

import json
import time

import pytest
from integration_site import award, command, document, near, orders, slot_now, until

PLAN_W = 20_000.0


@pytest.fixture(scope="module")
def site(module_parts, module_mosquitto):
    """(plant, agent, cloud) with a plan of 20 kW in force."""
    broker, plant = module_mosquitto(), module_parts.plant()
    cloud = module_parts.cloud(broker)
    agent = linked(module_parts.agent(plant, broker).start())
    cloud.send(document(1, [PLAN_W / 1e3] * 3600))
    until(lambda: near(plant.battery_w, PLAN_W), "the plan is executed")
    return plant, agent, cloud


def linked(agent):
    """The agent, once the broker keeps commands for it."""
    until(lambda: agent.status()["cloud"]["connected"], "the link is there")
    return agent


def later(type_, command_id, **params):
    """A command that is made now and sent some minutes later."""
    return command(type_, command_id, valid_s=7200.0, **params)


def stages(cloud, command_id):
    return [ack["stage"] for ack in cloud.command_acks(command_id)]


def test_set_power_moves_the_battery_until_its_time_is_over_and_then_the_plan_does(site):
    plant, agent, cloud = site
    cloud.command("set_power", "sp-1", power=-80.0, duration_s=2.0)
    until(lambda: near(plant.battery_w, -80_000.0), "the battery charges")
    status = agent.status()
    assert (status["source"], "sp-1" in status["why"]) == ("command", True)
    assert [(one["id"], one["type"]) for one in status["commands"]] == [("sp-1", "set_power")]
    cloud.command_ack("sp-1", "done")
    until(lambda: near(plant.battery_w, PLAN_W), "the plan decides again")
    assert stages(cloud, "sp-1") == ["accepted", "done"]
    sources = [event["data"]["to"] for event in agent.events("source_changed")]
    assert sources[-2:] == ["command", "rolling"]


def test_a_power_at_the_connection_point_is_kept_there(site):
    plant, _, cloud = site
    cloud.command("set_power", "sp-grid", power=10.0, positive="import", target="grid", duration_s=60.0)
    until(lambda: near(plant.truth().grid_w, -10_000.0), "the site imports 10 kW")
    cloud.command("release", "rel-grid")
    cloud.command_ack("rel-grid", "done")
    until(lambda: near(plant.battery_w, PLAN_W), "the plan decides again")
    assert cloud.command_ack("sp-grid", "done")["detail"] == "ended before its time by release rel-grid"


@pytest.mark.parametrize("type_", ["hold", "neutral"])
def test_hold_and_neutral_rest_until_release(site, type_):
    plant, _, cloud = site
    cloud.command(type_, f"{type_}-1", duration_s=60.0)
    until(lambda: near(plant.battery_w, 0.0, 100.0), "the battery rests")
    cloud.command("release", f"{type_}-rel", id=f"{type_}-1")
    until(lambda: near(plant.battery_w, PLAN_W), "the plan decides again")
    cloud.command_ack(f"{type_}-rel", "done")
    assert stages(cloud, f"{type_}-rel") == ["accepted", "done"]


def test_narrowed_limits_bind_the_plan_until_they_end(site):
    plant, agent, cloud = site
    cloud.command("narrow_limits", "nl-1", discharge_limit=5.0, duration_s=60.0)
    until(lambda: near(plant.battery_w, 5_000.0, 500.0), "the battery gives no more than it may")
    clip = agent.status()["clips"][0]
    assert (clip["limit"], clip["owner"]) == ("narrow_limits nl-1", "cloud command")
    cloud.command("release", "nl-rel", id="nl-1")
    until(lambda: near(plant.battery_w, PLAN_W), "the plan decides again")


def test_an_export_limit_that_is_narrowed_holds_at_the_meter(site):
    plant, _, cloud = site
    cloud.command("narrow_limits", "nl-2", export_limit=12.0, duration_s=60.0)
    # 50 kW of PV, 30 kW of load and the plan's 20 kW are 40 kW of export
    until(lambda: near(plant.truth().grid_w, 12_000.0), "the site exports no more than it may")
    cloud.command("release", "nl-rel2", id="nl-2")
    until(lambda: near(plant.battery_w, PLAN_W), "the plan decides again")


def test_the_same_command_again_gets_the_same_answer_and_no_second_effect(site):
    plant, agent, cloud = site
    body = command("set_power", "twice", power=-60.0, duration_s=60.0)
    cloud.command(None, None, payload=body)
    until(lambda: near(plant.battery_w, -60_000.0), "it has its effect")
    cloud.command("release", "twice-rel")
    cloud.command_ack("twice", "done")
    until(lambda: near(plant.battery_w, PLAN_W), "the plan decides again")
    cloud.command(None, None, payload=body)
    again = lambda: [a for a in list(cloud.acks) if a.get("id") == "twice" and a["seq"] is None]  # noqa: E731
    until(lambda: [a["stage"] for a in again()][-1:] == ["done"], "it is answered as before")
    assert agent.status()["source"] == "rolling"
    assert stages(cloud, "twice") == ["accepted", "done"]
    cloud.command("set_power", "twice", power=-10.0, duration_s=60.0)
    until(lambda: any(a["reason"] == "id_conflict" for a in again()), "another command of this id is refused")
    assert stages(cloud, "twice") == ["accepted", "done"]
    assert agent.status()["source"] == "rolling"
    until(lambda: any(e["data"]["reason"] == "id_conflict" for e in agent.events("message_refused")), "it is told")


@pytest.mark.parametrize(
    ("payload", "reason", "field"),
    [
        (command("set_power", "r-late", issued=time.time() - 100, power=1.0, duration_s=9.0), "command_expired", "expires_at"),
        (command("set_power", "r-far", issued=time.time() + 9000, power=1.0, duration_s=9.0), "from_the_future", "issued_at"),
        (command("hold", "r-valid", valid_s=90_000.0, duration_s=9.0), "too_long", "expires_at"),
        (later("set_power", "r-big", power=9000.0, duration_s=9.0), "beyond_rating", "params.power"),
        (later("set_power", "r-dur", power=1.0, duration_s=1e9), "bad_value", "params.duration_s"),
        (later("set_power", "r-unit", power=1.0, duration_s=9.0, unit="hp"), "bad_value", "params.unit"),
        (later("narrow_limits", "r-wide", export_limit=9000.0, duration_s=9.0), "not_tighter", "params.export_limit"),
        (later("narrow_limits", "r-none", duration_s=9.0), "bad_value", "params"),
        (later("release", "r-rel", id="nobody"), "unknown_command", "params.id"),
        (later("explode", "r-type"), "unknown_type", "type"),
        (later("hold", "r-no", without=("expires_at",), duration_s=9.0), "missing_field", "expires_at"),
        (later("report", "r-more", more=1), "unknown_field", "params.more"),
        (later("resend", "r-seq", stream="ack", from_seq=9, to_seq=1), "bad_value", "params.to_seq"),
        (later("resend", "r-many", stream="ack", from_seq=1, to_seq=200_000), "too_long", "params.to_seq"),
        (later("fcr_evidence", "r-ev", **{"from": "2024-01-01T00:00Z", "to": "2024-03-01T00:00Z"}), "too_long", "params.to"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_may_not_be_is_refused_with_reason_and_field(site, payload, reason, field):
    plant, _, cloud = site
    command_id = json.loads(payload)["id"]
    cloud.command(None, None, payload=payload)
    ack = cloud.command_ack(command_id, "rejected")
    assert (ack["subject"], ack["reason"], ack["field"]) == ("command", reason, field)
    assert stages(cloud, command_id) == ["rejected"]
    until(lambda: near(plant.battery_w, PLAN_W), "the plan goes on")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"x" * 17_000, "too_large"),
        (b"not json", "not_json"),
        (command("hold", "foreign", duration_s=9.0).replace(b"test-01", b"test-02"), "wrong_site"),
    ],
    ids=["too_large", "not_json", "wrong_site"],
)
def test_what_is_no_command_of_this_site_is_answered_without_an_id(site, payload, reason):
    _, agent, cloud = site
    cloud.command(None, None, payload=payload)
    found = until(lambda: [a for a in cloud.acks if a["subject"] == "command" and a["reason"] == reason], "an answer")
    assert (found[0]["id"], found[0]["seq"] is not None) == (None, True)
    assert agent.status()["source"] == "rolling"


def test_report_brings_the_status_at_once(site):
    _, _, cloud = site
    count = len(cloud.statuses)
    cloud.command("report", "rep-1")
    until(lambda: len(cloud.statuses) > count, "a status")
    cloud.command_ack("rep-1", "done")
    assert stages(cloud, "rep-1") == ["accepted", "done"]


def test_resend_brings_kept_messages_once_more_and_says_how_many(site):
    _, _, cloud = site
    for name in ("rs-a", "rs-b"):
        cloud.command("report", name)
        cloud.command_ack(name, "done")
    until(lambda: cloud.complete_to("ack") >= 3, "some acks")
    before = {seq: cloud.times_seen["ack", seq] for seq in (1, 2, 3)}
    cloud.command("resend", "rs-1", stream="ack", from_seq=1, to_seq=3)
    assert cloud.command_ack("rs-1", "done")["detail"].startswith("3 of 3 messages")
    until(lambda: all(cloud.times_seen["ack", seq] > seen for seq, seen in before.items()), "they come again")
    cloud.command("resend", "rs-2", stream="ack", from_seq=900_000, to_seq=900_001)
    assert cloud.command_ack("rs-2", "failed")["reason"] == "bad_value"


def test_live_brings_a_frame_every_second_until_it_is_released(site):
    _, _, cloud = site
    cloud.command("live", "live-1", duration_s=60.0)
    cloud.command_ack("live-1", "accepted")
    until(lambda: len(cloud.live) >= 2, "frames outside the sequence")
    cloud.command("release", "live-rel", id="live-1")
    assert cloud.command_ack("live-1", "done")["detail"].startswith("ended before its time")


def test_evidence_of_frequency_response_comes_in_parts_that_name_their_command(site):
    plant, agent, cloud = site
    start = slot_now()
    cloud.send(orders("awards", 1, [award("ev-1", 100.0, start, start + 3600)]), "awards")
    seconds = until(lambda: sorted(agent.evidence(start, start + 60))[1:4], "some seconds of evidence")
    until(lambda: len(agent.evidence(seconds[0], seconds[0] + 3)) == 3, "three whole ones")
    times = {"from": "2024-01-01T00:00:00Z", "to": "2024-01-01T00:10:00Z"}
    cloud.command("fcr_evidence", "ev-none", **times)
    assert cloud.command_ack("ev-none", "done")["detail"] == "0 seconds in 1 messages"
    times = {"from": iso_of(seconds[0]), "to": iso_of(seconds[0] + 3)}
    cloud.command("fcr_evidence", "ev-some", **times)
    assert cloud.command_ack("ev-some", "done")["detail"] == "3 seconds in 1 messages"
    empty, part = cloud.evidence
    assert (empty["id"], empty["last"], empty["t_s"]) == ("ev-none", True, [])
    assert (part["id"], part["part"], part["last"], part["t_s"]) == ("ev-some", 1, True, [0, 1, 2])
    assert [part["awards"][i] for i in part["columns"]["awards"]][-1] == ["ev-1"]
    assert {len(column) for column in part["columns"].values()} == {3}
    cloud.command("neutral", "ev-stop", duration_s=60.0)
    until(lambda: ("award_unanswered", "ev-1") in agent.conditions(), "the cloud is told that its award is suspended")
    cloud.send(orders("awards", 2, []), "awards")
    cloud.command("release", "ev-go")
    until(lambda: near(plant.battery_w, PLAN_W), "the plan decides again")


def iso_of(utc_s):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(utc_s))


def test_a_restart_goes_on_with_the_command_and_a_replay_changes_nothing(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = linked(parts.agent(plant, broker).start())
    body = command("set_power", "over", power=70.0, duration_s=30.0, valid_s=300.0)
    cloud.command(None, None, payload=body)
    until(lambda: near(plant.battery_w, 70_000.0), "it has its effect")
    agent.kill()
    agent.start()
    assert agent.status()["source"] == "command"
    cloud.command("release", "over-rel", valid_s=300.0)
    cloud.command_ack("over", "done")
    agent.kill()
    agent.start()
    cloud.command(None, None, payload=body)
    until(
        lambda: [a["stage"] for a in cloud.acks if a.get("id") == "over" and a["seq"] is None][-1:] == ["done"],
        "the answer",
    )
    assert agent.status()["source"] == "local_rule"
    assert stages(cloud, "over") == ["accepted", "done"]


def test_a_command_that_was_sent_while_the_agent_was_away_counts_if_it_comes_back_in_time(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = linked(parts.agent(plant, broker).start())
    agent.kill()
    cloud.command("set_power", "away", power=70.0, duration_s=60.0, valid_s=300.0)
    cloud.command("set_power", "away-late", power=90.0, duration_s=60.0, valid_s=0.001)
    agent.start()
    until(lambda: near(plant.battery_w, 70_000.0), "it has its effect")
    assert cloud.command_ack("away-late", "rejected")["reason"] == "command_expired"


def test_a_command_whose_time_runs_out_while_the_agent_is_dead_is_expired(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = linked(parts.agent(plant, broker).start())
    cloud.command("set_power", "short", power=70.0, duration_s=2.0)
    cloud.command_ack("short", "accepted")
    over = time.monotonic() + 2.0
    agent.kill()
    until(lambda: time.monotonic() > over, "its time is over")
    agent.start()
    assert cloud.command_ack("short", "expired")["reason"] == "never_decided"
    assert agent.status()["commands"] == []
