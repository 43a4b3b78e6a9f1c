"""Profiles by name or by file: the shipped ones, and those of the site, which cannot hide a shipped one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from agent.toml_text import BadToml, parse
from drivers.profile.check import check
from drivers.profile.model import Part, Profile
from drivers.profile.problem import BadProfile, Problem

KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("string_type", "string_unicode"), "a text"),
    **dict.fromkeys(("int_type", "int_from_float"), "a whole number"),
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list [ ... ]",
    "date_type": "a date without quotes",
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a table { ... }"),
}
"""What each complaint of a wrong kind of value asks for."""
MAX_FILE_BYTES = 256 * 1024
SITE_FOLDER = "profiles"
"""Beside the site file."""


@dataclass(frozen=True, slots=True)
class Found:
    """A profile file."""

    name: str
    path: Path
    origin: Literal["shipped", "site"]


def shipped() -> dict[str, Found]:
    """The profiles that come with the agent, by name."""
    folder = Path(str(resources.files("drivers") / "profiles"))
    return {path.stem: Found(path.stem, path, "shipped") for path in sorted(folder.glob("*.toml"))}


def available(site_folder: Path | None) -> dict[str, Found]:
    """All profiles by name; `BadProfile` if a file of the site's folder bears the name of a shipped one."""
    found = shipped()
    own = sorted(site_folder.glob("*.toml")) if site_folder is not None and site_folder.is_dir() else []
    for path in own:
        if path.stem in found:
            reason = f"the name {path.stem!r} is that of a shipped profile; rename the file, and the site file with it"
            raise BadProfile((f"{path}: {reason}",))
        found[path.stem] = Found(path.stem, path, "site")
    return found


def find(name: str, site_folder: Path | None) -> Profile:
    """The profile called `name`; `BadProfile` says what is wrong with it, or which names there are."""
    known = available(site_folder)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
        folder = f" or in {site_folder}" if site_folder is not None else ""
        raise BadProfile((f"profile {name!r}: neither shipped{folder}; {hint}",))
    return load(known[name].path)


def load(path: Path) -> Profile:
    """The profile in the file; `BadProfile` with all its errors when it must not be used."""
    profile, problems = examine(path)
    errors = tuple(problem.line(str(path)) for problem in problems if problem.severity == "error")
    if profile is None or errors:
        raise BadProfile(errors)
    return profile


def examine(path: Path) -> tuple[Profile | None, tuple[Problem, ...]]:
    """The profile, None where its form is wrong, and every problem it has, warnings too."""
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            return None, (Problem("file", f"has {len(raw)} bytes; a profile has at most {MAX_FILE_BYTES}"),)
        data = parse(raw)
    except OSError as error:
        return None, (Problem("file", f"cannot be read: {error.strerror}"),)
    except BadToml as bad:
        return None, (Problem("file", str(bad)),)
    try:
        profile = Profile.model_validate(data)
    except ValidationError as error:
        return None, _problems(data, error.errors())
    return profile, check(profile)


def _problems(data: Any, details: Sequence[Mapping[str, Any]]) -> tuple[Problem, ...]:
    """One problem for each place.

    Where a value may take several forms, pydantic complains of each of them: what lies deeper in the file counts, and
    what lies equally deep is told together.
    """
    found: dict[tuple[int | str, ...], list[Mapping[str, Any]]] = {}
    for detail in details:
        found.setdefault(_written(data, detail), []).append(detail)
    deepest = [place for place in found if not any(other[: len(place)] == place != other for other in found)]
    return tuple(Problem(_where(place), _reasons(found[place])) for place in deepest)


def _written(data: Any, detail: Mapping[str, Any]) -> tuple[int | str, ...]:
    """The place as it stands in the file: without the names of the forms that pydantic tried."""
    place: list[int | str] = []
    at = data
    for part in detail["loc"]:
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            if detail["type"] != "missing" or part != detail["loc"][-1]:
                continue
        place.append(part)
    return tuple(place)


def _where(place: Sequence[int | str]) -> str:
    where = ""
    for part in place:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else part
    return where or "file"


def _reasons(details: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong at one place."""
    kinds = [KINDS[detail["type"]] for detail in details if detail["type"] in KINDS]
    if kinds and len(kinds) == len(details):
        return f"{' or '.join(dict.fromkeys(kinds))} is expected, not {details[0]['input']!r}"
    return _reason(next(detail for detail in details if detail["type"] not in KINDS))


def _reason(detail: Mapping[str, Any]) -> str:
    match detail["type"]:
        case "missing":
            return "missing"
        case "extra_forbidden":
            return f"unknown key{_suggestion(str(detail['loc'][-1]))}"
        case "literal_error" if detail["loc"][-1] == "type":
            return f"unknown type {detail['input']!r}; known: {detail['ctx']['expected']}"
        case "literal_error":
            return f"{detail['input']!r} is none of {detail['ctx']['expected']}"
        case "string_pattern_mismatch":
            return f"{detail['input']!r} is no name: write a to z, 0 to 9 and _, a letter first"
        case "value_error":
            return str(detail["ctx"]["error"])
        case _:
            return f"{detail['msg']}, not {detail['input']!r}"


def _suggestion(key: str) -> str:
    known = {field.alias or name for part in Part.__subclasses__() for name, field in part.model_fields.items()}
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
