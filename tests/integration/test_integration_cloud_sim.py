"""`ems cloud-sim` as a process against the real daemon and a real mosquitto: it plans, signs, counts and misbehaves."""

import json
import signal
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from integration_site import SITE, SITE_FILE, until
from secure_broker import SecureBroker

from simulators.cloud_signer import read_signer

DEADLINE_S = 60
OLD_KEY = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
"""Of RFC 8037, appendix A.1."""


class CloudProcess:
    """`ems cloud-sim` with --json; what it says, line by line."""

    def __init__(self, broker, folder, *options):
        command = [sys.executable, "-m", "agent.cli.main", "cloud-sim", "--broker", broker.url, "--json"]
        command += ["--every", "0.5", "--slot-seconds", "2", "--power-kw", "100", "--capacity-kwh", "100", *options]
        self.out, self.err = folder / "cloud.out", folder / "cloud.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err)

    def account(self):
        """The newest account, {} before the first."""
        assert self.process.poll() is None, self.err.read_text()
        lines = self.out.read_text().splitlines()
        return json.loads(lines[-1]) if lines else {}

    def site(self):
        return self.account().get("sites", {}).get(SITE, {})

    def end(self):
        """The exit code and the whole account."""
        self.process.terminate()
        code = self.process.wait(DEADLINE_S)
        return code, json.loads(self.out.read_text().splitlines()[-1])

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def cloud(tmp_path):
    made = []

    def make(broker, *options):
        made.append(CloudProcess(broker, tmp_path, *options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "cloud.key"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def signed_site(key_file):
    """The site file with the key of this cloud."""
    public = read_signer(key_file, "any").public_key
    return SITE_FILE.replace("[store]", f'[[cloud.signing_key]]\nid = "cloud-sim"\npublic_key = "{public}"\n[store]')


def test_a_site_is_planned_for_ordered_about_commanded_and_counted(mosquitto, parts, cloud, key_file):
    broker = mosquitto()
    agent = parts.agent(parts.plant(), broker, text=signed_site(key_file)).start()
    orders = ["award ce-fcr-offset 10 1h 2h", "curtail 90 - 1h 2h", "outage pv 1h 2h", f"{SITE}: hold 1s", "report"]
    chosen = [word for order in orders for word in ("--order", order)]
    vpp = cloud(broker, "--sign-key", key_file, *chosen)

    def all_held():
        site = vpp.site()
        wanted = site.get("versions_published", {})
        return len(wanted) == 5 and wanted.items() <= site["versions_held"].items()

    until(all_held, "all five documents are held in the version that was published", DEADLINE_S)
    until(lambda: sum(vpp.site()["commands_ended"].values()) == 2, "both commands ended", DEADLINE_S)
    until(lambda: vpp.site()["telemetry_frames"] > 2, "telemetry")
    until(lambda: agent.status()["cloud"]["outbox_depth"] < 5, "the watermark empties the outbox")
    # What the site told before the cloud listened is sent again, for no watermark names it.
    until(lambda: vpp.account()["complete"], "no gap", DEADLINE_S)
    code, found = vpp.end()
    site = found["sites"][SITE]
    assert (code, found["complete"], site["faults"]) == (0, True, [])
    assert site["commands_ended"] == {"done": 2}
    assert site["refusals"] == {}
    assert site["plan_to_stored"]["count"] >= 5
    assert site["command_to_answer"]["worst_s"] < 20


def test_misbehaviour_of_every_kind_is_refused_and_the_account_stays_complete(mosquitto, parts, cloud, key_file):
    broker = mosquitto()
    agent = parts.agent(parts.plant(), broker, text=signed_site(key_file)).start()
    vpp = cloud(broker, "--sign-key", key_file, "--misbehave", "all", "--misbehave-every", "2", "--commands-every", "1")
    wanted = {"unsigned", "bad_signature", "unknown_key", "wrong_site", "version_old", "command_expired"}
    until(lambda: wanted <= vpp.site().get("refusals", {}).keys(), f"refusals {wanted}", DEADLINE_S)
    until(lambda: vpp.site()["commands_sent"] >= 5, "commands", DEADLINE_S)
    until(lambda: vpp.account()["complete"], "no gap", DEADLINE_S)
    held = lambda site: site["versions_held"]["rolling"] == site["versions_published"]["rolling"]  # noqa: E731
    site = until(lambda: held(vpp.site()) and vpp.site(), "the plan that was meant is held", DEADLINE_S)
    found = vpp.account()
    assert site["believed_what_is_forged"] == site["commands_ended_twice"] == site["conflicts"] == 0
    assert set(found["misdeeds"]) == {"duplicates", "old-versions", "forged", "floods", "silence"}
    assert agent.status()["source"] in {"rolling", "yearly", "command", "local_plan", "hold"}


def test_a_cloud_with_a_new_key_is_believed_after_a_reload_and_the_old_key_no_more(mosquitto, parts, cloud, key_file):
    broker = mosquitto()
    with_key = signed_site(key_file)
    agent = parts.agent(parts.plant(), broker, text=with_key.replace(read_signer(key_file, "any").public_key, OLD_KEY))
    agent.start()
    vpp = cloud(broker, "--sign-key", key_file, "--no-yearly")
    until(lambda: vpp.site().get("refusals", {}).get("bad_signature"), "nobody knows the new key yet", DEADLINE_S)
    assert vpp.site()["versions_held"]["rolling"] is None
    agent.file.write_text(agent.file.read_text().replace(OLD_KEY, read_signer(key_file, "any").public_key))
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: vpp.site()["versions_held"].get("rolling"), "the plan that was refused before", DEADLINE_S)
    (told,) = agent.events("signing_keys_changed")
    assert told["text"] == "believed from now on: cloud-sim; no longer believed: cloud-sim"


def test_a_cloud_that_is_started_again_knows_what_it_had_stored(mosquitto, parts, cloud):
    broker = mosquitto()
    parts.agent(parts.plant(), broker).start()
    first = cloud(broker)
    until(lambda: first.site().get("telemetry_frames", 0) > 3, "telemetry", DEADLINE_S)
    first.end()
    second = cloud(broker, "--client-id", "another")
    # What came between the two is sent again, for the watermark does not name it.
    until(lambda: second.site().get("telemetry_frames", 0) > 3 and second.account()["complete"], "no gap", DEADLINE_S)
    assert second.site()["telemetry_frames"] < second.site()["telemetry_highest"]


def test_through_the_door_of_the_cloud_with_its_certificate_plans_reach_their_site(mosquitto, tmp_path, cloud):
    secure = SecureBroker(mosquitto, tmp_path, site=SITE)
    certificate, key = secure.cloud_pair
    door = Address(f"mqtts://127.0.0.1:{secure.cloud_port}")
    files = ("--ca", secure.sites_ca.path, "--certificate", certificate, "--key", key)
    vpp = cloud(door, *files, "--site", SITE, "--site", "another", "--no-yearly")
    heard = {}
    site = secure.client("any", secure.sites_ca.issue(SITE)[:2])
    site.on_message = lambda _c, _u, message: heard.setdefault(message.topic, message.retain)
    until(site.is_connected, "the site's connection")
    site.subscribe("ems/v1/+/cloud/#", qos=1)
    until(lambda: f"ems/v1/{SITE}/cloud/plan/rolling" in heard, "the plan", DEADLINE_S)
    site.disconnect()
    site.loop_stop()
    assert vpp.account()["trouble"] is None
    assert not [topic for topic in heard if "another" in topic], "a site hears only its own"


class Address:
    """Of a broker."""

    def __init__(self, url):
        self.url = url
