"""The JSON Schema of profiles, for editors that complete and check TOML while it is written."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from typing import Any

from drivers.profile import model
from drivers.profile.model import Profile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of a profile file, with what each key means."""
    schema = Profile.model_json_schema(by_alias=True)
    for name, found in {**schema["$defs"], Profile.__name__: schema}.items():
        for key, text in _said(name).items():
            found["properties"].get(key, {}).setdefault("description", text)
    tidy: dict[str, Any] = _tidy(schema)
    tidy["anyOf"] = [{"required": ["identity", "points"]}, {"required": ["sunspec"]}]
    return {"$schema": DIALECT, "title": "ems-agent device profile"} | tidy


def _said(name: str) -> dict[str, str]:
    """What the text below each field of a table of the model says, by the key in the file.

    Read from the source when somebody asks for the schema: pydantic would do it at each start of the daemon.
    """
    part = getattr(model, name)
    if not (isinstance(part, type) and issubclass(part, model.Part)):
        return {}
    body = next(one.body for one in _source().body if isinstance(one, ast.ClassDef) and one.name == name)
    said = {}
    for field, below in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            known = part.model_fields[field.target.id]
            said[known.alias or field.target.id] = inspect.cleandoc(below.value.value)
    return said


@cache
def _source() -> ast.Module:
    return ast.parse(inspect.getsource(model))


def _tidy(schema: Any) -> Any:
    """Without the titles that only repeat a key, and without null: TOML has none, an option is left out instead."""
    if isinstance(schema, list):
        return [_tidy(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _tidy(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    # pydantic names bounds so where the form before validation differs; they mean nothing to an editor.
    for key in ("ge", "le", "gt", "lt"):
        if not isinstance(found.get(key), dict):
            found.pop(key, None)
    default = found.get("default", "")
    if default is None or (found.get("type") == "string" and not isinstance(default, str | dict)):
        del found["default"]
    if "anyOf" in found:
        kinds = [kind for kind in found["anyOf"] if kind != {"type": "null"}]
        del found["anyOf"]
        found |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return found
