"""When certificates end: read as another library reads them, and told in time."""

import contextlib
import random
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from own_ca import Authority

from agent.cloud import certificates
from agent.cloud.certificates import DAY_S, EVENT_CODE, Expiry, ExpiryWatch, NotACertificate, validity
from agent.core.events import EventState, Severity

NOW = 1_705_287_600.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def expiry(days, subject="site certificate"):
    return Expiry(subject, NOW + days * DAY_S, "renew it")


class TestValidity:
    @pytest.mark.parametrize("days", [0.1, 1, 30, 365, 3650, 25 * 365, 200 * 365])
    def test_it_is_what_another_library_reads(self, authority, days):
        """Beyond 2049 the times have another form."""
        certificate = authority.issue("site", days=days)[2]
        found = validity(certificate.public_bytes(Encoding.DER))
        assert found.not_before_utc_s == certificate.not_valid_before_utc.timestamp()
        assert found.not_after_utc_s == certificate.not_valid_after_utc.timestamp()

    def test_of_the_last_century_too(self, authority):
        years_ago = (datetime.now(UTC) - datetime(1998, 1, 1, tzinfo=UTC)) / timedelta(days=1)
        certificate = authority.issue("old", since_days=-years_ago, days=-1)[2]
        assert (
            validity(certificate.public_bytes(Encoding.DER)).not_before_utc_s
            == datetime(1998, 1, 1, tzinfo=UTC).timestamp()
        )

    def test_all_certificates_that_the_system_believes_can_be_read(self):
        context = ssl.create_default_context()
        ders = context.get_ca_certs(binary_form=True)
        assert all(validity(der).not_after_utc_s > 0 for der in ders)

    @given(st.binary(max_size=400))
    def test_any_bytes_are_a_certificate_or_a_named_error(self, data):
        with contextlib.suppress(NotACertificate):
            validity(data)

    def test_a_damaged_one_is_a_named_error_or_another_time(self, authority):
        der = bytearray(authority.certificate.public_bytes(Encoding.DER))
        seeded = random.Random(7)
        for _ in range(3000):
            damaged = bytearray(der)
            damaged[seeded.randrange(len(der))] ^= seeded.randrange(1, 256)
            with contextlib.suppress(NotACertificate):
                validity(bytes(damaged[: seeded.randrange(len(der) + 1)]))

    def test_a_chain_ends_with_its_first_and_a_bundle_of_cas_with_its_last(self, authority):
        short = authority.issue("a", days=10)[2].public_bytes(Encoding.PEM).decode()
        long = authority.issue("b", days=20)[2].public_bytes(Encoding.PEM).decode()
        both = certificates.in_pem(f"a comment\n{short}between\n{long}")
        assert len(both) == 2
        ends = sorted(validity(der).not_after_utc_s for der in both)
        assert [certificates.first_to_end(both), certificates.last_to_end(both)] == ends
        assert certificates.first_to_end([]) is certificates.last_to_end([]) is None


class TestAlarm:
    def told(self, watch, *expiries, later_days=0.0):
        events = watch.events(expiries, NOW + later_days * DAY_S)
        return [(event.state, event.severity, event.subject) for event in events]

    def test_it_warns_at_30_days_and_alarms_at_7_and_at_the_end_once_each(self):
        watch, one = ExpiryWatch(), expiry(31.5)
        days_left = {later: self.told(watch, one, later_days=later) for later in range(40)}
        told = {later: events for later, events in days_left.items() if events}
        site = "site certificate"
        assert told == {
            2: [(EventState.RAISED, Severity.WARNING, site)],
            25: [(EventState.RAISED, Severity.ALARM, site)],
            32: [(EventState.RAISED, Severity.ALARM, site)],
        }

    def test_a_new_certificate_ends_it(self):
        watch = ExpiryWatch()
        self.told(watch, expiry(3))
        assert self.told(watch, expiry(365)) == [(EventState.CLEARED, Severity.INFO, "site certificate")]
        assert self.told(watch, expiry(365)) == []

    def test_each_certificate_is_told_for_itself_with_the_day_and_what_to_do(self):
        events = ExpiryWatch().events(
            [expiry(3), expiry(20, "CA certificate"), expiry(90, "broker's certificate")], NOW
        )
        assert [(e.code, e.subject, e.severity) for e in events] == [
            (EVENT_CODE, "site certificate", Severity.ALARM),
            (EVENT_CODE, "CA certificate", Severity.WARNING),
        ]
        assert "ends in 3 days (2024-01-18)" in events[0].text
        assert "renew it" in events[0].text
        assert events[0].data == {"days_left": 3.0}
        (ended,) = ExpiryWatch().events([expiry(-2)], NOW)
        assert "has ended (2024-01-13)" in ended.text
