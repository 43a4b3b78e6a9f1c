"""A site file as it may be shown to others: only keys that there are, without comments, without what may be secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

from agent.core.redaction import REMOVED, user_info
from agent.site_file.problems import keys, table
from agent.site_file.section import Section
from agent.toml_text import BadToml, parse

SECRET_TABLES = frozenset({"headers"})
"""Tables whose values gateways ask for, often a token; a value that names a file is shown."""
FILE_KEYS = frozenset({"ca", "certificate", "key"})
"""Keys that name a file without saying so, like those that end in `_file`."""
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TABLE_LINE = re.compile(r"\s*(\[\[?[A-Za-z0-9_.-]+\]\]?)\s*(?:#.*)?")
_VALUE_LINE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=(.*)")
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")


@dataclass
class Shown:
    """What may be shown, and what was taken out."""

    text: str = ""
    removed: list[str] = field(default_factory=list)
    """Each as `key: why`."""
    secrets: list[str] = field(default_factory=list)
    """The values that were taken out, to be looked for elsewhere."""


def shown(text: str, whole: type[Section]) -> Shown:
    """The file as it may be shown; of one that is not TOML the keys alone."""
    found = Shown(secrets=user_info(text))
    if "#" in text:
        found.removed.append("comments: anything may stand there")
    try:
        data = parse(text)
    except BadToml as bad:
        found.removed.append(f"all values: the file {bad}")
        found.text = "\n".join(_keys_alone(text, _all_keys(whole), found)) + "\n"
        return found
    found.text = "\n".join(_table(_allowed(data, whole, "", found), "")) + "\n"
    return found


def _allowed(data: dict[str, Any], section: type[Section] | None, where: str, found: Shown) -> dict[str, Any]:
    """The table with only what may be shown; of one where the site file has a plain value (`section` None), nothing."""
    kept: dict[str, Any] = {}
    for key, value in data.items():
        here = f"{where}.{key}" if where else key
        if section is None or key not in keys(section):
            found.removed.append(f"{here}: no key of the site file")
            found.secrets += _texts(value)
            continue
        kept[key] = _allowed_value(value, table(section, key), key, here, found)
    return kept


def _allowed_value(value: Any, section: type[Section] | None, key: str, here: str, found: Shown) -> Any:
    if isinstance(value, dict) and key in SECRET_TABLES:
        return {name: _header(text, f"{here}.{name}", found) for name, text in value.items()}
    if isinstance(value, dict):
        return _allowed(value, section, here, found)
    if isinstance(value, list):
        return [_allowed_value(one, section, key, f"{here}[{index}]", found) for index, one in enumerate(value)]
    return _text(value, key, here, found) if isinstance(value, str) else value


def _text(value: str, key: str, here: str, found: Shown) -> str:
    """A value that people write; some put a secret where its file should be named, or into an address."""
    if (key.endswith("_file") or key in FILE_KEYS) and not value.startswith(("/", "credential:")):
        found.removed.append(f"{here}: it names no file, so it may be the secret itself")
        found.secrets.append(value)
        return REMOVED
    scheme, separator, rest = value.partition("://")
    if not separator:
        return value
    if "@" in rest:
        found.removed.append(f"{here}: user or password in an address")
        rest = f"{REMOVED}@{rest.rpartition('@')[2]}"
    if "?" in rest and scheme != "serial":
        found.removed.append(f"{here}: the query of an address may hold a token")
        found.secrets += _query_values(rest)
        rest = f"{rest.partition('?')[0]}?{REMOVED}"
    return f"{scheme}://{rest}"


def _query_values(address: str) -> list[str]:
    """What the query of an address says, whole and value by value; nothing where there is none."""
    query = address.partition("?")[2]
    return [query, *(part.partition("=")[2] for part in query.split("&"))] if query else []


def _header(value: Any, here: str, found: Shown) -> Any:
    if isinstance(value, str) and value.startswith(("file:/", "file:credential:")):
        return value
    found.removed.append(f"{here}: the value of a header may be a token")
    found.secrets += _texts(value)
    return REMOVED


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part)]


def _all_keys(section: type[Section]) -> set[str]:
    """The keys of a section and of those in it."""
    found = set(keys(section))
    for key in keys(section):
        inner = table(section, key)
        found |= _all_keys(inner) if inner is not None else set()
    return found


def _keys_alone(text: str, known: set[str], found: Shown) -> Iterator[str]:
    for line in text.splitlines():
        if match := _TABLE_LINE.fullmatch(line):
            yield match[1]
        elif match := _VALUE_LINE.fullmatch(line):
            yield f"{match[1]} = {REMOVED}"
            values = [double or single for double, single in _QUOTED.findall(match[2])]
            harmless = match[1] in known and match[1] not in SECRET_TABLES and not match[1].endswith("_file")
            for value in values:
                found.secrets += [] if harmless and "@" not in value else [value]
                found.secrets += _query_values(value)


def _table(data: dict[str, Any], name: str) -> Iterator[str]:
    """The lines of a table: its values, then the tables in it."""
    tables = {key: value for key, value in data.items() if isinstance(value, dict)}
    arrays = {key: value for key, value in data.items() if _of_tables(value)}
    for key, value in data.items():
        if key not in tables and key not in arrays:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in tables.items():
        yield from ("", f"[{_joined(name, key)}]", *_table(value, _joined(name, key)))
    for key, values in arrays.items():
        for value in values:
            yield from ("", f"[[{_joined(name, key)}]]", *_table(value, _joined(name, key)))


def _of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _joined(name: str, key: str) -> str:
    return f"{name}.{_key(key)}" if name else _key(key)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_value(one)}' for key, one in value.items())} }}"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return repr(value)


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
