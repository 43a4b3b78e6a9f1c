"""Registers that wear out: counted by the day, over restarts, kept before they are written."""

from __future__ import annotations

import json

import pytest
from drivers_profiles import TAKEN_OVER, Disk, a_profile, bench

from drivers.profile.wear import MOST_KEPT, StoredBudget, StoredWrites, Wear
from drivers.setpoint import Unwritable

DAY_S = 86_400.0
TEXT = TAKEN_OVER.replace('"enum16", write = "volatile"', '"enum16", write = "stored"').replace(
    "save = ", "stored_writes_per_day = 3\nsave = "
)
REGISTERS = {1: 7, 2: 0, 3: 50, 20: 4, 21: 0}


async def taken_over(it, device):
    """Whether a setpoint was confirmed after somebody gave the device back to its own mode."""
    it.holding.registers[20] = 4
    await device.read()
    return await device.write_setpoint(10.0)


async def test_each_write_is_counted_on_disk_before_it_is_sent_and_a_refresh_is_none(tmp_path):
    disk = Disk()
    async with bench(a_profile(tmp_path, TEXT), "battery", REGISTERS) as it:
        disk.registers = it.holding.registers
        device = it.another_run(writes=StoredWrites(lambda: 1000.0, disk.keep))
        assert device.wear == Wear(0, 3)
        for power_w in (10.0, 20.0, -30.0):
            assert (await device.write_setpoint(power_w)).ok
        assert [json.loads(text) for text in disk.texts] == [{"dut": [1000.0]}]
        assert disk.held == [4], "not yet written"
        assert device.wear == Wear(1, 3)


async def test_the_budget_of_a_day_holds_over_restarts(tmp_path):
    now, disk = [1000.0], Disk()
    async with bench(a_profile(tmp_path, TEXT), "battery", REGISTERS) as it:
        for _ in range(3):
            writes = StoredWrites(lambda: now[0], disk.keep)
            writes.restore(disk.texts[-1] if disk.texts else None)
            assert (await taken_over(it, it.another_run(writes=writes))).ok
            now[0] += 60.0
        later = StoredWrites(lambda: now[0], disk.keep)
        later.restore(disk.texts[-1])
        device = it.another_run(writes=later)
        it.written()
        outcome = await taken_over(it, device)
        assert "mode is stored in the device and wears out: its 3 writes of the last 24 h are spent" in outcome.reason
        assert it.written() == []
        assert device.wear == Wear(3, 3)
        now[0] = 1000.0 + DAY_S  # the first one is a day old
        assert (await taken_over(it, device)).ok
        assert device.wear == Wear(3, 3)


async def test_a_write_before_the_disk_was_read_is_counted_with_those_on_it():
    writes = StoredWrites(lambda: 5.0)
    await writes.note("dut")
    writes.restore('{"dut": [1.0, 2.0]}')
    assert writes.spent("dut") == 3


def test_another_device_has_a_budget_of_its_own():
    writes = StoredWrites(lambda: 0.0)
    writes.restore('{"other": [0.0, 0.0, 0.0]}')
    assert (StoredBudget("dut", 3, writes).left, StoredBudget("other", 3, writes).left) == (3, 0)


async def test_a_clock_that_was_set_back_forgets_no_write():
    now = [10 * DAY_S]
    writes = StoredWrites(lambda: now[0])
    budget = StoredBudget("dut", 1, writes)
    await budget.spend("mode")
    now[0] = 0.0
    with pytest.raises(Unwritable, match="are spent"):
        await budget.spend("mode")
    now[0] = 11 * DAY_S
    await budget.spend("mode")


async def test_what_is_remembered_is_bounded_and_old_writes_are_dropped():
    now, disk = [0.0], Disk()
    writes = StoredWrites(lambda: now[0], disk.keep)
    writes.restore(json.dumps({"dut": [0.0] * 5000}))
    assert writes.spent("dut") == MOST_KEPT
    now[0] = DAY_S
    await writes.note("dut")
    assert json.loads(disk.texts[-1]) == {"dut": [DAY_S]}


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"dut": 3}', '{"dut": ["x", true, NaN, null]}'])
def test_a_text_that_cannot_be_read_counts_as_nothing(text):
    writes = StoredWrites(lambda: 0.0)
    writes.restore(text)
    assert writes.spent("dut") == 0


async def test_a_profile_without_such_registers_has_no_budget(tmp_path):
    text = TEXT.replace('write = "stored"', 'write = "volatile"')
    async with bench(a_profile(tmp_path, text), "battery", REGISTERS) as it:
        assert it.device.wear is None
