"""The doctor's way to the broker: each step told, the certificates read, the daemon's session left as it is."""

import threading
import time

import paho.mqtt.client as mqtt
import pytest
from cloud_double import until
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from secure_broker import SITE, SecureBroker, free_port

from agent.cloud.broker_check import login, way
from agent.cloud.transport import TlsFiles, Transport
from agent.core.checkup import Grade
from agent.site_file.broker_address import BrokerAddress


def steps(found):
    return {step.name: step for step in found}


def plain(port, host="127.0.0.1", **more):
    return Transport(BrokerAddress(host, port), **more)


def test_a_good_way_is_told_step_by_step_with_the_days_of_each_certificate(mosquitto, tmp_path):
    secure = SecureBroker(mosquitto, tmp_path)
    facts = way(secure.transport(), time.time())
    assert [(step.name, step.grade) for step in facts.steps] == [
        ("dns", Grade.OK), ("tcp", Grade.OK), ("tls", Grade.OK),
    ]  # fmt: skip
    assert steps(facts.steps)["tls"].text.startswith("TLSv1.")
    left = {one.subject: one.days_left for one in facts.certificates}
    assert set(left) == {"site certificate", "CA certificate", "broker's certificate"}
    assert 300 < left["broker's certificate"] < 366


def test_an_expired_certificate_of_the_broker_fails_at_tls(mosquitto, tmp_path):
    secure = SecureBroker(mosquitto, tmp_path, server={"days": -1.0})
    found = steps(way(secure.transport(), time.time()).steps)
    assert found["tls"].grade is Grade.FAILED
    assert "expired" in found["tls"].text


def test_the_first_step_that_fails_is_the_last():
    refused = way(plain(free_port()), time.time()).steps
    assert [(step.name, step.grade) for step in refused] == [("dns", Grade.OK), ("tcp", Grade.FAILED)]
    unknown = way(plain(1, host="nobody.invalid"), time.time()).steps
    assert [(step.name, step.grade) for step in unknown] == [("dns", Grade.FAILED)]
    files = TlsFiles(ca="/nowhere/ca.pem")
    missing = way(Transport(BrokerAddress("127.0.0.1", 1, "mqtts"), tls=files), time.time()).steps
    assert [(step.name, step.grade) for step in missing] == [("files", Grade.FAILED)]
    assert "/nowhere/ca.pem" in missing[0].text


def test_credentials_that_only_the_service_is_given_are_no_fault_and_tls_is_left_to_it(mosquitto, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    broker = mosquitto()
    address = BrokerAddress("127.0.0.1", broker.port, "mqtts")
    found = steps(way(Transport(address, tls=TlsFiles(ca="credential:ca")), time.time()).steps)
    assert {name: step.grade for name, step in found.items()} == {
        "files": Grade.UNCHECKED, "dns": Grade.OK, "tcp": Grade.OK,
    }  # fmt: skip
    assert "credential:ca" in found["files"].text
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/nowhere")
    (step,) = way(Transport(address, tls=TlsFiles(ca="credential:ca")), time.time()).steps
    assert (step.name, step.grade) == ("files", Grade.FAILED)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_login_measures_a_round_trip_under_an_id_of_its_own(mosquitto, protocol):
    broker = mosquitto()
    found = steps(login(plain(broker.port, protocol=protocol), SITE))
    assert {name: step.grade for name, step in found.items()} == {"login": Grade.OK, "round trip": Grade.OK}
    assert found["round trip"].took_ms > 0


def test_login_tells_who_refuses_it(mosquitto, tmp_path):
    secure = SecureBroker(mosquitto, tmp_path)
    stranger = secure.cloud_ca.issue(SITE)[:2]
    (step,) = login(secure.transport(stranger), SITE)
    assert step.grade is Grade.FAILED
    assert "cloud.tls.certificate" in step.text
    assert step.todo


def site_session(secure, pair):
    """The site's own persistent session, as the daemon keeps it."""
    client = secure_client(secure, pair)
    heard, ready = [], threading.Event()
    client.on_message = lambda _c, _u, message: heard.append(message.payload)
    client.on_subscribe = lambda *_: ready.set()
    client.on_connect = lambda c, *_: c.subscribe(f"ems/v1/{SITE}/cloud/command", qos=1)
    return client, heard, ready


def secure_client(secure, pair):
    import ssl

    context = ssl.create_default_context(cafile=str(secure.sites_ca.path))
    context.load_cert_chain(*pair)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"ems-{SITE}", protocol=mqtt.MQTTv5)
    client.tls_set_context(context)
    return client


def connect(client, port):
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    client.connect("127.0.0.1", port, keepalive=20, clean_start=False, properties=properties)
    client.loop_start()


async def test_what_waits_for_the_daemon_waits_on_where_the_broker_takes_us_for_the_daemon(mosquitto, tmp_path):
    # The example of a broker makes the name in the certificate the client id, whatever we call ourselves.
    secure = SecureBroker(mosquitto, tmp_path)
    pair = secure.sites_ca.issue(SITE)[:2]
    client, heard, ready = site_session(secure, pair)
    connect(client, secure.port)
    await until(ready.is_set, "the site's subscription")
    client.disconnect()
    client.loop_stop()
    cloud = secure.client("the-cloud", secure.cloud_pair, port=secure.cloud_port)
    await until(cloud.is_connected, "the cloud")
    cloud.publish(f"ems/v1/{SITE}/cloud/command", b"while it was down", qos=1).wait_for_publish(10)
    cloud.disconnect()
    cloud.loop_stop()

    found = steps(login(secure.transport(pair), SITE))
    assert found["round trip"].grade is Grade.OK

    again, heard, _ = site_session(secure, pair)
    again.on_connect = None  # no subscription again: only a kept session brings the message
    connect(again, secure.port)
    await until(lambda: heard, "the message that waited")
    assert heard == [b"while it was down"]
    again.disconnect()
    again.loop_stop()
