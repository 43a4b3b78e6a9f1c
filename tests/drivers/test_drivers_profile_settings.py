"""The owners' settings: kept before they are overwritten, known again after a restart, gone once they are put back."""

from __future__ import annotations

import json

import pytest
from drivers_profiles import TAKEN_OVER, Disk, a_profile, bench

from drivers.profile.settings import OwnersSettings

REGISTERS = {1: 7, 2: 0, 3: 50, 20: 2, 21: 0}


async def test_they_are_durable_before_they_are_overwritten_and_gone_once_put_back(tmp_path):
    disk = Disk()
    settings = OwnersSettings(disk.keep)
    async with bench(a_profile(tmp_path, TAKEN_OVER), "battery", REGISTERS) as it:
        disk.registers = it.holding.registers
        device = it.another_run(settings)
        assert (await device.write_setpoint(10.0)).ok
        assert (await device.write_setpoint(20.0)).ok
        assert [json.loads(text) for text in disk.texts] == [{"dut": {"mode": 2.0}}]
        assert disk.held == [2]
        assert (await device.release()).ok
        assert [json.loads(text) for text in disk.texts] == [{"dut": {"mode": 2.0}}, {}]
        assert it.holding.registers[20] == 2


async def test_a_later_run_puts_back_what_an_earlier_one_saved(tmp_path):
    disk = Disk()
    async with bench(a_profile(tmp_path, TAKEN_OVER), "battery", REGISTERS) as it:
        assert (await it.another_run(OwnersSettings(disk.keep)).write_setpoint(10.0)).ok
        later = OwnersSettings(disk.keep)
        later.restore(disk.texts[-1])
        device = it.another_run(later)
        assert (await device.write_setpoint(20.0)).ok
        assert (await device.release()).ok
        assert it.holding.registers[20] == 2


async def test_what_the_owner_changed_meanwhile_is_what_he_gets_back(tmp_path):
    settings = OwnersSettings()
    async with bench(a_profile(tmp_path, TAKEN_OVER), "battery", REGISTERS) as it:
        device = it.another_run(settings)
        await device.write_setpoint(10.0)
        it.holding.registers[20] = 4
        await device.read()
        await device.write_setpoint(10.0)
        assert (await device.release()).ok
        assert it.holding.registers[20] == 4


async def test_settings_that_could_not_be_put_back_are_kept(tmp_path):
    settings = OwnersSettings()
    async with bench(a_profile(tmp_path, TAKEN_OVER), "battery", REGISTERS) as it:
        device = it.another_run(settings)
        await device.write_setpoint(10.0)
        it.holding.deaf = {20}
        assert not (await device.release()).ok
        assert settings.of("dut") == {"mode": 2.0}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "3",
        '{"dut": 3}',
        '{"dut": {"mode": "x"}}',
        '{"dut": {"mode": true}}',
        '{"dut": {"mode": NaN}}',
    ],
)
def test_a_text_that_cannot_be_read_counts_as_nothing(text):
    settings = OwnersSettings()
    settings.restore(text)
    assert settings.of("dut") == {}


def test_what_this_run_found_itself_wins_over_what_was_kept():
    settings = OwnersSettings()
    settings.restore('{"dut": {"mode": 2}, "other": {"a": 1.5}}')
    settings.restore('{"dut": {"mode": 9}}')
    assert settings.of("dut") == {"mode": 2.0}
    assert settings.of("other") == {"a": 1.5}
