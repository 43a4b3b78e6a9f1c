"""A wall clock that is set on demand: builds `clock_shim.c` once and steers it from a test."""

import mmap
import struct
import time
from pathlib import Path

from tests.disk_shim import library

SOURCE = Path(__file__).with_name("clock_shim.c")


class WallClock:
    """How wrong the wall clock of a process is that runs with `environment`; changes count at once."""

    def __init__(self, place):
        self._file = place / "clock.control"
        self._file.write_bytes(bytes(8))
        with self._file.open("r+b") as opened:
            self._word = mmap.mmap(opened.fileno(), 8)

    @property
    def environment(self):
        return {"LD_PRELOAD": str(library(SOURCE)), "CLOCK_SHIM_CONTROL": str(self._file)}

    @property
    def wrong_s(self):
        return struct.unpack("=d", self._word[:])[0]

    def set_wrong(self, by_s):
        """Ahead by so many seconds, behind where negative; 0 is right."""
        self._word[:] = struct.pack("=d", by_s)

    def set_to(self, utc_s):
        self.set_wrong(utc_s - time.time())
