"""The Modbus server answers by the book, and each fault does what it says; seen from a bare socket."""

import asyncio
import contextlib
import struct

import pytest

from simulators.modbus_server import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ModbusServer, RequestRefusedError

DEADLINE_S = 5.0
PATIENCE_S = 0.15


class PlainBank:
    """A hundred registers, each holding its own address at first; 99 refuses to be written."""

    def __init__(self):
        self.registers = list(range(100))
        self.reboots = 0

    def read(self, address, count):
        if address + count > len(self.registers):
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        return struct.pack(f">{count}H", *self.registers[address : address + count])

    def write(self, address, data):
        values = struct.unpack(f">{len(data) // 2}H", data)
        if address + len(values) > len(self.registers):
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        if address <= 99 < address + len(values):
            raise RequestRefusedError(ILLEGAL_VALUE)
        self.registers[address : address + len(values)] = values

    def copy(self, registers):
        bank = PlainBank()
        bank.registers = registers
        return bank

    def snapshot(self):
        return self.copy(list(self.registers))

    def without_values(self):
        return self.copy([0xFFFF] * 100)

    def reboot(self):
        self.reboots += 1


class Client:
    """A bare TCP client: frames out, bytes in."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def send(self, pdu, unit=1, transaction=7, protocol=0):
        self.writer.write(struct.pack(">HHHB", transaction, protocol, len(pdu) + 1, unit) + pdu)

    async def receive(self):
        """The next frame as (transaction, unit, pdu)."""
        async with asyncio.timeout(DEADLINE_S):
            transaction, protocol, length, unit = struct.unpack(">HHHB", await self.reader.readexactly(7))
            assert protocol == 0
            return transaction, unit, await self.reader.readexactly(length - 1)

    async def ask(self, pdu, unit=1, transaction=7):
        self.send(pdu, unit, transaction)
        got_transaction, got_unit, answer = await self.receive()
        assert (got_transaction, got_unit) == (transaction, unit)
        return answer

    async def closed(self):
        """True when the server ends the connection within the deadline."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self.reader.read() == b""
        except ConnectionError:
            return True


def read(address, count, function=3):
    return struct.pack(">BHH", function, address, count)


def write(address, *values):
    return struct.pack(f">BHHB{len(values)}H", 16, address, len(values), 2 * len(values), *values)


@pytest.fixture
async def server():
    async with ModbusServer({1: PlainBank(), 2: PlainBank()}) as running:
        yield running


@contextlib.asynccontextmanager
async def connected(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


@pytest.fixture
async def client(server):
    async with connected(server) as one:
        yield one


@pytest.mark.parametrize("function", [3, 4])
async def test_registers_are_read_with_both_read_functions(client, function):
    assert await client.ask(read(5, 3, function)) == bytes((function, 6)) + struct.pack(">3H", 5, 6, 7)


async def test_registers_are_written_one_or_many_and_echoed(client):
    assert await client.ask(write(10, 111, 222)) == struct.pack(">BHH", 16, 10, 2)
    one = struct.pack(">BHH", 6, 12, 333)
    assert await client.ask(one) == one
    assert await client.ask(read(10, 3)) == b"\x03\x06" + struct.pack(">3H", 111, 222, 333)


@pytest.mark.parametrize(
    ("pdu", "unit", "code"),
    [
        (read(0, 1), 9, 11),
        (read(99, 2), 1, 2),
        (write(99, 1, 2), 1, 2),
        (write(99, 1), 1, 3),
        (read(0, 0), 1, 3),
        (read(0, 126), 1, 3),
        (b"\x10\x00\x00\x00\x00\x00", 1, 3),
        (b"\x10\x00\x00\x00\x02\x02\x00\x01", 1, 3),
        (b"\x10\x00\x00\x00\x01\x02\x00\x01\x00", 1, 3),
        (b"\x10\x00\x00\x00\x01\x04\x00\x01", 1, 3),
        (b"\x03\x00", 1, 3),
        (b"\x17" + bytes(9), 1, 1),
        (b"\x01\x00\x00\x00\x01", 1, 1),
    ],
)
async def test_a_bad_request_is_refused_with_the_right_exception(client, pdu, unit, code):
    assert await client.ask(pdu, unit) == bytes((pdu[0] | 0x80, code))
    assert await client.ask(read(0, 1)) == b"\x03\x02\x00\x00", "and the connection goes on"


async def test_pipelined_requests_are_answered_in_their_order(client, server):
    server.faults[2].delay_s = 0.05
    for number in range(20):
        client.send(read(number, 1), unit=2 if number % 10 == 3 else 1, transaction=number)
    answers = [await client.receive() for _ in range(20)]
    assert [transaction for transaction, _, _ in answers] == list(range(20))
    assert [struct.unpack(">H", pdu[2:])[0] for _, _, pdu in answers] == list(range(20))


async def test_a_request_in_many_small_pieces_is_one_request(client):
    frame = struct.pack(">HHHB", 7, 0, 6, 1) + read(3, 1)
    for byte in frame:
        client.writer.write(bytes((byte,)))
        await client.writer.drain()
        await asyncio.sleep(0)
    assert await client.receive() == (7, 1, b"\x03\x02\x00\x03")


async def test_several_clients_are_served_and_a_slow_one_delays_nobody(client, server):
    server.faults[2].delay_s = 60.0
    client.send(read(0, 1), unit=2)
    async with connected(server) as other:
        assert await other.ask(read(4, 1)) == b"\x03\x02\x00\x04"


@pytest.mark.parametrize(
    "frame", [struct.pack(">HHHB", 1, 5, 6, 1), struct.pack(">HHHB", 1, 0, 999, 1), struct.pack(">HHHB", 1, 0, 1, 1)]
)
async def test_a_frame_that_is_no_modbus_ends_the_connection(client, frame):
    client.writer.write(frame)
    assert await client.closed()


async def test_stop_drops_clients_even_in_the_middle_of_a_delay(client, server):
    server.faults[1].delay_s = 60.0
    client.send(read(0, 1))
    async with asyncio.timeout(DEADLINE_S):
        while server.requests == 0:  # noqa: ASYNC110  # the server has no event for tests
            await asyncio.sleep(0)
        await server.stop()
    assert await client.closed()


async def test_a_taken_port_is_an_error(server):
    with pytest.raises(OSError, match="in use"):
        await ModbusServer({1: PlainBank()}, port=server.port).start()


async def test_silent_never_answers_and_healed_does(client, server):
    server.faults[1].silent = True
    client.send(read(0, 1), transaction=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            await client.reader.read(1)
    assert await client.ask(read(5, 1), unit=2) == b"\x03\x02\x00\x05", "the other unit is not touched"
    server.faults[1].silent = False
    assert await client.ask(read(5, 1), transaction=2) == b"\x03\x02\x00\x05"


async def test_delay_answers_later(client, server):
    server.faults[1].delay_s = 0.2
    began_s = asyncio.get_running_loop().time()
    assert await client.ask(read(5, 1)) == b"\x03\x02\x00\x05"
    assert asyncio.get_running_loop().time() - began_s >= 0.19


async def test_garbage_is_no_modbus_frame(client, server):
    server.faults[1].garbage = True
    client.send(read(0, 1))
    async with asyncio.timeout(DEADLINE_S):
        garbage = await client.reader.readexactly(24)
    assert struct.unpack(">HHHB", garbage[:7])[1] != 0


async def test_a_short_reply_lacks_one_register(client, server):
    server.faults[1].short_reply = True
    assert await client.ask(read(5, 3)) == b"\x03\x04" + struct.pack(">2H", 5, 6)


async def test_wrong_transaction_unit_and_function_each_spoil_one_thing(client, server):
    faults = server.faults[1]
    faults.wrong_transaction = True
    client.send(read(5, 1), transaction=7)
    assert await client.receive() == (8, 1, b"\x03\x02\x00\x05")
    faults.wrong_transaction, faults.wrong_unit = False, True
    client.send(read(5, 1), transaction=7)
    assert await client.receive() == (7, 2, b"\x03\x02\x00\x05")
    faults.wrong_unit, faults.wrong_function = False, True
    assert await client.ask(read(5, 1)) == b"\x04\x02\x00\x05"


async def test_wrong_echo_applies_the_write_but_names_another_address(client, server):
    server.faults[1].wrong_echo = True
    assert await client.ask(write(10, 5)) == struct.pack(">BHH", 16, 11, 1)
    assert await client.ask(read(10, 1)) == b"\x03\x02\x00\x05"


async def test_drop_connection_ends_it_without_an_answer(client, server):
    server.faults[1].drop_connection = True
    client.send(read(0, 1))
    assert await client.closed()


@pytest.mark.parametrize("code", [1, 4, 6, 10, 0xF0])
async def test_an_exception_code_is_given_to_every_request(client, server, code):
    server.faults[1].exception = code
    assert await client.ask(read(0, 1)) == bytes((0x83, code))
    assert await client.ask(write(0, 1)) == bytes((0x90, code))


async def test_frozen_answers_the_old_registers_until_healed(client, server):
    server.faults[1].frozen = True
    assert await client.ask(read(10, 1)) == b"\x03\x02\x00\x0a"
    await client.ask(write(10, 500))
    assert await client.ask(read(10, 1)) == b"\x03\x02\x00\x0a"
    server.faults[1].frozen = False
    assert await client.ask(read(10, 1)) == b"\x03\x02\x01\xf4"
    server.faults[1].frozen = True
    assert await client.ask(read(10, 1)) == b"\x03\x02\x01\xf4", "frozen again, at the newer value"


async def test_sentinels_replace_every_value(client, server):
    server.faults[1].sentinels = True
    assert await client.ask(read(0, 2)) == b"\x03\x04\xff\xff\xff\xff"


async def test_a_lie_acknowledges_what_it_does_not_do(client, server):
    server.faults[1].lie = True
    assert await client.ask(write(10, 5)) == struct.pack(">BHH", 16, 10, 1)
    one = struct.pack(">BHH", 6, 11, 5)
    assert await client.ask(one) == one
    assert await client.ask(read(10, 2)) == b"\x03\x04\x00\x0a\x00\x0b"


async def test_a_reboot_happens_once_and_drops_every_client(client, server):
    bank = server._units._units[1]
    async with connected(server) as bystander:
        assert await bystander.ask(read(1, 1)) == b"\x03\x02\x00\x01"
        server.faults[1].reboot = True
        client.send(read(0, 1))
        assert await client.closed()
        assert await bystander.closed()
    assert (bank.reboots, server.faults[1].reboot) == (1, False)
    async with connected(server) as again:
        assert await again.ask(read(1, 1)) == b"\x03\x02\x00\x01"
