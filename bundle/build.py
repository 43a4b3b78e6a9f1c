"""`make bundle`: one archive with the agent and all it needs, for gateways that have no internet.

Exit code 0: the archive is at the path printed; 1: it could not be built, and why.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from packaging.utils import parse_wheel_filename

from agent.store.schema import MIGRATIONS
from bundle.archive import BUILT_AT_S, KeyRefusedError, signing_key, write_archive
from bundle.packages import AGENT, TARGETS, Pinned, Target, license_of, read_lock, run_time_packages
from bundle.sbom import Component, bill_of_materials

ROOT = Path(__file__).parents[1]
SOURCES = ("agent", "drivers", "simulators")
CARRIED = ("config", "docs", "systemd")
TEXTS = ("README.md", "CHANGELOG.md", "LICENSE")
BUNDLE_FORMAT = 1
"""Raised when an older `ems update` could not read the archive any more."""
BOOTSTRAP = "pip"
"""Installs the others on a gateway whose Python came without it."""
_VERSION_LINE = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)

Wheels = dict[str, dict[str, Path]]
"""By package, by file name."""


class CannotBuildError(Exception):
    """There is no bundle; the text says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see the module."""
    given = _options(arguments)
    targets = tuple(target for target in TARGETS if not given.target or target.name in given.target)
    try:
        key = signing_key(given.key) if given.key is not None else None
        print(build(given.out, targets, given.version or version_of_the_tree(), key, given.work))
    except (CannotBuildError, KeyRefusedError) as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    if key is None:
        print("not signed (KEY=FILE signs it): a gateway takes it with --unsigned only", file=sys.stderr)
    return 0


def build(out: Path, targets: Sequence[Target], version: str, key: Ed25519PrivateKey | None, work: Path) -> Path:
    """The path of the finished archive in `out`; downloads are kept in `work` for the next time."""
    needs = run_time_packages(targets, (AGENT, BOOTSTRAP))
    lock = read_lock(ROOT / "requirements.lock")
    wheels = downloaded({name: lock[name] for name in needs if name != AGENT}, targets, work)
    with tempfile.TemporaryDirectory() as scratch:
        own = own_wheel(Path(scratch), version)
        wheels[AGENT] = {own.name: own}
        hashes = {name: _sha256(path) for files in wheels.values() for name, path in files.items()}
        versions = {name: lock[name].version for name in needs if name != AGENT} | {AGENT: version}
        parts = {
            name: Component(name, versions[name], license_of(name), {w: hashes[w] for w in wheels[name]}, needs[name])
            for name in needs
        }
        files: dict[str, bytes | Path] = {
            f"wheels/{name}": path for found in wheels.values() for name, path in found.items()
        }
        files |= dict(_carried())
        files["requirements.txt"] = requirements(parts)
        files["sbom.cdx.json"] = bill_of_materials(
            parts[AGENT], [part for name, part in parts.items() if name != AGENT]
        )
        files["release.json"] = release(version, targets)
        folder = f"{AGENT}-{version}"
        out.mkdir(parents=True, exist_ok=True)
        archive = out / f"{folder}{'' if key is not None else '-unsigned'}.tar"
        unfinished = archive.with_suffix(".part")
        write_archive(unfinished, folder, files, key)
        return unfinished.replace(archive)


def version_of_the_tree() -> str:
    """What pyproject.toml says."""
    found = _VERSION_LINE.search((ROOT / "pyproject.toml").read_text())
    assert found is not None, "pyproject.toml has a version"
    return found[1]


def downloaded(pinned: Mapping[str, Pinned], targets: Sequence[Target], work: Path) -> Wheels:
    """The wheels of all packages for all targets, each with a hash that requirements.lock names."""
    work.mkdir(parents=True, exist_ok=True)
    wheels: Wheels = {name: {} for name in pinned}
    for target in targets:
        for path in _downloads(pinned, target, work):
            name = parse_wheel_filename(path.name)[0]
            if _sha256(path) not in pinned[name].sha256:
                raise CannotBuildError(
                    f"{path} is not what requirements.lock names; remove {path.parent} and try again"
                )
            wheels[name][path.name] = path
    return wheels


def _downloads(pinned: Mapping[str, Pinned], target: Target, work: Path) -> list[Path]:
    wanted = "".join(f"{_requirement(one.name, one.version, sorted(one.sha256))}\n" for one in pinned.values())
    folder = work / f"{target.name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if not folder.exists():
        unfinished = folder.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        (unfinished / "requirements.txt").write_text(wanted)
        print(f"bundle: fetching the wheels for {target.name}", file=sys.stderr)
        _fetch(unfinished, target)
        unfinished.replace(folder)
    return sorted(folder.glob("*.whl"))


def _fetch(folder: Path, target: Target) -> None:
    python = target.python.replace(".", "")
    options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation=cp"]
    options += [f"--python-version={python}", f"--abi=cp{python}", "--abi=abi3", "--abi=none"]
    options += [f"--platform={platform}" for platform in target.platforms()]
    ended = subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "-m", "pip", "download", *options, f"--dest={folder}", f"-r{folder / 'requirements.txt'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise CannotBuildError(
            f"pip could not fetch the wheels for {target.name}:\n{ended.stderr.strip()}\n"
            "Building a bundle needs the package index that `make demo` used; installing one does not."
        )


def own_wheel(scratch: Path, version: str) -> Path:
    """The agent's own wheel under this version, built from a copy of the tree; the same tree gives the same bytes."""
    tree = scratch / "tree"
    tree.mkdir()
    for name in SOURCES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, tree / name)
    project = (ROOT / "pyproject.toml").read_text()
    (tree / "pyproject.toml").write_text(_VERSION_LINE.sub(f'version = "{version}"', project, count=1))
    for path in tree.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    ended = subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", f"-w{scratch}", str(tree)],
        capture_output=True,
        text=True,
        check=False,
        umask=0o022,  # it gets into the wheel
        env={**os.environ, "SOURCE_DATE_EPOCH": str(BUILT_AT_S), "PYTHONWARNINGS": "ignore"},
    )
    found = list(scratch.glob("*.whl"))
    if ended.returncode or not found:
        raise CannotBuildError(f"the agent's own wheel could not be built:\n{ended.stdout}{ended.stderr}")
    return found[0]


def requirements(parts: Mapping[str, Component]) -> bytes:
    """What `pip install --require-hashes --no-index` takes on the gateway: exactly the wheels in the bundle."""
    lines = [_requirement(part.name, part.version, sorted(part.wheels.values())) for part in parts.values()]
    return ("\n".join(lines) + "\n").encode()


def release(version: str, targets: Sequence[Target]) -> bytes:
    """What `install.sh` and `ems update` want to know before they begin."""
    told = {
        "format": BUNDLE_FORMAT,
        "name": AGENT,
        "version": version,
        "targets": [{"python": target.python, "machine": target.machine} for target in targets],
        "schema": {name: len(migrations) for name, migrations in MIGRATIONS.items()},
    }
    return (json.dumps(told, indent=1) + "\n").encode()


def _carried() -> Iterator[tuple[str, Path]]:
    for folder in CARRIED:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), path
    for name in TEXTS:
        yield name, ROOT / name


def _requirement(name: str, version: str, hashes: Sequence[str]) -> str:
    return " \\\n    ".join([f"{name}=={version}", *(f"--hash=sha256:{sha256}" for sha256 in hashes)])


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bundle ARGS=...", description=__doc__)
    parser.add_argument("--key", type=Path, help="PEM file of the Ed25519 key to sign with (make bundle KEY=FILE)")
    parser.add_argument("--version", help="build under another version than pyproject.toml's, for trials of updates")
    names = [target.name for target in TARGETS]
    parser.add_argument("--target", action="append", choices=names, help="only for this one; repeatable; default: all")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="default: dist")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "wheels", help="where downloads are kept")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
