"""Plan documents for the tests of the cloud side: one good one, and every way to be bad."""

import gzip
import json

import zstandard

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


ZSTD = zstandard.ZstdCompressor()


def zstd_of_unknown_size(content):
    """A frame that does not say how much it holds."""
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return stream.compress(content) + stream.flush()


BAD = [
    ("too_large", None, b"[" * 2_000_000),
    ("too_large", None, gzip.compress(b" " * 50_000_000)),
    ("bad_compression", None, gzip.compress(document())[:-9]),
    ("bad_compression", None, b"\x1f\x8bnot gzip at all"),
    ("bad_compression", None, gzip.compress(document()) + b"more"),
    ("bad_compression", None, b"\x28\xb5\x2f\xfd zstd"),
    ("bad_compression", None, ZSTD.compress(document())[:-3]),
    ("bad_compression", None, ZSTD.compress(document()) + b"more"),
    ("too_large", None, ZSTD.compress(b" " * (1024 * 1024 + 1))),
    ("too_large", None, zstd_of_unknown_size(b" " * (1024 * 1024 + 1))),
    ("not_json", None, b""),
    ("too_large", None, b"[" * 1_000_000),
    ("too_large", None, b'{"a":[' + b"{}," * 300_000 + b"1]}"),
    ("not_json", None, b"[" * 9_000),
    ("not_json", None, b'{"a":' * 9_000 + b"1" + b"}" * 9_000),
    ("not_json", "a:b", b'{"a:b": "c:\\"d", "a:b": 1}'),
    ("not_json", "power", document()[:-1] + b', "x": {"power": [{"power": 1, "power": 2}]}}'),
    ("not_json", None, b'{"power": [' + b"1," * 300_000 + b"NaN]}"),
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

AWARD = {
    "id": "eprx-1",
    "product": "eprx-primary-online-50hz",
    "start": "2024-01-15T05:00:00Z",
    "end": "2024-01-15T05:30:00Z",
    "power": 400.0,
    "direction": "both",
}
CURTAILMENT = {
    "id": "tso-7",
    "start": "2024-01-15T03:00:00Z",
    "end": "2024-01-15T04:00:00Z",
    "export_limit": 100.0,
    "import_limit": None,
}
OUTAGE = {"id": "work-3", "start": "2024-01-15T03:00:00Z", "end": "2024-01-15T04:00:00Z", "device": "bess"}
HEAD = {"schema": "1.0", "site_id": SITE, "version": 5, "issued_at": "2024-01-15T02:55:00Z"}


def orders(topic, *entries, without=(), **changes):
    """A document of orders of this kind."""
    unit = {} if topic == "outages" else {"unit": "kW"}
    content = {**HEAD, "kind": topic, **unit, topic: list(entries), **changes}
    return json.dumps({k: v for k, v in content.items() if k not in without}).encode()


def awards(*changes, **more):
    return orders("awards", *(AWARD | {"id": f"eprx-{i}"} | change for i, change in enumerate(changes)), **more)


def curtailments(*changes, **more):
    return orders(
        "curtailments", *(CURTAILMENT | {"id": f"tso-{i}"} | change for i, change in enumerate(changes)), **more
    )


def outages(*changes, **more):
    return orders("outages", *(OUTAGE | {"id": f"work-{i}"} | change for i, change in enumerate(changes)), **more)


NAN, BEFORE = float("nan"), "2024-01-15T05:00:00Z"
BAD_ORDERS = [
    ("not_json", None, "awards", b"{"),
    ("schema_unsupported", "schema", "awards", awards({}, schema="2.0")),
    ("wrong_site", "site_id", "awards", awards({}, site_id="demo-02")),
    ("wrong_kind", "kind", "awards", awards({}, kind="curtailments")),
    ("wrong_kind", "kind", "awards", document()),
    ("wrong_kind", "kind", "outages", awards({})),
    ("bad_value", "kind", "awards", awards({}, kind="orders")),
    ("missing_field", "unit", "awards", awards({}, without=["unit"])),
    ("missing_field", "awards", "awards", awards(without=["awards"])),
    ("unknown_field", "target", "awards", awards({}, target="grid")),
    ("unknown_field", "unit", "outages", outages({}, unit="kW")),
    ("version_old", "version", "awards", awards({}, version=3)),
    ("version_conflict", "version", "awards", awards({}, version=4)),
    ("from_the_future", "issued_at", "awards", awards({}, issued_at="2024-01-15T03:05:01Z")),
    ("too_long", "awards", "awards", awards(*[{}] * 1001)),
    ("bad_value", "awards[1].power", "awards", awards({}, {"power": NAN})),
    ("bad_value", "awards[0].power", "awards", awards({"power": 0.0})),
    ("bad_value", "awards[0].power", "awards", awards({"power": -100.0})),
    ("bad_value", "awards[0].power", "awards", awards({"power": None})),
    ("bad_value", "awards[0].power", "awards", awards({"power": True})),
    ("bad_value", "awards[0].id", "awards", awards({"id": "a b"})),
    ("bad_value", "awards[0].direction", "awards", awards({"direction": "sideways"})),
    ("bad_value", "awards[0].start", "awards", awards({"start": "2024-01-15T05:00:00"})),
    ("bad_value", "awards[0]", "awards", awards({"end": BEFORE})),
    ("missing_field", "awards[0].product", "awards", orders("awards", {k: AWARD[k] for k in AWARD if k != "product"})),
    ("unknown_field", "awards[0].price", "awards", awards({"price": 3.0})),
    ("unknown_product", "awards[1].product", "awards", awards({}, {"product": "eprx-tertiary"})),
    ("wrong_frequency", "awards[0].product", "awards", awards({"product": "eprx-primary-online-60hz"})),
    ("beyond_rating", "awards[0].power", "awards", awards({"power": 526.0})),
    ("beyond_rating", "awards[0].power", "awards", awards({}, unit="MW")),
    ("overlap_beyond_rating", "awards[1].power", "awards", awards({}, {"power": 126.0})),
    ("duplicate_id", "awards[1].id", "awards", awards({"id": "x"}, {"id": "x", "power": 10.0})),
    ("bad_value", "curtailments[0].export_limit", "curtailments", curtailments({"export_limit": -1.0})),
    ("bad_value", "curtailments[0].import_limit", "curtailments", curtailments({"import_limit": NAN})),
    ("bad_value", "curtailments[0]", "curtailments", curtailments({"export_limit": None})),
    ("duplicate_id", "curtailments[1].id", "curtailments", curtailments({"id": "x"}, {"id": "x", "export_limit": 1.0})),
    (
        "missing_field",
        "outages[0].device",
        "outages",
        orders("outages", {k: OUTAGE[k] for k in OUTAGE if k != "device"}),
    ),
    ("unknown_device", "outages[1].device", "outages", outages({}, {"device": "bess-9"})),
    ("duplicate_id", "outages[1].id", "outages", outages({"id": "x"}, {"id": "x", "device": None})),
]
"""(reason, field, kind of topic, payload), for the same site, which holds version 4 of the awards with other content."""
