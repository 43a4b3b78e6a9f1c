"""Modbus inside TLS: both sides show a certificate, and nothing is sent to a device that cannot prove who it is."""

from __future__ import annotations

import ssl
import time

import pytest
from drivers_registers import RawBank

from drivers.endpoint import TlsEndpoint
from drivers.errors import LinkDown
from drivers.link import Link
from drivers.tls import BadTls, TlsFiles, context_for
from simulators.modbus_server import ModbusServer
from tests.own_ca import Authority


class Site:
    """A CA, the agent's files, and devices with certificates of their own."""

    def __init__(self, folder):
        self.ca = Authority(folder)
        certificate, key, _ = self.ca.issue("agent")
        self.files = TlsFiles(self.ca.path, certificate, key)

    def device(self, *, issuer=None, newest=ssl.TLSVersion.TLSv1_3, **certificate):
        """A device's server that asks for a client certificate of the site's CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = min(newest, ssl.TLSVersion.TLSv1_2)
        context.maximum_version = newest
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.ca.path)
        pem, key, _ = (issuer or self.ca).issue("device", server=True, **certificate)
        context.load_cert_chain(pem, key)
        return ModbusServer({1: RawBank({10: 7})}, tls=context)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return Site(tmp_path_factory.mktemp("site"))


async def asked(server, files, name="127.0.0.1"):
    link = Link(TlsEndpoint("127.0.0.1", server.port, name), timeout_s=5.0, clock=time.monotonic, tls=files)
    try:
        return await link.read_holding(1, 10, 1)
    finally:
        await link.close()


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_registers_are_read_where_both_certificates_are_good(site, newest):
    async with site.device(newest=newest) as server:
        assert await asked(server, site.files) == (7,)


async def test_a_device_may_be_known_by_a_name_that_the_url_states(site):
    async with site.device(host="inverter-17.local", file="named") as server:
        assert await asked(server, site.files, "inverter-17.local") == (7,)
        with pytest.raises(LinkDown, match=r"the device's certificate is not accepted: .*127.0.0.1"):
            await asked(server, site.files)


async def test_a_device_of_another_authority_or_with_an_old_certificate_is_not_spoken_to(site, tmp_path):
    async with site.device(issuer=Authority(tmp_path, "foreign")) as server:
        with pytest.raises(
            LinkDown, match=r"certificate is not accepted: .*; check host and port, and the certificates"
        ):
            await asked(server, site.files)
        assert server.requests == 0
    async with site.device(days=-0.5, since_days=-2, file="old") as server:
        with pytest.raises(LinkDown, match="certificate has expired"):
            await asked(server, site.files)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_a_device_that_speaks_only_old_tls_is_not_spoken_to(site):
    async with site.device(newest=ssl.TLSVersion.TLSv1_1) as server:
        with pytest.raises(LinkDown, match="connecting failed: "):
            await asked(server, site.files)


async def test_an_agent_whose_certificate_the_device_refuses_is_told_so(site, tmp_path):
    foreign = Site(tmp_path)
    files = TlsFiles(site.ca.path, foreign.files.certificate, foreign.files.key)
    async with site.device() as server:
        with pytest.raises(LinkDown, match=r"connecting failed: TLS|closed the connection"):
            await asked(server, files)
        assert server.requests == 0


async def test_a_plain_device_at_a_tls_address_is_an_error_and_no_hang(site):
    async with ModbusServer({1: RawBank({10: 7})}) as server:
        with pytest.raises(LinkDown, match="connecting failed: "):
            await asked(server, site.files)


def test_files_that_cannot_be_used_are_named(site, tmp_path):
    with pytest.raises(BadTls, match=r"state ca, certificate and key in \[modbus_tls\]"):
        context_for(None)
    gone = TlsFiles(tmp_path / "gone.pem", site.files.certificate, site.files.key)
    with pytest.raises(BadTls, match=r"ca .*gone.pem: No such file"):
        context_for(gone)
    text = tmp_path / "text.pem"
    text.write_text("not a certificate")
    with pytest.raises(BadTls, match=r"ca .*text.pem: not usable"):
        context_for(TlsFiles(text, site.files.certificate, site.files.key))
    with pytest.raises(BadTls, match=r"certificate .*agent.pem with key .*text.pem: not usable"):
        context_for(TlsFiles(site.files.ca, site.files.certificate, text))
    pem, locked, _ = site.ca.issue("locked", password=b"secret")
    with pytest.raises(BadTls, match=r"with key .*locked.key: not usable"):
        context_for(TlsFiles(site.files.ca, pem, locked))


def test_no_tls_before_1_2_and_no_device_without_a_certificate(site):
    context = context_for(site.files)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
