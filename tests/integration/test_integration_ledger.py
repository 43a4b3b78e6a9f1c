"""The ledger and the learned models from the meter to the cloud and to the screen, over restarts."""

import csv
import io
import json

import pytest
from integration_site import STILL, document, edge_ahead, ems, unix, until

from simulators.battery import BatteryConfig
from simulators.cloud_messages import read_ledger_slot
from simulators.site_config import SiteConfig

SLOT_S = 4
RATED_WH = 600e3 * SLOT_S / 3600
"""Of the connection point."""


def told(cloud):
    """The slots that the cloud was told, by start."""
    messages = [json.loads(cloud.contents["ledger", seq]) for seq in cloud.seqs("ledger")]
    return {slot.start_utc_s: slot for slot in map(read_ledger_slot, messages)}


@pytest.fixture
def site(parts, mosquitto):
    broker = mosquitto()
    plant = parts.plant()
    cloud = parts.cloud(broker)
    return plant, cloud, parts.agent(plant, broker).start()


def test_the_paths_of_each_slot_add_up_to_what_truly_went_through_the_meter(site):
    """50 kW of PV and 30 kW of load: charging takes PV first, then the grid; discharging goes to the grid."""
    plant, cloud, agent = site
    start = edge_ahead(SLOT_S)
    cloud.send(document(1, [100.0, -100.0, 0.0], start=start, slot_s=SLOT_S))
    planned = [start + number * SLOT_S for number in range(3)]
    until(lambda: told(cloud).keys() >= set(planned), "three slots are told")
    slots = [told(cloud)[begin] for begin in planned]
    assert all(slot.planned_wh is None for begin, slot in told(cloud).items() if begin not in planned)
    for slot in slots:
        assert slot.grid_wh == pytest.approx(plant.net_wh(slot.start_utc_s, slot.end_utc_s), abs=0.005 * RATED_WH)
        assert slot.unsplit_wh == pytest.approx(0.0, abs=0.001 * RATED_WH), "every second was split"
    out, into, _ = (slot.paths_wh for slot in slots)
    hours = SLOT_S / 3600
    # A slot is twenty ticks; on a busy machine one or two at its edges count for the slot beside it.
    assert out["pv_to_load"] == pytest.approx(30e3 * hours, rel=0.1)
    assert out["battery_to_grid"] == pytest.approx(100e3 * hours, rel=0.15)
    assert into["pv_to_battery"] == pytest.approx(20e3 * hours, rel=0.3)
    assert into["grid_to_battery"] == pytest.approx(80e3 * hours, rel=0.3)
    rows = list(csv.DictReader(io.StringIO(ems("ledger", "--csv", socket_path=agent.socket).stdout)))
    shown = {unix(row["start"]): row for row in rows if row["closed"] == "True"}
    assert float(shown[start]["battery_to_grid_wh"]) == pytest.approx(out["battery_to_grid"])
    table = ems("ledger", socket_path=agent.socket)
    assert (table.returncode, table.stderr) == (0, "")
    assert max(map(len, table.stdout.splitlines())) < 80
    assert table.stdout.splitlines()[-1].startswith("sum")
    cloud.assert_complete()


def test_a_slot_in_which_the_agent_was_killed_keeps_its_sums_and_shows_what_was_missed(site):
    plant, cloud, agent = site
    long_s = 8
    start = edge_ahead(long_s, by_s=2.0)
    cloud.send(document(1, [90.0] * 4, start=start, slot_s=long_s))
    until(lambda: plant.truth().utc_s > start + 2, "a part of the slot is done")
    before = agent.ask("ledger", from_utc_s=start, to_utc_s=start + 1)["result"][0]
    agent.kill()
    agent.start()
    slot = until(lambda: told(cloud).get(start), "the slot is told")
    assert slot.grid_wh == pytest.approx(plant.net_wh(start, start + long_s), rel=0.02)
    split_wh = sum(energy for name, energy in slot.paths_wh.items() if name.startswith("battery"))
    assert split_wh >= before["paths_wh"]["battery_to_grid"] > 0
    assert slot.unsplit_wh > 0, "the seconds without an agent"
    cloud.assert_complete()


def test_what_was_learned_is_shown_survives_a_restart_and_is_reset_with_a_reason(parts):
    tiny = SiteConfig(
        battery=BatteryConfig(capacity_wh=2_000.0, lag_s=0.02), pv=STILL.pv, load=STILL.load, grid=STILL.grid
    )
    agent = parts.agent(parts.plant(config=tiny)).start()
    start = edge_ahead()
    path = agent.folder / "plan.json"
    path.write_bytes(document(1, [100.0, 100.0, 100.0, 100.0, -100.0, -100.0, -100.0, -100.0] * 30, start=start))
    assert ems("plan", "import", str(path), socket_path=agent.socket).returncode == 0

    def learned():
        return agent.status()["models"]["bess"]["stretches"]

    until(lambda: learned() >= 2, "two stretches are learned", 40.0)
    assert agent.terminate() == 0
    agent.start()
    assert learned() >= 2, "it was on disk"
    status = ems("status", socket_path=agent.socket).stdout
    assert "learned  bess " in status
    shown = ems("model", "show", "bess", socket_path=agent.socket)
    assert shown.stdout.startswith("bess, serial ")
    refused = ems("model", "reset", "bes", "--reason", "x", socket_path=agent.socket)
    assert (refused.returncode, "there is: bess" in refused.stderr) == (1, True)
    done = ems("model", "reset", "bess", "--reason", "module replaced", socket_path=agent.socket)
    assert (done.returncode, done.stderr) == (0, "")
    (event,) = until(lambda: agent.events("model_reset"), "the event")
    assert (event["subject"], event["data"]["reason"]) == ("bess", "module replaced")
    assert event["data"]["stretches"] >= 2
    agent.kill()
    agent.start()
    assert learned() < 2, "the old model is not on disk any more"
