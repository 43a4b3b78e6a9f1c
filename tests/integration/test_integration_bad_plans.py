"""Plans that must have no effect: refused by name, the plan in force untouched, the control loop undisturbed."""

import gzip
import hashlib
import itertools
import json
from collections import Counter

import pytest
from integration_site import document, iso, near, slot_now, until

HELD_VERSION = 10
HELD_KW = 60.0


@pytest.fixture(scope="module")
def site(module_parts, module_mosquitto):
    """A site that executes version 10."""
    broker = module_mosquitto()
    plant = module_parts.plant()
    cloud = module_parts.cloud(broker)
    agent = module_parts.agent(plant, broker).start()
    cloud.send(document(HELD_VERSION, [HELD_KW] * 600))
    cloud.ack(HELD_VERSION, "active")
    until(lambda: near(plant.battery_w, HELD_KW * 1000), "the plan in force is executed")
    return plant, cloud, agent


version = itertools.count(100)


def fresh(power=(1.0, 2.0, 3.0), **changes):
    return document(next(version), power, **changes)


def starts(*offsets_s):
    return [iso(slot_now() + offset_s) for offset_s in offsets_s]


BAD = {
    "a gap between its slots": ("gap", "slot_start[1]", lambda: fresh(slot_start=starts(0, 2, 3))),
    "slots that overlap": ("overlap", "slot_start[2]", lambda: fresh(slot_start=starts(0, 1, 1))),
    "NaN for a power": ("bad_value", "power[1]", lambda: fresh([1.0, float("nan"), 3.0] * 100)),
    "another site's name": ("wrong_site", "site_id", lambda: fresh(site_id="test-02")),
    "a version older than the one held": ("version_old", "version", lambda: document(HELD_VERSION - 1, [1.0])),
    "the version held but other content": ("version_conflict", "version", lambda: document(HELD_VERSION, [1.0])),
    "a power beyond the rating": ("beyond_rating", "power[2]", lambda: fresh([1.0, 2.0, 526.0] * 100)),
    "watts that were meant as kilowatts": ("beyond_rating", "power[0]", lambda: fresh([60_000.0] * 100)),
    "no unit": ("missing_field", "unit", lambda: fresh(without=["unit"])),
    "no direction that counts as positive": ("missing_field", "positive", lambda: fresh(without=["positive"])),
    "two megabytes of brackets": ("too_large", None, lambda: b"[" * 2_000_000),
    "a megabyte of brackets": ("too_large", None, lambda: b"[" * 1_000_000),
    "a gzip bomb": ("too_large", None, lambda: gzip.compress(b" " * 100_000_000, 9)),
    "bytes that are not UTF-8": ("not_json", None, lambda: fresh().replace(b"test-01", b"test-\xff1")),
}


@pytest.mark.parametrize(("reason", "field", "payload"), BAD.values(), ids=BAD.keys())
def test_it_is_refused_with_reason_and_field_and_changes_nothing(site, reason, field, payload):
    plant, cloud, agent = site
    before, sent = agent.status(), payload()
    cloud.send(sent)
    sha256 = hashlib.sha256(sent).hexdigest()
    refused = until(
        lambda: next((a for a in list(cloud.acks) if (a["stage"], a["sha256"]) == ("rejected", sha256)), None),
        "the refusal",
    )
    assert (refused["reason"], refused["field"]) == (reason, field)
    assert refused["detail"]
    ticks = before["counters"]["ticks"]
    after = until(lambda: (now := agent.status())["counters"]["ticks"] > ticks + 1 and now, "decisions go on")
    assert after["counters"]["late_ticks"] == before["counters"]["late_ticks"]
    assert after["plans"] == before["plans"]
    assert after["source"] == "rolling"
    assert near(after["setpoint_w"], HELD_KW * 1000)
    assert near(plant.battery_w, HELD_KW * 1000)


def test_other_content_under_a_held_version_is_alarmed_too(site):
    _, cloud, agent = site
    cloud.send(document(HELD_VERSION, [2.0]))
    alarm = until(lambda: agent.events("version_conflict"), "the alarm")[0]
    assert alarm["severity"] == "alarm"


def test_a_plan_compressed_with_gzip_is_as_good_as_any(site):
    _, cloud, agent = site
    held = agent.status()["plans"]["rolling"]
    yearly = document(next(version), [5.0] * 100, kind="yearly")
    cloud.send(gzip.compress(yearly), "yearly")
    number = json.loads(yearly)["version"]
    cloud.ack(number, "stored", "yearly")
    assert agent.status()["plans"]["rolling"] == held


def test_each_document_has_one_terminal_outcome(parts, mosquitto):
    broker = mosquitto()
    cloud = parts.cloud(broker)
    agent = parts.agent(parts.plant(), broker).start()
    until(lambda: agent.status()["cloud"]["connected"], "the broker passes on each plan, and not only the last")
    payloads = {number: document(number, [1.0] * 100) for number in (1, 2, 3)}
    for payload in payloads.values():
        cloud.send(payload)
    cloud.ack(3, "active")
    cloud.ack(2, "superseded")
    cloud.send(payloads[3])
    repeated = until(
        lambda: [a for a in cloud.acks if (a["version"], a["stage"]) == (3, "stored")][1:], "the same answer again"
    )
    assert repeated[0]["sha256"] == cloud.ack(3, "stored")["sha256"]
    terminal = Counter(a["version"] for a in cloud.acks if a["stage"] in ("superseded", "expired", "rejected"))
    assert terminal == {1: 1, 2: 1}
