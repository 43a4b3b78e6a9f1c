"""The script of the demo, with stand-ins that only write down what was done to them."""

import pytest

from simulators.demo_show import Show, Stage
from simulators.market import SHOW_START, MarketClock

EPOCH = 1_700_000_000


class Recorder:
    """Stands in for one part; `running` follows start and kill."""

    def __init__(self, name, acts):
        self._name, self._acts = name, acts
        self.running = True
        self.plan = {"version": 3}

    def _did(self, what):
        self._acts.append(f"{self._name} {what}")

    def start(self):
        self.running = True
        self._did("start")

    def kill(self):
        self.running = False
        self._did("kill")

    def status(self):
        return status(self.plan) if self.running else None

    def pause_planning(self):
        self._did("pause")

    def resume_planning(self):
        self._did("resume")

    def publish_last_plan(self, slots):
        self._did(f"last plan of {slots}")
        return 7


def status(plan=None, source="rolling", verified=3):
    return {
        "utc": "2023-11-14T22:13:20Z",
        "source": source,
        "plans": {"rolling": plan or {"version": 3}},
        "counters": {"writes_verified": verified},
        "slot": {"start": "2023-11-14T22:13:20Z"},
        "clips": [{"limit": "nameplate", "owner": "bess"}],
    }


@pytest.fixture
def acts():
    return []


@pytest.fixture
def show(acts):
    clock = MarketClock(EPOCH, int(SHOW_START.timestamp()), 2)
    parts = [Recorder(name, acts) for name in ("broker", "cloud", "simulator", "agent")]
    return Show(Stage(clock, *parts), EPOCH, 30, lambda _: None)


def play(show, until_slot, from_slot=0.0):
    """Step ten times a slot, as the demo does; the agent answers while it runs."""
    for tenth in range(round(from_slot * 10), round(until_slot * 10)):
        now = EPOCH + tenth * 0.2
        show.step(now, show.stage.agent.status())


def test_the_acts_come_in_the_order_of_the_script(show, acts):
    play(show, 30)
    assert acts == [
        "broker kill",
        "broker start",
        "cloud pause",
        "agent kill",
        "agent start",
        "cloud resume",
        "cloud last plan of 5",
        "cloud resume",
    ]


def test_the_facts_of_outages_and_plans_are_kept_for_the_checks(show):
    play(show, 30)
    facts = show.facts
    assert facts.broker_outages[0].end_utc_s - facts.broker_outages[0].start_utc_s == pytest.approx(10.0)
    assert 0.5 <= facts.agent_outages[0].end_utc_s - facts.agent_outages[0].start_utc_s <= 1.0
    assert facts.plan_before_kill == facts.plan_after_kill == {"version": 3}
    assert facts.plan_end_utc_s == EPOCH + 48
    assert facts.clips[EPOCH] == {"nameplate (bess)"}


def test_an_agent_without_a_verified_write_is_not_yet_in_control(show):
    play(show, 16.5)
    show.stage.agent.running = True
    show.step(EPOCH + 34.0, status(verified=0))
    show.step(EPOCH + 34.2, status(source="local_rule"))
    assert show.facts.agent_outages[0].end_utc_s is None
    show.step(EPOCH + 34.4, status())
    assert show.facts.agent_outages[0].end_utc_s == EPOCH + 34.4


def test_what_somebody_else_kills_is_brought_back(show, acts):
    play(show, 2)
    show.stage.agent.running = show.stage.broker.running = False
    show.heal(EPOCH + 4.0)
    show.heal(EPOCH + 4.1)
    play(show, 8, from_slot=2.0)
    assert acts == ["agent start", "cloud resume", "broker start"]
    assert [len(outages) for outages in (show.facts.agent_outages, show.facts.broker_outages)] == [1, 1]
    assert show.facts.plan_after_kill is None


def test_a_broker_that_is_dead_already_when_the_script_kills_it_is_one_outage(show, acts):
    play(show, 8)
    show.stage.broker.running = False
    show.heal(EPOCH + 16.0)
    play(show, 30, from_slot=8.0)
    assert acts.count("broker start") == 1
    assert len(show.facts.broker_outages) == 1
    assert show.facts.broker_outages[0].end_utc_s is not None


def test_the_takeover_by_the_yearly_plan_is_said(show):
    show.step(EPOCH, status())
    show.step(EPOCH + 0.2, status(source="yearly"))
    assert "yearly plan decides" in show.caption
