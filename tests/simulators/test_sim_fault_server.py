"""The fault server as a command: it says where it is, serves, and does what stdin tells it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from drivers.errors import LinkTimeout, ModbusRefused
from drivers.link import Link
from simulators.fault_server import NumberedBank, switch
from simulators.modbus_units import Faults, RequestRefusedError


class Command:
    def __init__(self, *options):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "simulators.fault_server", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self.url = self.process.stdout.readline().strip()

    def say(self, line):
        self.process.stdin.write(line + "\n")
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.process.stdout.close()


@pytest.fixture(
    params=[("--port", "0"), ("--port", "0", "--rtu"), ("--serial", "115200"), ("--serial", "115200", "--echo")],
    ids=["tcp", "rtu", "serial", "echo"],
)
def command(request):
    made = Command(*request.param)
    yield made
    made.close()


async def test_it_serves_and_misbehaves_when_told(command):
    link = Link.from_url(command.url, timeout_s=0.5, clock=time.monotonic)
    assert await link.read_holding(2, 5, 2) == (2005, 2006)
    assert command.say("1 silent on") == "unit 1: silent on"
    with pytest.raises(LinkTimeout):
        await link.read_holding(1, 5, 2)
    assert command.say("3 exception 4") == "unit 3: exception 4"
    with pytest.raises(ModbusRefused):
        await link.read_holding(3, 5, 2)
    assert command.say("requests") == "3"
    await link.close()


def test_what_is_not_understood_is_told():
    faults = {1: Faults()}
    assert "1 silent on" in switch("hello", faults, 0)
    for line, why in (
        ("9 silent on", "9"),
        ("1 nonsense on", "'nonsense' is not a fault; known: silent, "),
        ("1 silent maybe", "silent is on or off, not 'maybe'"),
        ("1 delay_s soon", "soon"),
    ):
        answer = switch(line, faults, 0)
        assert answer.startswith("not understood: ")
        assert why in answer
    assert faults == {1: Faults()}
    assert "flip_bits" in switch("faults", faults, 0)
    assert switch("1 flip_bits 3", faults, 0) == "unit 1: flip_bits 3"
    assert faults[1].flip_bits == 3
    switch("1 exception 0xF0", faults, 0)
    assert faults[1].exception == 0xF0
    switch("1 exception off", faults, 0)
    assert faults[1].exception is None


def test_its_registers_tell_where_they_are_and_forget_what_was_written():
    bank = NumberedBank(2)
    bank.write(3, b"\0\7")
    assert bank.read(2, 2) == bytes.fromhex("07d2 0007")
    assert bank.snapshot().read(3, 1) == b"\0\7"
    assert bank.without_values().read(0, 1) == b"\xff\xff"
    bank.reboot()
    assert bank.read(3, 1) == bytes.fromhex("07d3")
    with pytest.raises(RequestRefusedError, match="exception 2"):
        bank.read(999, 2)
