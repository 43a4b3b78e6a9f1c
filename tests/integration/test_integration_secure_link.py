"""The daemon behind TLS with signed messages: only the cloud moves the battery, and certificates change under way."""

import json
import signal
import time

import pytest
from integration_site import PREFIX, SITE, SITE_FILE, command, document, ems, near, until
from own_signer import KEY_ID, PUBLIC, Signer
from secure_broker import SecureBroker

CLOUD_SECTION = """\
[cloud]
broker = "mqtts://127.0.0.1:{port}"
frame = "1 s"
reconnect_max = "1 s"
[cloud.tls]
ca = "{folder}/sites-ca.pem"
certificate = "{folder}/{site}.pem"
key = "{folder}/{site}.key"
[[cloud.signing_key]]
id = "{key_id}"
public_key = "{public}"
"""


class SecureCloud:
    """The cloud by its own door: hears the site, publishes anything."""

    def __init__(self, secure):
        self.acks, self.events = [], []
        self.paho = secure.client("the-cloud", secure.cloud_pair, port=secure.cloud_port)
        self.paho.on_message = lambda _c, _u, message: self._arrived(message)
        until(self.paho.is_connected, "the cloud's connection")
        self.paho.subscribe(PREFIX + "edge/#", qos=1)

    def _arrived(self, message):
        kept = {"edge/ack": self.acks, "edge/event": self.events}.get(message.topic.removeprefix(PREFIX))
        if kept is not None:
            kept.append(json.loads(message.payload))

    def send(self, payload, name="plan/rolling"):
        self.paho.publish(PREFIX + f"cloud/{name}", payload, qos=1).wait_for_publish(20)

    def answer(self, stage, *, version=None, reason=None):
        wanted = (stage, version, reason)
        found = until(
            lambda: [a for a in list(self.acks) if (a["stage"], a.get("version"), a["reason"]) == wanted], f"{wanted}"
        )
        return found[0]

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


@pytest.fixture
def secure(mosquitto, tmp_path):
    return SecureBroker(mosquitto, tmp_path, site=SITE)


@pytest.fixture
def cloud(secure):
    made = SecureCloud(secure)
    yield made
    made.close()


@pytest.fixture
def agent(parts, secure):
    secure.sites_ca.issue(SITE)
    before, after = SITE_FILE.split("[cloud]")
    section = CLOUD_SECTION.format(port=secure.port, folder=secure.folder, site=SITE, key_id=KEY_ID, public=PUBLIC)
    text = before + section + "[store]" + after.split("[store]")[1]
    made = parts.agent(parts.plant(), text=text).start()
    until(lambda: made.status()["cloud"]["connected"], f"the connection: {made.status()['cloud']}")
    return made


def test_only_what_the_cloud_signed_moves_the_battery(agent, cloud):
    signer = Signer()
    cloud.send(signer.signed(document(1, [100.0] * 600)))
    cloud.answer("stored", version=1)
    until(lambda: near(agent.status()["powers_w"]["battery"], 100e3), "100 kW, as signed")
    cloud.send(document(2, [-200.0] * 600))
    cloud.send(Signer(fresh=True).signed(document(3, [-300.0] * 600)))
    cloud.answer("rejected", reason="unsigned")
    cloud.answer("rejected", reason="bad_signature")
    until(
        lambda: {e["data"]["reason"] for e in agent.events("message_refused")} >= {"unsigned", "bad_signature"},
        "events",
    )
    assert near(agent.status()["powers_w"]["battery"], 100e3)
    cloud.send(signer.signed(document(4, [150.0] * 600)))
    until(lambda: near(agent.status()["powers_w"]["battery"], 150e3), "150 kW, as signed")


def test_only_commands_that_the_cloud_signed_move_the_battery_and_none_twice(agent, cloud):
    signer = Signer()
    cloud.send(signer.signed(document(1, [0.0] * 600)))
    cloud.answer("stored", version=1)
    cloud.send(command("set_power", "forged", duration_s=60, power=-300.0), "command")
    cloud.send(Signer(fresh=True).signed(command("set_power", "forged", duration_s=60, power=-300.0)), "command")
    cloud.answer("rejected", reason="unsigned")
    cloud.answer("rejected", reason="bad_signature")
    good = signer.signed(command("set_power", "good", duration_s=60, power=120.0))
    cloud.send(good, "command")
    until(lambda: near(agent.status()["powers_w"]["battery"], 120e3), "120 kW, as signed")
    cloud.send(signer.signed(command("release", "end", id="good")), "command")
    until(lambda: near(agent.status()["powers_w"]["battery"], 0.0), "the plan again")
    cloud.send(good, "command")
    late = signer.signed(command("set_power", "late", duration_s=60, power=-300.0, issued=time.time() - 900))
    cloud.send(late, "command")
    cloud.answer("rejected", reason="command_expired")
    until(lambda: [e for e in agent.events("message_refused") if e["data"]["reason"] == "command_expired"], "the event")
    assert near(agent.status()["powers_w"]["battery"], 0.0)


def test_a_signed_plan_that_was_replaced_stays_refused_after_kill_9(agent, cloud):
    signer = Signer()
    old = signer.signed(document(1, [100.0] * 600))
    cloud.send(old)
    cloud.answer("stored", version=1)
    cloud.send(signer.signed(document(2, [150.0] * 600)))
    cloud.answer("stored", version=2)
    agent.kill()
    cloud.send(old)
    agent.start()
    cloud.answer("rejected", version=1, reason="version_old")
    until(lambda: near(agent.status()["powers_w"]["battery"], 150e3), "the newer plan again")


def test_renewed_certificates_count_after_sighup_without_a_restart(agent, secure, cloud):
    assert {one["certificate"] for one in agent.status()["cloud"]["certificates"]} <= {
        "site certificate", "CA certificate", "broker's certificate",
    }  # fmt: skip
    pid, ticks = agent.process.pid, agent.status()["counters"]["ticks"]
    secure.sites_ca.issue(SITE, days=20.0)
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: agent.events("connection_renewed"), "the event")
    until(lambda: agent.status()["cloud"]["connected"], "the next connection")
    (event,) = agent.events("certificate_expires")
    assert (event["state"], event["severity"], event["subject"]) == ("raised", "warning", "site certificate")
    until(lambda: agent.status()["counters"]["ticks"] > ticks, "ticks go on")
    assert agent.process.poll() is None
    assert agent.process.pid == pid
    shown = ems("status", socket_path=agent.socket).stdout
    assert "site certificate 20 days" in shown
    cloud.send(Signer().signed(document(1, [100.0] * 600)))
    cloud.answer("stored", version=1)


def test_a_stop_while_the_broker_says_nothing_is_quick_and_clean(agent, secure):
    secure.mosquitto._process.send_signal(signal.SIGSTOP)
    try:
        assert agent.terminate(within_s=20.0) == 0
    finally:
        secure.mosquitto._process.send_signal(signal.SIGCONT)
