"""A site that takes only signed messages, on a real broker that an attacker may publish to."""

import json

import pytest
from cloud_documents import SITE, awards, document
from cloud_double import until
from own_signer import KEYS, Signer

from agent.cloud.security import EVENT_CODE, TOLD_EVERY_S, SecurityLog
from agent.cloud.signatures import KeyRing
from agent.core.records import Stream

CLOUD = Signer()


@pytest.fixture
async def guarded(mosquitto, edge, cloud):
    """A connected site with one key, and a client of the same broker that may publish anything."""
    broker = mosquitto()
    anybody = await cloud(broker, watermarks=False)
    site = edge(broker, keys=KeyRing(KEYS)).begin()
    await until(lambda: site.uplink.connected, "the connection")
    return site, anybody


def security(anybody, reason):
    """The events about messages refused for this reason that reached the cloud."""
    return [e for e in anybody.events() if e["code"] == EVENT_CODE and e["data"]["reason"] == reason]


def rejections(anybody):
    return [(a["version"], a["reason"]) for a in anybody.acks() if a["stage"] == "rejected"]


async def test_a_signed_plan_comes_into_force(guarded):
    site, vpp = guarded
    vpp.send_plan(CLOUD.signed(document()))
    await until(lambda: site.plans.rolling, "the plan")
    await until(lambda: any(a["stage"] == "stored" and a["version"] == 17 for a in vpp.acks()), "the answer")


@pytest.mark.parametrize(
    ("reason", "payload"),
    [
        ("unsigned", document()),
        ("bad_signature", Signer(fresh=True).signed(document())),
        ("unknown_key", Signer("someone", fresh=True).signed(document())),
    ],
)
async def test_what_the_cloud_did_not_sign_has_no_effect_and_is_an_alarm(guarded, reason, payload):
    site, attacker = guarded
    attacker.send_plan(payload)
    await until(lambda: rejections(attacker) == [(None, reason)], "the answer")
    await until(lambda: security(attacker, reason), "the event")
    assert security(attacker, reason)[0]["severity"] == "alarm"
    assert site.plans.rolling is None


async def test_a_plan_signed_for_another_site_or_another_topic_is_refused(guarded):
    site, attacker = guarded
    attacker.send_plan(CLOUD.signed(document(site_id="demo-02")))
    attacker.send_plan(CLOUD.signed(awards({})))
    await until(lambda: {r for _, r in rejections(attacker)} == {"wrong_site", "wrong_kind"}, "both answers")
    await until(lambda: security(attacker, "wrong_site") and security(attacker, "wrong_kind"), "both events")
    assert site.plans.rolling is None


async def test_an_older_plan_that_was_kept_and_is_sent_again_is_refused_also_after_a_restart(guarded, edge):
    site, attacker = guarded
    kept = CLOUD.signed(document(version=16))
    attacker.send_plan(kept)
    await until(lambda: site.plans.rolling and site.plans.rolling.version == 16, "the first plan")
    attacker.send_plan(CLOUD.signed(document(version=17)))
    await until(lambda: site.plans.rolling.version == 17, "the second plan")
    attacker.send_plan(kept)
    await until(lambda: (16, "version_old") in rejections(attacker), "the answer")
    await until(lambda: security(attacker, "version_old"), "the event")
    assert site.plans.rolling.version == 17


async def test_a_forged_watermark_deletes_nothing(guarded, store):
    site, attacker = guarded
    for _ in range(3):
        await site.frame()
    await until(lambda: attacker.complete_to("telemetry") == 3, "the frames")
    attacker.say_stored({"telemetry": 3})
    await until(lambda: security(attacker, "unsigned"), "the event")
    assert len(await store.pending(Stream.TELEMETRY, 0, 10)) == 3
    word = json.dumps({"schema": "1.0", "site_id": SITE, "stored": {"telemetry": 3}}).encode()
    attacker.paho.publish(f"ems/v1/{SITE}/cloud/watermark", CLOUD.signed(word), qos=1)
    await until(lambda: store.outbox_depth < 3, "what the cloud signed is believed")


async def test_keys_are_changed_while_the_session_stands(mosquitto, edge, cloud):
    broker, newer = mosquitto(), Signer("vpp-2025", fresh=True)
    vpp, ring = await cloud(broker, watermarks=False), KeyRing(KEYS)
    site = edge(broker, keys=ring).begin()
    await until(lambda: site.uplink.connected, "the connection")
    vpp.send_plan(newer.signed(document(version=17)))
    await until(lambda: rejections(vpp) == [(None, "unknown_key")], "nobody knows the new key yet")
    ring.replace(KEYS | {newer.key_id: newer.public})
    site.uplink.renew("the keys were changed")  # what is retained comes again
    await until(lambda: site.plans.rolling, "the plan that was refused before")
    vpp.send_plan(CLOUD.signed(document(version=18)))
    await until(lambda: site.plans.rolling.version == 18, "both keys are believed")
    ring.replace({newer.key_id: newer.public})
    vpp.send_plan(CLOUD.signed(document(version=19)))
    await until(lambda: len(rejections(vpp)) == 2, "the old key is not believed any more")
    assert site.plans.rolling.version == 18


def test_one_reason_is_told_once_a_minute_with_how_many_there_were():
    log = SecurityLog()
    events = [log.event("cloud/command", "unsigned", "x", 1000.0 + s, float(s)) for s in range(3 * int(TOLD_EVERY_S))]
    told = [event for event in events if event is not None]
    assert [event.data["more"] for event in told] == [0, 59, 59]
    assert [event.at_utc_s for event in told] == [1000.0, 1060.0, 1120.0]
    assert "59 more" in told[1].text


def test_another_reason_is_told_at_once_and_a_mistake_in_a_document_never():
    log = SecurityLog()
    assert log.event("cloud/command", "unsigned", "x", 0.0, 0.0) is not None
    assert log.event("cloud/command", "unknown_key", "x", 0.0, 0.0) is not None
    assert log.event("cloud/plan/rolling", "bad_value", "x", 0.0, 0.0) is None
    assert log.event("cloud/plan/rolling", None, None, 0.0, 0.0) is None
