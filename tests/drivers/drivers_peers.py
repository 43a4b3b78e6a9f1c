"""What stands in for devices in the tests of the drivers: register images, and peers good and bad on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from drivers.errors import ModbusRefused
from drivers.sunspec_layout import Point, layout

SUNS = (0x5375, 0x6E53)
END = (0xFFFF, 0)


@dataclass
class Clock:
    """Monotonic time that only the test moves."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def raw_registers(point: Point, value: int | str) -> tuple[int, ...]:
    """The registers of a raw value: two's complement, high word first; text is padded with NUL."""
    size = 2 * point.size
    data = (
        value.encode().ljust(size, b"\0")
        if isinstance(value, str)
        else (value % (1 << (8 * size))).to_bytes(size, "big")
    )
    return tuple(int.from_bytes(data[i : i + 2], "big") for i in range(0, size, 2))


def not_implemented(point: Point) -> int | str:
    if point.type == "string":
        return ""
    if point.type.startswith("acc") or point.type == "pad":
        return 0
    bits = 16 * point.size
    return 1 << (bits - 1) if point.type.startswith("int") or point.type == "sunssf" else (1 << bits) - 1


def model(model_id: int, raws: Mapping[str, int | str], length: int | None = None) -> list[int]:
    """One model's registers from raw values; every other point says "not implemented"."""
    known = layout(model_id)
    registers: list[int] = []
    assert not set(raws) - set(known.points)
    for point in known.points.values():
        assert point.at == len(registers)
        registers += raw_registers(point, raws.get(point.name, not_implemented(point)))
    length = known.length if length is None else length
    registers[:2] = [model_id, length]
    return (registers + [0] * length)[: length + 2]


def chain(*models: Sequence[int]) -> list[int]:
    return [*SUNS, *(register for one in models for register in one), *END]


def bank(registers: Sequence[int], base: int = 40000) -> dict[int, int]:
    return dict(enumerate(registers, start=base))


@dataclass
class Memory:
    """`Registers` without a wire: what is not in `registers` is refused with exception 2."""

    registers: dict[int, int]
    name: str = "memory"
    generation: int = 1
    reads: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    before_read: Callable[[int], None] = lambda address: None
    on_write: Callable[[int, tuple[int, ...]], None] = lambda address, values: None

    def pace(self, between_s, after_connect_s):
        """Nothing here needs a pause."""

    async def read_holding(self, unit_id: int, address: int, count: int) -> tuple[int, ...]:
        assert 0 <= address <= 65536 - count
        assert 1 <= count <= 125
        self.before_read(address)
        self.reads.append((address, count))
        try:
            return tuple(self.registers[i] for i in range(address, address + count))
        except KeyError:
            raise ModbusRefused(2, endpoint=self.name, unit_id=unit_id, address=address) from None

    async def write_registers(
        self, unit_id: int, address: int, values: Sequence[int], *, generation: int | None = None
    ) -> None:
        assert generation in (None, self.generation)
        await asyncio.sleep(0)  # others run meanwhile, as on a wire
        self.writes.append((address, tuple(values)))
        self.on_write(address, tuple(values))
        self.registers.update(enumerate(values, start=address))


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@asynccontextmanager
async def peer(script: Script) -> AsyncIterator[int]:
    """The port of a TCP server that runs `script(reader, writer, number of the connection)` for each client."""
    tasks: set[asyncio.Task[None]] = set()
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(reader, writer, count)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True)
class Asked:
    """One request as it came over the wire."""

    tid: int
    unit: int
    pdu: bytes

    @property
    def address(self) -> int:
        return int.from_bytes(self.pdu[1:3], "big")

    @property
    def count(self) -> int:
        return int.from_bytes(self.pdu[3:5], "big")

    def frame(self, pdu: bytes, *, tid: int | None = None, unit: int | None = None, protocol: int = 0) -> bytes:
        tid = self.tid if tid is None else tid
        unit = self.unit if unit is None else unit
        head = tid.to_bytes(2, "big") + protocol.to_bytes(2, "big") + (len(pdu) + 1).to_bytes(2, "big")
        return head + bytes([unit]) + pdu

    def good(self, fill: int = 7) -> bytes:
        """The right answer: every register reads `fill`, every write is echoed."""
        if self.pdu[0] == 3:
            return self.frame(bytes([3, 2 * self.count]) + fill.to_bytes(2, "big") * self.count)
        return self.frame(self.pdu[:5])


async def next_request(reader: asyncio.StreamReader) -> Asked:
    head = await reader.readexactly(7)
    pdu = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
    return Asked(int.from_bytes(head[:2], "big"), head[6], pdu)


def answering(answer: Callable[[Asked], bytes]) -> Script:
    """A peer that answers each request with `answer(request)`."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            writer.write(answer(await next_request(reader)))

    return script


def register_server(units: Mapping[int, dict[int, int]]) -> Script:
    """A well-behaved device: functions 3 and 16 on the given registers, exceptions 1, 2 and 11 for the rest."""

    def answer(asked: Asked) -> bytes:
        function = asked.pdu[0]
        registers = units.get(asked.unit)
        if registers is None:
            return asked.frame(bytes([function | 0x80, 11]))
        if function not in (3, 16):
            return asked.frame(bytes([function | 0x80, 1]))
        addresses = range(asked.address, asked.address + asked.count)
        if any(address not in registers for address in addresses):
            return asked.frame(bytes([function | 0x80, 2]))
        if function == 16:
            data = asked.pdu[6:]
            for i, address in enumerate(addresses):
                registers[address] = int.from_bytes(data[2 * i : 2 * i + 2], "big")
            return asked.frame(asked.pdu[:5])
        data = b"".join(registers[address].to_bytes(2, "big") for address in addresses)
        return asked.frame(bytes([3, len(data)]) + data)

    return answering(answer)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` holds; the event loop runs on."""

    async def poll() -> None:
        while not condition():  # noqa: ASYNC110  # what is waited for is inside the code under test and has no event
            await asyncio.sleep(0)

    await asyncio.wait_for(poll(), 5)
