"""The words of commissioning: steps, phases, findings, results, and what a step may know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.awards import NO_AWARDS, AwardBook
from agent.core.commissioning_log import Row
from agent.core.decision import Decision
from agent.core.droop import DroopTable
from agent.core.rules import BatteryRules, SiteRules
from agent.core.snapshot import BatterySample, MeterSample
from agent.core.writes import WriteState


class Word(StrEnum):
    """What became of a step, or of one finding in it."""

    PASSED = "passed"
    REMARK = "remark"
    """Passed, and somebody should know."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """It does not apply to this site; the finding says why."""
    STOPPED = "stopped"
    """Ended before it could tell."""


GOOD = (Word.PASSED, Word.REMARK, Word.SKIPPED)
"""Nothing of these needs doing again."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    word: Word
    code: str
    """For programs, such as `meter_reversed`."""
    text: str
    """What was found, with figures."""
    hint: str = ""
    """What to do next."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one step."""

    word: Word
    findings: tuple[Finding, ...]
    measures: Mapping[str, float | None] = field(default_factory=dict)
    """Figures by name, the unit last in it."""
    begun_utc_s: float = 0.0
    ended_utc_s: float = 0.0
    series: tuple[tuple[float | None, ...], ...] = ()
    """Rows of (seconds since the step began, asked W, battery W, connection point W, SoC %, Hz)."""


def result(findings: Sequence[Finding], measures: Mapping[str, float | None] | None = None) -> Result:
    """The result that these findings make: as bad as the worst of them."""
    worst = next((word for word in _BY_WEIGHT if any(one.word is word for one in findings)), Word.PASSED)
    return Result(worst, tuple(findings), measures or {})


_BY_WEIGHT = (Word.STOPPED, Word.FAILED, Word.REMARK, Word.PASSED, Word.SKIPPED)


def skipped(code: str, text: str) -> Result:
    """The result of a step that does not apply."""
    return result([Finding(Word.SKIPPED, code, text)])


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device as it was found: by itself, by the site file, by its link."""

    device_id: str
    role: str
    endpoint: str
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    profile: str | None = None
    expected_serial: str | None = None
    answers: bool = True
    trouble: str = ""
    """Why it does not answer, or why another one does."""
    stranger: bool = False
    """Another device answers than the site file and the profile describe."""
    has_dead_man: bool | None = None
    remote: bool | None = None


@dataclass(frozen=True, slots=True)
class CloudFacts:
    """The link to the cloud."""

    connected: bool
    trouble: str | None
    waiting: int
    """Messages that the cloud has not confirmed."""
    confirmed_mono_s: float
    """When it last confirmed something."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that commissioning may know after a control tick; readings are aged."""

    utc_s: float
    mono_s: float
    batteries: tuple[BatterySample, ...]
    meter: MeterSample | None
    pv_w: float | None
    """None while a PV inverter cannot be read."""
    decision: Decision
    writes: tuple[WriteState, ...]
    alarms: Mapping[tuple[str, str], str]
    """Conditions of severity alarm that stand: text by code and subject."""
    latched: str = ""
    """Why a safety latch fell, "" while none has."""
    outside: str = ""
    """Somebody else's right that begins: an award in force, an override; "" while there is none."""
    devices: tuple[DeviceFacts, ...] = ()
    cloud: CloudFacts | None = None
    """None on a site without a cloud."""
    led: bool = True
    """Whether the command that leads it was heard lately."""
    stop: str = ""
    """Who wants it to end, "" while nobody does."""
    go: str = ""
    """The step that the operator agreed to."""

    def battery(self, device_id: str | None) -> BatterySample | None:
        """One battery's newest readings."""
        return next((one for one in self.batteries if one.device_id == device_id), None)


@dataclass(frozen=True, slots=True)
class Scene:
    """What does not change while a step runs."""

    rules: SiteRules
    table: DroopTable | None = None
    """The droop table that is tried; None where the site has no grid that one is known for."""
    battery: BatteryRules | None = None
    """The battery under trial; None in steps of the whole site."""
    results: Mapping[str, Result] = field(default_factory=dict)
    """Of the steps before, by key."""

    @property
    def rated_w(self) -> float:
        """The smaller rating of the battery under trial."""
        assert self.battery is not None, "only asked in steps of one battery"
        return min(self.battery.rated_charge_w, self.battery.rated_discharge_w)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a step in which one thing is asked."""

    name: str
    power_w: float
    most_s: float
    """It ends after this, whatever was seen."""
    over: Callable[[Sequence[Row]], bool]
    """Whether its own rows show that it may end."""
    quiet: bool = False
    shift_hz: float = 0.0
    awards: AwardBook = NO_AWARDS
    export_limit_w: float = float("inf")
    import_limit_w: float = float("inf")
    allowed_w: tuple[float, float] = (0.0, 0.0)
    """The battery's measured power outside of this is a surprise."""


Script = Callable[[Scene, Sequence[Row], Moment], Phase | None]
"""The next phase, given the rows so far; None when the step has seen enough."""
Judge = Callable[[Scene, Sequence[Row], Moment], Result]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of commissioning."""

    name: str
    title: str
    script: Script
    judge: Judge
    about: str
    """What will happen, for the operator who is asked."""
    per_battery: bool = False
    moves: bool = False
    """Whether a battery is moved; in guided mode the operator is asked before."""
    vital: bool = False
    """Whether going on after a failure would be unsafe, or would tell nothing."""
