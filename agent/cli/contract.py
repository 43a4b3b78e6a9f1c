"""`ems contract`: what the agent and the cloud say to each other, as documents for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, fail, show_json

FolderArgument = typer.Argument(..., metavar="DIR", help="Where the files go; it is made if need be.")
TextArgument = typer.Argument(..., metavar="FILE", help="A Markdown file with lines `<!-- table NAME -->`.")


def export(folder: Path = FolderArgument, as_json: bool = JsonOption) -> None:
    """Write JSON Schemas and an AsyncAPI 3 document.

    A schema for each message of either direction in DIR/schemas, and all topics in DIR/asyncapi.json.
    """
    from agent.cloud import contract  # noqa: PLC0415 - pydantic's models take a while to load

    documents: dict[str, Any] = {f"schemas/{name}.json": schema for name, schema in contract.schemas().items()}
    documents["asyncapi.json"] = contract.asyncapi()
    try:
        (folder / "schemas").mkdir(parents=True, exist_ok=True)
        for name, document in documents.items():
            (folder / name).write_text(json.dumps(document, indent=2) + "\n")
    except OSError as error:
        why = f"{error.filename or folder}: {error.strerror}"
        error_lines = {"what": "contract export", "why": why, "next": "name a directory that this user may write to"}
        fail(error_lines, EXIT_REFUSED, as_json=as_json)
    if as_json:
        show_json({"directory": str(folder), "files": sorted(documents)})
    else:
        typer.echo(f"{len(documents)} files in {folder}: asyncapi.json, and schemas/ for each message")


def tables(file: Path = TextArgument) -> None:
    """Renew the tables of fields in a Markdown file.

    What stands between `<!-- table NAME -->` and `<!-- end -->` is made anew, as in docs/contract.md.
    """
    from agent.cloud import contract  # noqa: PLC0415

    try:
        text = file.read_text()
        file.write_text(contract.with_tables(text))
    except OSError as error:
        why = f"{file}: {error.strerror}"
        fail(
            {"what": "contract tables", "why": why, "next": "name a file that this user may write to"},
            EXIT_REFUSED,
            as_json=False,
        )
    except KeyError as error:
        known = ", ".join(contract.tables())
        why = f"{file}: there is no table {error}"
        fail({"what": "contract tables", "why": why, "next": f"use one of {known}"}, EXIT_REFUSED, as_json=False)
