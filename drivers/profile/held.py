"""What a device holds, told from its registers: whether it is under our control, in which direction, how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.core.snapshot import NEVER, Quality, Reading
from drivers.profile.conditions import holds
from drivers.profile.model import Control, Step, Write
from drivers.profile.reads import Spots
from drivers.profile.units import SHARE, UNITS
from drivers.profile.values import Values
from drivers.profile.writing import literal, share_of
from drivers.read_plan import Reads

SPLIT = ("rest", "charge", "discharge")
SIGN_OF = {"rest": 0, "charge": -1, "discharge": 1, "setpoint": 0}


class HeldState:
    """Which readings prove which state, worked out once from a control's sequences.

    Under control: every readable point holds what `take_over` wrote to it, and what it waited for still holds.
    Commands are left out, reading them back tells nothing.
    """

    def __init__(self, spots: Spots, control: Control) -> None:
        self._spots = spots
        self._control = control
        self._styles = ("setpoint",) if control.setpoint else SPLIT
        cyclic = {write.point for style in self._styles for write in _writes(getattr(control, style))}
        self._taken = {name: value for name, value in self._words(control.take_over).items() if name not in cyclic}
        self._waited = [step.until for step in control.take_over if step.until is not None]
        self._released = self._words(control.release)
        self._direction = {style: self._words(getattr(control, style)) for style in self._styles}
        self._power = {style: self._powers(getattr(control, style)) for style in self._styles}

    @property
    def names(self) -> list[str]:
        """The points that must be read to tell."""
        names = [*self._taken, *(condition.point for condition in self._waited)]
        for style in self._styles:
            names += [*self._direction[style], *(write.point for write in self._power[style])]
            names += [write.of for write in self._power[style] if write.of is not None]
        names += self._released
        return list(dict.fromkeys(names))

    @property
    def told(self) -> bool:
        """Whether anything tells that the take-over was done."""
        return bool(self._taken or self._waited)

    def under_control(self, reads: Reads) -> bool:
        """True when all that can be read says that the device is under our control; True where nothing says so."""
        words = all(self._says(reads, name, value) for name, value in self._taken.items())
        return words and all(holds(self._spots.profile, condition, reads) is True for condition in self._waited)

    def ours(self, reads: Reads) -> bool:
        """True when something that only we write is found: the device was left under our control."""
        words = self.told or any(self._direction.values())
        return words and self.power(reads).value is not None

    def released(self, reads: Reads) -> bool:
        """True when the device holds what `release` writes, as far as that is fixed and can be read."""
        return bool(self._released) and all(self._says(reads, name, value) for name, value in self._released.items())

    def power(self, reads: Reads) -> Reading:
        """The setpoint that the device holds, in W toward the grid; missing while it is not under control."""
        oldest_s = min((reads[name].read_mono_s for name in self.names if name in reads), default=NEVER.read_mono_s)
        nothing = Reading(None, oldest_s, Quality.MISSING)
        if not self.under_control(reads):
            return nothing
        for style in self._styles:
            if all(self._says(reads, name, value) for name, value in self._direction[style].items()):
                return self._power_in(style, reads, oldest_s) or nothing
        return nothing

    def style(self, power_w: float) -> str:
        """The sequence that makes the device hold `power_w`."""
        if self._styles == ("setpoint",):
            return "setpoint"
        return "rest" if power_w == 0.0 else "charge" if power_w < 0.0 else "discharge"

    def _power_in(self, style: str, reads: Reads, oldest_s: float) -> Reading | None:
        writes = self._power[style]
        if not writes:
            return Reading(0.0, oldest_s) if style == "rest" else None
        values = Values(self._spots.profile, reads)
        total_w = total_share = 0.0
        for write in writes:
            point = self._spots.profile.points[write.point]
            part = values.point(write.point).value
            if part is None:
                return None
            if UNITS[point.unit].dimension == SHARE:
                rating_w = values.point(write.of or "").value
                if rating_w is None:
                    return None
                part *= abs(rating_w) / 100.0
            total_w += abs(part) * SIGN_OF[style] if point.positive == "magnitude" and SIGN_OF[style] else part
            total_share += float(share_of(write))
        # Registers of several phases add up to the whole; registers that all take the whole are counted once.
        return Reading(total_w / total_share, oldest_s)

    def _says(self, reads: Reads, name: str, value: float) -> bool:
        read = reads.get(name)
        if read is None or isinstance(read.value, str) or read.value is None:
            return False
        return abs(read.value - value) <= max(0.5 * self._spots[name].codec.step(), 1e-6 * abs(value))

    def _words(self, steps: Sequence[Step]) -> dict[str, float]:
        """What the readable points hold after these steps, as far as it is fixed."""
        words: dict[str, float] = {}
        for write in _writes(steps):
            point = self._spots.profile.points[write.point]
            value = literal(self._spots, write)
            if value is None:
                words.pop(write.point, None)
            elif point.readable and point.write != "command":
                words[write.point] = value
        return words

    def _powers(self, steps: Sequence[Step]) -> list[Write]:
        found = [write for write in _writes(steps) if write.from_ == "power"]
        return [write for write in found if self._spots.profile.points[write.point].readable]


def _writes(steps: Sequence[Step]) -> Iterator[Write]:
    return (write for step in steps for write in step.writes)
