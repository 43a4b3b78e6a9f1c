"""docs/scale.md: its tables are those of the figures, its arithmetic holds, and what it says of the agent is so."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

from agent.cli.main import app
from agent.cloud.drain import HISTORY_IN_FLIGHT
from agent.cloud.mqtt_link import KEEPALIVE_S, MAX_PACKET_BYTES, RECEIVE_MAXIMUM, SESSION_EXPIRY_S
from agent.cloud.reconnect import LinkOptions
from agent.cloud.topics import Topics
from agent.cloud.uplink import UplinkOptions
from simulators import scale
from simulators.scale import Measured

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
ROUND = Measured(0.03, 50.0, 4e6, 100.0, 40.0, 2_000.0, 1_000.0)


def test_the_tables_of_the_page_are_made_from_the_figures():
    assert scale.written(PAGE) == PAGE, "run: python -m simulators.scale docs/scale.md"


def test_a_table_that_was_changed_by_hand_is_found():
    assert scale.written(PAGE.replace("| broker nodes | 6 |", "| broker nodes | 5 |")) == PAGE


def test_the_figures_are_of_whole_runs_of_as_many_sites_as_they_say():
    for name, sites in (("200", 200), ("1000", 1000), ("1000_1s", 1000), ("1000_tls", 1000)):
        run = scale.figures(f"fleet_{name}")
        assert (run["complete"], run["sites"], run["connect"]["connected"], run["plan"]["stored"]) == (
            True,
            *[sites] * 3,
        )
        assert run["account"]["gaps"] == 0


def test_sizing_is_the_measured_times_the_sites():
    told = {what: how_much for what, how_much, _ in scale.sizing(ROUND, 100_000)}
    # 100 000 * (0.03 + 400 / 86 400) messages, 50 B each site and second, 100 µs a message times 8, 40 kB a session times 8.
    assert told["messages from sites"] == "3,463/s"
    assert told["their payload"] == "5.0 MB/s, 0.43 TB a day"
    assert told["broker nodes"] == "6"
    assert told["processor for messages"] == "2.8 cores in all"
    assert told["memory for sessions"] == "32.0 GB in all"
    assert told["retained messages"] == "800,000, 10.8 GB"
    assert told["a rolling plan to all"] == "17 s"
    assert told["all retained documents again, after a total loss"] == "2.2 min"
    assert told["Kafka, telemetry"] == "64 partitions, 9.1 TB"
    assert told["a day's backlog is in after"] == "80 min"


def test_with_one_node_lost_no_other_carries_more_than_it_should():
    for sites in (1, 20_000, 20_001, 100_000):
        assert sites / (scale.nodes(sites) - 1) <= scale.SITES_PER_NODE


@pytest.mark.parametrize("sites", [1_000, 100_000, 1_000_000])
def test_partitions_are_a_power_of_two_that_bounds_sites_and_bytes(sites):
    count = scale.partitions(ROUND, sites)
    assert count & (count - 1) == 0
    assert sites / count <= scale.SITES_PER_PARTITION
    heavy = replace(ROUND, payload_bytes_per_site_s=5_000.0)
    assert sites * 5_000.0 / scale.partitions(heavy, sites) <= scale.BYTES_PER_PARTITION_AND_S


def test_a_herd_costs_what_its_connections_cost():
    rows = scale.herds(ROUND, 100_000)
    assert len(rows) == len(scale.OUTAGES_S) * len(scale.SPREADS_S)
    for _, _, tries, back, per_node, cores in rows:
        rate = float(back.replace(",", ""))
        assert rate <= float(tries.replace(",", ""))
        assert float(per_node.replace(",", "")) == pytest.approx(rate / 6, abs=1)
        assert float(cores) == pytest.approx(rate * 2_000e-6, abs=0.06)


def test_a_wider_spread_makes_every_herd_smaller():
    for outage_s in (0.0, 10.0):
        assert (
            scale.worst_second_share(outage_s, 60.0, 2_000)[1] < scale.worst_second_share(outage_s, 10.0, 2_000)[1] / 2
        )


def test_what_the_page_says_of_the_agent_is_so():
    assert f"{len(Topics('x').subscribed)} a site, no wildcards" in PAGE
    assert not any("+" in topic or "#" in topic for topic in Topics("x").subscribed)
    assert f"| {RECEIVE_MAXIMUM} to the site |" in PAGE
    assert f"session expiry | {SESSION_EXPIRY_S // 86_400} days" in PAGE
    assert scale.SESSION_DAYS == SESSION_EXPIRY_S // 86_400
    assert f"pings every {KEEPALIVE_S} s" in PAGE
    assert MAX_PACKET_BYTES == 2 * 1024 * 1024
    assert f"`reconnect_spread` ({LinkOptions().spread_s:g} s if not stated)" in PAGE
    assert f"`history_per_s`, at most {UplinkOptions().history_per_s:g}" in PAGE
    assert HISTORY_IN_FLIGHT <= 10


def test_every_command_of_the_page_has_options_that_there_are():
    known = {option for param in get_command(app).commands["fleet-sim"].params for option in param.opts}
    lines = [line for line in PAGE.splitlines() if "ems fleet-sim " in line]
    assert len(lines) >= 5
    for line in lines:
        used = set(re.findall(r"(?<= )--[a-z-]+", line.split("ems fleet-sim", 1)[1].split("ems cloud-sim")[0]))
        assert used <= known, line
