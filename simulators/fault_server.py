"""A Modbus server that misbehaves when told to: `python -m simulators.fault_server --port 5020`.

Three units (1, 2, 3) of 1000 registers, each holding 1000 x unit + address at first, on Modbus TCP, RTU frames over TCP
(`--rtu`) or a serial line of this machine (`--serial 9600`, with `--echo` one that gives requests back). Lines on stdin
switch faults: `UNIT FAULT VALUE`, such as `1 silent on`, `2 delay_s 5`, `3 exception off`; `faults` lists them,
`requests` counts what came. Ends with stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import struct
import sys
from contextlib import suppress
from dataclasses import fields

from simulators.modbus_server import ModbusServer
from simulators.modbus_units import ILLEGAL_ADDRESS, Faults, RequestRefusedError, set_fault
from simulators.serial_line import SerialLine

UNITS = (1, 2, 3)
REGISTERS = 1000


class NumberedBank:
    """Registers that tell where they are: 1000 x unit + address, until they are written."""

    def __init__(self, unit: int) -> None:
        self._unit = unit
        self._registers = self._numbered()

    def _numbered(self) -> list[int]:
        return [(1000 * self._unit + address) & 0xFFFF for address in range(REGISTERS)]

    def read(self, address: int, count: int) -> bytes:
        """The registers now; refused beyond the last."""
        if address + count > REGISTERS:
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        return struct.pack(f">{count}H", *self._registers[address : address + count])

    def write(self, address: int, data: bytes) -> None:
        """Writes all registers; refused beyond the last."""
        count = len(data) // 2
        if address + count > REGISTERS:
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        self._registers[address : address + count] = struct.unpack(f">{count}H", data)

    def snapshot(self) -> NumberedBank:
        """The registers as they are now, and stay."""
        copy = NumberedBank(self._unit)
        copy._registers = list(self._registers)
        return copy

    def without_values(self) -> NumberedBank:
        """The registers with every value not implemented."""
        copy = NumberedBank(self._unit)
        copy._registers = [0xFFFF] * REGISTERS
        return copy

    def reboot(self) -> None:
        """What was written is lost."""
        self._registers = self._numbered()


def switch(line: str, faults: dict[int, Faults], requests: int) -> str:
    """What to say to one line of stdin, which may switch a fault."""
    match line.split():
        case ["faults"]:
            return ", ".join(field.name for field in fields(Faults))
        case ["requests"]:
            return str(requests)
        case [unit, name, value]:
            try:
                set_fault(faults[int(unit)], name, value)
            except (ValueError, KeyError) as error:
                return f"not understood: {error}"
            return f"unit {unit}: {name} {value}"
    return "not understood: write UNIT FAULT VALUE, such as: 1 silent on"


async def run(arguments: argparse.Namespace) -> None:
    """Serves until stdin ends."""
    banks = {unit: NumberedBank(unit) for unit in UNITS}
    server: SerialLine | ModbusServer
    if arguments.serial is not None:
        server = SerialLine(banks, baud=arguments.serial, echo=arguments.echo)
    else:
        server = ModbusServer(banks, port=arguments.port, framing="rtu" if arguments.rtu else "tcp")
    async with server:
        print(_address(server, arguments), flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            print(switch(line.decode(errors="replace"), server.faults, server.requests), flush=True)


def _address(server: SerialLine | ModbusServer, arguments: argparse.Namespace) -> str:
    if isinstance(server, SerialLine):
        return f"serial://{server.device}?baud={arguments.serial}&parity=N"
    return f"{'rtu+tcp' if arguments.rtu else 'tcp'}://127.0.0.1:{server.port}"


def main(words: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5020, help="0 takes a free one")
    parser.add_argument("--rtu", action="store_true", help="RTU frames over TCP")
    parser.add_argument("--serial", type=int, metavar="BAUD", help="a serial line, as slow as that")
    parser.add_argument("--echo", action="store_true", help="clients of that line hear their own requests")
    with suppress(KeyboardInterrupt):
        asyncio.run(run(parser.parse_args(words)))


if __name__ == "__main__":
    main()
