"""Commissioning of simulated sites on virtual time: the healthy one passes, each lie is found and named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from runtime_commission import OPERATOR, QUIET, T0, VISITOR, Disk, VirtualSite, codes, measures, words

from agent.core.authority import Source
from agent.core.frequency import Trouble
from agent.core.orders import Award, OrderDocument, OrderKind
from agent.core.override import Override
from agent.core.plan import Plan, PlanKind, Target
from agent.core.term import begun
from agent.core.trial import TEST_AWARD
from agent.runtime.local_socket import Refusal
from simulators.battery import BatteryConfig
from simulators.lying_battery import Lies
from simulators.sunspec_devices import MeterConfig

RATED_W = 500_000.0
SERIAL = {"battery": {"expected_serial": "SIM-BATTERY-1"}}


def lying(**lies):
    return replace(QUIET, lies=Lies(**lies))


def metered(**meter):
    return replace(QUIET, meter=MeterConfig(**meter))


def rested(site):
    return abs(site.site.plant.battery_w) < 0.02 * RATED_W


def texts(facts, code):
    found = [one for step in facts["steps"] for one in step["findings"] if one["code"] == code]
    return " ".join(f"{one['text']} {one['hint']}" for one in found)


def told(site, code):
    return [event for event in site.events if event.code == code]


async def test_a_healthy_site_passes_within_five_minutes_and_rests_before_and_after_each_step():
    site = VirtualSite()
    await site.start()
    begun_s = site.clock.t
    facts = await site.lead()
    assert (facts["verdict"], facts["why"]) == ("passed", "")
    assert words(facts) == {
        "identity": "remark",
        "limits": "passed",
        "readings:bess": "passed",
        "sign_scale:bess": "passed",
        "step_response:bess": "passed",
        "dead_man:bess": "passed",
        "energy:bess": "passed",
        "connection_limit:bess": "passed",
        "cloud": "skipped",
        "fcr:bess": "passed",
    }
    assert site.clock.t - begun_s < 300.0
    assert max(abs(power_w) for _, power_w in site.powers) < 0.205 * RATED_W, "never more than a fifth of the rating"
    assert rested(site)
    assert (site.control.trial, site.control.decisions[-1].source) == (None, Source.COMMISSIONING)
    await site.tick()
    assert site.control.decisions[-1].source is Source.LOCAL_RULE


async def test_what_was_measured_is_close_to_what_is_true_and_counts_from_then_on():
    site = VirtualSite(replace(QUIET, battery=BatteryConfig(lag_s=2.0)))
    facts = await site.commission()
    found = site.control.rules.batteries[0].measured
    assert found.lag_s == pytest.approx(2.0, abs=0.7), "read once a second"
    assert found.settling_s == pytest.approx(6.0, abs=1.5), "three time constants to 5 %"
    assert found.dead_man_s == pytest.approx(60.0, abs=1.5)
    assert (found.has_dead_man, found.serial, found.who) == (True, "SIM-BATTERY-1", OPERATOR.name)
    assert facts["measured"]["bess"]["lag_s"] == found.lag_s
    assert site.control.rules.reaction_s == pytest.approx(found.settling_s + 2.0)


LIES = [
    (metered(positive="import"), {}, "meter_reversed", "grid-meter is reversed", 'turn "positive" of grid-meter'),
    (metered(ct_factor=-1.0), {}, "meter_reversed", "grid-meter is reversed", "turn its current transformers"),
    (lying(told_factor=-1.0, shown_factor=-1.0), {}, "battery_reversed", "bess is reversed", "its own setting of the sign"),
    (lying(told_factor=-1.0), {}, "setpoint_reversed", "told to discharge it charges", "sign of setpoint"),
    (lying(shown_factor=-1.0), {}, "battery_reading_reversed", "measured power of bess is reversed", "profile"),
    (metered(ct_factor=10.0), {}, "meter_scale", "scale of grid-meter is wrong", "current transformers"),
    (metered(ct_factor=0.1), {}, "meter_scale", "scale of grid-meter is wrong", "current transformers"),
    (lying(told_factor=10.0), {}, "setpoint_scale", "scale of bess's setpoint", "mend the scale"),
    (lying(told_factor=0.1), {}, "setpoint_scale", "scale of bess's setpoint", "mend the scale"),
    (lying(shown_factor=10.0), {}, "battery_reading_scale", "scale of bess's measured power", "mend the scale"),
    (lying(told_factor=0.0), {}, "not_followed", "takes setpoints and does not follow", "remote/local switch"),
    (metered(ct_factor=0.0), {}, "meter_blind", "grid-meter does not see bess move", "where its current transformers sit"),
    (lying(dead_man_works=False), {}, "dead_man_dead", "dead-man of bess did not fire", "switch its watchdog on"),
    (lying(serial="ANOTHER-1"), SERIAL, "wrong_device", "bess is the wrong device", "expected_serial"),
    (QUIET, {"battery": {"rated_power": "1.5 MW"}}, "rating_strange", "1500 kW in the site file, 500 kW", "nameplate"),
    (replace(QUIET, battery=BatteryConfig(lag_s=12.0)), {}, "slow_device", "bess is slow: lag 1", "ramp of its setpoint"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "changes", "code", "text", "hint"), LIES, ids=[f"{n}-{x[2]}" for n, x in enumerate(LIES)]
)
async def test_a_lie_is_found_and_named_with_what_to_do(config, changes, code, text, hint):
    site = VirtualSite(config, **changes)
    facts = await site.commission()
    assert facts["verdict"] == "failed"
    assert code in codes(facts)
    assert text in texts(facts, code)
    assert hint in texts(facts, code)
    assert rested(site)
    assert ("commissioning_failed", "site") in [(one.code, one.subject) for one in site.side.conditions()]


async def test_after_a_wrong_sign_nothing_larger_is_tried():
    site = VirtualSite(lying(told_factor=-1.0))
    facts = await site.commission()
    assert words(facts)["step_response:bess"] is None
    assert max(abs(power_w) for _, power_w in site.powers) < 0.09 * RATED_W


async def test_a_battery_of_another_size_is_not_moved_at_all():
    site = VirtualSite(battery={"rated_power": "1.5 MW"})
    facts = await site.commission()
    assert (words(facts)["limits"], words(facts)["readings:bess"]) == ("failed", None)
    assert max(abs(power_w) for _, power_w in site.powers) == 0.0


async def test_a_scale_wrong_by_ten_stays_within_the_rating():
    site = VirtualSite(lying(told_factor=10.0))
    await site.commission()
    assert 0.4 * RATED_W < max(abs(power_w) for _, power_w in site.powers) <= RATED_W


async def test_a_connection_limit_that_is_passed_ends_it_at_once_and_the_cause_is_named():
    site = VirtualSite(lying(told_factor=10.0), point={"export_limit": "120 kW", "import_limit": "120 kW"})
    facts = await site.commission()
    assert codes(facts) == {"beyond_connection", "setpoint_scale"}
    beyond = [at for at, power_w in site.powers if abs(power_w) > 200e3]
    assert beyond[-1] - beyond[0] < 6.0


async def test_battery_and_meter_both_reversed_look_right_and_the_soc_tells():
    site = VirtualSite(replace(lying(told_factor=-1.0, shown_factor=-1.0), meter=MeterConfig(positive="import")))
    facts = await site.commission()
    assert (facts["verdict"], codes(facts)) == ("failed", {"soc_wrong_way"})


async def test_plans_are_held_off_visibly_and_decide_again_afterwards():
    site = VirtualSite()
    plan = Plan(PlanKind.ROLLING, 1, "sha", T0, T0 - T0 % 900, 900, Target.BATTERY, (300_000.0,) * 8)
    site.control.replace_plan(plan)
    await site.start()
    assert site.control.decisions[-1].source is Source.COMMISSIONING
    assert f"{OPERATOR.name} commissions the site" in site.control.decisions[-1].why
    facts = await site.lead()
    assert facts["verdict"] == "passed"
    assert {decision.source for decision in list(site.control.decisions)[10:-1]} == {Source.COMMISSIONING}
    for _ in range(3):
        await site.tick()
    assert site.control.decisions[-1].source is Source.ROLLING
    assert site.site.plant.battery_w == pytest.approx(300_000.0, rel=0.01)


async def until_in(site, step, phase=None):
    """Leads until this step (and phase) runs."""

    def there(facts):
        now = facts["running"]
        assert now is not None, f"ended before {step}"
        return now["step"] == step and (phase is None or now["phase"] == phase)

    await site.lead(until=there)


async def test_without_its_leader_the_battery_goes_home_and_the_rest_can_be_done_later():
    site = VirtualSite()
    await site.start()
    await until_in(site, "dead_man:bess", "lead")
    for _ in range(25):
        await site.tick()
    assert site.side.facts()["running"] is None
    assert rested(site)
    facts = await site.status()
    assert (facts["verdict"], words(facts)["dead_man:bess"]) == ("stopped", "stopped")
    assert "the ems commission that led it is gone" in facts["why"]
    again = await site.commission(resume=True)
    assert again["verdict"] == "passed"
    begins = [event.data.get("step") for event in told(site, "commissioning_step") if "begins" in event.text]
    assert begins.count("sign_scale:bess") == 1, "what passed is not done again"
    assert begins.count("dead_man:bess") == 2


async def test_an_operator_ends_it_at_any_time_and_it_says_who():
    site = VirtualSite()
    await site.start()
    await until_in(site, "step_response:bess", "up")
    await site.ask("commission_stop")
    facts = await site.lead()
    assert (facts["verdict"], rested(site)) == ("stopped", True)
    assert f"stopped by {OPERATOR.name}" in facts["why"]
    assert [event.subject for event in told(site, "commissioning_ended")] == ["site"]


async def test_an_alarm_ends_it_and_the_latch_holds_the_battery():
    site = VirtualSite()
    await site.start()
    await until_in(site, "step_response:bess", "up")
    site.site.battery.alarm_bits = 1 << 6
    facts = await site.lead()
    assert facts["verdict"] == "failed"
    assert "a safety latch fell: bess: emergency stop" in facts["why"]
    assert rested(site)
    assert site.control.decisions[-1].source is Source.LATCH


async def test_a_battery_that_falls_silent_ends_it():
    site = VirtualSite()
    await site.start()
    await until_in(site, "energy:bess", "work")
    site.deaf = True
    facts = await site.lead()
    assert facts["verdict"] == "failed"
    assert codes(facts) & {"battery_unread", "device_silent"}


@pytest.mark.parametrize(("phase", "code"), [("up", "power_not_as_expected"), ("rest", "not_at_rest")])
async def test_a_power_that_nobody_asked_for_ends_it(phase, code):
    site = VirtualSite()
    await site.start()
    await until_in(site, "step_response:bess", phase)
    plant = site.site.plant
    site.each_tick = lambda: setattr(plant, "setpoint_w", -250_000.0)
    await until_over(site)
    assert code in codes(await site.status())


async def until_over(site):
    await site.lead(until=lambda facts: facts["running"] is None, most_s=300.0)


async def test_a_restart_in_the_middle_is_told_and_resumed():
    disk = Disk()
    site = VirtualSite(disk=disk)
    await site.start()
    await until_in(site, "dead_man:bess", "silence")
    await site.keep()
    after = VirtualSite(disk=disk)
    facts = await after.status()
    assert (facts["verdict"], facts["running"]) == ("stopped", None)
    assert "restarted in the middle" in facts["why"]
    assert "restarted in the middle" in told(after, "commissioning_ended")[0].text
    assert words(facts)["step_response:bess"] == "passed"
    again = await after.commission(resume=True)
    assert again["verdict"] == "passed"


async def test_what_was_measured_outlives_the_process():
    disk = Disk()
    await VirtualSite(disk=disk).commission()
    after = VirtualSite(disk=disk)
    assert after.control.rules.batteries[0].measured.dead_man_s == pytest.approx(60.0, abs=1.5)


async def test_an_unreadable_record_is_nothing_and_never_stops_the_agent():
    disk = Disk()
    disk.text = '{"results": 5}'
    assert VirtualSite(disk=disk).control.rules.batteries[0].measured is None


async def test_another_device_in_its_place_is_told_and_not_reckoned_with():
    disk = Disk()
    await VirtualSite(disk=disk).commission()
    after = VirtualSite(lying(serial="ANOTHER-1"), disk=disk)
    assert after.control.rules.batteries[0].measured is not None, "it has not said who it is"
    for _ in range(3):
        await after.tick()
    assert after.control.rules.batteries[0].measured is None
    assert ("not_commissioned", "bess") in after.control.state.conditions
    with_resume = await after.commission(resume=True)
    assert words(with_resume)["sign_scale:bess"] == "passed"
    begins = [event.data.get("step") for event in told(after, "commissioning_step") if "begins" in event.text]
    assert "sign_scale:bess" in begins, "another device is commissioned from the beginning"


async def test_a_shorter_dead_man_than_stated_is_refreshed_in_time():
    site = VirtualSite(lying(reverts_after_s=20.0))
    facts = await site.commission()
    assert codes(facts, "remark") >= {"dead_man_other"}
    assert site.control.rules.batteries[0].refreshed_within_s == pytest.approx(20.0, abs=1.5)
    site.control.override = Override(
        Target.BATTERY, 50e3, begun(site.clock.utc_s(), site.clock.mono_s(), 600), 0, "x", "y"
    )
    for _ in range(5):
        await site.tick()
    lowest = []
    for _ in range(60):
        await site.tick()
        lowest.append(site.site.plant.battery_w)
    assert min(lowest) == pytest.approx(50e3, rel=0.02), "it never falls back"


async def test_each_movement_waits_for_the_operators_word_with_the_battery_at_rest():
    site = VirtualSite()
    await site.start(auto=False)
    await site.lead(until=lambda facts: facts["running"]["stage"] == "waiting")
    facts = await site.status()
    assert facts["running"]["step"] == "sign_scale:bess"
    assert "25 kW" in facts["running"]["about"]
    for _ in range(8):
        await site.tick()
    assert rested(site)
    with pytest.raises(Refusal, match="does not wait for a word"):
        await site.ask("commission_go", step="dead_man:bess")
    await site.ask("commission_go", step="sign_scale:bess")
    await until_in(site, "step_response:bess")
    assert words(await site.status())["sign_scale:bess"] == "passed"
    await site.ask("commission_stop")
    await until_over(site)


async def test_the_played_award_is_seen_in_the_evidence_as_a_test_and_counts_as_nothing():
    site = VirtualSite()
    facts = await site.commission(step="fcr")
    assert measures(facts, "fcr:bess")["given_low_w"] == pytest.approx(100_000.0, rel=0.05)
    assert measures(facts, "fcr:bess")["given_high_w"] == pytest.approx(-100_000.0, rel=0.05)
    assert site.evidence
    assert {row.trouble for row in site.evidence} == {Trouble.TEST}
    assert {row.award_ids for row in site.evidence} == {(TEST_AWARD,)}
    assert max(abs(row.frequency_hz - 50.0) for row in site.evidence) > 0.2
    assert all(abs(d.frequency_hz - 50.0) < 0.1 for d in site.control.decisions if d.frequency_hz is not None)
    account = site.control.state.account
    assert account.response_wh == 0.0
    assert site.control.state.reserve.spent_wh == 0.0


async def test_one_step_alone_leaves_the_results_of_the_others():
    site = VirtualSite()
    await site.commission()
    before = words(await site.status())
    facts = await site.commission(step="dead_man")
    assert words(facts) == before
    assert facts["verdict"] == "passed"


async def test_sold_reserve_ends_it_when_it_begins():
    site = VirtualSite()
    await site.start()
    await until_in(site, "sign_scale:bess")
    now = site.clock.utc_s()
    sold = Award("sold-1", "ce-fcr-offset", now + 5.0, now + 900.0, 100e3)
    site.control.replace_orders(OrderDocument(OrderKind.AWARDS, 1, "sha", now, (sold,)))
    await until_over(site)
    facts = await site.status()
    assert "the award sold-1 is in force" in facts["why"]
    for _ in range(2):
        await site.tick()
    assert site.control.decisions[-1].awards_suspended is False


async def test_an_override_ends_it():
    site = VirtualSite()
    await site.start()
    await until_in(site, "sign_scale:bess")
    site.control.override = Override(
        Target.BATTERY, 0.0, begun(site.clock.utc_s(), site.clock.mono_s(), 600.0), 0.0, "ken", "look"
    )
    await until_over(site)
    assert "ken set an override" in (await site.status())["why"]


@pytest.mark.parametrize(
    ("prepare", "options", "why"),
    [
        ({}, {"confirmed": False}, "nobody confirmed"),
        ({}, {"step": "moon"}, "there is no step"),
        ({}, {"resume": True}, "nothing to resume"),
        ({"read_only": True}, {}, "read-only mode"),
        ({"safe_mode": "crashed thrice"}, {}, "safe mode"),
    ],
)
async def test_what_cannot_be_begun_is_refused_in_words(prepare, options, why):
    site = VirtualSite()
    for _ in range(2):
        await site.tick()
    for key, value in prepare.items():
        setattr(site.control, key, value)
    with pytest.raises(Refusal, match=why):
        await site.ask("commission_start", **({"confirmed": True} | options))
    assert site.side.facts()["running"] is None


async def test_only_operators_begin_agree_and_end():
    site = VirtualSite()
    for cmd in ("commission_start", "commission_go", "commission_stop"):
        with pytest.raises(Refusal, match="is not an operator"):
            await site.ask(cmd, VISITOR, confirmed=True)
    assert (await site.ask("commission_status", VISITOR))["running"] is None


async def test_a_visitor_who_looks_does_not_lead():
    site = VirtualSite()
    await site.start()
    for _ in range(14):
        await site.ask("commission_status", VISITOR, lead=True)
        await site.tick()
    assert "led it is gone" in (await site.status())["why"]


async def test_a_full_battery_is_not_tried_and_the_report_says_what_to_do():
    site = VirtualSite(replace(QUIET, battery=BatteryConfig(initial_soc_pct=94.5)))
    facts = await site.commission()
    assert codes(facts) == {"soc_outside"}
    assert "override set" in texts(facts, "soc_outside")
    assert max(abs(power_w) for _, power_w in site.powers) < 0.01 * RATED_W


async def test_the_cloud_must_confirm_what_was_sent():
    cloud = {"connected": True, "trouble": None, "outbox_depth": 1, "confirmed": 0}
    site = VirtualSite(cloud=cloud)
    facts = await site.commission(step="cloud")
    assert codes(facts) == {"cloud_silent"}
    site.each_tick = lambda: cloud.update(confirmed=cloud["confirmed"] + 1)
    facts = await site.commission(step="cloud")
    assert words(facts)["cloud"] == "passed"
    cloud.update(connected=False, trouble="no route")
    facts = await site.commission(step="cloud")
    assert "no route" in texts(facts, "cloud_away")


async def test_the_record_is_plain_json_and_bounded():
    disk = Disk()
    await VirtualSite(disk=disk).commission()
    assert len(disk.text) < 150_000
    assert max(len(one["series"]) for one in json.loads(disk.text)["results"].values()) <= 240


async def test_a_battery_alone_without_a_meter_is_proven_by_itself():
    site = VirtualSite(alone=True)
    facts = await site.commission()
    assert (facts["verdict"], codes(facts)) == ("passed", set())
    assert {step: word for step, word in words(facts).items() if word == "skipped"} == {
        "cloud": "skipped",
        "fcr:bess": "skipped",
    }
    assert words(facts)["connection_limit:bess"] == "passed"


async def test_a_device_that_states_no_dead_man_is_not_kept_waiting_for_and_flagged():
    site = VirtualSite()
    await site.start()
    site.devices["bess"]._battery._control.has_dead_man = False
    facts = await site.lead()
    assert (words(facts)["dead_man:bess"], facts["verdict"]) == ("remark", "passed")
    assert site.control.rules.batteries[0].measured.has_dead_man is False
    assert site.control.rules.batteries[0].holds_for_s == float("inf")


async def test_a_site_file_that_changes_in_the_middle_ends_it():
    site = VirtualSite()
    await site.start()
    await until_in(site, "sign_scale:bess")
    site.control.rules = replace(site.control.rules, export_limit_w=100e3)
    await until_over(site)
    assert "a site file that was changed" in (await site.status())["why"]
    assert rested(site)
