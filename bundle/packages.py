"""Which packages the agent needs at run time, and the pinned wheels of each, from requirements.lock."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

AGENT = "ems-agent"
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of gateway: a Debian release on a kind of processor."""

    name: str
    python: str
    machine: str

    @property
    def environment(self) -> dict[str, str]:
        """What the markers of requirements are judged by (PEP 508)."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "platform_machine": self.machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "extra": "",
        }

    def platforms(self) -> list[str]:
        """The platform tags of wheels that run there: the oldest C library in use up to Debian 12's, 2.36."""
        return [f"manylinux2014_{self.machine}", *(f"manylinux_2_{minor}_{self.machine}" for minor in range(17, 37))]


TARGETS = tuple(
    Target(f"debian{release}-{short}", python, machine)
    for release, python in (("12", "3.11"), ("13", "3.13"))
    for short, machine in (("x86-64", "x86_64"), ("arm64", "aarch64"))
)


@dataclass(frozen=True, slots=True)
class Pinned:
    """One line of requirements.lock."""

    name: str
    version: str
    sha256: frozenset[str]


def read_lock(path: Path) -> dict[str, Pinned]:
    """Every pinned package by its normalised name."""
    pinned: dict[str, Pinned] = {}
    for block in path.read_text().replace("\\\n", " ").splitlines():
        found = _PINNED.match(block)
        if found is not None:
            name = canonicalize_name(found["name"])
            pinned[name] = Pinned(name, found["version"], frozenset(_HASH.findall(block)))
    return pinned


def needed_by(name: str, target: Target) -> tuple[str, ...]:
    """The packages that this one asks for on that target, by normalised name, sorted."""
    # The tree speaks for itself: what was installed from it may be older.
    asked = (
        tomllib.loads(PROJECT.read_text())["project"]["dependencies"] if name == AGENT else distribution(name).requires
    )
    names = {
        canonicalize_name(wanted.name)
        for wanted in map(Requirement, asked or ())
        if wanted.marker is None or wanted.marker.evaluate(target.environment)
    }
    return tuple(sorted(names))


def run_time_packages(targets: Sequence[Target], roots: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """All packages that the roots need on any of the targets, with what each asks for; the roots included.

    Read from the metadata of what is installed here, which is what requirements.lock pins.
    """
    asked: dict[str, tuple[str, ...]] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in asked:
            asked[name] = tuple(sorted({wanted for target in targets for wanted in needed_by(name, target)}))
            waiting.extend(asked[name])
    return dict(sorted(asked.items()))


def license_of(name: str) -> str | None:
    """What the package says of its licence; None where it says nothing short."""
    metadata = distribution(name).metadata
    for key in ("License-Expression", "License"):
        text = next(iter(metadata.get_all(key) or ()), "")
        if text and "\n" not in text:
            return text
    classifiers = [line for line in metadata.get_all("Classifier") or () if line.startswith("License ::")]
    return classifiers[0].rsplit(" :: ", 1)[-1] if classifiers else None
