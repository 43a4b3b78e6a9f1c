"""The daemon where only the way through a proxy to port 443 is open, and the broker takes no packet over 128 kB."""

import base64
import gzip
import random

import pytest
from detours import ConnectProxy, WebSocketGateway
from integration_site import CLOUD, SITE_FILE, command, document, near, slot_now, until
from own_ca import Authority
from own_signer import KEY_ID, PUBLIC, Signer

from tests.conftest import CONFIG
from tests.in_thread import InThread

MAX_PACKET_BYTES = 128 * 1024
YEAR_SLOTS = 17_568
LOGIN = "us:pass wörd"
FAR = """\
[cloud]
broker = "wss://127.0.0.1:{gateway}/mqtt"
protocol = "{protocol}"
frame = "1 s"
reconnect_max = "1 s"
[cloud.tls]
ca = "{ca}"
[cloud.proxy]
url = "http://127.0.0.1:{proxy}"
user = "us"
password_file = "{password}"
"""
KEY = """\
[[cloud.signing_key]]
id = "{key_id}"
public_key = "{public}"
"""
NEXT = Signer("vpp-2025", fresh=True)
FIRST_KEY = KEY.format(key_id=KEY_ID, public=PUBLIC)
NEXT_KEY = KEY.format(key_id="vpp-2025", public=base64.urlsafe_b64encode(NEXT.public).rstrip(b"=").decode())


@pytest.fixture
def far(tmp_path, mosquitto):
    """(broker, port of the WebSocket gateway, the proxy and its port, folder)."""
    broker = mosquitto(CONFIG + f"max_packet_size {MAX_PACKET_BYTES}\n")
    authority = Authority(tmp_path)
    (tmp_path / "password").write_text(LOGIN.split(":")[1])
    (tmp_path / "password").chmod(0o600)
    gateway = WebSocketGateway(authority.issue("gateway", server=True)[:2], broker.port)
    with InThread(gateway), InThread(ConnectProxy(LOGIN)) as proxy:
        yield broker, gateway.port, proxy, tmp_path


def year(version):
    """A year of half-hours with power, SoC and price, no two alike, compressed."""
    rng = random.Random(version)
    plan = document(
        version, [round(rng.uniform(-400, 400)) for _ in range(YEAR_SLOTS)], start=slot_now(1800), slot_s=1800,
        kind="yearly", soc_end_pct=[rng.randrange(10, 90) for _ in range(YEAR_SLOTS)],
        price=[round(rng.uniform(1, 30), 1) for _ in range(YEAR_SLOTS)],
    )  # fmt: skip
    return gzip.compress(plan, 9)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_signed_year_comes_through_proxy_and_websocket_and_the_keys_change_under_way(parts, far, protocol):
    broker, gateway_port, proxy, folder = far
    assert CLOUD in SITE_FILE
    section = FAR.format(
        gateway=gateway_port, protocol=protocol, ca=folder / "ca.pem", proxy=proxy.port, password=folder / "password"
    )
    plant = parts.plant()
    agent = parts.agent(plant, text=SITE_FILE.replace(CLOUD, section + FIRST_KEY + NEXT_KEY)).start()
    until(lambda: agent.status()["cloud"]["connected"], f"the connection: {agent.log.read_text()[-2000:]}")
    assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{gateway_port} HTTP/1.1\r\n")
    cloud = parts.cloud(broker, watermarks=False)

    def send(payload, name):
        cloud.paho.publish(f"ems/v1/test-01/cloud/{name}", payload, qos=1, retain=name != "command").wait_for_publish(
            20
        )

    def answered(stage, **wanted):
        def found():
            return [a for a in list(cloud.acks) if a["stage"] == stage and wanted.items() <= a.items()]

        return until(found, f"{stage} {wanted}: {[(a['stage'], a['reason'], a['detail']) for a in cloud.acks]}")[0]

    yearly = Signer().signed(year(1))
    assert 0.5 * MAX_PACKET_BYTES < len(yearly) < MAX_PACKET_BYTES
    send(yearly, "plan/yearly")
    answered("stored", kind="yearly", version=1)
    send(NEXT.signed(document(7, [70.0] * 600)), "plan/rolling")
    answered("stored", kind="rolling", version=7)
    until(lambda: near(plant.battery_w, 70_000.0), "the plan of the second key is executed")
    until(lambda: cloud.contents, "frames arrive")

    agent.file.write_text(agent.file.read_text().replace(FIRST_KEY, ""))
    reply = agent.ask("reload")
    assert reply["ok"], reply
    until(lambda: agent.events("signing_keys_changed"), "the change is told")
    until(lambda: agent.status()["cloud"]["connected"], "connected")
    send(Signer().signed(document(8, [10.0] * 600)), "plan/rolling")
    answered("rejected", reason="unknown_key")
    order = command("set_power", "c-1", power=-50.0, unit="kW", positive="export", target="battery", duration_s=60)
    send(NEXT.signed(order), "command")
    answered("accepted", id="c-1")
    until(lambda: near(plant.battery_w, -50_000.0), "the command of the key that stays acts")
    assert agent.status()["plans"]["rolling"]["version"] == 7
