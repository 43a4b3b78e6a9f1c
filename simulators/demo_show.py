"""The script of the demo: what is done to whom and when, said in captions, with the facts kept for the checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from simulators.broker import Broker
from simulators.cloud_desk import SiteDesk
from simulators.demo_processes import AgentProcess, SimulatorProcess
from simulators.market import MarketClock

MIN_SHOW_SLOTS = 20
"""A shorter show has no room for every act between slot edges."""
RESTART_PAUSE_S = 0.5
"""Between the agent's death and its new start; systemd would wait about as long."""
HEAL_SLOTS = 5
"""A broker that somebody else killed comes back after so many slots."""
INTO_SLOT = 0.2
"""Acts come this part into a slot, so that they hit a slot that runs."""
PLANS = ("rolling", "yearly")


@dataclass(frozen=True, slots=True)
class Timeline:
    """When each act comes, in slots from the start of the show."""

    slots: int
    broker_down: float
    broker_up: float
    planning_pauses: float
    agent_killed: float
    last_plan: float
    plan_ends: int
    cloud_resumes: float

    @classmethod
    def of(cls, slots: int) -> Timeline:
        """The same acts at the same fractions of any show that is long enough."""
        assert slots >= MIN_SHOW_SLOTS, "the command line refuses this"

        def act(fraction: float) -> float:
            return round(fraction * slots) + INTO_SLOT

        return cls(
            slots=slots,
            broker_down=act(0.3),
            broker_up=act(0.467),
            planning_pauses=act(0.543) - 1.0,
            agent_killed=act(0.543),
            last_plan=act(0.64),
            plan_ends=round(0.8 * slots),
            cloud_resumes=act(0.873),
        )


@dataclass(slots=True)
class Span:
    """Something that was away; `end_utc_s` is None until it is back."""

    start_utc_s: float
    end_utc_s: float | None = None

    def overlaps(self, start_utc_s: float, end_utc_s: float) -> bool:
        """Whether any of the time from `start_utc_s` to `end_utc_s` falls in it."""
        return self.start_utc_s < end_utc_s and (self.end_utc_s is None or self.end_utc_s > start_utc_s)


@dataclass(slots=True)
class ShowFacts:
    """What the show saw, for the checks."""

    broker_outages: list[Span] = field(default_factory=list)
    agent_outages: list[Span] = field(default_factory=list)
    """From the kill until it writes verified setpoints under a plan again."""
    restart_utc_s: float | None = None
    plan_before_kill: Any = None
    plan_after_kill: Any = None
    plan_end_utc_s: float | None = None
    last_plan_version: int | None = None
    resumed_utc_s: float | None = None
    clips: dict[float, set[str]] = field(default_factory=dict)
    """By slot start: the limits that the agent named when it was asked (a few times a second)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything the script may touch."""

    clock: MarketClock
    broker: Broker
    cloud: SiteDesk
    simulator: SimulatorProcess
    agent: AgentProcess


class Show:
    """Plays the script against the clock; call `step` often."""

    def __init__(self, stage: Stage, start_utc_s: int, slots: int, say: Callable[[str], None]) -> None:
        """`say` gets each caption as it comes."""
        self.stage, self.start_utc_s = stage, start_utc_s
        self.timeline = Timeline.of(slots)
        self.end_utc_s = start_utc_s + slots * stage.clock.slot_s
        self.facts = ShowFacts()
        self.caption = ""
        self._say = say
        self._seen_source: str | None = None
        self._broker_back_utc_s: float | None = None
        line = self.timeline
        self._cues: list[tuple[float, Callable[[float], None]]] = [
            (0.0, self._begin),
            (line.broker_down, self._kill_broker),
            (line.planning_pauses, lambda _: stage.cloud.pause_planning()),
            (line.agent_killed, self._kill_agent),
            (line.last_plan, self._publish_last_plan),
            (line.cloud_resumes, self._resume),
        ]

    def step(self, now_utc_s: float, status: dict[str, Any] | None) -> None:
        """Do what is due at `now_utc_s`, and note what `status` (None: the agent does not answer) tells."""
        place = (now_utc_s - self.start_utc_s) / self.stage.clock.slot_s
        while self._cues and self._cues[0][0] <= place:
            _, act = self._cues.pop(0)
            act(now_utc_s)
        self._start_agent_when_due(now_utc_s)
        self._start_broker_when_due(now_utc_s)
        if status is not None:
            self._note(now_utc_s, status)

    def heal(self, now_utc_s: float) -> None:
        """Bring back what somebody outside the script killed, as systemd and an operator would."""
        facts, broker, agent = self.facts, self.stage.broker, self.stage.agent
        if not agent.running and facts.restart_utc_s is None:
            facts.agent_outages.append(Span(now_utc_s))
            facts.restart_utc_s = now_utc_s + RESTART_PAUSE_S
            self._tell("Somebody killed the agent. It starts again, as systemd would do.")
        if not broker.running and not _open(facts.broker_outages):
            facts.broker_outages.append(Span(now_utc_s))
            self._broker_back_utc_s = now_utc_s + HEAL_SLOTS * self.stage.clock.slot_s
            self._tell(f"Somebody killed the broker. It comes back in {HEAL_SLOTS} slots; the plan goes on.")

    def _tell(self, text: str) -> None:
        self.caption = text
        self._say(text)

    def _begin(self, now_utc_s: float) -> None:
        del now_utc_s
        self._tell("The agent follows the cloud's rolling plan: sell dear, buy cheap, steer each slot's energy.")

    def _kill_broker(self, now_utc_s: float) -> None:
        self.stage.broker.kill()
        if not _open(self.facts.broker_outages):
            self.facts.broker_outages.append(Span(now_utc_s))
        self._broker_back_utc_s = self.start_utc_s + self.timeline.broker_up * self.stage.clock.slot_s
        self._tell("The MQTT broker is killed (kill -9). The plan is on the agent's disk and goes on.")

    def _start_broker_when_due(self, now_utc_s: float) -> None:
        if self._broker_back_utc_s is None or now_utc_s < self._broker_back_utc_s:
            return
        self._broker_back_utc_s = None
        self.stage.broker.start()
        self.facts.broker_outages[-1].end_utc_s = now_utc_s
        self._tell("The broker is back. The agent sends what it kept on disk: nothing lost, nothing twice.")

    def _kill_agent(self, now_utc_s: float) -> None:
        agent = self.stage.agent
        status = agent.status() or {}
        self.facts.plan_before_kill = (status.get("plans") or {}).get("rolling")
        agent.kill()
        if not _open(self.facts.agent_outages):
            self.facts.agent_outages.append(Span(now_utc_s))
        self.facts.restart_utc_s = now_utc_s + RESTART_PAUSE_S
        self._tell("The agent is killed (kill -9). The battery holds its setpoint; its dead-man would stop it.")

    def _start_agent_when_due(self, now_utc_s: float) -> None:
        agent, facts = self.stage.agent, self.facts
        if facts.restart_utc_s is not None and now_utc_s >= facts.restart_utc_s and not agent.running:
            facts.restart_utc_s = None
            agent.start()
            self._tell("The agent starts again, with nothing but its disk.")

    def _note(self, now_utc_s: float, status: dict[str, Any]) -> None:
        source = str(status.get("source"))
        if source != self._seen_source and self._seen_source is not None and source == "yearly":
            self._tell("The rolling plan has run out. The yearly plan decides, within one tick.")
        self._seen_source = source
        self._note_clips(status)
        outages, facts = self.facts.agent_outages, self.facts
        verified = (status.get("counters") or {}).get("writes_verified") or 0
        if _open(outages) and self.stage.agent.running and verified and source in PLANS:
            outages[-1].end_utc_s = now_utc_s
            if facts.plan_before_kill is not None and facts.plan_after_kill is None:
                facts.plan_after_kill = (status.get("plans") or {}).get("rolling")
            self.stage.cloud.resume_planning()
            away_s = now_utc_s - outages[-1].start_utc_s
            self._tell(f"The agent is in control again, {away_s:.1f} s after its death, under the same plan.")

    def _note_clips(self, status: dict[str, Any]) -> None:
        slot = status.get("slot")
        for clip in status.get("clips") or () if slot else ():
            start = self.stage.clock.slot_start(unix_of(status["utc"]))
            self.facts.clips.setdefault(start, set()).add(f"{clip.get('limit')} ({clip.get('owner')})")

    def _publish_last_plan(self, now_utc_s: float) -> None:
        end_utc_s = self.start_utc_s + self.timeline.plan_ends * self.stage.clock.slot_s
        slots = (end_utc_s - self.stage.clock.slot_start(now_utc_s)) // self.stage.clock.slot_s
        self.facts.plan_end_utc_s = end_utc_s
        self.facts.last_plan_version = self.stage.cloud.publish_last_plan(slots)
        self._tell(f"The cloud falls silent. Its last rolling plan, cut short for the show, ends in {slots} slots.")

    def _resume(self, now_utc_s: float) -> None:
        self.facts.resumed_utc_s = now_utc_s
        self.stage.cloud.resume_planning()
        self._tell("The cloud plans again. Its new rolling plan takes over two slots later (gate closure).")


def _open(outages: list[Span]) -> bool:
    return bool(outages) and outages[-1].end_utc_s is None


def unix_of(text: str | float) -> float:
    """Unix time of an ISO 8601 text, or of a number that is it already."""
    return float(text) if isinstance(text, int | float) else datetime.fromisoformat(text).timestamp()
