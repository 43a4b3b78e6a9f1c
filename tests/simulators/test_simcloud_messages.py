"""The cloud's reading of the contract, against the contract's own examples."""

import gzip
import json
import re
from pathlib import Path

import pytest

from simulators.cloud_messages import (
    PlanDocument,
    UnreadableError,
    iso_utc,
    read_ledger_slot,
    read_message,
    read_samples,
    unix_s,
    watermark,
)

CONTRACT = Path(__file__).parents[2] / "docs" / "contract.md"


def examples():
    blocks = re.findall(r"```json\n(.*?)```", CONTRACT.read_text(), re.DOTALL)
    return [json.loads(block) for block in blocks]


def example(**marks):
    return next(one for one in examples() if all(one.get(key) == value for key, value in marks.items()))


def test_a_plan_document_says_exactly_what_the_contracts_example_says():
    wanted = example(kind="rolling", version=17, unit="kW")
    document = PlanDocument(
        "rolling",
        17,
        unix_s(wanted["issued_at"]),
        int(unix_s(wanted["start"])),
        1800,
        wanted["power"],
        wanted["soc_end_pct"],
        wanted["price"],
    )
    made = json.loads(document.encoded("demo-01", packed=False))
    for time_key in ("issued_at", "start"):
        assert unix_s(made.pop(time_key)) == unix_s(wanted.pop(time_key))
    assert made == wanted
    assert json.loads(gzip.decompress(document.encoded("demo-01", packed=True)))["version"] == 17


def test_the_same_document_is_always_the_same_bytes():
    document = PlanDocument("yearly", 1, 0.0, 1800, 1800, [1.0], [50.0], [9.0])
    assert document.encoded("a", packed=True) == document.encoded("a", packed=True)


def test_the_watermark_is_as_in_the_contract():
    wanted = next(one for one in examples() if "stored" in one)
    assert json.loads(watermark("demo-01", wanted["stored"])) == wanted


def test_the_contracts_telemetry_is_read_row_by_row_and_null_is_not_zero():
    frame = example(stream="telemetry")
    samples = read_samples(read_message(json.dumps(frame).encode(), "demo-01"))
    assert [iso_utc(sample.utc_s) for sample in samples] == [
        "2024-01-15T03:00:00.000Z",
        "2024-01-15T03:00:01.000Z",
        "2024-01-15T03:00:02.000Z",
    ]
    assert samples[2].grid_w is None
    assert (samples[2].battery_w, samples[2].soc_pct, samples[2].source) == (-421050, 41.3, "rolling")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"\x1f\x8bnot gzip", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"schema": "1.0", "site_id": "other"}', "site_id is 'other'"),
        (b'{"schema": "2.0", "site_id": "demo-01"}', "schema '2.0'"),
    ],
)
def test_what_is_not_a_message_of_this_site_is_unreadable(payload, reason):
    with pytest.raises(UnreadableError, match=re.escape(reason)):
        read_message(payload, "demo-01")


def test_a_frame_with_a_short_column_or_without_a_zone_is_unreadable():
    short = example(stream="telemetry")
    short["columns"]["soc_pct"]["deltas"].pop()
    with pytest.raises(UnreadableError, match="columns of"):
        read_samples(short)
    zoneless = example(stream="telemetry") | {"start": "2024-01-15T03:00:00"}
    with pytest.raises(UnreadableError, match="without a zone"):
        read_samples(zoneless)
    with pytest.raises(UnreadableError, match="KeyError"):
        read_samples({"start": "2024-01-15T03:00:00Z"})


def test_a_slot_of_the_ledger_is_read():
    slot = read_ledger_slot(example(stream="ledger"))
    assert slot.end_utc_s - slot.start_utc_s == 1800
    assert slot.paths_wh["battery_to_grid"] == 80200


def test_a_stretch_without_a_plan_is_a_slot_that_promised_nothing():
    unplanned = {**example(stream="ledger"), "planned_wh": None, "imbalance_wh": None, "source": "local_rule"}
    assert read_ledger_slot(unplanned).planned_wh is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"imbalance_wh": 5}, "planned, delivered and imbalance"),
        ({"grid_wh": 1}, "paths give"),
        ({"paths_wh": {"pv_to_load": 1}}, "paths"),
        ({"start": "2024-01-15T02:30:00"}, "without a zone"),
        ({"planned_wh": None}, "of planned None"),
    ],
)
def test_a_slot_that_does_not_add_up_is_unreadable(change, why):
    with pytest.raises(UnreadableError, match=why):
        read_ledger_slot({**example(stream="ledger"), **change})
