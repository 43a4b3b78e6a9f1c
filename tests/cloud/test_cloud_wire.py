"""Documents are read strictly, in our unit and sign, or refused by name; nothing raises, nothing takes long."""

import gzip
import json
import time
import tracemalloc
from datetime import UTC, datetime

import pytest
from cloud_documents import GOOD, NOW, SITE, STARTS, ZSTD, document, zstd_of_unknown_size
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cloud.wire import RefusedDocument, document_kind, parse_document, parse_watermark
from agent.cloud.wire_fields import unix_time
from agent.core.admission import Refused
from agent.core.plan import PlanKind, Target
from agent.core.records import ParsedDocument, Stream


def parsed(payload, kind=PlanKind.ROLLING):
    result = parse_document(kind, payload, SITE)
    assert isinstance(result, ParsedDocument), result
    return result


def refused(payload, kind=PlanKind.ROLLING):
    result = parse_document(kind, payload, SITE)
    assert isinstance(result, RefusedDocument), result
    return result


def fastest_s(call):
    """The best of a few runs: how long it takes, not how busy the machine is."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times)


class TestReading:
    def test_a_plan_is_in_watts_toward_the_grid_and_unix_time(self):
        plan = parsed(document()).content
        assert plan.power_w == (-400_000.0, -400_000.0, None, 350_500.0)
        assert (plan.start_utc_s, plan.issued_utc_s, plan.slot_s, plan.version) == (NOW, NOW - 300, 1800, 17)
        assert plan.target is Target.GRID
        assert plan.soc_end_pct == (40.0, 60.0, None, 42.0)
        assert plan.price_per_kwh == (4.2, 3.9, 6.0, 19.8)

    @pytest.mark.parametrize(("unit", "watts"), [("W", 1.0), ("kW", 1e3), ("MW", 1e6)])
    @pytest.mark.parametrize(("positive", "sign"), [("export", 1.0), ("import", -1.0)])
    def test_each_unit_and_sign_is_converted(self, unit, watts, positive, sign):
        plan = parsed(document(unit=unit, positive=positive, power=[0.25, None, 0, -2])).content
        assert plan.power_w == (0.25 * sign * watts, None, 0.0, -2 * sign * watts)
        assert str(plan.power_w[2]) == "0.0"

    def test_an_offset_names_the_same_instant_as_utc(self):
        assert parsed(document(start="2024-01-15T12:00:00+09:00")).content.start_utc_s == NOW

    def test_a_compressed_document_is_kept_uncompressed_and_has_the_same_hash(self):
        plain = parsed(document())
        for packed in (gzip.compress(document()), ZSTD.compress(document()), zstd_of_unknown_size(document())):
            assert parsed(packed) == plain
            assert parsed(packed).document == document()

    def test_slot_starts_that_agree_are_taken(self):
        assert parsed(document(slot_start=STARTS)).content == parsed(document(slot_start=STARTS)).content

    def test_a_later_minor_version_may_have_fields_that_we_do_not_know(self):
        assert parsed(document(schema="1.7", colour="green", power=[1, 2, 3, 4])).content.version == 17
        assert refused(document(schema="1.7", colour="green", power=["1"])).refused.reason == "bad_value"

    def test_null_for_an_optional_field_is_as_if_it_were_not_there(self):
        plan = parsed(document(soc_end_pct=None, price=None)).content
        assert (plan.soc_end_pct, plan.price_per_kwh) == (None, None)

    def test_a_document_without_a_topic_names_its_kind(self):
        assert document_kind(document()) is PlanKind.ROLLING
        assert document_kind(document(kind="weekly")) == Refused(
            "bad_value", "kind", "kind must be one of rolling, yearly, awards, curtailments, outages"
        )
        assert document_kind(b"{").reason == "not_json"


class TestRefusing:
    def test_a_refusal_keeps_the_version_and_the_hash_for_the_answer(self):
        good, bad = parsed(document()), refused(document(unit="kw"))
        assert bad.version == 17
        assert len(bad.sha256) == 64
        assert bad.sha256 != good.content.sha256

    @pytest.mark.parametrize("version", [None, True, "17", -1, 2**53, 1.5])
    def test_a_version_that_is_none_is_not_told_as_one(self, version):
        assert refused(document(version=version)).version is None

    def test_a_hostile_field_name_comes_back_printable_and_short(self):
        answer = refused(document()[:-1] + b', "\\ud800\\u0000' + b"x" * 1000 + b'": 1}').refused
        assert answer.reason == "not_json"
        assert answer.field == "??" + "x" * 78 + "..."
        assert "half of a surrogate pair" in answer.detail

    def test_a_gzip_bomb_costs_no_more_memory_than_the_cap(self):
        bomb = gzip.compress(b"[" * 200_000_000, 9)
        assert len(bomb) < 1024 * 1024
        assert refused(bomb).refused.reason == "too_large"
        assert fastest_s(lambda: refused(bomb)) < 0.05

    @pytest.mark.parametrize("compressed", [ZSTD.compress, zstd_of_unknown_size], ids=["stated size", "no size"])
    def test_a_zstd_bomb_costs_no_more_memory_than_the_cap_and_a_little(self, compressed):
        bomb = compressed(b"[" * 200_000_000)
        assert len(bomb) < 1024 * 1024
        tracemalloc.start()
        assert refused(bomb).refused.reason == "too_large"
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 16 * 1024 * 1024
        assert fastest_s(lambda: refused(bomb)) < 0.05

    def test_two_megabytes_of_brackets_are_refused_at_once(self):
        too_large, too_many, too_deep = b"[" * 2_000_000, b"[" * 1_048_576, b"[" * 10_000
        for payload, reason in ((too_large, "too_large"), (too_many, "too_large"), (too_deep, "not_json")):
            assert refused(payload).refused.reason == reason
            assert fastest_s(lambda: refused(payload)) < 0.025  # noqa: B023 - called at once


class TestSpeed:
    def test_a_leap_year_of_half_hours_is_read_within_thirty_milliseconds(self):
        n = 17_568
        payload = document(
            kind="yearly",
            power=[round(i % 800 - 400.05, 2) for i in range(n)],
            soc_end_pct=[50.5] * n,
            price=[9.99] * n,
        )
        assert len(parsed(payload, PlanKind.YEARLY).content.power_w) == n
        assert fastest_s(lambda: parsed(payload, PlanKind.YEARLY)) < 0.030


class TestTime:
    def test_a_time_needs_its_zone_and_the_full_form(self):
        assert unix_time("2024-01-15T03:00Z") == NOW
        assert unix_time("2024-01-15T03:00:00.250Z") == NOW + 0.25
        for text in (
            "2024-01-15 03:00:00Z",
            "20240115T030000Z",
            "2024-W03-1T03:00:00Z",
            "2024-01-15",
            "٢024-01-15T03:00Z",
        ):
            with pytest.raises(ValueError, match="is wanted"):
                unix_time(text)

    def test_a_day_of_the_clock_change_is_46_half_hours_in_utc(self):
        first = datetime(2024, 3, 31, 0, 0, tzinfo=UTC).timestamp() - 3600
        assert unix_time("2024-03-31T00:00:00+01:00") == first
        assert unix_time("2024-04-01T00:00:00+02:00") == first + 46 * 1800


class TestWatermark:
    def test_it_says_up_to_where_each_named_stream_is_stored(self):
        payload = json.dumps({"schema": "1.0", "site_id": SITE, "stored": {"telemetry": 1204, "ack": 42}}).encode()
        assert parse_watermark(payload, SITE) == {Stream.TELEMETRY: 1204, Stream.ACK: 42}

    @pytest.mark.parametrize("stored", [{"telemetry": -1}, {"telemetry": "7"}, {"frames": 7}, {"ack": 2**60}, None, 7])
    def test_a_strange_one_is_refused(self, stored):
        payload = json.dumps({"schema": "1.0", "site_id": SITE, "stored": stored}).encode()
        assert isinstance(parse_watermark(payload, SITE), Refused)

    def test_a_huge_one_is_refused_before_it_is_read(self):
        assert parse_watermark(b"[" * 1_000_000, SITE).reason == "too_large"
        assert parse_watermark(gzip.compress(b"[" * 1_000_000), SITE).reason == "too_large"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def mutated_bytes(draw):
    """A good document with bytes changed, removed, put in, perhaps compressed before or after."""
    data = bytearray(document(slot_start=STARTS))
    if draw(st.booleans()):
        data = bytearray(draw(st.sampled_from([gzip.compress, ZSTD.compress, zstd_of_unknown_size]))(bytes(data)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
        if not data:
            break
    return bytes(data)


class TestHostility:
    @settings(max_examples=300)
    @given(mutated_bytes())
    def test_any_mutated_document_is_parsed_or_refused(self, payload):
        assert isinstance(parse_document(PlanKind.ROLLING, payload, SITE), ParsedDocument | RefusedDocument)
        assert isinstance(parse_watermark(payload, SITE), dict | Refused)

    @settings(max_examples=300)
    @given(st.sampled_from(sorted(GOOD)), json_values)
    def test_any_value_in_any_field_is_parsed_or_refused(self, field, value):
        payload = json.dumps(GOOD | {field: value}).encode()
        assert isinstance(parse_document(PlanKind.ROLLING, payload, SITE), ParsedDocument | RefusedDocument)

    @settings(max_examples=200)
    @given(st.binary(max_size=200))
    def test_any_bytes_are_refused(self, payload):
        assert isinstance(parse_document(PlanKind.YEARLY, payload, SITE), RefusedDocument)
