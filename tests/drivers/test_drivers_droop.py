"""Handing frequency response to the device (model 711): what is written in which order, and what is never believed."""

from __future__ import annotations

import pytest
from drivers_peers import Clock, Memory, bank, chain, model, raw_registers

from agent.core.droop import DeviceDroop
from drivers import droop_control
from drivers.device import DeviceSpec, open_device
from drivers.errors import LinkDown, LinkTimeout, ModbusRefused
from drivers.profile.settings import OwnersSettings
from drivers.sunspec_layout import layout

COMMON = model(1, {"Mn": "Maker", "Md": "B-500", "SN": "A1"})
OTHERS = (
    model(701, {"St": 1, "InvSt": 3, "ConnSt": 1, "W": 0, "W_SF": 2}),
    model(702, {"WMaxRtg": 500, "W_SF": 3}),
    model(704, {"WSetEna": 0, "WSetMod": 1, "WSet": 0, "WSetRvrt": 0, "WSetEnaRvrt": 0, "WSetRvrtTms": 0, "WSet_SF": 2}),
    model(713, {"WHRtg": 1000, "SoC": 555, "WH_SF": 3, "Pct_SF": -1}),
)  # fmt: skip
HEAD = {"Ena": 0, "AdptCtlReq": 1, "AdptCtlRslt": 1, "NCtl": 3, "RvrtTms": 0, "RvrtRem": 0, "RvrtCtl": 1,
        "Db_SF": -3, "K_SF": -4, "RspTms_SF": -1}  # fmt: skip
STORED = {"DbOf": 36, "DbUf": 36, "KOf": 500, "KUf": 500, "RspTms": 50, "PMin": 0}
CURVE = DeviceDroop(0.01, 0.019)
REVERSION_S = 30
OURS = (0, 10, 0, 10, 190, 190, 0, 45, 65436)
"""Dead bands 10 mHz, droops 0.0190, 4.5 s, PMin -100 %, as registers."""


def model_711(head, sets):
    """Model 711 with its sets; the first is read-only."""
    known = layout(711)
    registers = model(711, HEAD | head, length=known.length)
    for index, raws in enumerate(sets, start=1):
        registers += [register for name, point in known.group.points.items()
                      for register in raw_registers(point, ({"ReadOnly": 1 if index == 1 else 0} | raws)[name])]  # fmt: skip
    registers[1] = len(registers) - 2
    return registers


class Device:
    """A battery without a wire that adopts a set as soon as it is asked, unless told otherwise."""

    def __init__(self, head=None, sets=(STORED, STORED, STORED), *, more=(), adopts=True, result=1, owners=None):
        self.model = model_711(head or {}, sets)
        before = chain(COMMON, *OTHERS)[:-2]
        self.memory = Memory(bank([*before, *self.model, *(register for one in more for register in one), 0xFFFF, 0]))
        self.base = 40000 + len(before)
        self.adopts, self.result = adopts, result
        self.memory.on_write = self._written
        self._due = False
        self.memory.before_read = self._work
        self.open(owners)

    def open(self, owners=None):
        """A process begins, with what another one kept."""
        spec = DeviceSpec("bess", "battery", 1, reversion_s=REVERSION_S)
        self.driver = open_device(spec, self.memory, Clock(), owners)

    @property
    def droop(self):
        """What somebody can see of the droop, by point."""
        names = [*HEAD, *(f"Ctl.{index}.{name}" for index in (1, 2, 3) for name in STORED)]
        names = [name for name in names if name not in {"AdptCtlReq", "AdptCtlRslt"}]
        wide = {"RvrtTms", "RvrtRem"} | {name for name in names if layout(711).point(name).size == 2}
        return {name: self.memory.registers[self.address(name) + (name in wide)] for name in names}

    def address(self, name):
        return self.base + layout(711).point(name).at

    def __getitem__(self, name):
        return self.memory.registers[self.address(name)]

    def __setitem__(self, name, raw):
        self.memory.registers[self.address(name)] = raw

    def _written(self, address, values):
        self._due |= address == self.address("AdptCtlReq")
        if address == self.address("RvrtTms"):
            self["RvrtRem"], self.memory.registers[self.address("RvrtRem") + 1] = values

    def _work(self, _address):
        if not self._due:
            return
        self._due = False
        self["AdptCtlRslt"] = self.result
        if self.adopts:
            first, spare = self.address("Ctl.1.DbOf"), self.address(f"Ctl.{self['AdptCtlReq']}.DbOf")
            for offset in range(9):
                self.memory.registers[first + offset] = self.memory.registers[spare + offset]

    @property
    def written(self):
        """The points whose first register each frame began with, and its values."""
        names = {self.base + point.at: name for name, point in layout(711).points.items()}
        names |= {self.address(f"Ctl.{index}.{name}"): f"Ctl.{index}.{name}"
                  for index in (1, 2, 3) for name in STORED}  # fmt: skip
        return [(names[address], values) for address, values in self.memory.writes]

    async def told(self, curve=CURVE, respond_in_s=4.5):
        return await self.driver.write_droop(curve, respond_in_s)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(droop_control, "ADOPT_PAUSE_S", 0.0)


async def test_a_spare_set_is_written_and_adopted_the_dead_man_armed_and_the_enable_comes_last():
    device = Device()
    outcome = await device.told()
    assert (outcome.ok, outcome.reason, outcome.held, outcome.wanted) == (True, "", CURVE, CURVE)
    assert device.written == [
        ("Ctl.2.DbOf", OURS),
        ("AdptCtlReq", (2,)),
        ("RvrtCtl", (0,)),
        ("RvrtTms", (0, REVERSION_S)),
        ("Ena", (1,)),
    ]


async def test_a_curve_in_force_is_only_armed_anew():
    device = Device()
    await device.told()
    device.memory.writes.clear()
    assert (await device.told()).ok
    assert [name for name, _ in device.written] == ["RvrtCtl", "RvrtTms", "Ena"]


async def test_another_curve_is_adopted_without_a_gap():
    device = Device()
    await device.told()
    device.memory.writes.clear()
    other = DeviceDroop(0.02, 0.019)
    assert (await device.told(other)).held == other
    assert ("Ena", (0,)) not in device.written


async def test_a_read_only_set_is_passed_over():
    device = Device(sets=(STORED, STORED | {"ReadOnly": 1}, STORED))
    assert (await device.told()).ok
    assert device.written[:2] == [("Ctl.3.DbOf", OURS), ("AdptCtlReq", (3,))]


async def test_the_response_time_is_never_rounded_up():
    device = Device()
    assert (await device.told(respond_in_s=4.59)).ok
    assert device["Ctl.1.RspTms"] == 0
    assert device.memory.registers[device.address("Ctl.1.RspTms") + 1] == 45


async def test_a_device_without_reversion_follows_but_is_said_to_have_no_dead_man():
    device = Device({"RvrtTms": 0xFFFFFFFF, "RvrtCtl": 0xFFFF})
    assert (await device.told()).ok
    assert [name for name, _ in device.written] == ["Ctl.2.DbOf", "AdptCtlReq", "Ena"]
    offer = (await device.driver.read()).droop_offer
    assert (offer.cannot, offer.has_dead_man) == ("", False)


async def test_a_device_without_a_lowest_power_is_not_written_one():
    bare = STORED | {"PMin": -0x8000}
    device = Device(sets=(bare, bare, bare))
    assert (await device.told()).ok
    assert device.written[0] == ("Ctl.2.DbOf", OURS[:8])


async def test_off_is_written_and_read_back_and_only_where_it_is_on():
    device = Device()
    assert (await device.told(None)).ok
    assert device.written == []
    await device.told()
    device.memory.writes.clear()
    outcome = await device.told(None)
    assert (outcome.ok, outcome.held, device.written) == (True, None, [("Ena", (0,))])


async def test_a_droop_that_does_not_go_off_is_told_with_the_curve_that_is_followed():
    device = Device()
    await device.told()
    device.memory.before_read = lambda _address: device.__setitem__("Ena", 1)
    outcome = await device.told(None)
    assert (outcome.ok, outcome.held) == (False, CURVE)
    assert "711.Ena reads 1 where 0 was written" in outcome.reason


@pytest.mark.parametrize(
    ("head", "curve", "text"),
    [
        ({"K_SF": -3}, DeviceDroop(0.01, 0.0038), "a droop of 0.0038 is 0.004 in the device's steps"),
        ({"Db_SF": -2}, DeviceDroop(0.015, 0.019), "a dead band of 0.015 Hz is 0.02 Hz in the device's steps"),
        ({"K_SF": -4}, DeviceDroop(0.01, 7.0), "does not fit"),
    ],
)
async def test_a_curve_that_the_registers_cannot_hold_is_refused_and_the_droop_is_off(head, curve, text):
    device = Device(head | {"Ena": 1})
    outcome = await device.told(curve)
    assert (outcome.ok, outcome.held) == (False, None)
    assert text in outcome.reason
    assert device.written == [("Ena", (0,))]


async def test_a_refused_adoption_leaves_the_droop_off():
    device = Device({"Ena": 1}, result=2, adopts=False)
    outcome = await device.told()
    assert (outcome.ok, outcome.held) == (False, None)
    assert "refused to adopt" in outcome.reason
    assert device.written[-1] == ("Ena", (0,))


async def test_a_result_of_the_last_time_is_not_taken_for_this_one():
    device = Device(adopts=False)
    outcome = await device.told()
    assert not outcome.ok
    assert "711.Ctl.1.DbOf reads 0.036 where 0.01 was written" in outcome.reason
    assert ("Ena", (1,)) not in device.written


async def test_a_device_that_never_finishes_is_told_so():
    device = Device(result=0)
    outcome = await device.told()
    assert not outcome.ok
    assert "did not finish adopting" in outcome.reason


async def test_an_enable_that_does_not_stay_is_not_confirmed():
    device = Device()
    work = device._work

    def stubborn(address):
        work(address)
        device["Ena"] = 0

    device.memory.before_read = stubborn
    outcome = await device.told()
    assert (outcome.ok, outcome.held) == (False, None)
    assert "711.Ena reads 0 where 1 was written" in outcome.reason


@pytest.mark.parametrize(("name", "raw"), [("RvrtCtl", 1), ("RvrtTms", 5)])
async def test_a_dead_man_that_is_not_as_written_is_no_delegation(name, raw):
    device = Device()
    work = device._work

    def changed(address):
        work(address)
        device[name] = raw  # of RvrtTms the high word: days

    device.memory.before_read = changed
    outcome = await device.told()
    assert (outcome.ok, outcome.held) == (False, None)
    assert f"711.{name} reads" in outcome.reason
    assert device["Ena"] == 0


@pytest.mark.parametrize(
    "error",
    [ModbusRefused(3, endpoint="memory", unit_id=1, address=40000), LinkTimeout("no answer", endpoint="memory")],
)
async def test_a_write_that_fails_leaves_the_droop_off(error):
    device = Device({"Ena": 1})

    def refuse(address, values):
        device._written(address, values)
        if address == device.address("AdptCtlReq"):
            raise error

    device.memory.on_write = refuse
    outcome = await device.told()
    assert (outcome.ok, outcome.held) == (False, None)
    assert str(error) in outcome.reason
    assert device["Ena"] == 0


async def test_a_failure_that_cannot_be_undone_says_so():
    device = Device({"Ena": 1})

    def refuse(_address, _values):
        raise ModbusRefused(6, endpoint="memory", unit_id=1, address=40000)

    device.memory.on_write = refuse
    outcome = await device.told()
    assert not outcome.ok
    assert "and it could not be switched off" in outcome.reason


@pytest.mark.parametrize(
    ("head", "sets", "text"),
    [
        ({"K_SF": -0x8000}, (STORED, STORED, STORED), "lacks K_SF"),
        ({"NCtl": 1}, (STORED,), "no spare control set"),
        ({"NCtl": 5}, (STORED, STORED, STORED), "states 42 registers, which 5 sets of its layout are not"),
    ],
)
async def test_a_droop_that_cannot_be_used_is_never_written_to(head, sets, text):
    device = Device(head, sets)
    outcome = await device.told()
    assert (outcome.ok, outcome.held) == (False, None)
    assert text in outcome.reason
    assert device.written == []
    sample = await device.driver.read()
    assert text in sample.droop_offer.cannot
    assert sample.soc_pct.value == 55.5  # all else works


async def test_a_hybrid_is_never_handed_the_response_for_its_pv_answers_too():
    known = layout(714)
    ports = [register for kind in (0, 1) for name, point in known.group.points.items()
             for register in raw_registers(point, {"PrtTyp": kind, "DCW": 0}.get(name, "" if point.type == "string" else 0))]  # fmt: skip
    registers = model(714, {"NPrt": 2, "DCW_SF": 0}, length=known.length) + ports
    registers[1] = len(registers) - 2
    device = Device(more=(registers,))
    outcome = await device.told()
    assert not outcome.ok
    assert "PV shares the inverter" in outcome.reason
    assert device.written == []


async def test_a_spare_set_that_does_not_keep_what_was_written_is_never_adopted():
    device = Device()
    device.memory.before_read = lambda _address: device.__setitem__("Ctl.2.PMin", 0)
    outcome = await device.told()
    assert not outcome.ok
    assert "711.Ctl.2.PMin reads 0 where -100 was written" in outcome.reason
    assert [name for name, _ in device.written] == ["Ctl.2.DbOf"]


@pytest.mark.parametrize(
    ("head", "stored", "from_hz"),
    [
        ({"Ena": 1}, {"DbOf": 36, "DbUf": 20}, 0.02),
        ({"Ena": 1}, {"DbOf": 15, "DbUf": 200}, 0.015),
        ({"Ena": 0}, {}, None),
        ({"Ena": 1, "NCtl": 5}, {}, None),  # sets of another length: who knows what they say
        ({"Ena": 0xFFFF}, {}, None),
    ],
)
async def test_a_droop_that_somebody_else_enabled_is_seen_in_each_sample(head, stored, from_hz):
    device = Device(head, (STORED | stored, STORED, STORED))
    assert (await device.driver.read()).own_droop_from_hz.value == from_hz


async def test_a_curve_that_is_not_in_force_after_the_enable_is_no_delegation():
    device = Device()
    work = device._work

    def changed(address):
        work(address)
        if device["Ena"]:
            device["Ctl.1.KUf"] = 500

    device.memory.before_read = changed
    outcome = await device.told()
    assert (outcome.ok, outcome.held) == (False, None)
    assert "711.Ctl.1.KUf reads 0.05 where 0.019 was written" in outcome.reason
    assert device["Ena"] == 0


async def test_of_a_curve_that_differs_by_direction_it_does_not_say_that_it_is_followed():
    device = Device({"Ena": 1}, (STORED | {"DbUf": 20}, STORED, STORED))
    device.memory.before_read = lambda _address: device.__setitem__("Ena", 1)
    outcome = await device.told(None)
    assert (outcome.ok, outcome.held) == (False, None)


async def test_a_connection_replaced_before_the_read_back_proves_nothing():
    device = Device()
    memory = device.memory
    write, ended = memory.write_registers, []

    async def cut_after_the_enable(unit_id, address, values, *, generation=None):
        if ended:
            raise LinkDown("the connection was replaced", endpoint="memory")
        await write(unit_id, address, values, generation=generation)
        if address == device.address("Ena"):
            ended.append(True)
            memory.generation += 1

    memory.write_registers = cut_after_the_enable
    outcome = await device.told()
    assert (outcome.ok, outcome.held) == (False, None)
    assert "replaced before the droop was read back" in outcome.reason
    assert "could not be switched off" in outcome.reason


async def test_a_curve_that_is_only_put_ready_is_adopted_with_the_droop_off():
    device = Device()
    outcome = await device.driver.write_droop(CURVE, 4.5, answering=False)
    assert (outcome.ok, outcome.off, outcome.held) == (True, True, None)
    assert device.written == [("Ctl.2.DbOf", OURS), ("AdptCtlReq", (2,))]
    assert device["Ena"] == 0


async def test_what_was_put_ready_is_only_armed_and_enabled_when_it_is_needed():
    device = Device()
    await device.driver.write_droop(CURVE, 4.5, answering=False)
    device.memory.writes.clear()
    outcome = await device.told()
    assert (outcome.ok, outcome.off, outcome.held) == (True, False, CURVE)
    assert [name for name, _ in device.written] == ["RvrtCtl", "RvrtTms", "Ena"]


async def test_what_was_put_ready_and_changed_since_is_adopted_anew():
    device = Device()
    await device.driver.write_droop(CURVE, 4.5, answering=False)
    device.memory.writes.clear()
    device["Ctl.1.KUf"] = 500
    assert (await device.told()).ok
    assert [name for name, _ in device.written][:2] == ["Ctl.2.DbOf", "AdptCtlReq"]


async def test_a_device_that_answers_is_switched_off_before_a_curve_is_put_ready():
    device = Device()
    await device.told()
    device.memory.writes.clear()
    outcome = await device.driver.write_droop(DeviceDroop(0.02, 0.019), 4.5, answering=False)
    assert (outcome.ok, outcome.off) == (True, True)
    assert [name for name, _ in device.written] == ["Ena", "Ctl.2.DbOf", "AdptCtlReq"]


async def test_a_curve_that_only_its_registers_still_show_is_adopted_anew():
    """The reversion time ran out: Ena and set 1 stay as they were, and no control is in force."""
    device = Device()
    await device.told()
    device["RvrtRem"] = device.memory.registers[device.address("RvrtRem") + 1] = 0
    assert (await device.driver.read()).own_droop_from_hz.value is None
    device.memory.writes.clear()
    outcome = await device.told()
    assert (outcome.ok, outcome.held) == (True, CURVE)
    assert [name for name, _ in device.written] == ["Ctl.2.DbOf", "AdptCtlReq", "RvrtCtl", "RvrtTms", "Ena"]
    assert (await device.driver.read()).own_droop_from_hz.value == 0.01


async def test_off_is_said_only_when_it_was_read_back():
    device = Device()
    assert (await device.told()).off is False
    assert (await device.told(None)).off is True
    refused = await Device(adopts=False, result=2).told()
    assert (refused.ok, refused.off) == (False, True)
    lost = Device()
    await lost.told()
    lost.memory.before_read = _no_answer
    outcome = await lost.told(None)
    assert (outcome.ok, outcome.off, outcome.held) == (False, False, None)


def _no_answer(_address):
    raise LinkTimeout("no answer", endpoint="e", unit_id=1, hint="look at the cable")


@pytest.mark.parametrize(
    ("m702", "why"),
    [
        ({"WMaxRtg": 500, "WMax": 500}, ""),
        ({"WMaxRtg": 500}, ""),
        ({"WMaxRtg": 500, "WMax": 400}, "702.WMax (400000 W) is not 702.WMaxRtg (500000 W)"),
    ],
)
async def test_what_the_device_offers_is_in_each_sample(m702, why, monkeypatch):
    monkeypatch.setitem(globals(), "OTHERS", (OTHERS[0], model(702, {"W_SF": 3} | m702), *OTHERS[2:]))
    offer = (await Device().driver.read()).droop_offer
    assert why in offer.cannot
    assert bool(offer.cannot) == bool(why)
    assert (offer.rated_w, offer.has_dead_man) == (500e3, True)


SPARE = STORED | {"DbOf": 50, "KOf": 400}
THEIRS = {"Ena": 1, "RvrtCtl": 2}
"""An owner whose battery answers the frequency by itself, for ever, and falls back to set 2."""


async def test_the_owners_droop_is_as_it_was_found_after_it_is_given_back():
    device = Device(THEIRS, (STORED, SPARE, STORED))
    found = device.droop
    await device.told(None)
    await device.told()
    await device.told(DeviceDroop(0.02, 0.019))
    device.memory.writes.clear()
    assert await device.driver.give_back_droop() == ""
    assert device.droop == found
    assert [name for name, _ in device.written] == [
        "Ena", "Ctl.2.DbOf", "AdptCtlReq", "Ctl.2.DbOf", "RvrtCtl", "RvrtTms", "Ena",
    ]  # fmt: skip
    assert (device.written[0], device.written[-1]) == (("Ena", (0,)), ("Ena", (1,))), "it is off meanwhile"
    device.memory.writes.clear()
    assert await device.driver.give_back_droop() == ""
    assert device.memory.writes == [], "once"


async def test_a_droop_that_was_off_is_off_and_has_its_curve_again():
    device = Device()
    found = device.droop
    await device.told()
    assert await device.driver.give_back_droop() == ""
    assert device.droop == found


async def test_the_owners_droop_is_given_back_by_a_later_process():
    kept = []

    async def keep(text):
        kept.append(text)

    device = Device(THEIRS, (STORED, SPARE, STORED), owners=OwnersSettings(keep))
    found = device.droop
    await device.told()
    owners = OwnersSettings(keep)
    owners.restore(kept[-1])
    device.open(owners)
    await device.told(DeviceDroop(0.02, 0.019))
    assert await device.driver.give_back_droop() == ""
    assert device.droop == found
    assert owners.of("bess") == {}
    assert kept[-1] == "{}"


async def test_where_nothing_was_overwritten_nothing_is_written():
    device = Device()
    await device.told(None)
    assert await device.driver.give_back_droop() == ""
    assert device.memory.writes == []


async def test_a_curve_that_is_not_taken_back_leaves_the_droop_off_and_what_was_kept():
    owners = OwnersSettings()
    device = Device(THEIRS, owners=owners)
    await device.told()
    device.adopts, device.result = False, 2
    assert "refused to adopt" in await device.driver.give_back_droop()
    assert device["Ena"] == 0
    assert owners.of("bess")["Ena"] == 1
    device.adopts, device.result = True, 1
    assert await device.driver.give_back_droop() == ""
    assert (device["Ena"], owners.of("bess")) == (1, {})


@pytest.mark.parametrize(
    ("point", "held", "told"), [("Ena", 0, "reads 0 where 1 was"), ("RvrtCtl", 0, "reads 0 where 2 was")]
)
async def test_what_is_accepted_and_not_applied_when_it_is_given_back_is_named_and_kept(point, held, told):
    owners = OwnersSettings()
    device = Device(THEIRS, owners=owners)
    await device.told()

    def stubborn(address):
        device._work(address)
        device[point] = held

    device.memory.before_read = stubborn
    reason = await device.driver.give_back_droop()
    assert f"711.{point} {told}" in reason
    assert owners.of("bess")["Ena"] == 1


async def test_a_device_that_cannot_be_reached_keeps_what_was_kept():
    owners = OwnersSettings()
    device = Device(THEIRS, owners=owners)
    await device.told()
    device.memory.before_read = _no_answer
    assert "no answer" in await device.driver.give_back_droop()
    assert owners.of("bess")["Ena"] == 1


async def test_a_droop_of_the_owner_that_had_ended_by_its_timer_is_not_switched_on():
    device = Device({"Ena": 1, "RvrtTms": 60, "RvrtRem": 0})
    await device.told()
    assert await device.driver.give_back_droop() == ""
    assert (device["Ena"], device["Ctl.1.KOf"]) == (0, 500)


NOTHING = {
    "DbOf": 0xFFFFFFFF,
    "DbUf": 0xFFFFFFFF,
    "KOf": 0xFFFF,
    "KUf": 0xFFFF,
    "RspTms": 0xFFFFFFFF,
    "PMin": 0x8000,
}


async def test_a_set_in_force_that_held_nothing_is_left_with_the_droop_off():
    device = Device(THEIRS, (STORED | NOTHING, STORED, STORED))
    await device.told()
    device["RvrtRem"] = device.memory.registers[device.address("RvrtRem") + 1] = 0  # ours has ended by its timer
    assert await device.driver.give_back_droop() == ""
    assert (device["Ena"], device["Ctl.2.KOf"]) == (0, 500)
    assert all(values for _, values in device.memory.writes), "no frame without registers"


async def test_a_curve_that_only_its_registers_still_show_is_adopted_anew_when_it_is_given_back():
    device = Device(THEIRS)
    await device.told()
    for name, raw in (("DbOf", 36), ("DbUf", 36)):  # what an attempt before had put back
        device.memory.registers[device.address(f"Ctl.1.{name}") + 1] = raw
    for name, raw in (("KOf", 500), ("KUf", 500), ("PMin", 0)):
        device[f"Ctl.1.{name}"] = raw
    device.memory.registers[device.address("Ctl.1.RspTms") + 1] = 50
    device["RvrtRem"] = device.memory.registers[device.address("RvrtRem") + 1] = 0
    device.memory.writes.clear()
    assert await device.driver.give_back_droop() == ""
    assert "AdptCtlReq" in [name for name, _ in device.written]


async def test_a_spare_set_that_held_nothing_is_left():
    device = Device(THEIRS, (STORED, STORED | NOTHING, STORED))
    await device.told()
    assert await device.driver.give_back_droop() == ""
    assert (device["Ena"], device["Ctl.1.KOf"], device["Ctl.2.KOf"]) == (1, 500, 500)
