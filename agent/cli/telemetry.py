"""`ems telemetry export`: what was measured, a row per sample, read from the disk; the daemon need not run."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.client import EXIT_REFUSED, fail
from agent.cli.span import Format, FormatOption, FromOption, ToOption, span
from agent.cloud.stamp import iso

if TYPE_CHECKING:
    from agent.cloud.frame import Frame
    from agent.store.telemetry_reader import TelemetryReader

DEFAULT_STORE = "/var/lib/ems-agent"
StoreOption = typer.Option(
    None,
    "--store",
    metavar="DIR",
    help=f"store.directory of the site file. Default: $EMS_STORE, else {DEFAULT_STORE}.",
    show_default=False,
)
MeansOption = typer.Option(False, "--means", help="The means that a metered link sends, instead of the samples.")
FIRST_COLUMNS = ("time", "boot_id")


def export(
    begin: datetime | None = FromOption,
    end: datetime | None = ToOption,
    form: Format = FormatOption,
    means: bool = MeansOption,
    store: Path | None = StoreOption,
) -> None:
    """Write telemetry to standard output, a row per sample, straight from the disk: the daemon may be up or down.

    Times are of this machine where they carry no zone; the rows are in UTC. W, + toward the grid; units are in the
    names of the columns, and an empty field was not measured.
    """
    from agent.store.telemetry_reader import TelemetryReader, UnreadableStore  # noqa: PLC0415

    begin, end = span(begin, end)
    directory = store_directory(store)
    try:
        with closing(TelemetryReader(directory)) as reader:
            rows = Rows(reader, begin.timestamp(), end.timestamp(), means=means)
            written = _write_csv(rows) if form is Format.CSV else _write_lines(rows)
            if not written:
                _fail("there is nothing in that time", _known(reader))
    except UnreadableStore as error:
        _fail(str(error), error.hint)


def store_directory(given: Path | None) -> Path:
    """Where the daemon keeps its files: the option, else `$EMS_STORE`, else the place of an installed service."""
    return given or Path(os.environ.get("EMS_STORE") or DEFAULT_STORE)


def _fail(why: str, hint: str) -> None:
    fail({"what": "telemetry export", "why": why, "next": hint}, EXIT_REFUSED, as_json=False)


def _known(reader: TelemetryReader) -> str:
    extent = reader.extent()
    if extent is None:
        return "nothing was recorded yet: is this the store of the running daemon?"
    first, last = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for at in extent)
    return f"ask for a time from {first} to {last} with --from and --to"


class Rows:
    """The samples of a time, oldest first within each stream; iterate as often as needed, with the same result."""

    def __init__(self, reader: TelemetryReader, from_utc_s: float, to_utc_s: float, *, means: bool) -> None:
        from agent.core.records import Stream  # noqa: PLC0415

        self._reader = reader
        self._span = (from_utc_s, to_utc_s)
        self._means = means
        # Samples are of the stream `telemetry`, or of `full_rate` where means were sent instead.
        self._streams = (Stream.TELEMETRY,) if means else (Stream.FULL_RATE, Stream.TELEMETRY)
        self._up_to, staged = reader.now(self._streams, from_utc_s, to_utc_s)
        self._staged = [] if means else staged

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each sample as {column: value}, its time and boot id first."""
        from_utc_s, to_utc_s = self._span
        for frame in self._frames():
            for index, offset_ms in enumerate(frame.t_ms):
                at_utc_s = frame.start_utc_s + offset_ms / 1000.0
                if from_utc_s <= at_utc_s < to_utc_s:
                    values = {name: values[index] for name, values in frame.columns.items()}
                    yield {"time": iso(at_utc_s), "boot_id": frame.boot_id, **values}

    def columns(self) -> list[str]:
        """The names of all columns: time and boot id, the site's own, those of devices."""
        names = dict.fromkeys(name for frame in self._frames() for name in frame.columns)
        own = [name for name in names if "." not in name]
        return [*FIRST_COLUMNS, *own, *sorted(name for name in names if "." in name)]

    def _frames(self) -> Iterator[Frame]:
        from agent.cloud.frame import NotAFrame, read_frame, telemetry_frame  # noqa: PLC0415

        for stream in self._streams:
            for seq, payload in self._reader.frames(stream, *self._span, self._up_to[stream]):
                try:
                    frame = read_frame(payload)
                except NotAFrame as error:
                    print(f"ems: {stream} {seq} cannot be read and is left out: {error}", file=sys.stderr)
                    continue
                if (frame.period_s is not None) is self._means:
                    yield frame
        for sample in self._staged:
            yield read_frame(telemetry_frame("", None, [sample]))


def _write_csv(rows: Rows) -> int:
    """How many rows were written; nothing at all, not even a header, where there are none."""
    table = csv.DictWriter(sys.stdout, rows.columns(), lineterminator="\n")
    count = 0
    for row in rows:
        if not count:
            table.writeheader()
        table.writerow(row)
        count += 1
    return count


def _write_lines(rows: Rows) -> int:
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the last number is how many there were
        sys.stdout.write(json.dumps(row) + "\n")
    return count
