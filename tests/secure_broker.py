"""The shipped example of a broker with certificates, on free ports of this machine."""

import socket
import ssl
from pathlib import Path

import paho.mqtt.client as mqtt
from own_ca import Authority

from agent.cloud.transport import TlsFiles, Transport
from agent.site_file.broker_address import BrokerAddress

CONFIG = Path(__file__).parents[1] / "config"
CLOUD = "vpp-cloud"
SITE = "demo-01"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class SecureBroker:
    """`config/mosquitto.example.conf` and its ACL as they are shipped, but for ports, paths and the user."""

    def __init__(self, mosquitto, folder, *, server=None, site=SITE):
        self.folder, self.site = folder, site
        self.sites_ca, self.cloud_ca = Authority(folder, "sites-ca"), Authority(folder, "cloud-ca")
        self.sites_ca.revoke()
        server = {"days": 365.0} if server is None else server
        self.own = self.sites_ca.issue("broker", server=True, **server)
        self.cloud_pair = self.cloud_ca.issue(CLOUD)[:2]
        self.cloud_port = free_port()
        text = (CONFIG / "mosquitto.example.conf").read_text()
        for old, new in (
            ("listener 8883", "listener {port} 127.0.0.1"),
            ("listener 8884", f"listener {self.cloud_port} 127.0.0.1"),
            ("/etc/mosquitto/tls/", f"{folder}/"),
            ("/etc/mosquitto/ems.acl", str(CONFIG / "mosquitto.example.acl")),
            ("/var/lib/mosquitto/", "{directory}/"),
        ):
            assert old in text, old
            text = text.replace(old, new)
        self.mosquitto = mosquitto(text + "user root\n")
        self.port = self.mosquitto.port

    def transport(self, pair=None, *, scheme="mqtts", port=None, ca=None, **more):
        """The way of a site to this broker, by default with a good certificate."""
        certificate, key = pair or self.sites_ca.issue(self.site)[:2]
        files = TlsFiles(str(ca or self.sites_ca.path), str(certificate), str(key))
        path = "/mqtt" if scheme == "wss" else ""
        return Transport(BrokerAddress("127.0.0.1", port or self.port, scheme, path), tls=files, **more)

    def client(self, client_id, pair, *, port=None):
        """A bare MQTT client with this certificate, connected or refused: anybody who is not our agent."""
        context = ssl.create_default_context(cafile=str(self.sites_ca.path))
        context.load_cert_chain(*pair)
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5)
        client.tls_set_context(context)
        client.connect("127.0.0.1", port or self.port, keepalive=20, clean_start=True)
        client.loop_start()
        return client
