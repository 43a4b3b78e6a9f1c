"""An award handed to the battery's own droop, over real sockets: kept over kill -9, ended by its timer, taken back."""

import time
from dataclasses import asdict, replace

import pytest
from integration_site import SITE_FILE, STILL, award, ems, near, orders, until

from simulators.droop_control import DroopSet
from simulators.plant import LoadConfig, PvConfig
from simulators.site_config import ModbusConfig

AWARD_W = 50_000.0
LONE = replace(
    STILL,
    pv=PvConfig(peak_w=0.0, irradiance_w_per_m2=(0.0,)),
    load=LoadConfig(base_w=0.0, noise_pct=0.0),
    modbus=ModbusConfig(battery_kind="der-droop"),
)
"""Nothing at the connection point but the battery."""
HANDING = SITE_FILE.replace('dead_man = "{dead_man}"', 'dead_man = "{dead_man}"\nfrequency_response = "device"')


class Handed:
    """A battery whose device answers an award of `AWARD_W`, one way or both."""

    def __init__(self, parts, *, dead_man="6 s"):
        self.plant = parts.plant(config=LONE)
        self.agent = parts.agent(self.plant, text=HANDING, dead_man=dead_man).start()
        self.start = int(time.time()) + 2
        self.agent.import_plan(
            orders("awards", 1, [award("a1", 50.0, self.start, self.start + 3600, product="eprx-primary-online-50hz")])
        )
        self.until_handed()

    @property
    def droop(self):
        """The device's own droop, as it is in the device."""
        return self.plant.site.battery.droop

    def until_handed(self):
        until(lambda: ("droop_delegated", "bess") in self.agent.conditions(), "the device answers")

    def until_gives(self, power_w):
        until(lambda: near(self.plant.battery_w, power_w, 1_000.0), f"the battery gives {power_w / 1e3:g} kW")

    def most_w(self):
        """The most that the battery ever gave, by the truths of each second."""
        return max(abs(truth.battery_w) for truth in list(self.plant.truths.values()))


@pytest.fixture
def handed(parts):
    return Handed(parts)


def test_the_device_answers_both_ways_its_setpoint_stays_and_each_second_is_on_record(handed):
    handed.plant.shift_frequency(-0.2)
    handed.until_gives(AWARD_W)
    assert handed.plant.control.points.set_w == 0.0

    def whole():
        row = handed.agent.evidence(handed.start, int(time.time())).get(int(time.time()) - 1, {})
        return row if near(row.get("power_w"), AWARD_W, 600.0) else None

    row = until(whole, "a whole second of all of it is on record")
    assert near(row["response_w"], AWARD_W, 600.0)
    assert near(row["baseline_w"], 0.0, 1.0)
    handed.plant.shift_frequency(0.2)
    handed.until_gives(-AWARD_W)
    assert handed.plant.control.points.set_w == 0.0
    assert ("own_droop", "bess") not in handed.agent.conditions()
    shown = ems("explain", socket_path=handed.agent.socket).stdout
    assert "of that    -50.0 kW are expected of bess's own droop" in shown


def test_killed_the_device_answers_on_until_its_timer_and_answers_again_after_the_restart(handed):
    handed.plant.shift_frequency(-0.2)
    handed.until_gives(AWARD_W)
    handed.agent.kill()
    assert near(handed.plant.battery_w, AWARD_W, 1_000.0)
    until(lambda: handed.droop.reversions, "its timer ends it")
    handed.until_gives(0.0)
    handed.agent.start()
    handed.until_handed()
    handed.until_gives(AWARD_W)
    assert handed.plant.control.points.set_w == 0.0
    assert handed.most_w() <= AWARD_W * 1.02, "never answered twice"


def test_a_restart_within_the_timer_goes_on_without_a_gap_and_without_a_second_answer(parts):
    handed = Handed(parts, dead_man="60 s")
    handed.plant.shift_frequency(-0.2)
    handed.until_gives(AWARD_W)
    full = round(time.time()) + 1
    handed.agent.kill()
    handed.agent.start()
    handed.until_handed()
    done = round(time.time()) + 2
    until(lambda: done in handed.plant.truths, "two seconds after it")
    given_w = [handed.plant.truths[at].battery_w for at in range(full, done)]
    assert min(given_w) >= AWARD_W * 0.98
    assert max(given_w) <= AWARD_W * 1.02
    assert handed.droop.reversions == 0


def test_withdrawn_or_stopped_it_is_taken_back(handed):
    handed.plant.shift_frequency(-0.2)
    handed.until_gives(AWARD_W)
    handed.agent.import_plan(orders("awards", 2, []))
    until(lambda: not handed.droop.enabled, "its droop is off")
    handed.until_gives(0.0)
    handed.agent.import_plan(
        orders("awards", 3, [award("a2", 50.0, handed.start, handed.start + 3600, product="eprx-primary-online-50hz")])
    )
    handed.until_handed()
    handed.until_gives(AWARD_W)
    assert handed.agent.terminate() == 0
    assert not handed.droop.enabled
    handed.until_gives(0.0)


def test_a_droop_that_the_owner_had_set_is_his_again_after_the_stop_also_of_a_later_run(parts):
    plant = parts.plant(config=LONE)
    droop, theirs = plant.site.battery.droop, DroopSet(dead_band_over_hz=0.5, dead_band_under_hz=0.5, droop_over=0.08)
    droop.enabled, droop.sets[0] = True, theirs
    agent = parts.agent(plant, text=HANDING).start()
    until(lambda: not droop.enabled, "the agent switches it off")
    start = int(time.time())
    agent.import_plan(orders("awards", 1, [award("a1", 50.0, start, start + 3600)]))
    until(lambda: ("droop_delegated", "bess") in agent.conditions(), "the device answers by the award's curve")
    assert droop.sets[0] != theirs
    agent.kill()
    agent.start()
    until(lambda: ("droop_delegated", "bess") in agent.conditions(), "again")
    assert agent.terminate() == 0
    assert (droop.enabled, droop.revert_after_s) == (True, 0.0)
    assert [asdict(one) for one in droop.sets[:2]] == [pytest.approx(asdict(one)) for one in (theirs, DroopSet())]


def test_a_device_that_confirms_and_does_not_follow_loses_the_award_to_the_agent(handed):
    handed.plant.site.plant.droop = lambda _utc_s, _hz, told_w, _dt_s: told_w
    handed.plant.shift_frequency(-0.2)
    until(lambda: ("droop_not_delegated", "bess") in handed.agent.conditions(), "it is taken back")
    handed.until_gives(AWARD_W)
    assert not handed.droop.enabled
    (told, *_) = until(lambda: handed.agent.events("droop_not_delegated"), "the event")
    assert "did not follow" in told["text"]


def test_a_device_that_refuses_the_curve_leaves_the_award_to_the_agent(parts):
    plant = parts.plant(config=LONE)
    plant.site.battery.droop.adopts = False
    agent = parts.agent(plant, text=HANDING).start()
    start = int(time.time())
    agent.import_plan(orders("awards", 1, [award("a1", 50.0, start, start + 3600)]))
    plant.shift_frequency(-0.2)
    until(lambda: near(plant.battery_w, AWARD_W, 1_000.0), "the agent answers")
    assert not plant.site.battery.droop.enabled
    until(
        lambda: any("refused to adopt" in event["text"] for event in agent.events("droop_not_delegated")), "the event"
    )
