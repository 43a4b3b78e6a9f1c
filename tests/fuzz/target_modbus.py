"""What devices answer: frames of both kinds, and the registers in them as far as the readings of a role."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from agent.core.snapshot import Reading
from drivers import mbap, rtu
from drivers.device import open_device
from drivers.errors import DeviceError, ModbusRefused
from drivers.profile.load import find
from drivers.request import READS, Checked, Request, answer_of
from drivers.spec import DeviceSpec
from simulators.rtu_frames import crc
from tests.fuzz.targets import hold

T = TypeVar("T")
FUNCTIONS_ASKED = (3, 4, 6, 16)


def _request(head: bytes) -> Request:
    """The request in flight: the first three bytes of an input choose it."""
    function = FUNCTIONS_ASKED[head[1] & 3]
    count = 1 if function == 6 else 1 + head[2] % 125
    return Request(head[0], function, 256 * head[1] + head[2], count, head[2] * 3)


def modbus_tcp(payload: bytes) -> None:
    """Three bytes choose the request, one the number of its transaction; the rest came over the connection."""
    head, data = payload[:4].ljust(4, b"\x01"), payload[4:]
    request, transaction = _request(head), 1 + head[3]
    seen = _whole(data, request, lambda part: mbap.check(part, request, transaction))
    if seen.answer:
        at, frames = 0, []
        while at + 6 <= len(data):
            length = int.from_bytes(data[at + 4 : at + 6], "big")
            frames.append(
                (int.from_bytes(data[at : at + 2], "big"), data[at + 2 : at + 4], data[at + 6 : at + 6 + length])
            )
            at += 6 + length
        hold((transaction, b"\0\0", seen.answer) in frames, "an answer is a frame of its own transaction")
    idle = mbap.check(data, None, transaction)
    hold(not idle.answer, "nothing is an answer when nothing was asked")


def modbus_rtu(payload: bytes) -> None:
    """Three bytes choose the request, one what is still owed; the rest came over the line."""
    head, data = payload[:4].ljust(4, b"\x01"), payload[4:]
    request = _request(head)
    owed = [Request(head[3] & 7, 3, 0, 1 + (head[3] >> 3))] if head[3] & 7 else []
    seen = _whole(data, request, lambda part: rtu.check(part, request, owed))
    if seen.answer:
        hold(data.endswith(seen.answer + crc(seen.answer)), "an answer has the checksum of its bytes, and is the last")
    hold(not rtu.check(data, None).answer, "nothing is an answer when nothing was asked")
    # The fuzzer cannot work out a checksum: the same with one that holds.
    _whole(data + crc(data), request, lambda part: rtu.check(part, request, owed))


def _whole(data: bytes, request: Request, check: Callable[[bytes], Checked]) -> Checked:
    """The verdict on all of it; and what it was on each part as it came."""
    seen = check(data)
    hold(0 <= seen.open_bytes <= len(data), "open bytes are bytes that came")
    hold(seen.fault.isprintable(), "a fault has words")
    if seen.fault:
        return seen
    for cut in (len(data) // 2, len(data) - 1):
        part = check(data[: max(cut, 0)])
        hold(not part.fault, "what is right in the end was never wrong on its way")
        hold(not part.answer or part.answer == seen.answer, "an answer does not change with what comes after it")
    if seen.answer:
        said = answer_of(seen.answer, request)
        hold(seen.answer[0] == request.unit_id, "an answer comes from the unit that was asked")
        if said.refusal is not None:
            hold(seen.answer[1] == request.function | 0x80 and 0 <= said.refusal <= 255, "an exception is one")
        elif request.function in READS:
            raw = seen.answer[3:]
            told = tuple(int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2))
            hold(said.registers == told and len(told) == request.count, "the registers are those that were asked for")
        else:
            hold(seen.answer[2:] == request.echo, "a write is confirmed by its echo")
    return seen


class Silent:
    """A line with nobody on it."""

    name = "tcp://192.0.2.1:502"
    generation = 1

    def pace(self, between_s: float, after_connect_s: float) -> None:
        """As fast as it goes."""


class Image(Silent):
    """A device whose registers are the input: from 40000 on, and from 0 on too."""

    def __init__(self, data: bytes) -> None:
        self._registers = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)]

    async def read_holding(self, unit_id: int, address: int, count: int) -> tuple[int, ...]:
        """What is there; an exception beyond the end."""
        start = address - 40000 if address >= 40000 else address % 1000
        found = tuple(self._registers[start : start + count])
        if len(found) < count:
            raise ModbusRefused(2, endpoint=self.name, unit_id=unit_id, address=address)
        return found

    read_input = read_holding

    async def write_register(self, unit_id: int, address: int, value: int, *, generation: int | None = None) -> None:
        """It takes anything, and shows it."""
        await self.write_registers(unit_id, address, (value,))

    async def write_registers(
        self, unit_id: int, address: int, values: Sequence[int], *, generation: int | None = None
    ) -> None:
        """It takes anything, and shows it."""
        hold(all(0 <= value <= 0xFFFF for value in values), "what is written are registers")
        start = address - 40000 if address >= 40000 else address % 1000
        self._registers[start : start + len(values)] = values


PROFILED = ("carlo-gavazzi-em24", "fronius-gen24", "sungrow-sh", "victron-gx-three-phase")
SPECS = (
    DeviceSpec("bess", "battery", 1),
    DeviceSpec("pv", "pv", 1, rated_w=100e3),
    DeviceSpec("meter", "meter", 1, positive="export"),
    *(
        DeviceSpec("one", role, 1, positive="export" if role == "meter" and asks else None, profile=found)  # type: ignore[arg-type]
        for found in (find(name, None) for name in PROFILED)
        for role in found.roles
        for asks in (any(point.positive == "site" for point in found.points.values()),)
    ),
)


def device(payload: bytes) -> None:
    """The first byte chooses the device and its role; the rest are its registers."""
    if not payload:
        return
    spec = SPECS[payload[0] % len(SPECS)]
    image: Any = Image(payload[1:])
    try:
        found = open_device(spec, image, lambda: 1.0)
        sample = _result(found.read())
    except DeviceError as error:
        hold(str(error), "what is wrong with a device is told")
        return
    for field in fields(sample):
        value = getattr(sample, field.name)
        if isinstance(value, Reading):
            seen = value.at(1.0)
            hold(seen.value is None or math.isfinite(seen.value), f"{field.name}: a reading is a number, or none")
            soc = field.name == "soc_pct" and seen.value is not None
            hold(not soc or 0 <= seen.value <= 100, "a SoC is a percentage")
        elif isinstance(value, str):
            hold(value.isprintable(), f"{field.name}: a text is one that can be shown")


def _result(job: Coroutine[Any, Any, T]) -> T:
    """What it returns: nothing in it waits."""
    try:
        job.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    job.close()
    raise AssertionError("an image never lets anybody wait")


FUNCTIONS = {"modbus_tcp": modbus_tcp, "modbus_rtu": modbus_rtu, "device": device}
