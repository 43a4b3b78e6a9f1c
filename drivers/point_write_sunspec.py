"""Writes by hand to a SunSpec device: points that its models declare writable, inside its own ratings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from drivers.battery import SunSpecBattery
from drivers.codec import OutOfRange, encode
from drivers.look import sunspec_places
from drivers.meter import SunSpecMeter
from drivers.pv import SunSpecPv
from drivers.pv_ceiling import GROUPS
from drivers.read_plan import Place
from drivers.setpoint import CONTROL_POINTS, MODEL_ID
from drivers.sunspec_points import SunSpecSeen, decoded, see, value_of
from drivers.sunspec_words import label, words
from drivers.written_point import PointRefused, PointWrite, listed, number_in, within

SunSpecDevice = SunSpecBattery | SunSpecPv | SunSpecMeter
POWERS: Final = ("W", "VA", "Var", "var")
RATINGS: Final = ("702.WMaxRtg", "120.WRtg")
"""Where a device states its nameplate power."""
OWNED_MODELS: Final = ("124", "711")
"""Written by the agent's control as a whole: storage rates, frequency droop."""
OWNED: Final = frozenset(
    {f"{MODEL_ID}.{name}" for name in CONTROL_POINTS}
    | {f"{group.model_id}.{name}" for group in GROUPS for name in group.points}
    | {"715.ControllerHb", "802.CtrlHb"}
)


async def prepare_sunspec(device: SunSpecDevice, name: str, text: str, clock: Callable[[], float]) -> PointWrite:
    """What would be written to the point called `name`, such as `704.WSet`; see `drivers.point_write.prepare`."""
    places = await sunspec_places(device.session)
    place = _writable(places, name)
    point = place.point
    value = _meant(place, text)
    seen = await read_sunspec(device, name, clock)
    if seen.value is None:
        why = seen.refused or f"{name} reads as not implemented"
        model = name.split(".", 1)[0]
        raise PointRefused(why, f"ems devices read {device.spec.device_id} {model} shows what it offers")
    await _limit(device, places, place, value, clock)
    try:
        registers = encode(point, value, seen.exponent)
    except OutOfRange as error:
        raise PointRefused(str(error), "give a value inside") from error
    new = value_of(point, decoded(point, registers), seen.exponent)
    assert isinstance(new, int | float), "the codec refuses what would mean no value"
    return PointWrite(
        name=name,
        unit=point.unit,
        old=seen.value,
        old_label=label(name, point.type, seen.value),
        new=new,
        new_label=label(name, point.type, new),
        unit_id=device.spec.unit_id,
        address=place.address,
        registers=registers,
        kind="volatile",
        owned=name in OWNED or name.split(".", 1)[0].split("#", 1)[0] in OWNED_MODELS,
        budget_left=None,
    )


async def read_sunspec(device: SunSpecDevice, name: str, clock: Callable[[], float]) -> SunSpecSeen:
    """What the point holds now."""
    places = await sunspec_places(device.session)
    return (await see(places, [name], device.session.link, device.spec.unit_id, clock))[name]


def _meant(place: Place, text: str) -> float:
    """The number that somebody wrote, or the value of the word."""
    known = {} if place.point.type.startswith("bitfield") else words(place.key)
    if not known:
        return number_in(text)
    numbers = {word: number for word, number in known.items() if text in {word, str(number)}}
    if not numbers:
        told = ", ".join(f"{word} ({number})" for word, number in known.items())
        raise PointRefused(f"{place.key}: {text!r} is none of its values", f"write one of {told}")
    return next(iter(numbers.values()))


def _writable(places: Mapping[str, Place], name: str) -> Place:
    can_be = [key for key, place in places.items() if place.point.writable]
    place = places.get(name)
    if place is None:
        models = ", ".join(dict.fromkeys(key.split(".", 1)[0] for key in can_be)) or "none"
        raise PointRefused(f"the device has no point {name!r}", f"these models of it can be written to: {models}")
    if not place.point.writable:
        model = name.split(".", 1)[0]
        own = [key for key in can_be if key.startswith(f"{model}.")]
        raise PointRefused(f"SunSpec does not declare {name} writable", f"of model {model} these are: {listed(own)}")
    return place


async def _limit(
    device: SunSpecDevice, places: Mapping[str, Place], place: Place, value: float, clock: Callable[[], float]
) -> None:
    """`PointRefused` when a power is beyond the rating, or a share beyond 100 %; the codec knows the register."""
    unit = place.point.unit
    if unit in POWERS:
        names = [name for name in RATINGS if name in places]
        seen = await see(places, names, device.session.link, device.spec.unit_id, clock)
        stated = [one.value for one in seen.values() if isinstance(one.value, int | float) and one.value > 0]
        rated_w = stated[0] if stated else device.spec.rated_w
        if rated_w is None:
            why = f"the device states no rating, so that nobody knows which {unit} it can take"
            raise PointRefused(why, "state rated_power in the site file")
        within(place.key, value, (-rated_w, rated_w), unit, "the rating of the device")
    elif unit == "Pct" or (unit.startswith("%") and "/" not in unit):
        within(place.key, value, (-100.0, 100.0), "%", "what a percentage can be")
