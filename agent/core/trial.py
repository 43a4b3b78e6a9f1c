"""What commissioning asks of one control tick: one battery, a power, and what is tried on it.

A trial stands above override, command and plans, beneath the safety latch, and within every limit. It only ever
narrows: the other batteries rest, the one under trial is held to `most_w`, and limits become tighter, never wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.core.allocate import Unit
from agent.core.awards import NO_AWARDS, AwardBook, book
from agent.core.bounds import Bound, room
from agent.core.droop import DroopTable
from agent.core.orders import Award
from agent.core.rules import SiteRules
from agent.core.snapshot import Reading

TEST_AWARD = "commissioning-test"
"""The id of the award that is only played: nobody sold it, and nothing of it counts as delivered."""
TEST_SUSTAIN_S = 60.0
"""Energy is kept free for so long, not for the product's own time: the test is over by then."""
TEST_AWARD_S = 600.0
"""The played award ends by itself after this, whatever becomes of the test."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One tick of commissioning; powers W, + toward the grid."""

    why: str
    """Who tries what, for people."""
    device_id: str | None = None
    """The battery that may move; None: all rest."""
    power_w: float = 0.0
    most_w: float = 0.0
    """The power of that battery stays within this, both ways."""
    quiet: bool = False
    """Nothing is written to that battery, no heartbeat either: does it end its setpoint by itself?"""
    shift_hz: float = 0.0
    """Added to the measured frequency, for the response only."""
    awards: AwardBook = NO_AWARDS
    """The played award; real ones are not answered meanwhile."""
    export_limit_w: float = math.inf
    import_limit_w: float = math.inf
    """Limits of the connection point, >= 0; only tighter ones than the site's own have an effect."""

    @property
    def plays_award(self) -> bool:
        """Whether frequency response is tried."""
        return bool(self.awards.sold)

    def leaves_alone(self, device_id: str) -> bool:
        """Whether nothing may be written to this battery now."""
        return self.quiet and device_id == self.device_id


def tried_rules(rules: SiteRules, trial: Trial | None) -> SiteRules:
    """The rules of a tick with this trial: limits of the connection point as narrow as it asks."""
    if trial is None or (trial.export_limit_w == math.inf and trial.import_limit_w == math.inf):
        return rules
    return replace(
        rules,
        export_limit_w=min(rules.export_limit_w, max(trial.export_limit_w, 0.0)),
        import_limit_w=min(rules.import_limit_w, max(trial.import_limit_w, 0.0)),
    )


def confined(units: Sequence[Unit], trial: Trial) -> tuple[Unit, ...]:
    """The batteries with the bounds of the trial: the others at rest, the one under trial within its power."""
    found: list[Unit] = []
    for unit in units:
        most_w = trial.most_w if unit.device_id == trial.device_id else 0.0
        bounds = (*unit.bounds, Bound("commissioning", unit.device_id, -most_w, most_w))
        found.append(replace(unit, bounds=bounds, room=room(bounds)))
    return tuple(found)


def shifted(reading: Reading | None, trial: Trial | None) -> Reading | None:
    """The frequency that the response is worked out from."""
    if trial is None or reading is None or reading.value is None or trial.shift_hz == 0.0:
        return reading
    return replace(reading, value=reading.value + trial.shift_hz)


def played_award(table: DroopTable, power_w: float, utc_s: float) -> AwardBook:
    """An award of `power_w` both ways that nobody sold, from now on."""
    short = replace(table, sustain_s=TEST_SUSTAIN_S)
    award = Award(TEST_AWARD, table.name, utc_s - 1.0, utc_s + TEST_AWARD_S, power_w)
    found, refused = book([award], {table.name: short}, rated_discharge_w=power_w, rated_charge_w=power_w)
    assert not refused, refused
    return found
