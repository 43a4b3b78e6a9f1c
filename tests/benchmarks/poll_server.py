"""Ten Modbus TCP devices (or as many as it is told) of 400 registers that note when each poll begins; for `poll_cost`.

Prints its ports as one JSON line. Then a line on stdin switches a fault (`DEVICE NAME VALUE`, as `7 silent on`) or asks for what
was seen since the last `report` (one JSON line: times of the polls of each device). Ends with its stdin.
"""

from __future__ import annotations

import asyncio
import gc
import json
import struct
import sys
import time

from simulators.modbus_server import ModbusServer
from simulators.modbus_units import set_fault

DEVICES = 10
REGISTERS = 400


class Bank:
    """Registers that hold small numbers; a poll begins with the read of register 0."""

    def __init__(self) -> None:
        self.registers = [10] * REGISTERS
        self.polls: list[float] = []

    def read(self, address: int, count: int) -> bytes:
        if address == 0 and count > 1:  # a single register is the identity, looked at once a minute
            self.polls.append(time.monotonic())
        return struct.pack(f">{count}H", *self.registers[address : address + count])

    def write(self, address: int, data: bytes) -> None:
        values = struct.unpack(f">{len(data) // 2}H", data)
        self.registers[address : address + len(values)] = values

    def snapshot(self) -> Bank:
        return self

    def without_values(self) -> Bank:
        return self

    def reboot(self) -> None:
        """Nothing is lost."""


async def main() -> None:
    gc.disable()  # its pauses would count as those of who polls
    banks = [Bank() for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else DEVICES)]
    servers = [ModbusServer({1: bank}) for bank in banks]
    for server in servers:
        await server.start()
    print(json.dumps([server.port for server in servers]), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().split():
        if line == ["report"]:
            print(json.dumps([bank.polls for bank in banks]), flush=True)
            for bank in banks:
                bank.polls = []
        else:
            set_fault(servers[int(line[0])].faults[1], line[1], line[2])


if __name__ == "__main__":
    asyncio.run(main())
