"""A stretch of time and a form, as the commands that export rows take them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum

import typer


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSONL = "jsonl"


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        why = f"{text!r} is not a time; write it as 2024-01-15T03:00, or with its zone as 2024-01-15T03:00Z"
        raise typer.BadParameter(why) from error


FromOption = typer.Option(
    None,
    "--from",
    parser=_moment,
    metavar="TIME",
    help="First second. Default: an hour earlier.",
    show_default=False,
)
ToOption = typer.Option(
    None, "--to", parser=_moment, metavar="TIME", help="Up to here. Default: now.", show_default=False
)
FormatOption = typer.Option(Format.CSV, "--format", help="CSV with a header, or one JSON object per line.")


def span(begin: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """The stretch that was asked for; the last hour where nothing was said."""
    end = end or datetime.now(UTC)
    begin = begin or end - timedelta(hours=1)
    if not begin < end:
        raise typer.BadParameter("--from must lie before --to")
    return begin, end
