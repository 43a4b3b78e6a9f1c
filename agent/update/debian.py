"""The gateway as it is: install.sh for the files, systemd for the service, the daemon's socket for its word."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.core.records import StorageFailed
from agent.core.update_health import Look
from agent.store.copies import refresh_snapshot
from agent.update.house import House
from agent.update.not_done import NotDone

UNIT = "ems-agent"
CHECK_S = 60.0
BUILD_S = 900.0
"""A slow gateway with a slow card."""
RESTART_S = 120.0

Ask = Callable[[str], Mapping[str, Any]]
"""The daemon's result of one request; raises OSError when it does not answer, ValueError when it refuses."""


class Debian:
    """Does what `agent.update.updating` decides; runs as root."""

    def __init__(self, house: House, ask: Ask, site_file: Path, state: Path) -> None:
        self._house, self._ask, self._site_file, self._state = house, ask, site_file, state

    def build(self, unpacked: Path) -> None:
        """See `Gateway`."""
        self._install(unpacked / "systemd/install.sh", "--beside")

    def switch(self, version: str) -> None:
        """See `Gateway`."""
        self._install(self._house.home(version) / "systemd/install.sh", "--switch")

    def _install(self, script: Path, step: str) -> None:
        try:
            ended = _ran(["/bin/sh", str(script), step], BUILD_S)
        except subprocess.TimeoutExpired as error:
            raise NotDone(
                "update", f"install.sh {step} did not end: {error}", "look at the load and the disk"
            ) from error
        if ended.returncode:
            raise NotDone(
                "update", f"install.sh {step}: {_said(ended)}", "what is in use goes on; mend that, try again"
            )

    def site_refusal(self, version: str) -> str | None:
        """See `Gateway`."""
        used = self._house.current()
        assert used is not None, "asked only where a version is in use"
        if not self._site_file.exists() or self._site_problem(used) is not None:
            return None
        return self._site_problem(version)

    def _site_problem(self, version: str) -> str | None:
        program = self._house.home(version) / "bin/ems"
        try:
            ended = _ran([str(program), "config", "check", "--config", str(self._site_file)], CHECK_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return _said(ended) if ended.returncode else None

    def keep_a_copy(self) -> None:
        """See `Gateway`."""
        try:
            refresh_snapshot(self._state)
        except StorageFailed as error:
            why = f"no copy of control.db can be made: {error}"
            raise NotDone("update", why, "nothing was changed; df -h, dmesg") from error

    def restart(self) -> None:
        """See `Gateway`; whether it came up is not systemd's word but the daemon's."""
        _ran(["systemctl", "reset-failed", UNIT], RESTART_S)
        try:
            _ran(["systemctl", "restart", UNIT], RESTART_S)
        except subprocess.TimeoutExpired:
            return

    def look(self) -> Look | None:
        """See `Gateway`."""
        try:
            status, explained = self._ask("status"), self._ask("explain")
        except (OSError, ValueError):
            return None
        return look_from(status, explained, self.mono_s())

    def mono_s(self) -> float:
        """See `Gateway`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See `Gateway`."""
        time.sleep(seconds)


def look_from(status: Mapping[str, Any], explained: Mapping[str, Any], mono_s: float) -> Look:
    """One look, from the daemon's answers to `status` and `explain`.

    PV ceilings are written only where they are needed, so only batteries count as confirmed.
    """
    outcomes = explained["last_outcomes"]
    cloud = status["cloud"]
    return Look(
        mono_s=mono_s,
        version=status["version"],
        boot_id=status["boot_id"],
        ticks=status["counters"]["ticks"],
        confirmed=frozenset(id_ for id_ in explained["shares_w"] if outcomes.get(id_, {}).get("confirmed")),
        conditions=frozenset(
            (one["code"], one["subject"]) for one in status["conditions"] if one["severity"] != "info"
        ),
        connected=None if cloud is None else cloud["connected"],
    )


def _ran(command: list[str], within_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=within_s)  # noqa: S603 - our own


def _said(ended: subprocess.CompletedProcess[str]) -> str:
    return (ended.stderr or ended.stdout).strip()[-1000:] or f"exit code {ended.returncode}"
