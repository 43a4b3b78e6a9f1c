"""Every way to the broker on real sockets: it works, or the trouble is told in words and nothing is sent."""

import asyncio
import json
import ssl
import warnings

import pytest
from cloud_documents import SITE, document
from cloud_double import until
from detours import ConnectProxy, Fake, WebSocketGateway
from own_ca import Authority
from secure_broker import SecureBroker

from agent.cloud.intake import MAX_INBOUND
from agent.cloud.transport import (
    FROM_FILE,
    CannotConnect,
    Login,
    Opening,
    Proxy,
    TlsFiles,
    Transport,
    open_socket,
    tls_context,
)
from agent.site_file.broker_address import BrokerAddress


@pytest.fixture
def secure(mosquitto, tmp_path):
    return SecureBroker(mosquitto, tmp_path)


@pytest.fixture
def password(tmp_path):
    """A password on disk as it must be kept; its path."""

    def make(text, mode=0o600):
        path = tmp_path / "password"
        path.touch()
        path.chmod(mode)
        path.write_text(text + "\n")
        return str(path)

    return make


def publish_plan(secure, payload=None, version=17):
    """The cloud publishes a plan over its own door."""
    cloud = secure.client("the-cloud", secure.cloud_pair, port=secure.cloud_port)
    sent = cloud.publish(f"ems/v1/{SITE}/cloud/plan/rolling", payload or document(version=version), qos=1, retain=True)
    sent.wait_for_publish(10)
    assert sent.is_published()
    cloud.disconnect()
    cloud.loop_stop()


async def connected(site):
    await until(lambda: site.uplink.connected, f"a connection; trouble: {site.uplink.last_trouble}")


async def trouble(site, *words):
    """Waits for a refusal that says all this."""
    await until(lambda: site.uplink.last_trouble, "a refusal")
    told = site.uplink.last_trouble
    assert all(word in told for word in words), told
    assert not site.uplink.connected


class TestTls:
    async def test_a_plan_comes_over_tls_with_a_certificate_of_the_site(self, secure, edge):
        publish_plan(secure)
        site = edge(None, transport=secure.transport()).begin()
        await until(lambda: site.plans.rolling, "the plan")

    async def test_a_broker_restart_keeps_the_session_and_what_was_sent_meanwhile(self, secure, edge):
        site = edge(None, transport=secure.transport()).begin()
        await connected(site)
        secure.mosquitto.terminate()
        await until(lambda: not site.uplink.connected, "the loss")
        secure.mosquitto.start()
        await connected(site)
        await site.end()
        cloud = secure.client("the-cloud", secure.cloud_pair, port=secure.cloud_port)
        topic = f"ems/v1/{SITE}/cloud/plan/rolling"
        cloud.publish(topic, document(), qos=1, retain=False).wait_for_publish(10)
        cloud.disconnect()
        cloud.loop_stop()
        secure.mosquitto.terminate()
        secure.mosquitto.start()
        site.begin()
        await until(lambda: site.plans.rolling, "the plan that was sent while the site was away, over a restart")

    async def test_a_broker_of_another_ca_is_not_believed(self, secure, edge, tmp_path):
        other = Authority(tmp_path, "other-ca")
        site = edge(None, transport=secure.transport(ca=other.path)).begin()
        await trouble(site, "is not believed", "cloud.tls.ca")

    async def test_a_broker_of_a_public_ca_is_not_believed_either_where_a_ca_is_named(self, secure, edge, tmp_path):
        """Nothing but the named file counts: the context holds its one certificate and none of the system's."""
        assert tls_context(TlsFiles(ca=str(secure.sites_ca.path))).cert_store_stats()["x509_ca"] == 1

    @pytest.mark.parametrize(
        ("server", "words"),
        [
            ({"days": -0.5}, ("expired", "clock")),
            ({"since_days": 1.0, "days": 2.0}, ("not yet valid", "clock")),
            ({"host": "other.example"}, ("IP address mismatch", "cloud.broker")),
        ],
        ids=["expired", "not yet", "another name"],
    )
    async def test_a_broker_with_a_bad_certificate_is_refused(self, mosquitto, tmp_path, edge, server, words):
        secure = SecureBroker(mosquitto, tmp_path, server=server)
        site = edge(None, transport=secure.transport()).begin()
        await trouble(site, *words)

    async def test_a_broker_that_speaks_only_old_tls_is_refused(self, tmp_path, edge):
        authority = Authority(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("old", server=True)[:2])
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1

        async def answer(reader, _writer):
            await reader.read()

        async with Fake(answer, context) as server:
            address = BrokerAddress("127.0.0.1", server.port, "mqtts")
            site = edge(None, transport=Transport(address, tls=TlsFiles(ca=str(authority.path)))).begin()
            await trouble(site, "no TLS with 127.0.0.1")
            await site.end()
        # OpenSSL as Debian builds it would refuse it too; elsewhere this line is what does.
        assert tls_context(TlsFiles(ca=str(authority.path))).minimum_version is ssl.TLSVersion.TLSv1_2

    async def test_a_site_with_a_revoked_certificate_is_refused(self, secure, edge):
        certificate, key, revoked = secure.sites_ca.issue(SITE)
        secure.sites_ca.revoke(revoked)
        secure.mosquitto.terminate()
        secure.mosquitto.start()
        site = edge(None, transport=secure.transport((certificate, key))).begin()
        await trouble(site, "refused us", "certificate revoked", "cloud.tls.certificate")

    async def test_a_site_with_a_certificate_of_another_ca_is_refused(self, secure, edge, tmp_path):
        stranger = Authority(tmp_path, "stranger").issue(SITE)[:2]
        site = edge(None, transport=secure.transport(stranger)).begin()
        await trouble(site, "refused us", "unknown ca", "cloud.tls.certificate")

    async def test_a_site_with_an_expired_certificate_is_refused(self, secure, edge):
        expired = secure.sites_ca.issue(SITE, days=-0.5)[:2]
        site = edge(None, transport=secure.transport(expired)).begin()
        await trouble(site, "refused us", "certificate expired")

    async def test_a_site_without_a_certificate_is_refused(self, secure, edge):
        files = TlsFiles(ca=str(secure.sites_ca.path))
        site = edge(None, transport=Transport(BrokerAddress("127.0.0.1", secure.port, "mqtts"), tls=files)).begin()
        await trouble(site, "refused us", "certificate required")

    async def test_tls_is_never_left_out_where_the_broker_offers_none(self, mosquitto, edge, tmp_path):
        plain = mosquitto()
        files = TlsFiles(ca=str(Authority(tmp_path).path))
        site = edge(None, transport=Transport(BrokerAddress("127.0.0.1", plain.port, "mqtts"), tls=files)).begin()
        await trouble(site, "TLS")


class TestFiles:
    @pytest.mark.parametrize("which", ["ca", "certificate", "key"])
    async def test_one_that_is_not_there_is_named(self, secure, edge, which):
        way = secure.transport()
        (secure.folder / {"ca": "sites-ca.pem", "certificate": f"{SITE}.pem", "key": f"{SITE}.key"}[which]).unlink()
        await trouble(edge(None, transport=way).begin(), "cannot be read: No such file", "must be there")

    async def test_a_key_that_others_may_read_is_not_used(self, secure, edge):
        way = secure.transport()
        (secure.folder / f"{SITE}.key").chmod(0o640)
        await trouble(edge(None, transport=way).begin(), "others than its owner", "0640", "chmod 600")

    async def test_a_key_of_another_certificate_is_named(self, secure, edge):
        way = secure.transport()
        secure.sites_ca.issue(SITE, file="other")
        (secure.folder / f"{SITE}.key").write_bytes((secure.folder / "other.key").read_bytes())
        await trouble(edge(None, transport=way).begin(), "does not belong to the certificate")

    async def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_password(self, secure, edge):
        pair = secure.sites_ca.issue(SITE, password=b"secret")[:2]
        await trouble(edge(None, transport=secure.transport(pair)).begin(), "encrypted", "without a password")

    @pytest.mark.parametrize(
        "content", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
    )
    async def test_a_ca_file_without_a_certificate_is_named(self, secure, edge, content):
        way = secure.transport()
        secure.sites_ca.path.write_bytes(content)
        await trouble(edge(None, transport=way).begin(), "sites-ca.pem")

    async def test_credentials_of_systemd_are_found_by_name(self, secure, edge, monkeypatch):
        secure.transport()
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secure.folder))
        files = TlsFiles("credential:sites-ca.pem", f"credential:{SITE}.pem", f"credential:{SITE}.key")
        way = Transport(BrokerAddress("127.0.0.1", secure.port, "mqtts"), tls=files)
        await connected(edge(None, transport=way).begin())

    async def test_without_systemd_a_credential_is_named_with_what_to_do(self, secure, edge, monkeypatch):
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        way = Transport(BrokerAddress("127.0.0.1", secure.port, "mqtts"), tls=TlsFiles("credential:ca"))
        await trouble(edge(None, transport=way).begin(), "credential:ca", "LoadCredential=")


class TestPassword:
    CONFIG = "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {directory}/users\nuser root\n"

    @pytest.fixture
    def guarded(self, mosquitto, tmp_path):
        import subprocess

        users = tmp_path / "users"
        subprocess.run(["mosquitto_passwd", "-c", "-b", str(users), "site", "right"], check=True, capture_output=True)
        return mosquitto(self.CONFIG.replace("{directory}/users", str(users)))

    async def test_it_is_read_from_its_file(self, guarded, edge, password):
        address = BrokerAddress("127.0.0.1", guarded.port)
        way = Transport(address, login=Login("site", password("right")))
        await connected(edge(None, transport=way).begin())

    async def test_a_wrong_one_is_told_and_never_repeated(self, guarded, edge, password):
        address = BrokerAddress("127.0.0.1", guarded.port)
        site = edge(None, transport=Transport(address, login=Login("site", password("hunter2")))).begin()
        await trouble(site, "Not authorized")
        assert "hunter2" not in site.uplink.last_trouble

    async def test_one_that_others_may_read_is_not_used(self, guarded, edge, password):
        address = BrokerAddress("127.0.0.1", guarded.port)
        site = edge(None, transport=Transport(address, login=Login("site", password("right", 0o644)))).begin()
        await trouble(site, "others than its owner", "chmod 600")


class TestOlderMqtt:
    async def test_plans_answers_and_frames_go_over_3_1_1_and_the_session_is_kept(self, mosquitto, edge, cloud):
        broker = mosquitto()
        vpp = await cloud(broker)
        way = Transport(BrokerAddress("127.0.0.1", broker.port), protocol="3.1.1")
        site = edge(broker, transport=way).begin()
        await connected(site)
        await site.frame()
        vpp.send_plan(document(version=16), retain=False)
        await until(lambda: vpp.complete_to("telemetry") == 1 and vpp.acks(), "the frame and the answer")
        await site.end()
        await until(lambda: not vpp.statuses[-1]["online"], "the will")
        vpp.send_plan(document(), retain=False).wait_for_publish(5)
        site.begin()
        await until(lambda: site.plans.rolling and site.plans.rolling.version == 17, "the plan that was sent meanwhile")

    async def test_a_hundred_plans_at_once_are_all_answered(self, mosquitto, edge, cloud):
        """3.1.1 has no ReceiveMaximum: what the broker sends at once is held back on the line."""
        broker = mosquitto()
        vpp = await cloud(broker)
        way = Transport(BrokerAddress("127.0.0.1", broker.port), protocol="3.1.1")
        site = edge(broker, transport=way).begin()
        await connected(site)
        for version in range(1, 101):
            vpp.send_plan(document(version=version), retain=False)
        await until(lambda: site.plans.rolling and site.plans.rolling.version == 100, "the last one")
        await until(lambda: {a["version"] for a in vpp.messages_of("edge/ack")} >= set(range(1, 101)), "all answers")


class TestWebSocket:
    async def test_plans_and_frames_go_over_it(self, mosquitto, edge, cloud, tmp_path):
        broker, authority = mosquitto(), Authority(tmp_path)
        vpp = await cloud(broker)
        async with WebSocketGateway(authority.issue("gateway", server=True)[:2], broker.port) as gateway:
            address = BrokerAddress("127.0.0.1", gateway.port, "wss", "/mqtt")
            site = edge(broker, transport=Transport(address, tls=TlsFiles(ca=str(authority.path)))).begin()
            await connected(site)
            vpp.send_plan(document(power=[1.0] * 96, soc_end_pct=None, price=[1.23] * 96))
            for _ in range(20):
                await site.frame()
            await until(lambda: site.plans.rolling and vpp.complete_to("telemetry") == 20, "the plan and the frames")
            await site.end()

    async def test_a_gateway_gets_the_headers_that_it_asks_for(self, mosquitto, edge, password, tmp_path):
        broker, authority = mosquitto(), Authority(tmp_path)
        pair = authority.issue("gateway", server=True)[:2]
        headers = {"X-Tenant": "vpp-1", "Authorization": FROM_FILE + password("Bearer abc")}
        wanted = {"X-Tenant": "vpp-1", "Authorization": "Bearer abc"}
        async with WebSocketGateway(pair, broker.port, path="/ws?v=1", headers=wanted) as gateway:
            address = BrokerAddress("127.0.0.1", gateway.port, "wss", "/ws?v=1")
            files = TlsFiles(ca=str(authority.path))
            site = edge(broker, transport=Transport(address, tls=files, headers=headers)).begin()
            await connected(site)
            await site.end()

    async def test_a_wrong_path_is_told(self, mosquitto, edge, tmp_path):
        broker, authority = mosquitto(), Authority(tmp_path)
        async with WebSocketGateway(authority.issue("gateway", server=True)[:2], broker.port) as gateway:
            address = BrokerAddress("127.0.0.1", gateway.port, "wss", "/other?token=canary")
            site = edge(broker, transport=Transport(address, tls=TlsFiles(ca=str(authority.path)))).begin()
            await trouble(site, "/other did not become a WebSocket", "path")
            await site.end()


class TestProxy:
    async def test_tls_goes_through_it(self, secure, edge):
        publish_plan(secure)
        async with ConnectProxy() as proxy:
            way = secure.transport(proxy=Proxy("127.0.0.1", proxy.port))
            site = edge(None, transport=way).begin()
            await until(lambda: site.plans.rolling, "the plan")
            assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1\r\n")
            await site.end()

    async def test_a_websocket_too_with_a_login_of_the_proxy(self, mosquitto, edge, password, tmp_path):
        broker, authority = mosquitto(), Authority(tmp_path)
        pair = authority.issue("gateway", server=True)[:2]
        async with WebSocketGateway(pair, broker.port) as gateway, ConnectProxy("us:pass wörd") as proxy:
            address = BrokerAddress("127.0.0.1", gateway.port, "wss", "/mqtt")
            login = Login("us", password("pass wörd"))
            way = Transport(address, tls=TlsFiles(ca=str(authority.path)), proxy=Proxy("127.0.0.1", proxy.port, login))
            site = edge(broker, transport=way).begin()
            await connected(site)
            await site.end()

    async def test_one_that_wants_a_login_is_told(self, secure, edge):
        async with ConnectProxy("us:secret") as proxy:
            site = edge(None, transport=secure.transport(proxy=Proxy("127.0.0.1", proxy.port))).begin()
            await trouble(site, "wants a user and a password", "cloud.proxy")

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", ("refuses the way", "403")),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ("refuses the way", "SSH-2.0")),
            (b"", ("closed the connection", "CONNECT")),
            (b"x" * 20_000, ("no answer that ends",)),
        ],
        ids=["403", "ssh", "closed", "endless"],
    )
    async def test_one_that_is_none_is_told(self, secure, edge, answer, words):
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.write_eof()
            await reader.read()

        async with Fake(serve) as proxy:
            site = edge(None, transport=secure.transport(proxy=Proxy("127.0.0.1", proxy.port))).begin()
            await trouble(site, *words)
            await site.end()

    async def test_proxies_of_the_environment_are_no_matter(self, secure, edge, monkeypatch):
        """The library below would follow them; the way to the broker is what the site file says."""
        for name in ("mqtt_proxy", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        await connected(edge(None, transport=secure.transport()).begin())


class TestHostileBrokers:
    @staticmethod
    def way(server, scheme="mqtt", ca=None):
        files = TlsFiles(ca=None if ca is None else str(ca))
        return Transport(BrokerAddress("127.0.0.1", server.port, scheme), tls=files)

    async def test_a_packet_of_256_mb_is_not_taken(self, edge):
        sent = 0

        async def answer(reader, writer):
            nonlocal sent
            await reader.read(1000)
            writer.write(bytes.fromhex("20 03 00 00 00") + b"\x30\xff\xff\xff\x7f")
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536

        async with Fake(answer) as server:
            site = edge(None, transport=self.way(server)).begin()
            await until(lambda: "not in order" in (site.uplink.last_trouble or ""), "the refusal")
            await site.end()
        assert sent < 20_000_000

    async def test_messages_with_qos_2_do_not_pile_up(self, edge):
        sent = 0

        async def answer(reader, writer):
            nonlocal sent
            await reader.read(1000)
            writer.write(bytes.fromhex("20 03 00 00 00"))
            for mid in range(1, 60_000):
                body = b"\x00\x01x" + mid.to_bytes(2, "big") + b"\x00" + bytes(100)
                writer.write(bytes([0x34, len(body)]) + body)
                await writer.drain()
                sent += 1

        async with Fake(answer) as server:
            site = edge(None, transport=self.way(server)).begin()
            await until(lambda: "QoS 2" in (site.uplink.last_trouble or ""), "the refusal")
            await site.end()
        assert sent < 59_000

    async def test_a_backlog_that_comes_before_the_answer_to_the_subscription_does_not_hide_it(self, edge):
        """So mosquitto 2.0 does after a connection that broke: it forgets how many it has sent without an answer."""
        topic = f"ems/v1/{SITE}/cloud/plan/rolling".encode()

        async def answer(reader, writer):
            await reader.read(1000)
            writer.write(bytes.fromhex("20 03 00 00 00"))
            asked = await reader.read(1000)
            for mid in range(1, 3 * MAX_INBOUND):
                body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big") + b"\x00{}"
                writer.write(bytes([0x32, len(body)]) + body)
            granted = bytes([1] * asked.count(f"ems/v1/{SITE}/cloud/".encode()))
            writer.write(bytes([0x90, 3 + len(granted)]) + asked[3:5] + b"\x00" + granted)
            await writer.drain()
            await reader.read()

        async with Fake(answer) as server:
            site = edge(None, transport=self.way(server)).begin()
            await until(lambda: site.uplink.connected, "the subscription is answered", deadline_s=8.0)
            await site.end()

    async def test_one_that_says_nothing_in_the_handshake_does_not_hold_up_a_stop(self, edge, tmp_path, monkeypatch):
        monkeypatch.setattr("agent.cloud.transport.CONNECT_TIMEOUT_S", 600.0)
        waiting = asyncio.Event()

        async def answer(reader, _writer):
            await reader.read(10)
            waiting.set()
            await reader.read()

        async with Fake(answer) as server:
            site = edge(None, transport=self.way(server, "mqtts", Authority(tmp_path).path)).begin()
            await waiting.wait()
            async with asyncio.timeout(20):
                await site.end()

    async def test_a_connection_that_nobody_wants_any_more_is_not_made(self):
        came = asyncio.Event()

        async def answer(reader, _writer):
            came.set()
            await reader.read()

        async with Fake(answer) as server:
            opening = Opening()
            opening.end()
            with pytest.raises(CannotConnect, match="not wanted"):
                await asyncio.to_thread(open_socket, self.way(server), opening)
            opening.close()
            await came.wait()


def test_no_secret_is_in_what_a_transport_says_of_itself(password):
    way = Transport(BrokerAddress("x", 1), login=Login("u", password("hunter2")))
    assert "hunter2" not in repr(way)
    assert json.dumps(repr(way))
