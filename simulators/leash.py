"""Child processes that die with their parent, on any exit of the parent, SIGKILL included."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Linux only, see prctl(2): PR_SET_PDEATHSIG = 1, SIGKILL = 9. The signal is set before exec and survives it.
# A parent that died before the call is noticed by its id.
_LEASH = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"
    "if os.getppid() != int(sys.argv[1]): sys.exit('the parent process is gone')\n"
    "os.execvp(sys.argv[2], sys.argv[2:])"
)

STOP_TIMEOUT_S = 10.0
"""How long a child may take to end after SIGTERM (the agent promises at most 10 s) before it is killed."""


class Child:
    """A running child process; the kernel kills it when the thread that started it ends.

    So start it from the main thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        pipes: bool = False,
    ) -> None:
        """Start `command`; its output goes to `log`, but with `pipes` stdin and stdout are pipes."""
        leashed = [sys.executable, "-c", _LEASH, str(os.getpid()), *command]
        with log.open("ab") as log_file:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
                leashed,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else log_file,
                stderr=log_file,
                env=None if env is None else {**os.environ, **env},
                # Ctrl-C in the terminal is for the parent, which then ends its children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the command itself (the leash execs it)."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    @property
    def stdout(self) -> IO[bytes]:
        """What the child writes; only with `pipes`."""
        assert self._process.stdout is not None
        return self._process.stdout

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._close()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after `STOP_TIMEOUT_S`; returns when it is gone. May be called again."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._close()

    def _close(self) -> None:
        self._process.wait()
        # stdin only: a thread may still be reading stdout, and gets its end of file from the child's end.
        if self._process.stdin is not None:
            self._process.stdin.close()
