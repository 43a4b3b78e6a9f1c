"""The plan of the cloud cannot be kept, and the site plans anew by itself: real solver processes, killed and hung."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from integration_site import PLANNING_SITE_FILE, SITE_FILE, STILL, document, edge_ahead, ems, until

from simulators.battery import BatteryConfig

SLOT_S = 4
SOLVED_S = 80.0
"""The solver gives way to all others: on a busy machine its half second takes many."""
CHEAP, DEAR = 6, 2
"""Slots of the plan: first those whose energy is worth little, then those where it is worth much."""
PRICES = [4.0] * CHEAP + [40.0] * DEAR
SOLD_KW = 150.0
SMALL = replace(STILL, battery=BatteryConfig(capacity_wh=2_000.0, lag_s=0.02))
"""Half full: enough for six of the eight slots."""
RE_PLANNING = (
    PLANNING_SITE_FILE
    + """
[replan]
settle = "1 s"
min_interval = "{min_interval}"
repeat = "1 min"
time_limit = "{time_limit}"
"""
)


@pytest.fixture
def small_site(parts):
    def made(**options):
        plant = parts.plant(config=SMALL)
        return plant, parts.agent(
            plant, **({"text": RE_PLANNING, "min_interval": "5 s", "time_limit": "60 s"} | options)
        ).start()

    return made


def too_much(version, start, prices=PRICES):
    """As from a cloud that believes in a full battery."""
    return document(
        version, [SOLD_KW] * len(prices), start=start, slot_s=SLOT_S, price=prices, imbalance_price=prices
    )  # fmt: skip


def earned(rows, start):
    """What the delivered energy is worth, deviations from the promise paid for."""
    slots = [rows[start + i * SLOT_S] for i in range(len(PRICES))]
    for row in slots:
        assert row["planned_wh"] == pytest.approx(SOLD_KW * 1000 * SLOT_S / 3600), "the promise stays"
    return sum(
        price * (row["delivered_wh"] - abs(row["delivered_wh"] - row["planned_wh"]))
        for price, row in zip(PRICES, slots, strict=True)
    )


def replanned(agent, count=1):
    """The events of the runs so far, once there are this many."""
    return until(lambda: len(found := agent.events("replanned")) >= count and found, f"{count} re-plannings", SOLVED_S)


def test_a_plan_that_cannot_be_kept_is_planned_anew_and_the_energy_goes_where_it_is_worth_most(small_site):
    sites = [small_site(), small_site(text=SITE_FILE)]
    start = edge_ahead(SLOT_S)
    for _, agent in sites:
        agent.import_plan(too_much(1, start))
    (_, agent), (_, blind) = sites
    event = replanned(agent)[0]
    assert time.time() - start < CHEAP * SLOT_S, "within seconds, also on a busy machine"
    assert (event["data"]["by"], event["data"]["occasions"]) == ("solver", "infeasible")
    until(lambda: agent.status()["source"] == "local_plan", "the local plan decides", SOLVED_S)
    status = agent.status()
    assert status["slot"]["promised_w"] == SOLD_KW * 1000
    assert status["local_plan"]["why"] == "the plan cannot be kept"
    assert {slot["source"] for slot in status["next_slots"]} == {"local_plan"}
    last = start + (len(PRICES) - 1) * SLOT_S
    rows, blind_rows = (until(lambda a=a: last in a.slots() and a.slots(), "all slots", 60.0) for a in (agent, blind))
    assert {rows[start + i * SLOT_S]["source"] for i in range(CHEAP, len(PRICES))} == {"local_plan"}
    assert {blind_rows[start + i * SLOT_S]["source"] for i in range(len(PRICES))} == {"rolling"}
    for i in range(CHEAP, len(PRICES)):
        row = rows[start + i * SLOT_S]
        assert row["delivered_wh"] > 0.75 * row["planned_wh"], "all but what a busy machine loses at the slot's edge"
    assert blind_rows[last]["delivered_wh"] == pytest.approx(0.0, abs=5.0), "its battery is empty by then"
    assert earned(rows, start) > 0.0 > earned(blind_rows, start)
    assert blind.events("replanned") == []


def test_a_local_plan_survives_a_kill_and_ends_with_the_next_plan_of_the_cloud(small_site, parts, mosquitto):
    broker = mosquitto()
    cloud = parts.cloud(broker)
    _, agent = small_site(broker=broker)
    cloud.send(too_much(1, edge_ahead(SLOT_S)))
    until(lambda: agent.status()["source"] == "local_plan", "the local plan decides", SOLVED_S)
    before = agent.status()
    told = ("local_plan", before["local_plan"])
    until(lambda: (cloud.status["source"], cloud.status["local_plan"]) == told, "the cloud knows")
    until(lambda: [e for e in cloud.events if e["code"] == "replanned"], "the cloud is told why")
    shown = ems("status", socket_path=agent.socket).stdout
    assert "decides  local_plan: planned anew here at " in shown
    assert "by the solver, until " in shown
    assert "^^" in ems("plan", "show", socket_path=agent.socket).stdout
    agent.kill()
    agent.start()
    after = agent.status()
    assert (after["source"], after["local_plan"]) == ("local_plan", before["local_plan"])
    assert after["replan"]["runs"] == 0, "the same plan, not another one"
    cloud.send(document(2, [10.0] * 20, slot_s=SLOT_S))
    until(lambda: agent.status()["source"] == "rolling", "the cloud's new plan decides")
    assert agent.status()["local_plan"] is None
    until(lambda: agent.events("local_plan_ended"), "its end is told")
    agent.kill()
    agent.start()
    assert (agent.status()["source"], agent.status()["local_plan"]) == ("rolling", None)


def test_a_rolling_plan_that_begins_under_a_local_plan_is_active_all_the_same(small_site, parts, mosquitto):
    broker = mosquitto()
    cloud = parts.cloud(broker)
    _, agent = small_site(broker=broker)
    start = edge_ahead(SLOT_S)
    rolling_start = start + 4 * SLOT_S
    cloud.send(document(1, [SOLD_KW] * 20, start=start, slot_s=SLOT_S, kind="yearly"), "yearly")
    cloud.send(document(1, [SOLD_KW] * 10, start=rolling_start, slot_s=SLOT_S))
    until(lambda: agent.status()["source"] == "local_plan", "the local plan decides", SOLVED_S)
    assert time.time() < rolling_start, "still over the yearly plan"
    cloud.ack(1, "active")
    assert "rolling" not in {event["data"]["to"] for event in agent.events("source_changed")}


def test_a_solver_that_hangs_or_is_killed_costs_its_plan_and_no_tick(small_site):
    _, agent = small_site(min_interval="1 s", time_limit="12 s")
    late_before = agent.status()["counters"]["late_ticks"]
    agent.import_plan(too_much(1, edge_ahead(SLOT_S), PRICES * 4))
    os.kill(solver_of(agent), signal.SIGSTOP)
    hung = replanned(agent)[0]
    assert (hung["data"]["by"], hung["severity"]) == ("rules", "warning")
    assert "took more than 12 s and was killed" in hung["data"]["reason"]
    assert agent.status()["local_plan"]["by"] == "rules"
    until(lambda: agent.status()["source"] == "local_plan", "the rule-based plan decides")
    os.kill(solver_of(agent), signal.SIGKILL)
    assert "was killed by SIGKILL" in replanned(agent, 2)[1]["data"]["reason"]
    solved = replanned(agent, 3)[2]
    assert (solved["data"]["by"], solved["data"]["occasions"]) == ("solver", "last_run_failed")
    late = agent.status()["counters"]["late_ticks"] - late_before
    assert late < 10, "twelve seconds of waiting would be sixty ticks; a busy machine may cost some"
    maps = Path(f"/proc/{agent.process.pid}/maps").read_text()
    assert "scipy" not in maps, "the daemon itself never loads the solver"


def solver_of(agent):
    """The process id of the agent's solver, as soon as there is one."""
    pid = agent.process.pid

    def child():
        with suppress(OSError):
            children = {
                child
                for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()
            }
            return next(
                (
                    int(found)
                    for found in children
                    if b"agent.replan.worker" in Path(f"/proc/{found}/cmdline").read_bytes()
                ),
                None,
            )
        return None

    return until(child, "a solver process")
