"""A device made from its profile and the plant: it shows what its roles say, and does what its control is told.

Any profile becomes a simulated device, without code: each reading of a role is put into the points that it is made of,
in their unit, direction and word order; what makes the identity and the ready state true is made true; what is written
moves the plant as the profile's own sequences say that it must. The device is strict where makers are: values out of
range, parts of a group that must be one frame, and points that are not writable are refused.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from drivers.profile.model import TOWARD_GRID, Combined, Condition, Control, Profile, Source, Step, Write
from drivers.profile.units import UNITS
from simulators.modbus_server import ILLEGAL_VALUE, RequestRefusedError
from simulators.plant import Plant
from simulators.profile_registers import INPUT, Bank, Place, Table, from_bytes, places_of, to_bytes

CELL_V = 3.3
NAME = "SIMULATED"
"""What its texts say, as far as they fit, where the profile asks for nothing else."""
STYLES = ("rest", "charge", "discharge")


class ProfileDevice:
    """One simulated device; `units` and `inputs` are what a Modbus server serves."""

    def __init__(
        self,
        profile: Profile,
        plant: Plant,
        bring_to_now: Callable[[], None],
        unit_id: int = 1,
        *,
        unit_ids: Mapping[str, int] | None = None,
        positive: str = "import",
    ) -> None:
        """`positive`: what a positive power means at a meter that leaves it to its wiring."""
        self.profile = profile
        self.reversions = 0
        """How often its dead-man ended a setpoint."""
        self._revert_at_utc_s: dict[str, float] = {}
        """When the dead-man of each role's control fires unless it is written to."""
        self._plant = plant
        self._bring_to_now = bring_to_now
        self._positive = positive
        self._control: Control | None = profile.battery.control if profile.battery is not None else None
        self._pv_control: Control | None = profile.pv.control if profile.pv is not None else None
        self._places = places_of(profile, unit_id, unit_ids or {})
        tables: dict[tuple[int, int], list[Place]] = defaultdict(list)
        for place in self._places.values():
            tables[place.unit_id, place.table].append(place)
        self._tables = {key: Table(places, profile.reads.max_gap) for key, places in tables.items()}
        banks = {key: Bank(table, self._refresh, self._take, self.reboot) for key, table in self._tables.items()}
        all_units = {unit for unit, _ in banks}
        none = Table((), 0)
        empty = Bank(none, self._refresh, self._take, self.reboot)
        self.units = {unit: banks.get((unit, 3), empty) for unit in all_units}
        self.inputs = {unit: bank for (unit, table), bank in banks.items() if table == INPUT}
        self._values: dict[str, float | str] = {}
        self.reboot()

    def reboot(self) -> None:
        """Everything that was written is lost; the owner's settings are as they were."""
        self._values = {name: NAME if place.point.type == "string" else 0.0 for name, place in self._places.items()}
        self._revert_at_utc_s.clear()
        for condition in self._alarms():
            self._make(condition, holds=False)
        for condition in self._conditions():
            self._make(condition, holds=True)
        if self._control is not None:
            for name, default in self._control.save.items():
                self._values[name] = self._literal(name, default)
            for step in self._control.take_over:
                if step.until is not None:
                    self._make(step.until, holds=False)
        self._obey()

    @property
    def revert_at_utc_s(self) -> float | None:
        """When a dead-man fires unless it is written to; None: none does."""
        return min(self._revert_at_utc_s.values(), default=None)

    def revert_if_due(self, now_utc_s: float) -> bool:
        """Ends the setpoint, or the ceiling, if the dead-man's time has come; True when it happened now."""
        due = [role for role, at_s in self._revert_at_utc_s.items() if now_utc_s >= at_s]
        for role in due:
            del self._revert_at_utc_s[role]
            self.reversions += 1
            if role == "battery":
                self._plant.setpoint_w = None
            else:
                self._lift()
        return bool(due)

    def value(self, name: str) -> float | str:
        """What a point holds, in its unit."""
        return self._values[name]

    # What it shows

    def _refresh(self) -> None:
        self._bring_to_now()
        shown: dict[str, float | str] = {}
        for role in self.profile.roles:
            part = getattr(self.profile, role)
            for field, value in self._readings(role).items():
                source = getattr(part, field, None)
                if source is not None:
                    self._show(source, value, shown)
        for name, place in self._places.items():
            if place.point.unit in ("Hz", "mHz"):  # beside those of the meter's role
                shown.setdefault(name, self._in_unit(name, self._plant.frequency_hz))
        for write in _writes(self._pv_control.setpoint) if self._pv_control is not None else []:
            if write.of is not None:  # what its ceiling is a share of
                shown.setdefault(write.of, self._in_unit(write.of, self._plant.config.pv.inverter_limit_w))
        self._values.update(shown)
        self._limit_pv()
        battery = self.profile.battery
        if battery is not None and battery.ready and self._holds(battery.ready[0]) is not self._plant.ready:
            self._make(battery.ready[0], holds=self._plant.ready)
        for name, place in self._places.items():
            exponent = self._exponent(place)
            data = to_bytes(place, self._values[name], exponent)
            self._tables[place.unit_id, place.table].put(place, data)

    def _readings(self, role: str) -> dict[str, float]:
        """What is true in the plant, by the names of the role's readings; ratings first, they keep their points."""
        plant, battery = self._plant, self._plant.config.battery
        match role:
            case "battery":
                return {
                    "rated_discharge_w": battery.rated_discharge_w,
                    "rated_charge_w": battery.rated_charge_w,
                    "power_w": plant.battery_w,
                    "soc_pct": plant.soc_pct,
                    "capacity_wh": battery.capacity_wh,
                    "live_discharge_limit_w": plant.battery.discharge_limit_w,
                    "live_charge_limit_w": plant.battery.charge_limit_w,
                    "temperature_c": plant.battery.temperature_c,
                    "cell_min_v": CELL_V,
                    "cell_max_v": CELL_V,
                }
            case "pv":
                return {"power_w": plant.pv_w}
            case _:
                return {
                    "power_w": plant.grid_w,
                    "frequency_hz": plant.frequency_hz,
                    "export_wh": plant.export_wh,
                    "import_wh": plant.import_wh,
                }

    def _show(self, source: Source, value: float, shown: dict[str, float | str]) -> None:
        """Put a reading into the points that it is made of; a point that already shows something keeps it."""
        if isinstance(source, str):
            shown.setdefault(source, self._in_unit(source, value))
            return
        self._show_combined(source, value, shown)

    def _show_combined(self, source: Combined, value: float, shown: dict[str, float | str]) -> None:
        if source.sum is not None:
            signs = {name: self._sign(name) for name in source.sum}
            both_ways = len(set(signs.values())) > 1
            bearing = [name for name in source.sum if not both_ways or signs[name] * value > 0.0]
            for name in source.sum:
                part = value / len(bearing) if name in bearing else 0.0
                shown.setdefault(name, self._in_unit(name, part))
        elif source.product is not None:
            self._show_product(source.product, value, shown)
        for term in source.first or source.smallest or []:
            if isinstance(term, list):
                self._show_product(term, value, shown)
            else:
                self._show(term, value, shown)

    def _show_product(self, names: list[str], value: float, shown: dict[str, float | str]) -> None:
        """A voltage as it is, the current beside it so that they make the power."""
        volts = next(name for name in names if UNITS[self._places[name].point.unit].dimension == "voltage")
        shown.setdefault(volts, self._in_unit(volts, self._plant.battery.voltage_v))
        for name in names:
            if name != volts:
                shown.setdefault(name, self._in_unit(name, value / self._plant.battery.voltage_v))

    def _sign(self, name: str) -> int:
        positive = self._places[name].point.positive
        return TOWARD_GRID.get(self._positive if positive == "site" else positive or "", 1)

    def _in_unit(self, name: str, value: float) -> float:
        """A value in our unit and sign as the point states it."""
        return value * self._sign(name) / float(UNITS[self._places[name].point.unit].factor)

    def _exponent(self, place: Place) -> int:
        factor = place.point.scale_from
        return 0 if factor is None else int(self._values[factor])

    # What makes its conditions true

    def _conditions(self) -> Iterator[Condition]:
        yield from self.profile.identity.check
        if self.profile.battery is not None:
            yield from self.profile.battery.ready
        if self._control is not None and self._control.remote is not None:
            yield self._control.remote

    def _alarms(self) -> Iterator[Condition]:
        alarms = self.profile.battery.alarms if self.profile.battery is not None else None
        for name in type(alarms).model_fields if alarms is not None else ():
            yield from getattr(alarms, name)

    def _make(self, condition: Condition, *, holds: bool) -> None:
        """Give the point a value for which the condition holds, or does not."""
        name = condition.point
        point = self._places[name].point
        if point.type == "string":
            self._values[name] = self._text(condition) if holds else ""
            return
        if condition.bits or condition.no_bits:
            word = int(self._values[name])
            for label in condition.bits or []:
                word = self._bit(name, word, label, on=holds)
            for label in condition.no_bits or []:
                word = self._bit(name, word, label, on=not holds)
            self._values[name] = float(word)
            return
        listed = [self._literal(name, one) for one in _listed(condition.is_ or condition.is_not or 0)]
        others = [float(number) for number in (point.values or {}).values() if number not in listed]
        if condition.is_ is not None or condition.is_not is not None:
            wants_listed = (condition.is_ is not None) == holds
            self._values[name] = listed[0] if wants_listed else next(iter(others), max(listed) + 1.0)
        else:
            low, high = condition.at_least, condition.at_most
            middle = (low + high) / 2.0 if low is not None and high is not None else low if low is not None else high
            assert middle is not None
            self._values[name] = float(middle)

    def _bit(self, name: str, word: int, label: str, *, on: bool) -> int:
        mask = 1 << (self._places[name].point.bits or {})[label]
        return word | mask if on else word & ~mask

    def _text(self, condition: Condition) -> str:
        """A text for which the condition holds: one that is listed, or a simple one that its pattern takes."""
        if condition.is_ is not None:
            return str(_listed(condition.is_)[0])
        pattern = condition.matches or ".*"
        length = 2 * self._places[condition.point].size
        tries = [pattern.replace(".*", ""), *("0" * count for count in range(1, length + 1))]
        return next(text for text in tries if re.fullmatch(pattern, text))

    def _holds(self, condition: Condition) -> bool:
        """Whether a condition on a number holds."""
        value = float(self._values[condition.point])
        bits = self._places[condition.point].point.bits or {}
        word = int(value)
        return (
            (condition.is_ is None or value in [self._literal(condition.point, one) for one in _listed(condition.is_)])
            and (
                condition.is_not is None
                or value not in [self._literal(condition.point, one) for one in _listed(condition.is_not)]
            )
            and all(word >> bits[label] & 1 for label in condition.bits or [])
            and not any(word >> bits[label] & 1 for label in condition.no_bits or [])
            and (condition.at_least is None or value >= condition.at_least)
            and (condition.at_most is None or value <= condition.at_most)
        )

    def _literal(self, name: str, stated: str | float) -> float:
        return float((self._places[name].point.values or {})[stated]) if isinstance(stated, str) else float(stated)

    # What it is told

    def _take(self, written: dict[str, tuple[Place, bytes]]) -> None:
        self._bring_to_now()
        values = {name: from_bytes(place, data, self._exponent(place)) for name, (place, data) in written.items()}
        for name, value in values.items():
            limits = self._places[name].point.write_range
            if math.isnan(value) or (limits is not None and not limits[0] <= value <= limits[1]):
                raise RequestRefusedError(ILLEGAL_VALUE)
        for step in self._steps():
            together = {write.point for write in step.writes}
            if step.one_frame and together & set(values) and not together <= set(values):
                raise RequestRefusedError(ILLEGAL_VALUE)
        self._values.update(values)
        for name in values:
            if self._places[name].point.write == "command":
                self._carry_out(name)
        self._follow_words(set(values))
        for role, control in (("battery", self._control), ("pv", self._pv_control)):
            if control is not None:
                self._arm(role, control)
        self._obey()

    def _carry_out(self, command: str) -> None:
        """A command cures what called for it."""
        for step in self._control.take_over if self._control is not None else []:
            if any(write.point == command for write in step.writes):
                if step.when is not None:
                    self._make(step.when, holds=False)
                if step.until is not None:
                    self._make(step.until, holds=True)

    def _follow_words(self, written: set[str]) -> None:
        """A step that writes words to be kept, such as a mode, brings what it waits for; taking them back ends it."""
        for step in self._control.take_over if self._control is not None else []:
            kept = [write for write in step.writes if self._places[write.point].point.write != "command"]
            if step.until is not None and written & {one.point for one in kept}:
                self._make(step.until, holds=all(self._says(write) for write in kept))

    def _arm(self, role: str, control: Control) -> None:
        dead_man = control.dead_man
        after_s = dead_man.fixed
        if dead_man.point is not None:
            unit = UNITS[self._places[dead_man.point].point.unit]
            after_s = float(self._values[dead_man.point]) * float(unit.factor)
        if after_s:
            self._revert_at_utc_s[role] = self._plant.utc_s + after_s
        else:
            self._revert_at_utc_s.pop(role, None)

    def _obey(self) -> None:
        """Tell the plant what the registers say now; without control it follows nobody."""
        if self._control is not None:
            self._plant.setpoint_w = self._wanted_w(self._control)
        self._limit_pv()

    def _limit_pv(self) -> None:
        """PV gives what its ceiling, or that of the whole inverter, leaves it."""
        if self._pv_control is None:
            return
        ceiling_w, plant = self._wanted_w(self._pv_control), self._plant
        if self.profile.beside_pv is not None and ceiling_w is not None:
            ceiling_w -= plant.battery_w
        most_w = plant.config.pv.inverter_limit_w
        plant.pv_limit = 1.0 if ceiling_w is None else min(max(ceiling_w / most_w, 0.0), 1.0)

    def _lift(self) -> None:
        """The ceiling has ended by itself: the registers say so."""
        assert self._pv_control is not None
        for write in _writes(self._pv_control.release):
            if write.set is not None:
                self._values[write.point] = self._literal(write.point, write.set)
        self._limit_pv()

    def _wanted_w(self, control: Control) -> float | None:
        cyclic = {write.point for style in ("setpoint", *STYLES) for write in _writes(getattr(control, style))}
        taken = [write for write in _writes(control.take_over) if write.point not in cyclic]
        if not all(self._says(write) for write in taken if self._places[write.point].point.write != "command"):
            return None
        if not all(self._holds(step.until) for step in control.take_over if step.until is not None):
            return None
        if control.setpoint:
            return self._power_of(control.setpoint, 0)
        for style, direction in zip(STYLES, (0, -1, 1), strict=True):
            steps = getattr(control, style)
            if all(self._says(write) for write in _writes(steps)):
                return self._power_of(steps, direction)
        return None

    def _says(self, write: Write) -> bool:
        """Whether a fixed value that a sequence writes is what the point holds."""
        return write.set is None or float(self._values[write.point]) == self._literal(write.point, write.set)

    def _power_of(self, steps: list[Step], direction: int) -> float | None:
        """The power that the points of a sequence hold, in our sign; None while its fixed words do not hold."""
        if not all(self._says(write) for write in _writes(steps)):
            return None
        powers = [write for write in _writes(steps) if write.from_ == "power"]
        total_w, share = 0.0, 0.0
        for write in powers:
            value = float(self._values[write.point])
            factor = float(UNITS[self._places[write.point].point.unit].factor)
            if write.of is not None:
                rating = float(self._values[write.of]) * float(UNITS[self._places[write.of].point.unit].factor)
                factor = rating / 100.0
            magnitude = self._places[write.point].point.positive == "magnitude"
            total_w += value * factor * ((direction or 1) if magnitude else self._sign(write.point))
            share += write.share
        return total_w / share if powers else 0.0

    def _steps(self) -> Iterator[Step]:
        for control in (self._control, self._pv_control):
            for sequence in ("take_over", "setpoint", *STYLES, "release") if control is not None else ():
                yield from getattr(control, sequence)


def _listed(stated: str | float | list[str | int]) -> list[str | float]:
    return [*stated] if isinstance(stated, list) else [stated]


def _writes(steps: list[Step]) -> list[Write]:
    return [write for step in steps for write in step.writes]
