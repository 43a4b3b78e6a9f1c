"""Writes that are true, for a SunSpec device and one with a profile: what became of a setpoint is told by the device.

Both run side by side under two daemons; each is driven to 2 kW of discharge, and then something goes wrong with it.
"""

import pytest
from integration_profile_plant import SITE_FILE, ProfilePlant
from integration_site import Agent, document, near, until

from drivers.profile.load import find
from simulators.profile_device import ProfileDevice

NAMES = ("sunspec-battery", "sungrow-sh")


class Driven:
    """A device under a daemon of its own."""

    def __init__(self, name, folder):
        folder.mkdir()
        self.name, self.plant = name, ProfilePlant(find(name, None))
        self.agent = Agent(folder, self.plant, text=SITE_FILE, profile=name, dead_man="30 s")

    @property
    def device(self):
        return self.plant.site.device

    @property
    def verdict(self):
        return self.agent.ask("explain")["result"]["verdicts"].get("bess")

    def reboot(self):
        self.plant.do(self.device.reboot if isinstance(self.device, ProfileDevice) else self.device.made.reboot)

    def somebody_writes(self, power_w):
        """Another controller tells the device something else."""

        def write():
            if isinstance(self.device, ProfileDevice):
                self.device._values["command_power"] = power_w
                self.device._obey()
            else:
                self.device.made.control.write({"WSet": power_w}, self.plant.site.plant.utc_s)
                self.device.made.apply_setpoint()

        self.plant.do(write)

    def holds_and_does_nothing(self):
        """From now on its registers take every setpoint, and its power stays."""
        if isinstance(self.device, ProfileDevice):
            self.device._obey = lambda: None
        else:
            self.device.made.apply_setpoint = lambda: None

    def close(self):
        self.agent.close()
        self.plant.close()


@pytest.fixture
def both(tmp_path):
    """Each delivers 2 kW by plan."""
    made = [Driven(name, tmp_path / name) for name in NAMES]
    for one in made:
        one.agent.start()
        one.agent.import_plan(document(1, [2.0] * 600))
    for one in made:
        until(lambda one=one: one.verdict == "owned", f"{one.name}: held and delivered")
        assert near(one.plant.battery_w, 2000.0, 50.0)
    yield made
    for one in made:
        one.close()


def test_after_a_reboot_the_loss_is_told_and_the_setpoint_asserted_again(both):
    for one in both:
        one.reboot()
    for one in both:
        lost = until(lambda one=one: one.agent.events("setpoint_lost"), f"{one.name}: the loss is told")[0]
        assert (lost["data"]["ours_w"], lost["data"]["found_w"]) == (2000.0, None)
        until(lambda one=one: near(one.plant.battery_w, 2000.0, 50.0), f"{one.name}: asserted again")
        until(lambda one=one: one.verdict == "owned", f"{one.name}: and delivered")


def test_what_somebody_else_wrote_is_told_and_written_over(both):
    for one in both:
        one.somebody_writes(700)
    for one in both:
        changed = until(lambda one=one: one.agent.events("setpoint_lost"), f"{one.name}: the change is told")[0]
        assert (changed["data"]["ours_w"], changed["data"]["found_w"]) == (2000.0, 700.0)
        until(lambda one=one: near(one.plant.battery_w, 2000.0, 50.0), f"{one.name}: written over")


def test_a_device_that_only_pretends_to_take_a_setpoint_owns_nothing(both):
    for one in both:
        one.plant.faults.lie = True
        one.agent.import_plan(document(2, [-1.0] * 600))
    for one in both:
        until(lambda one=one: ("setpoint_refused", "bess") in one.agent.conditions(), f"{one.name}: it is told")
        assert one.verdict == "not_applied"
        outcome = one.agent.ask("explain")["result"]["last_outcomes"]["bess"]
        assert "accepted but not applied" in outcome["reason"]
        assert not outcome["confirmed"]


def test_a_setpoint_that_is_held_is_delivered_only_when_measured_power_follows(both):
    for one in both:
        one.holds_and_does_nothing()
        one.agent.import_plan(document(2, [-1.0] * 600))
    for one in both:
        until(lambda one=one: one.verdict == "settling", f"{one.name}: on its way")
    for one in both:
        until(lambda one=one: one.verdict == "not_applied", f"{one.name}: never delivered")
        assert one.agent.ask("explain")["result"]["last_outcomes"]["bess"]["held_w"] == pytest.approx(-1000.0, abs=20.0)
        assert ("not_following", "bess") in one.agent.conditions()


def test_of_a_device_that_cannot_be_read_nothing_is_known(both):
    for one in both:
        one.plant.faults.silent = True
    for one in both:
        until(lambda one=one: one.verdict == "stale", f"{one.name}: not known any more")
    for one in both:
        one.plant.faults.silent = False
    for one in both:
        until(lambda one=one: one.verdict == "owned", f"{one.name}: known and delivered again")


def test_another_kind_of_sunspec_device_is_told_and_never_written_to(tmp_path):
    plant = ProfilePlant(find("sunspec-battery", None))
    agent = Agent(tmp_path, plant, text=SITE_FILE, profile="sunspec-hybrid", dead_man="30 s")
    try:
        agent.start()
        agent.import_plan(document(1, [2.0] * 600))
        until(lambda: ("wrong_identity", "bess") in agent.conditions(), "it is told")
        until(lambda: agent.device("bess")["failures"] >= 2, "it is tried again")
        assert "it should have SunSpec model 714 or 160" in agent.device("bess")["last_error"]
        assert plant.do(lambda: plant.site.device.made.control.points.enabled) == 0.0
        assert plant.battery_w == 0.0
    finally:
        agent.close()
        plant.close()
