"""The JSON Schema of profiles, for editors that complete and check TOML while it is written."""

from __future__ import annotations

from typing import Any

from drivers.profile.model import Profile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of a profile file, with what each key means."""
    schema = Profile.model_json_schema(by_alias=True)
    tidy: dict[str, Any] = _tidy(schema)
    tidy["anyOf"] = [{"required": ["identity", "points"]}, {"required": ["sunspec"]}]
    return {"$schema": DIALECT, "title": "ems-agent device profile"} | tidy


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
