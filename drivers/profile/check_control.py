"""Whether the control of a profile makes sense: what is written where, in which order, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from drivers.profile import units
from drivers.profile.model import TOWARD_GRID, Condition, Control, Point, Profile, Step, Write
from drivers.profile.place import registers_of, wire_address, write_function_of
from drivers.profile.problem import Problem

ConditionCheck = Callable[[Profile, Condition, str], Iterator[Problem]]
CYCLIC = ("setpoint", "charge", "discharge", "rest")
SEQUENCES = ("take_over", *CYCLIC, "release")


def check_control(profile: Profile, control: Control, where: str, conditions: ConditionCheck) -> Iterator[Problem]:
    """Everything that is wrong with one control."""
    yield from _styles(control, where)
    yield from _dead_man(profile, control, where)
    if control.remote is not None:
        yield from conditions(profile, control.remote, f"{where}.remote")
    for sequence in SEQUENCES:
        for index, step in enumerate(getattr(control, sequence)):
            place = f"{where}.{sequence}[{index}]"
            yield from _step(profile, control, step, place)
            for condition in (step.when, step.until):
                if condition is not None:
                    yield from conditions(profile, condition, place)
            if sequence in CYCLIC:
                yield from _cyclic(profile, step, place)
    yield from _saved(profile, control, where)
    yield from _confirmed(profile, control, where)
    if control.heartbeat is not None:
        yield from _writable(profile, control.heartbeat, f"{where}.heartbeat")
        point = profile.points.get(control.heartbeat)
        if point is not None and point.write == "stored":
            yield Problem(
                f"{where}.heartbeat", f"{control.heartbeat} is stored: written every second, it would wear out"
            )


def _styles(control: Control, where: str) -> Iterator[Problem]:
    split = {key for key in ("charge", "discharge", "rest") if getattr(control, key)}
    if control.setpoint and split:
        yield Problem(where, f"setpoint and {', '.join(sorted(split))} exclude each other")
    elif not control.setpoint and len(split) < 3:
        missing = ", ".join(sorted({"charge", "discharge", "rest"} - split))
        yield Problem(where, f"{missing} missing: state setpoint, or all of charge, discharge and rest")
    if control.take_over and not control.release:
        yield Problem(where, "release is missing: what take_over changed must be put back")
    for sequence in ("setpoint",) if control.setpoint else ("charge", "discharge") if split else ():
        writes = [write for step in getattr(control, sequence) for write in step.writes]
        if not any(write.from_ == "power" for write in writes):
            yield Problem(f"{where}.{sequence}", 'nothing takes the power: one write needs from = "power"')


def _dead_man(profile: Profile, control: Control, where: str) -> Iterator[Problem]:
    dead_man, where = control.dead_man, f"{where}.dead_man"
    stated = [key for key in ("point", "fixed", "none") if getattr(dead_man, key) is not None]
    if len(stated) != 1:
        yield Problem(where, "state exactly one of point, fixed and none (with the reason)")
        return
    if dead_man.none is not None:
        yield Problem(where, "none: a setpoint stays when the agent stops; the site needs another guard", "warning")
    if dead_man.if_kept and dead_man.point is None:
        yield Problem(where, "if_kept is for a dead-man with a point")
    if dead_man.fed_by_reads:
        yield Problem(where, "polling feeds it too: it notices a dead link, not a dead control", "warning")
    if dead_man.fixed is not None and dead_man.fixed > 60:
        yield Problem(where, f"{dead_man.fixed:g} s is longer than the 60 s that a battery may go on alone", "warning")
    if dead_man.point is not None:
        yield from _writable(profile, dead_man.point, where)
        point = profile.points.get(dead_man.point)
        if point is not None and _dimension(point) != units.TIME:
            yield Problem(where, f"{dead_man.point} needs a unit of time, it has {point.unit!r}")
        if point is not None and point.write == "stored":
            yield Problem(where, f"{dead_man.point} is stored: it would be written with each setpoint and wear out")


def _writable(profile: Profile, name: str, where: str) -> Iterator[Problem]:
    point = profile.points.get(name)
    if point is None:
        yield Problem(where, f"there is no point {name!r}")
    elif point.write is None:
        yield Problem(where, f'{name} is not declared writable: add write = "volatile" or "stored", or do not write it')
    elif not point.verified:
        yield Problem(where, f"{name} is not verified, and so never written")


def _step(profile: Profile, control: Control, step: Step, where: str) -> Iterator[Problem]:
    if not step.writes and step.until is None:
        yield Problem(where, "does nothing: add write or until")
    if (step.until is None) != (step.within is None):
        yield Problem(where, "until and within go together: for how long may it take?")
    for write in step.writes:
        for problem in _writable(profile, write.point, where):
            yield problem
            break
        else:
            yield from (Problem(where, reason) for reason in _value(profile, control, write))
    if step.one_frame:
        yield from _one_frame(profile, step, where)


def _value(profile: Profile, control: Control, write: Write) -> Iterator[str]:
    name, point = write.point, profile.points[write.point]
    if (write.set is None) == (write.from_ is None):
        yield f"{name}: state exactly one of set and from"
    if isinstance(write.set, str) and write.set not in (point.values or {}):
        yield f"{name}: {write.set!r} is not among its values"
    if write.from_ == "power":
        yield from _power(profile, write, point)
    elif write.of is not None or write.share != 1:
        yield f'{name}: of and share are for from = "power"'
    if write.from_ == "dead_man" and _dimension(point) != units.TIME:
        yield f"{name}: the dead-man time needs a unit of time, it has {point.unit!r}"
    if write.from_ == "saved" and name not in control.save:
        yield f"{name}: it is not in save, so there is nothing to put back"


def _power(profile: Profile, write: Write, point: Point) -> Iterator[str]:
    if point.positive not in (*TOWARD_GRID, "magnitude"):
        yield f"{write.point}: positive is missing: which direction does a positive setpoint mean? magnitude for none"
    dimension = _dimension(point)
    if dimension == units.SHARE:
        rating = profile.points.get(write.of) if write.of is not None else None
        if rating is None or _dimension(rating) != units.POWER or not rating.readable:
            yield f"{write.point}: of is missing: a setpoint in percent names the point (a power) that is 100 %"
    elif dimension != units.POWER:
        yield f"{write.point}: a setpoint is a power or in percent, its unit is {point.unit!r}"
    elif write.of is not None:
        yield f"{write.point}: of is for setpoints in percent"


def _one_frame(profile: Profile, step: Step, where: str) -> Iterator[Problem]:
    points = [profile.points[write.point] for write in step.writes if write.point in profile.points]
    for before, after in pairwise(points):
        if wire_address(profile, before) + registers_of(before) != wire_address(profile, after):
            yield Problem(where, "one_frame: the registers must follow one another, in the order of the file")
    if len({point.unit_id for point in points}) > 1:
        yield Problem(where, "one_frame: the points lie behind different unit ids")
    if len(points) > 1 and any(write_function_of(profile, point) == 6 for point in points):
        yield Problem(where, "one_frame: function 6 writes a single register; set write_function = 16")


def _cyclic(profile: Profile, step: Step, where: str) -> Iterator[Problem]:
    for write in step.writes:
        point = profile.points.get(write.point)
        if point is not None and point.write == "stored":
            yield Problem(where, f"{write.point} is stored and would wear out: a setpoint needs a volatile register")
        if point is not None and point.write == "command":
            yield Problem(where, f"{write.point} is a command, which is not for every setpoint; move it to take_over")


def _saved(profile: Profile, control: Control, where: str) -> Iterator[Problem]:
    restored = {write.point for step in control.release for write in step.writes if write.from_ == "saved"}
    for name, default in control.save.items():
        place = f"{where}.save.{name}"
        yield from _writable(profile, name, place)
        point = profile.points.get(name)
        if point is not None and not point.readable:
            yield Problem(place, f"{name} cannot be read, so it cannot be saved")
        if point is not None and isinstance(default, str) and default not in (point.values or {}):
            yield Problem(place, f"{default!r} is not among the values of {name}")
        if name not in restored:
            yield Problem(place, 'release does not put it back: add a write with from = "saved"')


def _confirmed(profile: Profile, control: Control, where: str) -> Iterator[Problem]:
    if control.confirm != "read_back":
        return
    for write in _all_writes(control):
        point = profile.points.get(write.point)
        if point is not None and write.from_ == "power" and not point.readable:
            yield Problem(where, f'{write.point} cannot be read back; state confirm = "acknowledgement"')
            return


def _all_writes(control: Control) -> Iterable[Write]:
    return (write for sequence in CYCLIC for step in getattr(control, sequence) for write in step.writes)


def _dimension(point: Point) -> str:
    unit = units.UNITS.get(point.unit)
    return unit.dimension if unit is not None else "unknown"
