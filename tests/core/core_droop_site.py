"""A whole site driven through `step()` whose batteries can answer the frequency by their own droop."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from core_site import good, missing
from core_step_site import Cell, Site, rules_of

from agent.core.decision import Inputs
from agent.core.delegable import Part
from agent.core.delegation import DroopWrite
from agent.core.override import Override
from agent.core.snapshot import BatterySample, DroopOffer, DroopOutcome

OFFER = DroopOffer("", 500e3, True)


@dataclass
class DroopCell(Cell):
    """One true battery with a droop of its own: it takes a curve `droop_s` after it was asked."""

    offer: DroopOffer | None = OFFER
    droop_s: float = 0.5
    refuses_droop: bool = False
    """It confirms no curve, and its droop is off then."""
    refuses_off: bool = False
    """It goes on when it is told to stop, and says so."""
    stuck: bool = False
    """It confirms and gives nothing."""
    factor: float = 1.0
    """What it gives over what its curve asks for."""
    follows: Part | None = None
    fed_droop_s: float = -1e9
    hz: float = 50.0
    alarms: float = 0.0
    droop_told: list[tuple[float, DroopWrite]] = field(default_factory=list)
    """Writes under way: when they land, and what they say."""

    def sample(self, now_s: float) -> BatterySample:
        from_hz = missing(now_s) if self.follows is None else good(self.follows.curve.dead_band_hz, now_s)
        sample = replace(super().sample(now_s), own_droop_from_hz=from_hz, droop_offer=self.offer)
        return replace(sample, alarms=good(self.alarms, now_s))

    @property
    def answer_w(self) -> float:
        """What it gives by itself."""
        if self.follows is None or self.stuck or self.held_w is None:
            return 0.0
        return self.follows.answer_w(self.hz, 50.0) * self.factor

    def live_through(self, dt_s: float, efficiency: float) -> None:
        held_w = self.held_w
        if held_w is not None:
            self.held_w = min(max(held_w + self.answer_w, -self.rated_w), self.rated_w)
        super().live_through(dt_s, efficiency)
        self.held_w = held_w


@dataclass
class DroopSite(Site):
    """The same for batteries of which some may be handed the response."""

    droop_outcomes: list[DroopOutcome] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    """Times at which a device answered while its setpoint carried an answer of the agent."""
    droop_writes: list[tuple[float, DroopWrite]] = field(default_factory=list)
    baseline_w: float | None = None
    """What the plan asks of all batteries; with it `both` is watched."""

    override: Override | None = None

    def inputs(self) -> Inputs:
        given = replace(super().inputs(), droop_outcomes=tuple(self.droop_outcomes), override=self.override)
        self.droop_outcomes = []
        return given

    def _live(self, parts: int) -> None:
        cells = {cell.device_id: cell for cell in self.cells}
        for write in self.log[-1][1].droop_writes:
            cell = cells[write.device_id]
            self.droop_writes.append((self.t, write))
            cell.droop_told.append((self.t + cell.droop_s, write))
        super()._live(parts)

    def _land(self, cell: Cell) -> None:
        super()._land(cell)
        cell.hz = self.frequency_hz(self.t) or cell.hz
        for at_s, write in [one for one in cell.droop_told if one[0] <= self.t]:
            cell.droop_told.remove((at_s, write))
            self.droop_outcomes.append(self._landed(cell, write))
        if cell.follows is not None and self.t - cell.fed_droop_s > cell.dead_man_s:
            cell.follows = None
        carried_w = (
            0.0 if self.baseline_w is None or cell.held_w is None else cell.held_w * len(self.cells) - self.baseline_w
        )
        if cell.follows is not None and abs(carried_w) > 2e3 and cell.fed_s > 0.0:
            self.both.append(self.t)

    def _landed(self, cell: DroopCell, write: DroopWrite) -> DroopOutcome:
        wanted = write.part.curve if write.part is not None else None
        if cell.silent:
            return DroopOutcome(cell.device_id, wanted, None, False, False, "no answer within the timeout", self.t)
        if cell.refuses_off and not (write.part is not None and write.answering):
            held = cell.follows.curve if cell.follows is not None else None
            return DroopOutcome(cell.device_id, wanted, held, False, False, "711.Ena reads 1", self.t)
        if cell.refuses_droop and write.part is not None:
            cell.follows = None
            return DroopOutcome(cell.device_id, wanted, None, False, True, "refused to adopt", self.t)
        cell.follows = write.part if write.answering else None
        cell.fed_droop_s = self.t
        held = cell.follows.curve if cell.follows is not None else None
        return DroopOutcome(cell.device_id, wanted, held, True, cell.follows is None, "", self.t)


def droop_site(count: int = 1, **changes: object) -> DroopSite:
    """A site of `count` batteries whose own droop is to answer."""
    rules = changes.pop("rules", None) or rules_of(count)
    rules = replace(rules, delegated=frozenset(battery.device_id for battery in rules.batteries))
    cells = changes.pop("cells", None) or [DroopCell(battery.device_id) for battery in rules.batteries]
    return DroopSite(rules, cells, **{"tick_s": 0.5, **changes})
