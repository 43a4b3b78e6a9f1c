"""The shipped broker example keeps sites apart: neither reads, commands, speaks for nor throws out another."""

import asyncio
import json
import ssl
import threading

import pytest
from cloud_documents import SITE, document
from cloud_double import until
from own_signer import Signer
from secure_broker import CLOUD, SecureBroker

from agent.cloud.signatures import KeyRing

OTHER = "demo-02"
DENIED = 0x87
"""Reason code 'not authorized' of MQTT 5."""


class Peer:
    """Anybody with a certificate; counts what it hears and what the broker refuses it."""

    def __init__(self, client):
        self.heard, self.refused, self.lost = [], [], threading.Event()
        self.client = client
        client.on_message = lambda _c, _u, m: self.heard.append((m.topic, m.payload))
        client.on_disconnect = lambda *_: self.lost.set()
        self._granted = threading.Event()
        client.on_subscribe = lambda *_: self._granted.set()

    async def subscribe(self, topic):
        self._granted.clear()
        self.client.subscribe(topic, qos=1)
        await until(self._granted.is_set, f"an answer to the subscription of {topic}")

    async def publish(self, topic, payload, *, retain=False):
        """The reason code that the broker answers."""
        codes = []
        self.client.on_publish = lambda _c, _u, _m, code, _p: codes.append(code.value)
        self.client.publish(topic, payload, qos=1, retain=retain)
        await until(lambda: codes, f"an answer to the message on {topic}")
        return codes[0]


@pytest.fixture
async def broker(mosquitto, tmp_path):
    """The example, a connected peer for the other site, and one for the cloud."""
    secure = SecureBroker(mosquitto, tmp_path)
    secure.other = Peer(secure.client(f"ems-{OTHER}", secure.sites_ca.issue(OTHER)[:2]))
    secure.cloud = Peer(secure.client("the-cloud", secure.cloud_pair, port=secure.cloud_port))
    await until(secure.other.client.is_connected, "the other site")
    await until(secure.cloud.client.is_connected, "the cloud")
    yield secure
    for peer in (secure.other, secure.cloud):
        peer.client.disconnect()
        peer.client.loop_stop()


async def begun(broker, edge, **more):
    site = edge(None, transport=broker.transport(), **more).begin()
    await until(lambda: site.uplink.connected, f"the site; trouble: {site.uplink.last_trouble}")
    return site


async def test_the_cloud_commands_the_site_and_hears_it(broker, edge):
    await broker.cloud.subscribe("ems/v1/+/edge/#")
    site = await begun(broker, edge)
    assert await broker.cloud.publish(f"ems/v1/{SITE}/cloud/plan/rolling", document()) == 0
    await until(lambda: site.plans.rolling, "the plan")
    topics = {f"ems/v1/{SITE}/edge/status", f"ems/v1/{SITE}/edge/ack"}
    await until(lambda: topics <= {topic for topic, _ in broker.cloud.heard}, "status and answer")


@pytest.mark.parametrize("name", ["plan/rolling", "plan/awards", "command", "watermark"])
async def test_a_site_cannot_command_another(broker, edge, name):
    site = await begun(broker, edge)
    assert await broker.other.publish(f"ems/v1/{SITE}/cloud/{name}", document(), retain=True) == DENIED
    assert await broker.cloud.publish(f"ems/v1/{SITE}/cloud/plan/rolling", document(version=3)) == 0
    await until(lambda: site.plans.rolling, "the cloud's plan, sent after it")
    assert site.plans.rolling.version == 3


@pytest.mark.parametrize("name", ["edge/status", "edge/telemetry", "edge/ack", "cloud/plan/rolling"])
async def test_a_site_cannot_speak_for_another_nor_command_itself(broker, name):
    assert await broker.other.publish(f"ems/v1/{SITE}/{name}", b"{}", retain=True) == DENIED
    assert await broker.other.publish(f"ems/v1/{OTHER}/cloud/plan/rolling", b"{}", retain=True) == DENIED


async def test_a_site_cannot_read_another_whatever_it_subscribes_to(broker, edge):
    for topic in ("#", "ems/#", f"ems/v1/{SITE}/#", "ems/v1/+/cloud/#", "ems/v1/+/edge/#", "$SYS/#", "+/+/+/#"):
        await broker.other.subscribe(topic)
    await broker.cloud.subscribe("ems/v1/+/edge/#")
    site = await begun(broker, edge)
    await broker.cloud.publish(f"ems/v1/{SITE}/cloud/plan/rolling", document(), retain=True)
    await until(lambda: site.plans.rolling, "the plan")
    mark = f"ems/v1/{OTHER}/cloud/plan/rolling"
    await broker.cloud.publish(mark, b"for the other")
    await until(lambda: (mark, b"for the other") in broker.other.heard, "what is for the other, sent last")
    assert {topic for topic, _ in broker.other.heard} == {mark}


async def test_a_site_that_takes_the_client_id_of_another_throws_nobody_out(broker, edge):
    site = await begun(broker, edge)
    ended = []
    site.uplink._connection.lost.add_done_callback(ended.append)
    imposter = Peer(broker.client(f"ems-{SITE}", broker.sites_ca.issue("demo-03")[:2]))
    try:
        await until(imposter.client.is_connected, "the imposter")
        await broker.cloud.publish(f"ems/v1/{SITE}/cloud/plan/rolling", document())
        await until(lambda: site.plans.rolling, "the plan, over the connection that was there")
        assert not ended
    finally:
        imposter.client.disconnect()
        imposter.client.loop_stop()


async def test_a_site_does_not_come_in_by_the_door_of_the_cloud(broker):
    pair = broker.sites_ca.issue(CLOUD, file="false-cloud")[:2]
    refused = []

    def connect():
        try:
            client = broker.client("x", pair, port=broker.cloud_port)
        except ssl.SSLError:
            refused.append("handshake")
            return
        peer = Peer(client)
        peer.lost.wait(10)
        refused.append("connected" if client.is_connected() else "alert")
        client.loop_stop()

    await asyncio.to_thread(connect)
    assert refused[0] in {"handshake", "alert"}


async def test_even_a_broker_in_wrong_hands_moves_nothing_where_messages_are_signed(broker, edge):
    """Whoever holds the broker can publish anything, here as the cloud; without the key it has no effect."""
    signer = Signer()
    site = await begun(broker, edge, keys=KeyRing({signer.key_id: signer.public}))
    await broker.cloud.subscribe(f"ems/v1/{SITE}/edge/#")
    topic = f"ems/v1/{SITE}/cloud/plan/rolling"
    await broker.cloud.publish(topic, document(version=99))
    await broker.cloud.publish(topic, Signer(fresh=True).signed(document(version=98)))
    await broker.cloud.publish(topic, signer.signed(document(version=17)))
    await until(lambda: site.plans.rolling, "the signed plan")
    assert site.plans.rolling.version == 17

    def reasons():
        told = [json.loads(payload) for name, payload in broker.cloud.heard if name.endswith("edge/ack")]
        return [ack["reason"] for ack in told if ack["stage"] == "rejected" and ack["seq"]]

    await until(lambda: len(reasons()) == 2, "both answers")
    assert reasons() == ["unsigned", "bad_signature"]
