"""What the project is built from: every library pinned with its hashes, installed as pinned, justified, under a known licence."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from bundle.packages import AGENT, TARGETS, license_of, run_time_packages

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = {found[1]: found[2] for found in re.finditer(r"^([A-Za-z0-9_.\-]+)==([^\s;\\]+)", LOCK, re.MULTILINE)}
FREE = re.compile(
    r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|EPL|Eclipse|MPL|ISC|Unlicense|Zope|Public Domain)\b",
    re.IGNORECASE,
)
"""Licences under which a library may be in a bundle beside software under Apache-2.0; none that binds the whole."""


def named(requirement):
    return re.match(r"[A-Za-z0-9_.\-]+", requirement)[0].lower()


def test_every_library_is_pinned_with_hashes_and_nothing_else_is_in_the_lock():
    entries = re.split(r"\n(?=[A-Za-z0-9])", LOCK.strip())
    assert len(entries) == len(PINNED) > 30
    for entry in entries:
        assert re.match(r"[A-Za-z0-9_.\-]+==[^\s]+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
        assert "://" not in entry


def test_what_the_project_asks_for_is_in_the_lock():
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert {named(one) for one in asked} <= {name.lower() for name in PINNED}


def test_what_is_installed_here_is_what_is_pinned():
    found = {}
    for name in PINNED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # for another system or Python
    assert len(found) > 30
    assert {name: it for name, it in found.items() if it != PINNED[name]} == {}


def test_every_direct_dependency_is_justified():
    table = (ROOT / "docs" / "dependencies.md").read_text().lower()
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert [named(one) for one in asked if named(one) not in table] == []


ON_A_GATEWAY = [name for name in run_time_packages(TARGETS, [AGENT]) if name != AGENT]


@pytest.mark.parametrize("name", ON_A_GATEWAY)
def test_what_goes_onto_a_gateway_has_a_licence_that_binds_nobody_else(name):
    said = license_of(name)
    assert said is not None
    assert FREE.search(said), said
