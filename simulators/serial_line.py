"""A serial line on this machine: a pseudo-terminal with several Modbus RTU units on it, as slow as its baud rate.

Frames: MODBUS over Serial Line V1.02. A pseudo-terminal passes bytes on at once, so that the time that they would take
on the wire is waited for here, before each answer and while it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping

from simulators.modbus_units import Faults, RegisterBank, UnitServer
from simulators.rtu_frames import CRC_BYTES, framed, is_whole, request_bytes

BITS_PER_CHARACTER = 11
CHUNK_BYTES = 16
"""An answer is sent in pieces of this size, each after its time on the line."""
HEAD_BYTES = 7
SILENT_CHARACTERS = 3.5


class SerialLine(UnitServer):
    """Serves register banks by unit id on a pseudo-terminal: clients open `device`, at any baud rate.

    `baud` paces the line; with None it takes no time. `sleep` is awaited for the pauses, s. With `echo` clients hear
    what they send, as with an RS-485 adapter whose receiver stays on.
    """

    def __init__(
        self,
        units: Mapping[int, RegisterBank],
        *,
        baud: int | None = 9600,
        inputs: Mapping[int, RegisterBank] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        echo: bool = False,
    ) -> None:
        super().__init__(units, inputs)
        self._character_s = 0.0 if baud is None else BITS_PER_CHARACTER / baud
        self._sleep = sleep
        self.echo = echo
        self._ours = self._theirs = -1
        self._held = b""
        self._late = b""
        self._forget: asyncio.TimerHandle | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()
        self._working: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        """A unit answers one request after the other, in their order."""

    @property
    def device(self) -> str:
        """The path that clients open."""
        assert self._theirs >= 0, "the line is not started"
        return os.ttyname(self._theirs)

    @property
    def url(self) -> str:
        """The same for a site file; the settings are free, a pseudo-terminal ignores them."""
        return f"serial://{self.device}?baud=115200&parity=N"

    async def start(self) -> None:
        """Opens the pseudo-terminal. Its far end stays open here, so that clients may come and go."""
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._came)

    async def stop(self) -> None:
        """Takes the device away, as pulling the adapter does."""
        if self._ours < 0:
            return
        asyncio.get_running_loop().remove_reader(self._ours)
        if self._forget is not None:
            self._forget.cancel()
        for task in list(self._answering):
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        os.close(self._ours)
        os.close(self._theirs)
        self._ours = self._theirs = -1

    def noise(self, data: bytes) -> None:
        """Bytes that nobody asked for, on the line now."""
        os.write(self._ours, data)

    def _came(self) -> None:
        try:
            data = os.read(self._ours, 4096)
        except (BlockingIOError, OSError):
            return
        if self.echo:
            os.write(self._ours, data)
        self._held += data
        if self._forget is not None:
            self._forget.cancel()
        while len(self._held) >= HEAD_BYTES:
            length = request_bytes(self._held) + CRC_BYTES
            if len(self._held) < length:
                break
            frame, self._held = self._held[:length], self._held[length:]
            self._take(frame)
        if self._held:  # what is not followed by more was no request
            silent_s = max(0.05, SILENT_CHARACTERS * self._character_s)
            self._forget = asyncio.get_running_loop().call_later(silent_s, self._drop_held)

    def _drop_held(self) -> None:
        self._held = b""

    def _take(self, frame: bytes) -> None:
        unit, request = frame[0], frame[1:-CRC_BYTES]
        if not is_whole(frame) or unit not in self._units:
            return
        faults = self._units.came(unit, request)
        if faults.reboot:
            self._units.reboot(unit)
            return
        if faults.silent:
            return
        task = asyncio.get_running_loop().create_task(self._answer(unit, request, faults))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, unit: int, request: bytes, faults: Faults) -> None:
        async with self._working[unit]:
            await self._answer_now(unit, request, faults)

    async def _answer_now(self, unit: int, request: bytes, faults: Faults) -> None:
        request_s = (len(request) + 1 + CRC_BYTES + SILENT_CHARACTERS) * self._character_s
        await self._sleep(request_s + faults.delay_s)
        named = (unit + 1) % 0x100 if faults.wrong_unit else unit
        frame = self._units.spoilt(framed(named, self._units.answer(unit, request, faults)), faults)
        if faults.late:
            frame, self._late = self._late, frame
        step = 1 if faults.trickle else CHUNK_BYTES
        async with self._sending:
            for at in range(0, len(frame), step):
                piece = frame[at : at + step]
                await self._sleep(len(piece) * self._character_s)
                with contextlib.suppress(BlockingIOError):  # nobody reads: the bytes are gone, as on a wire
                    os.write(self._ours, piece)
