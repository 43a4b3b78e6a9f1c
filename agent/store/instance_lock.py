"""One agent per state directory: a lock that the kernel drops with the process, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

LOCK_FILE = "agent.lock"


class AlreadyRunning(Exception):  # noqa: N818 - an expected outcome, named for what happened
    """Another agent holds this directory; `pid` is its process, None where it could not be read."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        who = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"{who} already runs the agent on {directory}; stop it first (systemctl stop ems-agent)")
        self.directory = directory
        self.pid = pid


class InstanceLock:
    """The held lock; `release` gives it up."""

    def __init__(self, directory: Path) -> None:
        self._fd = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(self._fd, 20).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise AlreadyRunning(directory, int(text) if text.isdecimal() else None) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Another process may take the directory now."""
        os.close(self._fd)
