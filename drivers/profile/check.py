"""Everything that does not make sense in a profile whose form is right: what `ems devices check` tells."""

from __future__ import annotations

import re
from collections.abc import Iterator

from drivers.profile import units
from drivers.profile.check_control import check_control
from drivers.profile.check_points import check_points
from drivers.profile.model import (
    MAGNITUDE,
    Alarms,
    Battery,
    Combined,
    Condition,
    Meter,
    Part,
    Point,
    Profile,
    Pv,
    Source,
    SunSpec,
)
from drivers.profile.problem import Problem
from drivers.sunspec_layout import known_models

DIMENSIONS = {
    "power_w": units.POWER,
    "soc_pct": units.SHARE,
    "capacity_wh": units.ENERGY,
    "rated_discharge_w": units.POWER,
    "rated_charge_w": units.POWER,
    "live_discharge_limit_w": units.POWER,
    "live_charge_limit_w": units.POWER,
    "temperature_c": units.TEMPERATURE,
    "cell_min_v": units.VOLTAGE,
    "cell_max_v": units.VOLTAGE,
    "frequency_hz": units.FREQUENCY,
    "export_wh": units.ENERGY,
    "import_wh": units.ENERGY,
}
"""What each reading of a role measures."""
DIRECTED = frozenset({"power_w"})
PRODUCTS = {
    frozenset((units.CURRENT, units.VOLTAGE)): units.POWER,
    frozenset((units.ENERGY, units.SHARE)): units.ENERGY,
}


def check(profile: Profile) -> tuple[Problem, ...]:
    """All problems of the profile, those of its points first."""
    return tuple(_all(profile))


def _all(profile: Profile) -> Iterator[Problem]:
    if profile.sunspec is not None:
        yield from _sunspec(profile, profile.sunspec)
        yield from _tried(profile)
        return
    if not profile.points:
        yield Problem("points", "missing")
    yield from check_points(profile)
    yield from _identity(profile)
    if not profile.roles:
        yield Problem("battery, pv, meter", "none of them is there: the profile fills no role")
    for role in profile.roles:
        part: Battery | Pv | Meter = getattr(profile, role)
        yield from _readings(profile, role, part)
        if isinstance(part, Battery):
            if part.soc_pct is None:
                reason = "is missing: without a state of charge the agent keeps the battery at rest"
                yield Problem("battery.soc_pct", reason, "warning")
            for index, condition in enumerate(part.ready):
                yield from check_condition(profile, condition, f"battery.ready[{index}]")
            for name in Alarms.model_fields:
                for index, condition in enumerate(getattr(part.alarms, name)):
                    yield from check_condition(profile, condition, f"battery.alarms.{name}[{index}]")
        if isinstance(part, Pv) and part.limit_covers == "inverter" and profile.battery is None:
            yield Problem("pv.limit_covers", '"inverter" adds the power of the battery: this profile has none')
        control = getattr(part, "control", None)
        if control is not None:
            yield from check_control(profile, control, f"{role}.control", check_condition)
    yield from _tried(profile)
    for name, point in profile.points.items():
        if not point.verified:
            yield Problem(f"points.{name}", "is not verified: it is read, and never written", "warning")


def _tried(profile: Profile) -> Iterator[Problem]:
    if not profile.about.tried:
        yield Problem("about.tried", "it was never tried on hardware; say here on which, once it was", "warning")


def _sunspec(profile: Profile, sunspec: SunSpec) -> Iterator[Problem]:
    idle = sorted(profile.model_fields_set - {"schema_", "about", "sunspec", "pacing"})
    if idle:
        yield Problem(idle[0], "is not for a device with [sunspec]: its models say what it has")
    for index, group in enumerate(sunspec.models):
        strange = [str(model_id) for model_id in group if model_id not in known_models()]
        if strange:
            known = ", ".join(str(model_id) for model_id in known_models())
            yield Problem(f"sunspec.models[{index}]", f"{', '.join(strange)} is not read here; known: {known}")
    for key in ("maker", "model"):
        yield from _expression(getattr(sunspec, key), f"sunspec.{key}")
    if sunspec.positive is not None and "meter" not in sunspec.roles:
        yield Problem("sunspec.positive", "is for meters; SunSpec fixes it for everything else")


def _expression(text: str | None, where: str) -> Iterator[Problem]:
    try:
        re.compile(text or "")
    except re.error as error:
        yield Problem(where, f"{text!r} is no regular expression: {error}")


def _identity(profile: Profile) -> Iterator[Problem]:
    identity = profile.identity
    if "identity" not in profile.model_fields_set:
        yield Problem("identity", "missing")
    elif not identity.check:
        yield Problem("identity.check", "missing: what must hold before the device is believed or written to?")
    for index, condition in enumerate(identity.check):
        yield from check_condition(profile, condition, f"identity.check[{index}]")
    for key in ("model", "serial", "firmware"):
        name = getattr(identity, key)
        if name is not None and name not in profile.points:
            yield Problem(f"identity.{key}", f"there is no point {name!r}")


def _readings(profile: Profile, role: str, part: Part) -> Iterator[Problem]:
    for field in type(part).model_fields:
        source = getattr(part, field)
        if field in DIMENSIONS and source is not None:
            for reason in _source(profile, field, source):
                yield Problem(f"{role}.{field}", reason)


def _source(profile: Profile, field: str, source: Source) -> Iterator[str]:
    if isinstance(source, str):
        yield from _term(profile, field, [source])
        return
    stated = [key for key in Combined.model_fields if getattr(source, key) is not None]
    if len(stated) != 1:
        yield f"state exactly one of {', '.join(Combined.model_fields)}"
        return
    if source.product is not None:
        yield from _term(profile, field, source.product)
    for term in source.sum or source.first or source.smallest or []:
        yield from _term(profile, field, [term] if isinstance(term, str) else term)


def _term(profile: Profile, field: str, names: list[str]) -> Iterator[str]:
    points: list[Point] = []
    for name in names:
        point = profile.points.get(name)
        if point is None:
            yield f"there is no point {name!r}"
            return
        if not point.readable:
            yield f"{name} cannot be read"
        points.append(point)
    found = frozenset(units.UNITS[point.unit].dimension for point in points if point.unit in units.UNITS)
    dimension = next(iter(found)) if len(points) == 1 and found else PRODUCTS.get(found, "neither")
    if dimension != DIMENSIONS[field]:
        shown = " x ".join(f"{name} [{point.unit}]" for name, point in zip(names, points, strict=True))
        yield f"{shown} is not a {DIMENSIONS[field]}"
    if field in DIRECTED and all(point.positive in (None, MAGNITUDE) for point in points):
        yield f"{' x '.join(names)} has no direction: state what its positive value means"


def check_condition(profile: Profile, condition: Condition, where: str) -> Iterator[Problem]:
    """What is wrong with a condition that stands at `where`."""
    point = profile.points.get(condition.point)
    if point is None:
        yield Problem(where, f"there is no point {condition.point!r}")
        return
    if not point.readable:
        yield Problem(where, f"{condition.point} cannot be read")
    tests = [key for key in Condition.model_fields if key != "point" and getattr(condition, key) is not None]
    if not tests:
        yield Problem(where, f"says nothing about {condition.point}: add is, is_not, bits, at_least or matches")
    for values in (condition.is_, condition.is_not):
        for value in values if isinstance(values, list) else [] if values is None else [values]:
            if isinstance(value, str) and point.type != "string" and value not in (point.values or {}):
                yield Problem(where, f"{value!r} is not among the values of {condition.point}")
    for label in (condition.bits or []) + (condition.no_bits or []):
        if label not in (point.bits or {}):
            yield Problem(where, f"{label!r} is not among the bits of {condition.point}")
    if condition.matches is not None:
        if point.type != "string":
            yield Problem(where, f"matches is for texts, but {condition.point} is a {point.type}")
        yield from _expression(condition.matches, f"{where}.matches")
