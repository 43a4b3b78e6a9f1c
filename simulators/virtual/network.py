"""TCP in memory, for asyncio: listeners by port, connections that take time and can be cut. No sockets anywhere.

Bytes arrive in order, `latency_s` after they were written, on the loop's clock. A connection belongs to the simulated
process that opened it; when that is killed both ends are lost at once, as after kill -9.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from typing import Any

from simulators.virtual.process import CURRENT, Process

FIRST_FREE_PORT = 40_000


class Network:
    """All endpoints of one simulated world."""

    def __init__(self, loop: asyncio.AbstractEventLoop, latency_s: float = 0.001) -> None:
        self.loop = loop
        self.latency_s = latency_s
        """One way."""
        self.unplugged: set[int] = set()
        """Ports to which no connection can be made: packets vanish, and the caller waits."""
        self.open_transports: set[MemoryTransport] = set()
        self._listeners: dict[int, Listener] = {}
        self._next_port = FIRST_FREE_PORT

    def listen(self, factory: Callable[[], asyncio.BaseProtocol], port: int) -> Listener:
        """A listener at `port`, or at a free one for 0; OSError when the port is taken."""
        if port == 0:
            self._next_port += 1
            port = self._next_port
        if port in self._listeners:
            raise OSError(errno.EADDRINUSE, "the port is taken")
        listener = self._listeners[port] = Listener(self, factory, port)
        return listener

    @property
    def ports(self) -> set[int]:
        """Where somebody listens."""
        return set(self._listeners)

    def closed(self, listener: Listener) -> None:
        """Nobody listens there any more."""
        self._listeners.pop(listener.port, None)

    async def connect(
        self, factory: Callable[[], asyncio.BaseProtocol], port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """A connection to `port` as `loop.create_connection` makes one; refused where nobody listens."""
        process = CURRENT.get()
        await asyncio.sleep(2 * self.latency_s)
        while port in self.unplugged:  # noqa: ASYNC110 (whoever tries gives up by itself)
            await asyncio.sleep(3600.0)
        listener = self._listeners.get(port)
        if listener is None or process.dead:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens at port {port}")
        near, far = MemoryTransport(self), MemoryTransport(self)
        near.peer, far.peer = far, near
        far.begin(listener.factory())
        protocol = factory()
        near.begin(protocol)
        near.forget = process.on_death(near.cut)
        return near, protocol


class _Name:
    def __init__(self, port: int) -> None:
        self._port = port

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", self._port)


class Listener(asyncio.AbstractServer):
    """What `asyncio.start_server` gives, as far as it is used here."""

    def __init__(self, network: Network, factory: Callable[[], asyncio.BaseProtocol], port: int) -> None:
        self._network = network
        self.factory = factory
        self.port = port
        self.sockets = (_Name(port),)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it lives on."""
        return self._network.loop

    async def start_serving(self) -> None:
        """It serves from the beginning."""

    async def serve_forever(self) -> None:
        """Until it is cancelled."""
        await asyncio.Event().wait()

    def close(self) -> None:
        """Takes no further connections; those that exist stay."""
        self._network.closed(self)

    async def wait_closed(self) -> None:
        """Returns at once."""

    def is_serving(self) -> bool:
        """Whether connections are taken."""
        return self._network.loop.is_running()


class MemoryTransport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network
        self._loop = network.loop
        self.peer: MemoryTransport | None = None
        self.forget: Callable[[], None] = lambda: None
        self._protocol: Any = None
        self._coming: deque[bytes] = deque()
        self._closing = False
        self._told = False

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """The connection is made."""
        self._protocol = protocol
        self._network.open_transports.add(self)
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Arrives at the other end after the network's latency."""
        peer = self.peer
        if self._closing or peer is None or not data:
            return
        peer._coming.append(bytes(data))  # noqa: SLF001 (the other end is of this class)
        self._loop.call_later(self._network.latency_s, peer._arrive)  # noqa: SLF001

    def _arrive(self) -> None:
        # Timers of the same instant have no order, so each only says that the next piece is due.
        if self._coming:
            data = self._coming.popleft()
            if not self._closing:
                self._protocol.data_received(data)

    def close(self) -> None:
        """What was written still arrives, then the other end sees the end."""
        self._end(self._network.latency_s)

    def abort(self) -> None:
        """Ends at once."""
        self._end(0.0)

    def cut(self) -> None:
        """Both ends are lost, without a word from either program."""
        self._end(0.0)

    def _end(self, delay_s: float) -> None:
        if self._closing:
            return
        self._closing = True
        self.forget()
        self._loop.call_soon(self._lost, None)
        if self.peer is not None:
            self._loop.call_later(delay_s, self.peer._ended_by_peer)  # noqa: SLF001

    def _ended_by_peer(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.forget()
        self._lost(ConnectionResetError(errno.ECONNRESET, "the other end is gone"))

    def _lost(self, error: Exception | None) -> None:
        if not self._told:
            self._told = True
            self._network.open_transports.discard(self)
            self._protocol.connection_lost(error)
            self.peer = None

    def is_closing(self) -> bool:
        """Whether it is over."""
        return self._closing

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        """Nothing is known."""
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who is told from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def pause_reading(self) -> None:
        """Messages are small here: nothing is held back."""

    def resume_reading(self) -> None:
        """As `pause_reading`."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no limit to set."""

    def can_write_eof(self) -> bool:
        """Half-closing is not simulated."""
        return False


def in_process(process: Process, start: Callable[[], Any]) -> Any:
    """The result of `start`, run as `process`: what it opens, and all tasks it starts, belong to it."""
    token = CURRENT.set(process)
    try:
        return start()
    finally:
        CURRENT.reset(token)
