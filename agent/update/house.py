"""The versions on a gateway: /opt/ems-agent with one folder each, the one in use, and the journal of an update."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.core.update_health import Look
from agent.core.update_steps import Journal, Phase
from agent.update.not_done import NotDone

DEFAULT_ROOT = Path("/opt/ems-agent")
MARK = "complete"
"""The last file that install.sh writes into the folder of a version."""


class House:
    """What `install.sh` made; every change survives a power cut whole or not at all."""

    def __init__(self, root: Path = DEFAULT_ROOT) -> None:
        self.root = root
        self.versions_folder = root / "versions"
        self.incoming = root / "incoming"
        self._journal = root / "update.json"
        self._current, self._updater = root / "current", root / "updater"

    def home(self, version: str) -> Path:
        """The folder of a version."""
        return self.versions_folder / version

    def current(self) -> str | None:
        """The version in use."""
        return _version(self._current)

    def complete(self, version: str) -> bool:
        """Whether that version is there to the last file."""
        return (self.home(version) / MARK).exists()

    def versions(self) -> list[str]:
        """All that are there, also half ones."""
        return sorted(path.name for path in self.versions_folder.iterdir()) if self.versions_folder.is_dir() else []

    def previous(self) -> str | None:
        """The complete version to go back to: of the others, the one that was put there last."""
        used = self.current()
        others = [version for version in self.versions() if version != used and self.complete(version)]
        return max(others, key=lambda version: (self.home(version) / MARK).stat().st_mtime, default=None)

    def remove(self, version: str) -> None:
        """The version is gone; without its mark first, so that half of it is never taken for whole."""
        assert version != self.current(), "the version in use stays"
        (self.home(version) / MARK).unlink(missing_ok=True)
        shutil.rmtree(self.home(version))

    def clear_incoming(self) -> None:
        """Nothing unpacked lies about any more."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.incoming)

    # The journal

    def journal(self) -> tuple[Journal, Look | None] | None:
        """The update under way with the look from before it; None when there is none."""
        try:
            told = json.loads(self._journal.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:  # it is replaced whole, so this is the disk's fault
            why = f"{self._journal} cannot be read: {error}"
            raise NotDone(
                "update", why, "check the disk; remove that file; ems status shows which version runs"
            ) from error
        before = told.pop("before")
        return Journal(**told | {"phase": Phase(told["phase"])}), None if before is None else _look(before)

    def write_journal(self, journal: Journal, before: Look | None) -> None:
        """On disk once this returns. From now on the version in use can finish what the new one may not be able to."""
        _link(f"versions/{journal.old}", self._updater)
        told: dict[str, Any] = asdict(journal)
        told["before"] = (
            None
            if before is None
            else asdict(before) | {"confirmed": sorted(before.confirmed), "conditions": sorted(before.conditions)}
        )
        fresh = self._journal.with_suffix(".new")
        with fresh.open("w") as stream:
            json.dump(told, stream)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self._journal)
        _sync(self.root)

    def clear_journal(self) -> None:
        """No update is under way."""
        self._journal.unlink(missing_ok=True)
        self._updater.unlink(missing_ok=True)
        _sync(self.root)

    @contextmanager
    def alone(self, *, wait: bool) -> Iterator[None]:
        """No other process changes the versions meanwhile; raises `NotDone` when one does, or waits for it."""
        if self.current() is None:
            why = f"no version is in use in {self.root}: the agent was not installed from a bundle here"
            raise NotDone("update", why, "unpack the bundle and run: sh systemd/install.sh")
        descriptor = os.open(self.root / "update.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            raise NotDone(
                "update", "another update is under way", "wait for it: journalctl -ft ems-agent-update"
            ) from None
        try:
            yield
        finally:
            os.close(descriptor)


def _version(link: Path) -> str | None:
    try:
        return link.readlink().name
    except OSError:
        return None


def _look(told: dict[str, Any]) -> Look:
    conditions = frozenset((code, subject) for code, subject in told["conditions"])
    return Look(**told | {"confirmed": frozenset(told["confirmed"]), "conditions": conditions})


def _link(target: str, name: Path) -> None:
    fresh = name.with_name(f"{name.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(name)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
