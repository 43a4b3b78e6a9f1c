"""The frequency droop of a SunSpec DER (model 711): stored control sets, adoption, reversion and the answer; pure.

Set 1 is the one in force and cannot be written. A set that is asked for is adopted after a while; asking for set 0
leaves no control. With a reversion time the control falls back to RvrtCtl unless it is written again. The answer is
that of IEEE 1547-2018, 6.5.2.7: (distance from the edge of the dead band) / (nominal x droop), in shares of the rating,
around the power that the device was told, reached to 90 % within the open-loop response time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

IN_PROGRESS, COMPLETED, FAILED = 0, 1, 2
ADOPTED_AFTER_S = 0.25
SETS = 3
MAX_REVERSION_S = 86_400.0
LN_10 = math.log(10.0)
"""A first-order lag is at 90 % after this many time constants."""


@dataclass(frozen=True, slots=True)
class DroopSet:
    """One stored control set."""

    dead_band_over_hz: float = 0.036
    dead_band_under_hz: float = 0.036
    droop_over: float = 0.05
    droop_under: float = 0.05
    """IEEE 1547-2018 gives these as defaults."""
    respond_in_s: float = 5.0
    lowest_pct: float = 0.0
    """The answer to high frequency does not go below this share of the rating."""


FIELD_OF_POINT = {
    "DbOf": "dead_band_over_hz",
    "DbUf": "dead_band_under_hz",
    "KOf": "droop_over",
    "KUf": "droop_under",
    "RspTms": "respond_in_s",
    "PMin": "lowest_pct",
}
"""SunSpec point to field of `DroopSet`."""
HEAD_POINTS = ("Ena", "AdptCtlReq", "RvrtTms", "RvrtCtl")


@dataclass(slots=True)
class DroopControl:
    """Model 711 of an inverter of this rating on a grid of this frequency."""

    rated_w: float
    nominal_hz: float
    enabled: bool = False
    requested: int = 0
    result: int = COMPLETED
    revert_after_s: float = 0.0
    """0: no reversion."""
    revert_to: int = 0
    revert_at_utc_s: float | None = None
    reversions: int = 0
    sets: list[DroopSet] = field(default_factory=lambda: [DroopSet()] * SETS)
    """Set 1 first."""
    adopts: bool = True
    """False: every request to adopt a set fails, as of a device whose own limits forbid the curve."""
    _adopted_at_utc_s: float | None = None
    _none: bool = False
    """No control is in force, although enabled."""
    _answer_w: float = 0.0

    def allows(self, written: Mapping[str, float]) -> bool:
        """Whether all of `written` (such as `Ena` or `Ctl.2.DbOf`) is within range."""
        return all(self._allows_one(name.rpartition(".")[2], value) for name, value in written.items())

    def write(self, written: Mapping[str, float], now_utc_s: float) -> None:
        """Takes over values that `allows` has accepted, and starts the reversion time anew."""
        assert self.allows(written), written
        for name, value in written.items():
            match name.split("."):
                case ["Ena"]:
                    self.enabled = value == 1
                case ["RvrtTms"]:
                    self.revert_after_s = value
                case ["RvrtCtl"]:
                    self.revert_to = int(value)
                case ["AdptCtlReq"]:
                    self.requested, self.result = int(value), IN_PROGRESS
                    self._adopted_at_utc_s = now_utc_s + ADOPTED_AFTER_S
                case [_, index, point]:
                    at = int(index) - 1
                    self.sets[at] = replace(self.sets[at], **{FIELD_OF_POINT[point]: value})
        armed = self.enabled and self.revert_after_s > 0
        self.revert_at_utc_s = now_utc_s + self.revert_after_s if armed else None

    def settle(self, now_utc_s: float) -> None:
        """Finishes an adoption, and falls back, if their times have come."""
        if self._adopted_at_utc_s is not None and now_utc_s >= self._adopted_at_utc_s:
            self._adopted_at_utc_s = None
            self.result = COMPLETED if self.adopts else FAILED
            if self.adopts:
                self._take(self.requested)
        if self.revert_at_utc_s is not None and now_utc_s >= self.revert_at_utc_s:
            self.revert_at_utc_s = None
            self.reversions += 1
            self._take(self.revert_to)

    @property
    def following(self) -> bool:
        """Whether a control is in force."""
        return self.enabled and not self._none

    def remaining_s(self, now_utc_s: float) -> float:
        """Whole seconds to the reversion, rounded up; 0 when none is due."""
        return float(max(0, math.ceil(self.revert_at_utc_s - now_utc_s))) if self.revert_at_utc_s is not None else 0.0

    def aimed_w(self, utc_s: float, frequency_hz: float, told_w: float, dt_s: float) -> float:
        """The power to aim at, W, after `dt_s` more at `frequency_hz` when told `told_w`; + = discharge."""
        self.settle(utc_s)
        inside = self.sets[0]
        wanted_w = self._wanted_w(frequency_hz) if self.following else 0.0
        if wanted_w < 0.0:
            wanted_w = min(0.0, max(wanted_w, inside.lowest_pct / 100.0 * self.rated_w - told_w))
        lag_s = inside.respond_in_s / LN_10
        decay = math.exp(-dt_s / lag_s) if lag_s > 0.0 else 0.0
        self._answer_w = wanted_w + (self._answer_w - wanted_w) * decay
        return told_w + self._answer_w

    def reset(self) -> None:
        """The device starts anew: what was written is lost."""
        fresh = DroopControl(self.rated_w, self.nominal_hz)
        self.enabled, self.requested, self.result = fresh.enabled, fresh.requested, fresh.result
        self.revert_after_s, self.revert_to, self.revert_at_utc_s = 0.0, 0, None
        self.sets, self._adopted_at_utc_s, self._none, self._answer_w = fresh.sets, None, False, 0.0

    def _take(self, index: int) -> None:
        self._none = index == 0
        if index:
            self.sets[0] = self.sets[index - 1]

    def _wanted_w(self, frequency_hz: float) -> float:
        now = self.sets[0]
        below_hz = self.nominal_hz - frequency_hz
        if below_hz > now.dead_band_under_hz:
            return (below_hz - now.dead_band_under_hz) / (self.nominal_hz * now.droop_under) * self.rated_w
        if -below_hz > now.dead_band_over_hz:
            return (below_hz + now.dead_band_over_hz) / (self.nominal_hz * now.droop_over) * self.rated_w
        return 0.0

    def _allows_one(self, point: str, value: float) -> bool:
        match point:
            case "Ena":
                return value in (0, 1)
            case "AdptCtlReq" | "RvrtCtl":
                return 0 <= value <= SETS
            case "RvrtTms":
                return 0 <= value <= MAX_REVERSION_S
            case "KOf" | "KUf":
                return value > 0.0
            case "PMin":
                return -100.0 <= value <= 100.0
            case _:
                return value >= 0.0
