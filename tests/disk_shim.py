"""A disk that misbehaves on demand: builds `disk_shim.c` once and steers it from a test.

`Disk(place).environment(directory)` is what a process must be started with; `full()`, `read_only()`, `fsync_fails()`, `slow()`
and `heal()` count at once in the running process.
"""

import errno
import hashlib
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("disk_shim.c")
HEAD = struct.Struct("=IIIIQ")


def library(source=SOURCE):
    """The built shim; a test that needs it is skipped, with the reason, where nothing can build it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: sudo apt-get install gcc libc6-dev")
    built = Path(tempfile.gettempdir()) / f"{source.stem}_{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}.so"
    if not built.exists():
        fresh = built.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-o", fresh, source, "-ldl", "-lm", "-pthread"], check=True
        )
        fresh.replace(built)
    return built


class Disk:
    """What happens to the files below one directory, for a process that runs with `environment`."""

    def __init__(self, place, *, trace=False):
        self.trace = place / "disk.trace" if trace else None
        self._file = place / "disk.control"
        self._file.write_bytes(bytes(16))
        with self._file.open("r+b") as opened:
            self._words = mmap.mmap(opened.fileno(), 16)

    def environment(self, directory):
        shim = {"LD_PRELOAD": str(library()), "DISK_SHIM_UNDER": str(directory), "DISK_SHIM_CONTROL": str(self._file)}
        return shim | ({"DISK_SHIM_TRACE": str(self.trace)} if self.trace else {})

    def _say(self, *, fsync=0, slow_ms=0, write=0):
        self._words[0:12] = struct.pack("=iii", fsync, slow_ms, write)

    def full(self):
        self._say(write=errno.ENOSPC)

    def read_only(self):
        self._say(write=errno.EROFS)

    def writes_fail(self):
        self._say(write=errno.EIO)

    def fsync_fails(self):
        self._say(fsync=errno.EIO)

    def slow(self, seconds):
        self._say(slow_ms=round(seconds * 1000))

    def heal(self):
        self._say()

    @property
    def failed(self):
        """Calls that failed so far."""
        return struct.unpack_from("=i", self._words, 12)[0]


def records(trace):
    """Each change of the trace: (what, file, offset, bytes); the files are named as at that moment."""
    data, at, found = trace.read_bytes(), 0, []
    while at + HEAD.size <= len(data):
        what, name_bytes, size, _, offset = HEAD.unpack_from(data, at)
        at += HEAD.size
        name, body = data[at : at + name_bytes], data[at + name_bytes : at + name_bytes + size]
        at += name_bytes + size
        found.append((chr(what), name.decode(), offset, body))
    return found
