"""Plan documents for the tests of the cloud side: one good one, and every way to be bad."""

import gzip
import json

SITE = "demo-01"
NOW = 1705287600.0  # 2024-01-15T03:00:00Z
GOOD = {
    "schema": "1.0",
    "site_id": SITE,
    "kind": "rolling",
    "version": 17,
    "issued_at": "2024-01-15T02:55:00Z",
    "start": "2024-01-15T03:00:00Z",
    "slot_s": 1800,
    "unit": "kW",
    "positive": "export",
    "target": "grid",
    "power": [-400.0, -400.0, None, 350.5],
    "soc_end_pct": [40.0, 60.0, None, 42.0],
    "price": [4.2, 3.9, 6.0, 19.8],
}
STARTS = ["2024-01-15T03:00:00Z", "2024-01-15T03:30:00Z", "2024-01-15T04:00:00Z", "2024-01-15T04:30:00Z"]


def document(*, without=(), **changes):
    return json.dumps({k: v for k, v in (GOOD | changes).items() if k not in without}).encode()


BAD = [
    ("too_large", None, b"[" * 2_000_000),
    ("too_large", None, gzip.compress(b" " * 50_000_000)),
    ("bad_compression", None, gzip.compress(document())[:-9]),
    ("bad_compression", None, b"\x1f\x8bnot gzip at all"),
    ("bad_compression", None, gzip.compress(document()) + b"more"),
    ("bad_compression", None, b"\x28\xb5\x2f\xfd zstd"),
    ("not_json", None, b""),
    ("not_json", None, b"[" * 1_000_000),
    ("not_json", None, b"[1, 2]"),
    ("not_json", None, b'{"power": [1,]}'),
    ("not_json", None, document().replace(b"demo-01", b"demo-\xff")),
    ("not_json", None, document().decode().encode("utf-16")),
    ("not_json", None, b'{"version": ' + b"9" * 5000 + b"}"),
    ("not_json", "version", document()[:-1] + b', "version": 18}'),
    ("schema_unsupported", "schema", document(schema="2.0")),
    ("schema_unsupported", "schema", document(schema=1.0)),
    ("schema_unsupported", "schema", document(without=["schema"])),
    ("missing_field", "unit", document(without=["unit"])),
    ("missing_field", "positive", document(without=["positive"])),
    ("missing_field", "power", document(without=["power"])),
    ("unknown_field", "targt", document(targt="grid")),
    ("bad_value", "power[3]", document(power=[1, 2, None, float("nan")])),
    ("bad_value", "power[0]", document().replace(b"-400.0", b"1e999", 1)),
    ("bad_value", "power[1]", document(power=[1, True, 3, 4])),
    ("bad_value", "power[1]", document(power=[1, "2", 3, 4])),
    ("bad_value", "power", document(power=[])),
    ("bad_value", "power", document(power=None)),
    ("bad_value", "soc_end_pct[2]", document(soc_end_pct=[1, 2, 101, 4])),
    ("bad_value", "version", document(version=0)),
    ("bad_value", "version", document(version="17")),
    ("bad_value", "version", document(version=17.0)),
    ("bad_value", "slot_s", document(slot_s=0)),
    ("bad_value", "unit", document(unit="kw")),
    ("bad_value", "positive", document(positive="discharge")),
    ("bad_value", "target", document(target="pv")),
    ("bad_value", "start", document(start="2024-01-15T03:00:00")),
    ("bad_value", "start", document(start=1705287600)),
    ("bad_value", "start", document(start="0024-01-15T03:00:00Z")),
    ("bad_value", "start", document(start="2024-01-15T25:00:00Z")),
    ("bad_value", "slot_start[1]", document(slot_start=[STARTS[0], "03:30", *STARTS[2:]])),
    ("bad_value", "site_id", document(site_id="Demo 01")),
    ("wrong_site", "site_id", document(site_id="demo-02")),
    ("wrong_kind", "kind", document(kind="yearly")),
    ("wrong_length", "price", document(price=[1.0])),
    ("wrong_length", "slot_start", document(slot_start=STARTS[:3])),
    ("gap", "slot_start[2]", document(slot_start=[*STARTS[:2], STARTS[3], STARTS[3]])),
    ("overlap", "slot_start[2]", document(slot_start=[*STARTS[:2], STARTS[1], STARTS[3]])),
    ("misaligned", "start", document(start="2024-01-15T03:10:00Z")),
    ("too_long", "power", document(power=[0] * 97, soc_end_pct=None, price=None)),
    ("too_long", "power", document(power=[0] * 172_801, soc_end_pct=None, price=None)),
    ("beyond_rating", "power[3]", document(power=[1, 2, None, 600])),
    ("beyond_rating", "power[0]", document(unit="MW")),
    ("version_old", "version", document(version=15)),
    ("version_conflict", "version", document(version=16, price=None)),
    ("wholly_past", "start", document(start="2024-01-14T03:00:00Z")),
    ("from_the_future", "issued_at", document(issued_at="2024-01-15T03:05:01Z")),
]
"""(reason, field, payload), for a site that holds version 16 with other content, 500 kW, at 2024-01-15T03:00:00Z."""
