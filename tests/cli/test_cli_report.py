"""What is read from the disk whether the daemon runs or not: the day's page, events, an earlier decision, documents."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import partial
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from agent.cli.main import app
from agent.cloud.frame import telemetry_frame
from agent.cloud.messages import ack_message, event_message, ledger_message
from agent.core.events import Event, EventState, Severity
from agent.core.evidence import EvidenceRow
from agent.core.ledger import SlotRow
from agent.core.plan import Plan, PlanKind, Target
from agent.core.records import Outcome, Sample, Stage
from agent.store import Announce, Store

SITE = "demo-01"
DAY = "2024-01-15"
ANNOUNCE = Announce(
    ack=partial(ack_message, SITE), event=partial(event_message, SITE), ledger=partial(ledger_message, SITE)
)
T0 = datetime(2024, 1, 15, 12, tzinfo=UTC).astimezone().replace(hour=6, minute=0).timestamp()
"""06:00 of this machine's time zone."""


class Balanced(HTMLParser):
    """Fails where a tag is not closed, or something outside the file is asked for."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def sample(second, **changes):
    fields = {
        "boot_id": "b1", "at_utc_s": T0 + second, "grid_w": 90e3, "battery_w": 100e3, "pv_w": 20e3, "load_w": -30e3,
        "soc_pct": 50.0 - second / 100.0, "frequency_hz": 50.01, "target_w": 100e3, "setpoint_w": 100e3,
        "source": "rolling", "points": {},
    }  # fmt: skip
    return Sample(**fields | changes)


def slot(number, delivered_wh):
    start_s = T0 + 1800 * number
    return SlotRow(
        start_s, start_s + 1800, "grid", 90e3, "rolling", 7, delivered_wh, 50e3, 1800.0, 49.0, grid_wh=delivered_wh
    )


def evidence(second):
    return EvidenceRow(int(T0) + second, 49.98, 12e3, 0.0, 100e3, 100e3, 10e3, True, ("a1",), None, 5)


EVENT = Event(
    T0 + 30, EventState.RAISED, Severity.ALARM, "safety_latched", "bess", "stopped & <held>: look on site", {}
)


@pytest.fixture
async def directory(tmp_path):
    """A day of which two minutes, two slots, an event and some reserve were kept; the daemon is down."""
    store = await Store.open(tmp_path / "state", ANNOUNCE, lambda: T0 + 200)
    for second in range(120):
        await store.append_sample(sample(second))
    await store.seal_frame(partial(telemetry_frame, SITE))
    for number, delivered_wh in ((0, 45.2e3), (1, 44.9e3)):
        await store.save_slot(slot(number, delivered_wh))
    await store.append_event(EVENT)
    await store.add_evidence([evidence(second) for second in range(60)])
    cut = {"limit": "connection limit", "owner": "site file", "before_w": 120e3, "after_w": 100e3}
    for second, clips in ((0, []), (60, [cut])):
        await store.note_decision(T0 + second, decision(second, clips))
    await store.close()
    return tmp_path / "state"


def decision(second, clips):
    return {
        "utc": datetime.fromtimestamp(T0 + second, UTC).isoformat(), "source": "rolling", "why": "rolling plan 7",
        "target": "grid", "planned_w": 90e3, "target_w": 120e3, "clips": clips, "setpoint_w": 100e3, "shares_w": {},
        "by_device_w": {}, "pv_ceiling_w": None, "writes": [], "last_outcomes": {}, "verdicts": {},
        "powers_w": {"battery": 100e3, "pv": 20e3, "load": -30e3, "grid": 90e3}, "soc_pct": 50.0,
    }  # fmt: skip


class TestReport:
    async def test_the_day_is_one_page_that_needs_nothing_else(self, directory, tmp_path):
        page = tmp_path / "day.html"
        done = run("report", DAY, "--store", str(directory), "--out", str(page))
        assert done.exit_code == 0, done.output
        text = page.read_text()
        reader = Balanced()
        reader.feed(text)
        assert reader.open == []
        assert reader.seen.count("svg") == 6
        for heading in ("Power, kW", "State of charge", "Slot energy", "Imbalance", "Reserve", "Frequency", "Events"):
            assert heading in text
        assert "stopped &amp; &lt;held&gt;: look on site" in text
        assert "connection limit" in text

    async def test_its_figures_are_those_of_what_was_kept(self, directory):
        done = run("report", DAY, "--store", str(directory), "--json")
        told = json.loads(done.stdout)["result"]
        assert (told["samples"], told["covered_s"]) == (120, 119.0)
        assert told["flows_wh"]["battery"]["out_wh"] == pytest.approx(100e3 * 119 / 3600)
        assert told["flows_wh"]["load"]["in_wh"] == pytest.approx(30e3 * 119 / 3600)
        assert told["slots"]["imbalance_wh"] == pytest.approx(100.0)
        assert told["slots"]["worst_wh"] == pytest.approx(200.0)
        assert told["response"] == {"seconds": 60, "measured": 60, "mean_error_pct": pytest.approx(2.0), "troubles": {}}
        assert (told["events"], told["limits"]) == ({"safety_latched": 1}, {"connection limit": 1})
        assert "page" not in told

    async def test_a_day_without_anything_is_said_to_be_one(self, directory):
        done = run("report", "2023-01-15", "--store", str(directory))
        assert done.exit_code == 1
        assert "nothing was kept of that day" in done.stderr

    async def test_a_folder_that_cannot_be_written_to(self, directory, tmp_path):
        done = run("report", DAY, "--store", str(directory), "--out", str(tmp_path / "none" / "x.html"))
        assert done.exit_code == 1
        assert "--out" in done.stderr

    def test_no_store(self, tmp_path):
        done = run("report", "--store", str(tmp_path))
        assert (done.exit_code, "telemetry.db" in done.stderr) == (1, True)


class TestEvents:
    async def test_without_a_daemon_they_come_from_the_disk_and_that_is_said(self, directory, tmp_path):
        done = run("events", "--socket", str(tmp_path / "none"), "--store", str(directory))
        assert "the daemon does not answer" in done.stderr
        flat = re.sub(r"\s+", " ", done.stdout)
        assert "ALARM safety_latched begins (bess): stopped & <held>: look on site" in flat

    async def test_alarms_alone_as_json(self, directory, tmp_path):
        done = run("events", "--alarms", "--json", "--socket", str(tmp_path / "none"), "--store", str(directory))
        assert [event["code"] for event in json.loads(done.stdout)["result"]] == ["safety_latched"]

    def test_neither_daemon_nor_disk(self, tmp_path):
        done = run("events", "--socket", str(tmp_path / "none"), "--store", str(tmp_path))
        assert done.exit_code == 1
        assert "control.db" in done.stderr


class TestExplainTime:
    @pytest.mark.parametrize(("second", "cut"), [(59, False), (61, True), (5000, True)])
    async def test_the_decision_that_stood_then(self, directory, second, cut):
        at = datetime.fromtimestamp(T0 + second, UTC).isoformat()
        done = run("explain", at, "--store", str(directory))
        assert done.exit_code == 0, done.output
        assert ("by connection limit (site file)" in done.stdout) is cut

    async def test_longer_ago_than_anything_that_is_kept(self, directory):
        done = run("explain", "2020-01-01T00:00", "--store", str(directory))
        assert (done.exit_code, "no decision so old is kept" in done.stderr) == (1, True)


class TestPlanExport:
    @pytest.mark.parametrize("to_file", [True, False])
    async def test_the_newest_document_comes_out_as_it_came(self, directory, tmp_path, to_file):
        store = await Store.open(directory, ANNOUNCE, lambda: T0 + 300)
        for version in (3, 4):
            document, sha256 = f'{{"version": {version}}}  '.encode(), f"{version}" * 64
            plan = Plan(PlanKind.ROLLING, version, sha256, T0, T0, 1800, Target.GRID, (1.0,))
            await store.save_document(plan, document, Outcome(T0, "rolling", version, sha256, Stage.STORED))
        await store.close()
        out = tmp_path / "plan.json"
        done = run("plan", "export", "--store", str(directory), *(["--out", str(out)] if to_file else []))
        assert done.exit_code == 0, done.output
        assert (out.read_bytes() if to_file else done.stdout_bytes) == b'{"version": 4}  '

    async def test_a_kind_that_is_not_held(self, directory):
        done = run("plan", "export", "yearly", "--store", str(directory))
        assert (done.exit_code, "no document of the kind yearly is held" in done.stderr) == (1, True)
