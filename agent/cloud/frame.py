"""Telemetry frames: samples as columns of small differences, compressed; and back again.

JSON, so that the contract can describe it and anybody can look at it, but each column is a list of differences of whole
numbers, which zstd packs well: `docs/contract.md` has the format and a reader of twenty lines, and
`python -m tests.benchmarks.frame_bytes` measures it beside plain columns and a message per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from math import isfinite
from typing import Any

import orjson
import zstandard

from agent.cloud.stamp import SCHEMA, iso
from agent.core.records import Sample, Stream

LEVEL = 19
"""2 ms of a frame of a minute with 30 points; 10 % smaller than level 3."""
MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Decompressed; ten minutes of 600 points are 5 MB."""
MEANS_IN_A_FRAME = 15
"""On a metered link: what a message costs beside its numbers is shared by so many."""
EARLIEST_MS = 946_684_800_000
"""2000-01-01, the earliest time of the contract: of a summary without a row."""
SITE_COLUMNS = tuple(f.name for f in fields(Sample) if f.name not in ("boot_id", "at_utc_s", "source", "points"))
_DIGITS = {"_w": 0, "_wh": 0, "_pct": 3, "_hz": 4, "_c": 2, "_v": 4}
"""Decimals kept at most, by unit: finer than a meter at a grid battery. What a device resolves coarser takes fewer."""
_OTHER_DIGITS = 3
Value = float | str | None


class NotAFrame(ValueError):  # noqa: N818 - named for what it is
    """The bytes are no frame that this version reads; the text says why."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it is read: each column is as long as `t_ms`, None = not measured."""

    stream: str
    seq: int | None
    boot_id: str
    start_utc_s: float
    t_ms: Sequence[int]
    columns: Mapping[str, Sequence[Value]]
    period_s: float | None = None
    """Of means: the time that each row sums up; None = each row is a sample."""


def telemetry_frame(
    site_id: str, seq: int | None, samples: Sequence[Sample], stream: Stream = Stream.TELEMETRY
) -> bytes:
    """The payload of one frame; the samples are of one boot and in order of time."""
    assert samples, "a frame has at least one sample"
    assert len({sample.boot_id for sample in samples}) == 1, "a frame is of one boot"
    columns: dict[str, list[Value]] = {name: [getattr(s, name) for s in samples] for name in SITE_COLUMNS}
    columns["source"] = [sample.source for sample in samples]
    for name in dict.fromkeys(name for sample in samples for name in sample.points):
        values: list[Value] = [sample.points.get(name) for sample in samples]
        if any(value is not None for value in values):
            columns[name] = values
    start_ms = round(samples[0].at_utc_s * 1000)
    t_ms = [round(sample.at_utc_s * 1000) - start_ms for sample in samples]
    head = {"stream": stream.value, "seq": seq, "boot_id": samples[0].boot_id, "start": iso(start_ms / 1000)}
    return _packed(site_id, head, t_ms, columns)


def _packed(
    site_id: str, head: Mapping[str, Any], t_ms: Sequence[int], columns: Mapping[str, Sequence[Value]]
) -> bytes:
    content = {
        "schema": SCHEMA,
        "site_id": site_id,
        **head,
        "t_ms": {"digits": 0, "deltas": _deltas(t_ms)},
        "columns": {name: _column(name, values) for name, values in columns.items()},
    }
    # A compressor is for one thread: frames are made on the store's, live ones on the loop's. A new one costs 0.1 ms.
    return zstandard.ZstdCompressor(level=LEVEL).compress(orjson.dumps(content))


def _column(name: str, values: Sequence[Value]) -> Any:
    """Differences of whole numbers, with as few decimals as the values need; text stays a list."""
    if any(isinstance(value, str) for value in values):
        return list(values)
    unit = name.rpartition("_")[2]
    most = _DIGITS.get(f"_{unit.partition('.')[0]}", _OTHER_DIGITS)
    numbers = [None if value is None or not isfinite(float(value)) else float(value) for value in values]
    scaled = [None if number is None else round(number * 10**most) for number in numbers]
    digits = most
    while digits and all(value is None or value % 10 == 0 for value in scaled):
        scaled = [None if value is None else value // 10 for value in scaled]
        digits -= 1
    return {"digits": digits, "deltas": _deltas(scaled)}


def _deltas(values: Sequence[int | None]) -> list[int | None]:
    before, found = 0, list[int | None]()
    for value in values:
        found.append(None if value is None else value - before)
        before = before if value is None else value
    return found


def read_frame(payload: bytes) -> Frame:
    """The frame in these bytes, its columns as differences or as plain lists; raises `NotAFrame`."""
    try:
        content = orjson.loads(_decompressed(payload))
        if not str(content["schema"]).startswith("1."):
            raise NotAFrame(f"schema {content['schema']} is not of major version 1")
        columns = {name: _values(column) for name, column in content["columns"].items()}
        t_ms = _values(content["t_ms"])
        if any(len(column) != len(t_ms) for column in columns.values()):
            raise NotAFrame("a column is not as long as t_ms")
        start_utc_s = datetime.fromisoformat(content["start"]).timestamp()
        head = (content["stream"], content["seq"], content["boot_id"], start_utc_s)
        return Frame(*head, t_ms, columns, content.get("period_s"))
    except (KeyError, TypeError, ValueError, AttributeError, zstandard.ZstdError) as error:
        raise NotAFrame(f"{type(error).__name__}: {error}") from error


def _decompressed(payload: bytes) -> bytes:
    if not payload.startswith(b"\x28\xb5\x2f\xfd"):
        return payload
    if zstandard.frame_content_size(payload) > MAX_FRAME_BYTES:
        raise NotAFrame(f"more than {MAX_FRAME_BYTES} bytes")
    return zstandard.ZstdDecompressor().decompress(payload, max_output_size=MAX_FRAME_BYTES)


def _values(column: Any) -> list[Any]:
    if isinstance(column, list):
        return column
    scale, total, found = 10 ** column["digits"], 0, list[float | int | None]()
    for delta in column["deltas"]:
        total += delta or 0
        found.append(None if delta is None else total / scale if scale > 1 else total)
    return found


def summary_frame(site_id: str, seq: int, frames: Sequence[tuple[int, bytes]], period_s: float) -> bytes:
    """The payload of one frame of means over `period_s` (with least and greatest) of full-rate frames in order.

    `NAME` is the mean of what was measured, `NAME.min` and `NAME.max` its extremes, text is the last of the period.
    A frame that cannot be read any more counts as not measured.
    """
    read = [frame for _, payload in frames if (frame := _readable(payload)) is not None]
    rows: dict[int, list[tuple[Frame, int]]] = {}
    for frame in read:
        for index, offset_ms in enumerate(frame.t_ms):
            rows.setdefault(int((frame.start_utc_s + offset_ms / 1000) // period_s), []).append((frame, index))
    rows = dict(sorted(rows.items()))
    start_ms = round(min(rows) * period_s * 1000) if rows else EARLIEST_MS
    columns: dict[str, list[Value]] = {}
    for name in dict.fromkeys(name for frame in read for name in frame.columns):
        cells = [
            [value for f, i in members if (value := f.columns.get(name, _Nothing())[i]) is not None]
            for members in rows.values()
        ]
        for suffix, reduced in _reductions(cells):
            columns[name + suffix] = [reduced(cell) if cell else None for cell in cells]
    head = {
        "stream": Stream.TELEMETRY.value,
        "seq": seq,
        "boot_id": read[0].boot_id if read else "",
        "start": iso(start_ms / 1000),
        "period_s": period_s,
        "full_rate": {"from": frames[0][0], "to": frames[-1][0]},
    }
    return _packed(site_id, head, [round(number * period_s * 1000) - start_ms for number in rows], columns)


class _Nothing:
    """A column that this frame does not have."""

    def __getitem__(self, _index: int) -> None:
        return None


def _readable(payload: bytes) -> Frame | None:
    try:
        return read_frame(payload)
    except NotAFrame:
        return None


def _reductions(cells: Sequence[Sequence[Any]]) -> Sequence[tuple[str, Callable[[Sequence[Any]], Value]]]:
    if any(isinstance(value, str) for cell in cells for value in cell):
        return (("", lambda cell: str(cell[-1])),)
    return (("", lambda cell: sum(cell) / len(cell)), (".min", min), (".max", max))
