"""Thirty days without a broker, and then it is back: on real files, with a real broker that dies once more meanwhile.

A frame an hour here; `python -m tests.benchmarks.month_away` does it with one each minute and the real daemon.
"""

import json
from functools import partial

from cloud_documents import NOW, SITE
from cloud_double import until
from cloud_site import QUICK

from agent.cloud.frame import telemetry_frame
from agent.cloud.uplink import UplinkOptions
from agent.core.events import Event, EventState, Severity
from agent.core.records import Sample, Stream

FRAME_S = 3600.0
MONTH = int(30 * 86_400 / FRAME_S)
OPTIONS = UplinkOptions(link=QUICK, watermark_wait_s=0.2, history_per_s=1000.0)


def samples(number, boot="before"):
    """A few rows of one frame; each instant once in the month."""
    return [
        Sample(boot, NOW + number * FRAME_S + i * 60, 1.0 * i, 2.0, None, None, 50.0, 50.01, 2.0, 2.0, "yearly")
        for i in range(3)
    ]


async def fill(store, frames):
    """What the recorder leaves in a month, and an event a day."""
    for number in frames:
        for sample in samples(number):
            await store.append_sample(sample)
        await store.seal_frame(partial(telemetry_frame, SITE))
        if number % 24 == 0:
            at = NOW + number * FRAME_S
            await store.append_event(Event(at, EventState.NOTED, Severity.INFO, "day", "site", "a day passed"))


async def test_a_month_away_is_complete_afterwards_without_a_gap_and_without_a_duplicate(mosquitto, edge, cloud, store):
    broker = mosquitto()
    broker.kill()
    site = edge(broker, OPTIONS).begin()
    await fill(store, range(MONTH))
    assert store.outbox_depth == MONTH + 30
    broker.start()
    vpp = await cloud(broker)
    await until(lambda: len(vpp.seqs("telemetry")) > MONTH // 4, "a quarter of it", 40)
    broker.kill()
    await fill(store, range(MONTH, MONTH + 20))
    broker.start()
    for _ in range(20):
        await site.frame()
    last = MONTH + 40
    await until(lambda: vpp.complete_to("telemetry") == last, "the whole month", 60)
    await until(lambda: store.outbox_depth == 0, "the cloud's word that it has all", 20)
    assert len(vpp.seqs("telemetry")) == await store.last_seq(Stream.TELEMETRY) == last
    assert set(vpp.samples().values()) == {1}
    assert len(vpp.samples()) == (MONTH + 20) * 3 + 20
    assert vpp.complete_to("event") == 31
    assert {content["code"] for content in vpp.events()} == {"day"}


async def test_what_is_measured_now_does_not_wait_behind_the_month(mosquitto, edge, cloud, store):
    broker = mosquitto()
    await fill(store, range(300))
    vpp = await cloud(broker)
    site = edge(broker, UplinkOptions(link=QUICK, watermark_wait_s=0.2, history_per_s=30.0)).begin()
    await until(lambda: vpp.seqs("telemetry"), "the first old ones")
    now = await site.frame()
    await until(lambda: now in vpp.seqs("telemetry"), "the new one")
    assert vpp.topics["telemetry", now] == "edge/telemetry"
    assert len(vpp.seqs("telemetry")) < 300, "the old ones are still on their way"


async def test_nothing_is_deleted_that_the_cloud_has_not_stored(mosquitto, edge, cloud, store):
    broker = mosquitto()
    await fill(store, range(50))
    vpp = await cloud(broker, watermarks=False)
    edge(broker, OPTIONS).begin()
    await until(lambda: vpp.complete_to("telemetry") == 50, "all frames")
    assert len(await store.pending(Stream.TELEMETRY, 0, 100)) == 50
    vpp.say_stored({"telemetry": 20})
    await until(lambda: store.outbox_depth == 33, "twenty of them; the events wait too")
    kept = await store.kept(Stream.TELEMETRY, 0, 50, 100)
    assert [seq for seq, _ in kept] == list(range(1, 51)), "they can still be asked for"
    assert json.dumps([seq for seq, _ in await store.pending(Stream.TELEMETRY, 0, 100)]) == json.dumps([*range(21, 51)])
