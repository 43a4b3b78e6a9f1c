"""Handing frequency response to a SunSpec DER's own droop (model 711), and taking it back.

Control set 1 shows the curve in force and is read-only. A curve is written into a spare set, read back, adopted
(AdptCtlReq, then AdptCtlRslt until the device is done), found again in set 1, and only then enabled (Ena). What is not
confirmed is switched off again: a device that answers the frequency in a way that nobody knows is worse than none. A
curve may be stored and adopted ahead, with the droop still off.

What its owner had set (the droop on or off, the curve in force, the spare set, the reversion) is kept before the first
write of all, and put back when the agent stops.

Dead-man: where the device has a reversion, it goes to control 0, which is none (711.AdptCtlReq "0 = No active
control"), unless the curve is written again within the time. Without one the droop goes on when this agent is gone.

Per unit means: of nominal frequency, and of the device's rated power.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agent.core.droop import DeviceDroop
from agent.core.snapshot import Quality, Reading
from drivers.codec import OutOfRange, Rounding, encode, scale_factor, scaled, whole
from drivers.errors import DeviceError, LinkTimeout, ModbusRefused
from drivers.profile.settings import OwnersSettings
from drivers.read_plan import Place, Reads, make_plan
from drivers.readings import number, reading, smallest
from drivers.registers import Registers
from drivers.setpoint import Unwritable, not_applied
from drivers.spec import DeviceSpec
from drivers.sunspec import Chain
from drivers.sunspec_layout import layout

MODEL_ID = 711
HEAD: Final = (
    "Ena",
    "AdptCtlReq",
    "AdptCtlRslt",
    "NCtl",
    "RvrtTms",
    "RvrtRem",
    "RvrtCtl",
    "Db_SF",
    "K_SF",
    "RspTms_SF",
)
NEEDED: Final = ("Ena", "AdptCtlReq", "AdptCtlRslt", "NCtl", "Db_SF", "K_SF", "RspTms_SF")
CURVE: Final = ("DbOf", "DbUf", "KOf", "KUf", "RspTms", "PMin")
"""In the order of their registers, without a gap."""
ENABLED, DISABLED = 1, 0
COMPLETED, FAILED = 1, 2
"""711.AdptCtlRslt; 0 is "in progress"."""
OWNERS_HEAD: Final = ("RvrtTms", "RvrtCtl")
READ_ONLY = 1
"""711.Ctl.ReadOnly; a set that does not say is taken for writable, and the write tells."""
NO_CONTROL = 0
LOWEST_PCT = -100.0
"""PMin: the answer to high frequency may charge the battery with all its rating."""
WATCHED: Final = ("Ena", "RvrtTms", "RvrtRem", "Db_SF", "Ctl.1.DbOf", "Ctl.1.DbUf")
MAX_SETS = 10
"""More stored sets than this are not read: one spare is enough."""
DEAD_BAND_OFF_HZ = 0.0005
DROOP_OFF_SHARE = 0.005
"""A register may miss the curve by this much. Together less than 1 % of an award, for a curve 0.1 Hz wide or more."""
ADOPT_READS = 20
ADOPT_PAUSE_S = 0.1
"""A device may take this long, times `ADOPT_READS`, to adopt a set."""


class DroopControl:
    """Model 711 of one device; `learn` must come before `hold`."""

    def __init__(
        self, spec: DeviceSpec, link: Registers, clock: Callable[[], float], chain: Chain, owners: OwnersSettings
    ) -> None:
        self.cannot = ""
        """Why the device's droop cannot be used; "" when it can."""
        self.has_dead_man = False
        """Whether the device ends the droop by itself when writes stop."""
        self.watched: tuple[Place, ...] = ()
        """What to poll so that `answered_from_hz` can tell; nothing where the sets cannot be trusted."""
        self._spec = spec
        self._link = link
        self._clock = clock
        self._owners = owners
        self._model = chain.first(MODEL_ID)
        self._chain = chain
        self._stored = False
        """Whether set 1 was adopted by us while the droop was off, and is not yet used."""
        self._sets = 0
        if self._model is not None:
            self._sets = min(layout(MODEL_ID).groups_in(self._model.length), MAX_SETS)
        names = [f"Ctl.{index}.{name}" for index in range(1, self._sets + 1) for name in (*CURVE, "ReadOnly")]
        self._places = {place.point.name: place for place in chain.places(self._model, (*HEAD, *names))}
        self._plan = make_plan([list(self._places.values())])
        self._last: Reads = {}

    async def learn(self) -> None:
        """Read what the device offers; errors are `DeviceError`s."""
        if self._model is None:
            self.cannot = "the device has no droop of its own among its models (SunSpec 711)"
            return
        self._last = await self._read()
        self.cannot = self._what_lacks()
        if self._layout_fits():
            self.watched = tuple(self._places[name] for name in WATCHED if name in self._places)
        self.has_dead_man = all(self._number(name) is not None for name in ("RvrtTms", "RvrtCtl"))

    @property
    def off(self) -> bool:
        """Whether the device follows no curve of ours for certain, as last read."""
        return bool(self.cannot) or self._number("Ena") == DISABLED

    async def hold(
        self, wanted: DeviceDroop | None, respond_in_s: float, generation: int, *, answering: bool = True
    ) -> tuple[DeviceDroop | None, str]:
        """Make the device follow `wanted`, 90 % of a step within `respond_in_s`, or none: what it follows, why not.

        Unless `answering`, the curve is only stored and adopted, with the droop off.
        """
        if self.cannot:
            return None, "" if wanted is None else self.cannot
        try:
            if wanted is None:
                reason = await self._switch_off(generation)
            else:
                reason = "" if answering else await self._switch_off(generation)
                reason = reason or await self._follow(wanted, respond_in_s, generation, answering=answering)
        except (LinkTimeout, ModbusRefused, Unwritable) as error:
            reason, self._last = str(error), {}
        if reason and wanted is not None:
            reason += await self._given_up(generation)
        self._stored = not reason and wanted is not None and not answering
        return self._followed(), reason

    async def give_back(self, generation: int) -> str:
        """Why the device has not all that its owner had set, or ""; nothing is written where nothing was kept.

        The droop is off meanwhile, and stays so after a failure; what was kept is kept until all of it is back.
        """
        kept = self._kept
        if self.cannot or not kept:
            return self.cannot if kept else ""
        try:
            reason = await self._switch_off(generation) or await self._put_back(kept, generation)
        except (LinkTimeout, ModbusRefused, Unwritable) as error:
            reason, self._last = str(error), {}
        if not reason:
            await self._owners.put(self._spec.device_id, {})
        return reason

    @property
    def _kept(self) -> dict[str, float]:
        """What the owner had set, by point of the model; empty while nothing was overwritten."""
        return self._owners.of(self._spec.device_id)

    async def _keep(self) -> None:
        """Keep what the owner has set, as last read, unless that was done before."""
        if self._kept:
            return
        sets = (1, *self._spares()[:1])
        names = [*OWNERS_HEAD, *(f"Ctl.{index}.{name}" for index in sets for name in CURVE)]
        found = {name: value for name in names if (value := self._number(name)) is not None}
        answers = self._number("Ena") == ENABLED and not reverted(self._last) and bool(_curve_of(found, 1))
        await self._owners.put(self._spec.device_id, found | {"Ena": ENABLED if answers else DISABLED})

    async def _put_back(self, kept: dict[str, float], generation: int) -> str:
        """Write what was kept, the curve in force through the spare set, the enable last; the droop is off."""
        first, spare = _curve_of(kept, 1), self._spare()
        self._last = await self._read()
        in_force = not self._mismatch(1, first) and not reverted(self._last)
        if (
            first
            and not in_force
            and (reason := await self._store(spare, first, generation) or await self._adopt(spare, first, generation))
        ):
            return reason
        theirs = _curve_of(kept, spare)
        if self._mismatch(spare, theirs) and (reason := await self._store(spare, theirs, generation)):
            return reason
        for name in ("RvrtCtl", "RvrtTms"):
            if name in kept and self._number(name) != kept[name]:
                await self._put(self._places[name], encode(self._places[name].point, kept[name]), generation)
        if kept["Ena"] == ENABLED:
            await self._put(self._places["Ena"], (ENABLED,), generation)
        self._last = await self._read()
        wrong = (not_applied(f"{MODEL_ID}.{name}", kept[name], seen) for name in ("Ena", *OWNERS_HEAD)
                 if name in kept and (seen := self._number(name)) != kept[name])  # fmt: skip
        return self._mismatch(1, first) or next(wrong, "")

    async def _follow(self, wanted: DeviceDroop, respond_in_s: float, generation: int, *, answering: bool) -> str:
        self._last = await self._read()
        curve = self._curve(wanted, respond_in_s)
        in_force = self._stored if self._number("Ena") != ENABLED else not reverted(self._last)
        if self._mismatch(1, curve) or not in_force:
            spare = self._spare()
            await self._keep()
            reason = await self._store(spare, curve, generation) or await self._adopt(spare, curve, generation)
            if reason:
                return reason
        if not answering:
            return ""
        if self.has_dead_man:
            await self._put(self._places["RvrtCtl"], (NO_CONTROL,), generation)
            timer = self._places["RvrtTms"]
            await self._put(timer, encode(timer.point, self._spec.reversion_s), generation)
        await self._put(self._places["Ena"], (ENABLED,), generation)
        self._last = await self._read()
        return self._not_in_force(curve, generation)

    async def _store(self, spare: int, curve: dict[str, float], generation: int) -> str:
        """Write the curve into a spare set: why it does not hold it, or ""."""
        first = self._places[f"Ctl.{spare}.{CURVE[0]}"]
        values = [register for name, value in curve.items() for register in self._encoded(name, value)]
        await self._put(first, tuple(values), generation)
        self._last = await self._read()
        return self._mismatch(spare, curve)

    async def _adopt(self, spare: int, curve: dict[str, float], generation: int) -> str:
        """Make the spare set the one in force; the result alone may be that of the last time."""
        await self._put(self._places["AdptCtlReq"], (spare,), generation)
        for turn in range(ADOPT_READS):
            if turn:
                await asyncio.sleep(ADOPT_PAUSE_S)
            self._last = await self._read()
            result = self._number("AdptCtlRslt")
            if result == FAILED:
                return f"the device refused to adopt the droop curve (711.AdptCtlRslt reads {FAILED}); check its limits"
            if result == COMPLETED and not self._mismatch(1, curve):
                return ""
        return self._mismatch(1, curve) or (
            f"the device did not finish adopting the droop curve within {ADOPT_READS * ADOPT_PAUSE_S:g} s "
            "(711.AdptCtlRslt); look at its own alarms"
        )

    def _not_in_force(self, curve: dict[str, float], generation: int) -> str:
        """Why the device does not follow the curve now, as last read, or ""."""
        if self._link.generation != generation:
            return "the connection was replaced before the droop was read back; read the device again"
        if self._number("Ena") != ENABLED:
            return not_applied("711.Ena", ENABLED, self._number("Ena"))
        if reason := self._mismatch(1, curve):
            return reason
        if not self.has_dead_man:
            return ""
        if self._number("RvrtCtl") != NO_CONTROL:
            return not_applied("711.RvrtCtl", NO_CONTROL, self._number("RvrtCtl"))
        timer_s = self._number("RvrtTms")
        if timer_s is None or not 0 < timer_s <= self._spec.reversion_s:
            return not_applied("711.RvrtTms", self._spec.reversion_s, timer_s)
        return ""

    async def _switch_off(self, generation: int) -> str:
        """Why the droop is not off, or ""; a device whose droop is off already is not written to."""
        self._last = await self._read()
        if self._number("Ena") == DISABLED:
            return ""
        await self._keep()
        await self._put(self._places["Ena"], (DISABLED,), generation)
        self._last = await self._read()
        if self._number("Ena") == DISABLED:
            return ""
        return not_applied("711.Ena", DISABLED, self._number("Ena"))

    async def _given_up(self, generation: int) -> str:
        """What to add to the reason of a failure: nothing when the droop is off for certain."""
        try:
            why = await self._switch_off(generation)
        except DeviceError as error:
            why = str(error)
            self._last = {}
        return f"; and it could not be switched off: {why}" if why else ""

    async def _put(self, place: Place, values: tuple[int, ...], generation: int) -> None:
        await self._link.write_registers(self._spec.unit_id, place.address, values, generation=generation)

    async def _read(self) -> Reads:
        return await self._plan.read(self._link, self._spec.unit_id, self._clock)

    def _number(self, name: str) -> float | None:
        return number(self._last, f"{MODEL_ID}.{name}")

    def _what_lacks(self) -> str:
        assert self._model is not None
        lacking = [name for name in NEEDED if self._number(name) is None]
        if lacking:
            return f"the device's own droop lacks {', '.join(lacking)} (model {MODEL_ID})"
        stored = int(self._number("NCtl") or 0)
        if not self._layout_fits():
            return f"model {MODEL_ID} states {self._model.length} registers, which {stored} sets of its layout are not"
        if not self._spares():
            return f"the device has no spare control set that can be written (model {MODEL_ID}, {stored} sets)"
        return ""

    def _layout_fits(self) -> bool:
        """Whether the sets are as long as published now; an earlier publication had shorter ones, with other points."""
        known, stored = layout(MODEL_ID), self._number("NCtl")
        assert self._model is not None
        assert known.group is not None
        return stored is not None and self._model.length == known.length + stored * known.group.size

    def _spares(self) -> list[int]:
        return [index for index in range(2, self._sets + 1) if self._number(f"Ctl.{index}.ReadOnly") != READ_ONLY]

    def _spare(self) -> int:
        spares = self._spares()
        if not spares:
            raise Unwritable(f"{self._spec.device_id}: no control set of model {MODEL_ID} can be written any more")
        return spares[0]

    def _curve(self, wanted: DeviceDroop, respond_in_s: float) -> dict[str, float]:
        """What set 1 must hold, as its registers can; `Unwritable` when that is another curve."""
        dead_band_hz = self._rounded("DbOf", wanted.dead_band_hz)
        droop = self._rounded("KOf", wanted.droop)
        if abs(dead_band_hz - wanted.dead_band_hz) > DEAD_BAND_OFF_HZ:
            raise Unwritable(
                f"{self._spec.device_id}: a dead band of {wanted.dead_band_hz:g} Hz is {dead_band_hz:g} Hz in "
                "the device's steps (711.Db_SF)"
            )
        if abs(droop - wanted.droop) > DROOP_OFF_SHARE * wanted.droop:
            raise Unwritable(
                f"{self._spec.device_id}: a droop of {wanted.droop:g} is {droop:g} in the device's steps (711.K_SF)"
            )
        respond_s = self._rounded("RspTms", respond_in_s, Rounding.TOWARD_ZERO)
        curve = {"DbOf": dead_band_hz, "DbUf": dead_band_hz, "KOf": droop, "KUf": droop, "RspTms": respond_s}
        if self._number("Ctl.1.PMin") is not None:
            curve["PMin"] = LOWEST_PCT
        return curve

    def _exponent(self, name: str) -> int:
        scale = layout(MODEL_ID).grouped(1, name).sf
        if scale is None:
            return 0
        raw = self._number(scale)
        exponent = None if raw is None else scale_factor(int(raw))
        if exponent is None:
            raise Unwritable(f"{self._spec.device_id}: 711.{scale} is not usable, {name} has no unit")
        return exponent

    def _rounded(self, name: str, value: float, rounding: Rounding = Rounding.NEAREST) -> float:
        exponent = self._exponent(name)
        return scaled(whole(scaled(value, -exponent), rounding), exponent)

    def _encoded(self, name: str, value: float) -> tuple[int, ...]:
        try:
            return encode(layout(MODEL_ID).grouped(1, name), value, self._exponent(name))
        except OutOfRange as error:
            raise Unwritable(f"{self._spec.device_id}: {error}") from error

    def _mismatch(self, index: int, curve: dict[str, float]) -> str:
        """Why set `index` is not the curve, as last read, or ""."""
        for name, wanted in curve.items():
            seen = self._number(f"Ctl.{index}.{name}")
            if seen != wanted:
                return not_applied(f"{MODEL_ID}.Ctl.{index}.{name}", wanted, seen)
        return ""

    def _followed(self) -> DeviceDroop | None:
        """The curve in force as last read; None when it is off, not known, or not the same both ways."""
        if self._number("Ena") != ENABLED or reverted(self._last):
            return None
        high = self._number("Ctl.1.DbOf"), self._number("Ctl.1.KOf")
        low = self._number("Ctl.1.DbUf"), self._number("Ctl.1.KUf")
        if high != low or high[0] is None or high[1] is None:
            return None
        return DeviceDroop(high[0], high[1])


def _curve_of(kept: dict[str, float], index: int) -> dict[str, float]:
    """The curve of set `index` in what was kept; empty where that set held none."""
    curve = {name: kept[key] for name in CURVE if (key := f"Ctl.{index}.{name}") in kept}
    return curve if set(CURVE[:-1]) <= set(curve) else {}


def reverted(reads: Reads) -> bool:
    """Whether the reversion time ran out: the registers still show the curve, but no control is in force."""
    timer_s, left_s = number(reads, f"{MODEL_ID}.RvrtTms"), number(reads, f"{MODEL_ID}.RvrtRem")
    return timer_s is not None and timer_s > 0.0 and left_s == 0.0


def answered_from_hz(reads: Reads) -> Reading:
    """The distance from nominal, Hz, from which on the device answers by itself; missing while it does not."""
    enabled = reading(reads, f"{MODEL_ID}.Ena")
    if enabled.value != ENABLED or reverted(reads):
        return Reading(None, enabled.read_mono_s, Quality.MISSING)
    return smallest(*(reading(reads, f"{MODEL_ID}.Ctl.1.{name}") for name in ("DbOf", "DbUf")))
