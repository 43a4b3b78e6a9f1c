"""Telemetry frames: what goes in comes out, small; the reader of the contract reads them, and old ones are read."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent.cloud.frame import NotAFrame, read_frame, summary_frame, telemetry_frame
from agent.core.records import Sample, Stream
from tests.benchmarks.frame_bytes import measure

SITE = "demo-01"
NOW = 1705287600.0
HERE = Path(__file__).parent
CONTRACT = (Path(__file__).parents[2] / "docs/contract.md").read_text()


def sample(at=0.0, boot="b1", source="rolling", **changes):
    values = {"grid_w": 1.0, "battery_w": 2.0, "pv_w": 3.0, "load_w": None, "soc_pct": 50.0, "frequency_hz": 50.01}
    return Sample(boot, NOW + at, **{**values, "target_w": 2.0, "setpoint_w": 2.0, "source": source, **changes})


def frame_of(*samples, **options):
    return read_frame(telemetry_frame(SITE, 7, samples, **options))


def test_a_frame_says_whose_it_is_and_when():
    frame = frame_of(sample(0.25), sample(1.25), stream=Stream.FULL_RATE)
    assert (frame.stream, frame.seq, frame.boot_id, frame.start_utc_s) == ("full_rate", 7, "b1", NOW + 0.25)
    assert frame.t_ms == [0, 1000]


@given(st.lists(st.none() | st.floats(-1e9, 1e9), min_size=1, max_size=50))
def test_every_value_comes_back_with_the_decimals_of_its_unit(values):
    frame = frame_of(*(sample(i, grid_w=value, frequency_hz=value) for i, value in enumerate(values)))
    assert frame.columns["grid_w"] == [None if value is None else round(value) for value in values]
    assert frame.columns["frequency_hz"] == [None if v is None else round(v * 10_000) / 10_000 for v in values]


def test_a_frame_of_a_site_whose_clock_began_in_1970_is_read():
    assert frame_of(sample(-NOW), sample(1 - NOW)).start_utc_s == 0.0


def test_what_is_no_number_counts_as_not_measured():
    assert frame_of(sample(grid_w=float("nan")), sample(1, grid_w=float("inf"))).columns["grid_w"] == [None, None]


def test_points_of_devices_are_columns_and_one_that_never_had_a_value_is_left_out():
    first = sample(points={"bess.soc_pct": 41.25, "pv.limited": None})
    frame = frame_of(first, sample(1, points={"meter.export_wh": 10}))
    assert frame.columns["bess.soc_pct"] == [41.25, None]
    assert frame.columns["meter.export_wh"] == [None, 10]
    assert "pv.limited" not in frame.columns


def test_a_frame_as_schema_1_0_had_it_before_is_read():
    (before,) = [p for p in sorted((HERE / "examples/1.0").glob("*.json")) if p.stem == "telemetry_plain"]
    frame = read_frame(before.read_bytes())
    assert frame.columns["grid_w"] == [-398200, -401100, None]
    assert frame.t_ms == [0, 1000, 2000]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[1]",
        zstandard.ZstdCompressor().compress(b"{}"),
        zstandard.ZstdCompressor().compress(json.dumps({"schema": "1.0"}).encode())[:-4],
        json.dumps({"schema": "2.0", "columns": {}, "t_ms": []}).encode(),
        json.dumps({"schema": "1.0", "columns": {"a": [1]}, "t_ms": [1, 2]}).encode(),
        json.dumps({"schema": "1.0", "columns": {"a": {"digits": "x", "deltas": []}}, "t_ms": []}).encode(),
    ],
)
def test_what_is_no_frame_is_refused_and_nothing_else_happens(payload):
    with pytest.raises(NotAFrame):
        read_frame(payload)


def test_frames_may_be_made_on_several_threads_at_once():
    """Live frames are made on the loop's thread while the store seals one on its own."""
    samples = [[sample(i, grid_w=n * 1e4 + i * 37.0 % 1013) for i in range(120)] for n in range(4)]
    wanted = [telemetry_frame(SITE, n, part) for n, part in enumerate(samples)]

    def make(n):
        return [telemetry_frame(SITE, n, samples[n]) for _ in range(60)]

    with ThreadPoolExecutor(4) as threads:
        for n, made in enumerate(threads.map(make, range(4))):
            assert set(made) == {wanted[n]}


def test_a_frame_that_claims_a_size_beyond_all_bounds_is_refused_before_memory_is_taken():
    claims = zstandard.ZstdCompressor().compress(b"\0" * (16 * 1024 * 1024 + 1))
    with pytest.raises(NotAFrame, match="more than"):
        read_frame(claims)


class TestContractReader:
    """The reader in docs/contract.md, run as it is printed there, on the test vector beside this file."""

    def reader(self):
        (code,) = re.findall(r"```python\n(.*?)```", CONTRACT, re.DOTALL)
        assert len([line for line in code.splitlines() if line.strip()]) <= 20
        names = {}
        exec(compile(code, "docs/contract.md", "exec"), names)
        return names["read_frame"]

    def test_it_reads_the_test_vector(self):
        read = self.reader()((HERE / "examples/frame.zst").read_bytes())
        assert read == json.loads((HERE / "examples/frame.json").read_text())

    def test_it_reads_what_the_agent_writes(self):
        samples = [sample(i, grid_w=None if i % 7 == 3 else i * 1.5, points={"bess.soc_pct": i / 8}) for i in range(60)]
        payload = telemetry_frame(SITE, 7, samples)
        read, ours = self.reader()(payload), read_frame(payload)
        assert (read["t_ms"], read["columns"]) == (ours.t_ms, ours.columns)

    def test_it_refuses_a_later_major_version(self):
        with pytest.raises(ValueError, match=r"2\.0"):
            self.reader()(b'{"schema": "2.0"}')


class TestSummary:
    def full(self, *samples, seq=1):
        return (seq, telemetry_frame(SITE, seq, samples, Stream.FULL_RATE))

    def test_each_period_has_mean_least_and_greatest_of_what_was_measured(self):
        first = self.full(*(sample(i, grid_w=float(i) if i else None) for i in range(0, 60, 20)), seq=4)
        second = self.full(sample(60, grid_w=100.0, source="yearly"), sample(90, grid_w=-50.0, source="idle"), seq=5)
        read = read_frame(summary_frame(SITE, 9, [first, second], 60.0))
        assert (read.stream, read.seq, read.start_utc_s, read.t_ms) == ("telemetry", 9, NOW, [0, 60_000])
        assert read.columns["grid_w"] == [30.0, 25.0]
        assert read.columns["grid_w.min"] == [20.0, -50.0]
        assert read.columns["grid_w.max"] == [40.0, 100.0]
        assert read.columns["source"] == ["rolling", "idle"]
        assert read.columns["load_w"] == [None, None]

    def test_it_names_the_frames_that_it_was_made_of(self):
        payload = summary_frame(SITE, 9, [self.full(sample(), seq=4), self.full(sample(60), seq=6)], 60.0)
        content = json.loads(zstandard.ZstdDecompressor().decompress(payload))
        assert (content["full_rate"], content["period_s"]) == ({"from": 4, "to": 6}, 60.0)

    def test_rows_rise_also_where_the_clock_was_set_back(self):
        read = read_frame(summary_frame(SITE, 9, [self.full(sample(120)), self.full(sample(0))], 60.0))
        assert (read.start_utc_s, read.t_ms) == (NOW, [0, 120_000])

    def test_a_damaged_frame_is_left_out_and_alone_leaves_an_empty_one(self):
        assert read_frame(summary_frame(SITE, 9, [(1, b"damaged"), self.full(sample())], 60.0)).t_ms == [0]
        assert read_frame(summary_frame(SITE, 9, [(1, b"damaged")], 60.0)).t_ms == []

    def test_a_column_that_only_some_frames_have_is_not_measured_in_the_others(self):
        frames = [self.full(sample()), self.full(sample(60, points={"bess.ready": 1.0}), seq=2)]
        assert read_frame(summary_frame(SITE, 9, frames, 60.0)).columns["bess.ready"] == [None, 1]


def test_a_day_of_30_points_stays_below_4_mb_on_the_wire_and_on_disk_and_every_sample_is_read_again():
    """A quarter of an hour of it; `make bench` does the whole day. 4 MB is the target, with headers and all."""
    found = measure(0.25, seed=3)
    ours = found["ways"]["agent"]
    assert ours["wire_mb_per_day"] < 3.6
    assert ours["payload_mb_per_day"] < found["ways"]["json_columns_zstd"]["payload_mb_per_day"] * 0.8
    assert found["ways"]["agent_metered"]["wire_mb_per_day"] < 0.6
    assert found["disk_mb_per_day"] < 4.0


def test_who_only_reads_frames_does_not_wait_for_the_models_of_messages():
    """`ems telemetry export` and `ems report`: loading pydantic and the models takes longer than both may."""
    code = "import sys, agent.store.telemetry_reader, agent.cloud.frame; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
