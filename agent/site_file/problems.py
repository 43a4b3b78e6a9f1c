"""What is wrong with a site file, for people: one line per problem, `file: key: reason`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from agent.site_file.section import Section


def problem(path: Path, data: dict[str, Any], whole: type[Section], detail: Any) -> str:
    """One line for one complaint of pydantic's about `data`, which was meant to be a `whole`."""
    key = _key(data, detail["loc"])
    kind, message = detail["type"], detail["msg"]
    if kind == "value_error":
        message = str(detail["ctx"]["error"])
    elif kind == "extra_forbidden":
        message = f"unknown key{_suggestion(whole, detail['loc'])}"
    elif kind == "missing":
        message = "missing"
    # The checks that span sections name their keys themselves.
    return f"{path}: {key}: {message}" if key else f"{path}: {message}"


def keys(section: type[Section]) -> list[str]:
    """The keys of a section as they are written."""
    return [field.alias or name for name, field in section.model_fields.items()]


def table(section: type[Section], key: str) -> type[Section] | None:
    """The section that is written under `key`, None where a plain value stands."""
    field = next((f for name, f in section.model_fields.items() if (f.alias or name) == key), None)
    return _section_in(field.annotation) if field is not None else None


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part))), None)


def _key(data: dict[str, Any], loc: Sequence[int | str]) -> str:
    key = ""
    at: Any = data
    for part in loc:
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            at = None
        if isinstance(part, int):
            name = (at.get("id") or at.get("name")) if isinstance(at, dict) else None
            key += f"[{part}]" + (f" ({name})" if isinstance(name, str) else "")
        else:
            key += f".{part}" if key else part
    return key


def _suggestion(whole: type[Section], loc: Sequence[int | str]) -> str:
    section = whole
    for part in loc[:-1]:
        if isinstance(part, str):
            section = table(section, part) or section
    known = keys(section)
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(sorted(known))}"
