"""A stretch of time and a form, as the commands that export rows take them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum

import typer


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSONL = "jsonl"


def moment(text: str) -> datetime:
    """The moment that somebody wrote; a time of day alone is one of today."""
    with suppress(ValueError):
        return datetime.combine(datetime.now().astimezone(), time.fromisoformat(text)).astimezone()
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        why = f"{text!r} is not a time; write it as 03:00, 2024-01-15T03:00, or with its zone as 2024-01-15T03:00Z"
        raise typer.BadParameter(why) from error


FromOption = typer.Option(
    None,
    "--from",
    parser=moment,
    metavar="TIME",
    help="First second. Default: an hour earlier.",
    show_default=False,
)
ToOption = typer.Option(
    None, "--to", parser=moment, metavar="TIME", help="Up to here. Default: now.", show_default=False
)
FormatOption = typer.Option(Format.CSV, "--format", help="CSV with a header, or one JSON object per line.")


def span(begin: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """The stretch that was asked for; the last hour where nothing was said."""
    end = end or datetime.now(UTC)
    begin = begin or end - timedelta(hours=1)
    if not begin < end:
        raise typer.BadParameter("--from must lie before --to")
    return begin, end


def whole_day(day: datetime | None) -> tuple[datetime, datetime]:
    """Midnight and the midnight after it, local; 23 or 25 hours apart where the clocks change."""
    begin = (day or datetime.now().astimezone()).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return begin.astimezone(), (begin + timedelta(days=1)).astimezone()
