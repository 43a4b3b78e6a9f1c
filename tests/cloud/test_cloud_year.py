"""A year's plan, with every column and a signature, fits into what common brokers carry, and is stored whole."""

import gzip
import time

import zstandard

from agent.cloud.wire import parse_document
from agent.core.plan import PlanKind
from agent.core.records import ParsedDocument
from tests.benchmarks.year_plan import MAX_PACKET_BYTES, SITE, SLOTS, sizes, year_document


def test_a_signed_year_of_real_prices_fits_into_128_kb_by_gzip_and_by_zstd():
    found = sizes(year_document(1, time.time() // 1800 * 1800))
    assert found["plain"] > MAX_PACKET_BYTES
    assert max(found["gzip_signed"], found["zstd_signed"]) < 0.8 * MAX_PACKET_BYTES


def test_both_are_read_to_the_same_plan():
    document = year_document(1, 1_705_287_600)
    packed = (document, gzip.compress(document, 9), zstandard.ZstdCompressor(level=19).compress(document))
    plans = [parse_document(PlanKind.YEARLY, payload, SITE) for payload in packed]
    assert all(isinstance(plan, ParsedDocument) for plan in plans)
    assert plans[0] == plans[1] == plans[2]
    assert len(plans[0].content.power_w) == len(plans[0].content.price_per_kwh) == SLOTS
