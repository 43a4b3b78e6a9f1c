"""Plans, samples and stores for tests of the store."""

import hashlib
import json
from functools import partial

from agent.cloud.frame import telemetry_frame
from agent.cloud.messages import ack_message, event_message, ledger_message
from agent.core.energy_paths import EnergyPaths
from agent.core.events import Event, EventState, Severity
from agent.core.ledger import SlotRow
from agent.core.plan import Plan, PlanKind, Target
from agent.core.records import Outcome, Sample, Stage
from agent.store import Announce, Store
from simulators.cloud_messages import read_message

SITE = "demo-01"
NOW = 1705287600.0
ANNOUNCE = Announce(
    ack=partial(ack_message, SITE), event=partial(event_message, SITE), ledger=partial(ledger_message, SITE)
)
BUILD_FRAME = partial(telemetry_frame, SITE)


def open_store(directory, quota=None, now=NOW):
    return Store.open(directory, ANNOUNCE, lambda: now, quota)


def plan(version=1, kind=PlanKind.ROLLING, size=4):
    """(plan, its document, its stored outcome)."""
    power = tuple(float(version * 1000 + i) for i in range(size))
    document = json.dumps({"kind": kind, "version": version, "power": power}).encode()
    sha256 = hashlib.sha256(document).hexdigest()
    made = Plan(kind, version, sha256, NOW, NOW, 1800, Target.GRID, power)
    return made, document, Outcome(NOW, kind.value, version, sha256, Stage.STORED)


def event(code="tested", **data):
    return Event(NOW, EventState.NOTED, Severity.INFO, code, "site", "a text", data)


def sample(at=NOW, boot="b1"):
    return Sample(boot, at, 1.0, 2.0, 3.0, None, 50.0, 50.01, 2.0, 2.0, "rolling")


def slot(start=NOW, *, closed=True, delivered=100.0):
    paths = EnergyPaths(1.0, 2.0, 70.0, 4.0, 30.0, 6.0, 0.0, 1800.0)
    return SlotRow(
        start, start + 1800, "grid", 200.0, "rolling", 7, delivered, 90.0, 1800.0, 55.0,
        grid_wh=95.0, closed=closed, anchor_export_wh=5.0, response_wh=3.0, paths=paths,
    )  # fmt: skip


async def messages(store, stream):
    return [(seq, read_message(payload, SITE)) for seq, payload in await store.pending(stream, 0, 10_000)]
