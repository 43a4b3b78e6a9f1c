"""The simulated cloud over a real broker, with this test in the place of the site."""

import gzip
import json
import re
import threading
import time
from pathlib import Path

import pytest
from simcloud_mqtt import DEADLINE_S, Client

from simulators.broker import Broker, BrokerKind, available_kinds
from simulators.cloud import SimulatedCloud
from simulators.cloud_connection import BrokerAccess
from simulators.cloud_desk import DeskOptions
from simulators.cloud_messages import iso_utc
from simulators.cloud_planner import Planner, SiteModel
from simulators.market import SHOW_START, MarketClock, load_jepx
from simulators.optimiser import BatteryModel, Connection

PRICES = load_jepx("kyushu")
SLOT_S = 1


class Site:
    """What the site sees of the cloud, and what it sends."""

    def __init__(self, port, client_id="ems-demo-01"):
        self.client = Client(port, client_id, clean_start=False)
        self.documents: dict[str, dict] = {}
        self.client.subscribe("ems/v1/demo-01/cloud/#")

    def until(self, wanted):
        """Take messages until `wanted(documents)` is true."""
        deadline = time.monotonic() + DEADLINE_S
        while not wanted(self.documents):
            assert time.monotonic() < deadline, f"only these came: {self.documents.keys()}"
            message = self.client.next()
            payload = bytes(message.payload)
            raw = gzip.decompress(payload) if payload.startswith(b"\x1f\x8b") else payload
            self.documents[message.topic.removeprefix("ems/v1/demo-01/cloud/")] = json.loads(raw)

    def send(self, rest, **fields):
        message = {"schema": "1.0", "site_id": "demo-01", **fields}
        self.client.publish(f"ems/v1/demo-01/edge/{rest}", json.dumps(message))

    def send_frame(self, seq, start_utc_s, rows=2, rest="telemetry", soc_pct=61.0, stream="telemetry"):
        columns = {
            name: [0.0] * rows
            for name in ("grid_w", "battery_w", "pv_w", "load_w", "frequency_hz", "target_w", "setpoint_w")
        }
        columns |= {"soc_pct": [soc_pct] * rows, "source": ["rolling"] * rows}
        times = {"start": iso_utc(start_utc_s), "t_ms": [100 * row for row in range(rows)]}
        self.send(rest, stream=stream, seq=seq, boot_id="b", columns=columns, **times)


def until(condition):
    """Wait for a thread of the cloud to make `condition` true."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the cloud did not get there"
        threading.Event().wait(0.01)


@pytest.fixture
def broker():
    kind = BrokerKind.EMBEDDED if BrokerKind.EMBEDDED in available_kinds() else None
    with Broker(kind) as started:
        yield started


@pytest.fixture
def cloud(broker):
    epoch = int(time.time())
    site = SiteModel("demo-01", BatteryModel(3000.0, 440.0, 440.0), Connection(600.0, 600.0), initial_soc_pct=10.0)
    clock = MarketClock(epoch, int(SHOW_START.timestamp()), SLOT_S)
    access, options = BrokerAccess(broker.url), DeskOptions(replan_slots=2)
    started = SimulatedCloud(access, clock, [Planner(site, PRICES, clock)], options=options)
    started.start(epoch)
    yield started.desk("demo-01")
    started.stop()


@pytest.fixture
def site(broker, cloud):
    seen = Site(broker.port)
    until(lambda: cloud.counts().connected)
    yield seen
    seen.client.close()


def test_both_plans_are_retained_and_the_rolling_one_rolls(cloud, site):
    site.until(lambda got: "plan/yearly" in got and "plan/rolling" in got)
    assert len(site.documents["plan/yearly"]["power"]) == 365 * 48
    first = site.documents["plan/rolling"]
    assert first["target"] == "grid"
    site.until(lambda got: got["plan/rolling"]["version"] >= first["version"] + 2)
    assert site.documents["plan/rolling"]["start"] > first["start"]


def test_frames_are_counted_once_and_the_watermark_follows_what_is_stored(cloud, site):
    now = time.time()
    for seq, offset in [(1, 0.0), (2, 1.0), (4, 3.0), (2, 1.0)]:
        site.send_frame(seq, now + offset)
    until(lambda: cloud.counts().redelivered == 1)
    counts = cloud.counts()
    assert (counts.telemetry_frames, counts.telemetry_highest, counts.gaps) == (3, 4, 1)
    site.until(lambda got: got.get("watermark", {}).get("stored", {}).get("telemetry") == 2)
    site.send_frame(3, now + 2.0, rest="history")
    site.until(lambda got: got["watermark"]["stored"]["telemetry"] == 4)
    assert cloud.counts().gaps == 0
    assert cloud.counts().samples == 8


def test_a_live_frame_and_the_full_rate_are_no_part_of_the_stream(cloud, site):
    now = time.time()
    site.send_frame(None, now, soc_pct=77.0)
    site.send_frame(5, now, stream="full_rate", rest="history")
    site.send_frame(1, now)
    until(lambda: cloud.counts().telemetry_frames == 1)
    counts = cloud.counts()
    assert (counts.telemetry_highest, counts.gaps, counts.duplicates, counts.samples) == (1, 0, 0, 2)


def test_overlapping_frames_and_rewritten_frames_are_told_apart(cloud, site):
    now = round(time.time())
    site.send_frame(1, now, rows=3)
    site.send_frame(2, now + 0.2, rows=3)
    site.send_frame(1, now, rows=3, soc_pct=12.0)
    until(lambda: cloud.counts().conflicts == 1)
    assert cloud.counts().duplicates == 1


def test_acks_events_and_status_are_kept_and_nonsense_only_counted(cloud, site):
    ack = {"stream": "ack", "subject": "plan", "kind": "rolling", "version": 1, "sha256": "0", "reason": None}
    site.send("ack", seq=None, stage="received", **ack)
    site.send("ack", seq=1, stage="stored", **ack)
    site.send("ack", seq=1, stage="stored", **ack)
    site.send("event", stream="event", seq=1, code="source_changed")
    site.send("status", online=True, source="rolling")
    site.client.publish("ems/v1/demo-01/edge/telemetry", b"[[[[")
    site.send("telemetry", seq=1)
    until(lambda: cloud.counts().malformed == 2)
    counts = cloud.counts()
    assert counts.acks_by_stage == {"received": 1, "stored": 1}
    assert counts.acks == (("rolling", 1, "received"), ("rolling", 1, "stored"))
    assert [event["code"] for event in cloud.events()] == ["source_changed"]
    assert cloud.status()["source"] == "rolling"


def test_the_next_plan_starts_from_the_measured_soc(cloud, site):
    site.until(lambda got: "plan/rolling" in got)
    version = site.documents["plan/rolling"]["version"]
    site.send_frame(1, time.time(), soc_pct=88.0)
    until(lambda: cloud.counts().telemetry_frames == 1)
    site.until(lambda got: got["plan/rolling"]["version"] >= version + 2)
    # Unmeasured, the battery counts as empty, and nobody charges at breakfast.
    assert site.documents["plan/rolling"]["soc_end_pct"][2] > 30.0


def test_a_last_plan_is_short_and_nothing_follows_until_planning_resumes(cloud, site):
    version = cloud.publish_last_plan(3)
    site.until(lambda got: got.get("plan/rolling", {}).get("version") == version)
    assert len(site.documents["plan/rolling"]["power"]) == 3
    end = time.monotonic() + 2.5 * SLOT_S
    until(lambda: time.monotonic() > end)
    assert cloud.counts().versions["rolling"] == version
    cloud.resume_planning()
    site.until(lambda got: got["plan/rolling"]["version"] > version)
    assert len(site.documents["plan/rolling"]["power"]) == 96


def test_a_broker_that_forgot_everything_is_given_the_documents_again(broker, cloud, site):
    site.until(lambda got: "plan/yearly" in got)
    broker.kill()
    until(lambda: not cloud.counts().connected)
    broker.start()
    late = Site(broker.port, "late")
    late.until(lambda got: "plan/yearly" in got and "plan/rolling" in got)
    assert late.documents["plan/yearly"] == site.documents["plan/yearly"]
    late.client.close()


def test_slots_of_the_ledger_are_counted_and_told_to_be_stored(cloud, site):
    text = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    slot = next(block for block in blocks if block.get("stream") == "ledger")
    for seq in (1, 3, 3):
        site.client.publish("ems/v1/demo-01/edge/ledger", json.dumps({**slot, "seq": seq}))
    until(lambda: cloud.counts().redelivered == 1)
    assert cloud.counts().other_gaps == 1
    assert [told.version for told in cloud.ledger()] == [17], "a slot told again counts once"
    site.client.publish("ems/v1/demo-01/edge/ledger", json.dumps({**slot, "seq": 2}))
    site.until(lambda got: got.get("watermark", {}).get("stored", {}).get("ledger") == 3)
    site.client.publish("ems/v1/demo-01/edge/ledger", json.dumps({**slot, "seq": 4, "imbalance_wh": 5}))
    until(lambda: cloud.counts().malformed == 1)
