"""Profiles by name or by file: the shipped ones, and those of the site, which cannot hide a shipped one."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from drivers.profile.check import check
from drivers.profile.model import Part, Profile
from drivers.profile.problem import BadProfile, Problem

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
        data = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        return None, (Problem("file", f"cannot be read: {error.strerror}"),)
    except UnicodeDecodeError as error:
        return None, (Problem("file", f"is not UTF-8 text: {error.reason} at byte {error.start}"),)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return None, (Problem("file", f"is not TOML: {error}"),)
    try:
        profile = Profile.model_validate(data)
    except ValidationError as error:
        return None, _problems(error.errors())
    return profile, check(profile)


def _problems(details: Sequence[Mapping[str, Any]]) -> tuple[Problem, ...]:
    """One problem for each place; of the alternatives of a union the one that got furthest."""
    furthest: dict[str, Mapping[str, Any]] = {}
    for detail in details:
        place = ".".join(str(part) for part in detail["loc"][:3])
        if place not in furthest or len(detail["loc"]) > len(furthest[place]["loc"]):
            furthest[place] = detail
    return tuple(Problem(_where(detail["loc"]), _reason(detail)) for detail in furthest.values())


def _where(loc: Sequence[int | str]) -> str:
    where = ""
    for part in loc:
        if isinstance(part, int):
            where += f"[{part}]"
        elif part[:1].islower() and "[" not in part:  # else the name of an alternative, which nobody wrote
            where += f".{part}" if where else part
    return where or "file"


def _reason(detail: Mapping[str, Any]) -> str:
    match detail["type"]:
        case "missing":
            return "missing"
        case "extra_forbidden":
            return f"unknown key{_suggestion(str(detail['loc'][-1]))}"
        case "literal_error" if detail["loc"][-1] == "type":
            return f"unknown type {detail['input']!r}; known: {detail['ctx']['expected']}"
        case _:
            return f"{detail['msg']}, not {detail['input']!r}"


def _suggestion(key: str) -> str:
    known = {field.alias or name for part in Part.__subclasses__() for name, field in part.model_fields.items()}
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
