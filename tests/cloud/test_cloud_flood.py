"""A flood in the size of a test: what it leaves behind is bounded, and the cloud is heard after it."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import cloud_documents
import pytest
from cloud_documents import document
from cloud_double import until
from cloud_site import QUICK
from own_signer import KEYS, Signer

from agent.cloud.answer_limit import MAX_PER_WINDOW
from agent.cloud.security import EVENT_CODE
from agent.cloud.signatures import KeyRing
from agent.cloud.uplink import UplinkOptions
from agent.core.plan import PlanKind, Plans
from agent.core.records import Stream
from tests.benchmarks import flood

BROKER = "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 20000\nuser root\n"


def resident_mb():
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


@pytest.mark.parametrize("qos", [0, 1])
async def test_of_thousands_of_forged_messages_a_few_lines_stay_and_the_next_plan_is_taken(
    mosquitto, edge, cloud, monkeypatch, qos
):
    monkeypatch.setattr(flood, "PREFIX", f"ems/v1/{cloud_documents.SITE}/cloud/")
    broker = mosquitto(BROKER)
    site = edge(broker, keys=KeyRing(KEYS)).begin()
    await until(lambda: site.uplink.connected, "the connection")
    vpp = await cloud(broker, watermarks=False)
    before_mb = resident_mb()
    with flood.Flood(broker.port, qos) as sent:
        await until(lambda: sent.sent >= 4_000, "four thousand messages", 60.0)
    vpp.send_plan(Signer().signed(document()))
    await until(lambda: site.plans.rolling, "the plan of the cloud", 60.0)
    assert resident_mb() - before_mb < 48
    events = [event for event in await site.store.events(500) if event.code == EVENT_CODE]
    # `not_json` is how the double of the command desk answers everything.
    assert {event.data["reason"] for event in events} <= {"bad_signature", "rate_limited", "not_json"}
    assert 0 < len(events) < 10
    answers = await site.store.pending(Stream.ACK, 0, 1000)
    assert len(answers) < 5 * MAX_PER_WINDOW


async def test_a_plan_that_a_full_broker_dropped_is_heard_after_the_flood(mosquitto, edge, cloud, monkeypatch):
    monkeypatch.setattr(flood, "PREFIX", f"ems/v1/{cloud_documents.SITE}/cloud/")
    broker = mosquitto(BROKER.replace("20000", "20"))
    options = UplinkOptions(link=QUICK, watermark_wait_s=0.2, calm_after_s=0.4)
    site = edge(broker, options, keys=KeyRing(KEYS)).begin()
    await until(lambda: site.uplink.connected, "the connection")
    vpp = await cloud(broker, watermarks=False)
    with flood.Flood(broker.port, 1) as sent:
        await until(lambda: sent.sent >= 2_000, "two thousand messages", 60.0)
        vpp.send_plan(Signer().signed(document()))
        await until(lambda: sent.sent >= 4_000, "two thousand more", 60.0)
    await until(lambda: site.plans.rolling, "the plan, which is retained", 60.0)


async def test_after_a_single_forged_message_what_is_retained_is_heard_again(mosquitto, edge, cloud):
    """A flood that a slow line or a full broker holds back looks like this here."""
    broker = mosquitto(BROKER)
    options = UplinkOptions(link=QUICK, watermark_wait_s=0.2, calm_after_s=0.1)
    site = edge(broker, options, keys=KeyRing(KEYS)).begin()
    await until(lambda: site.uplink.connected, "the connection")
    vpp = await cloud(broker, watermarks=False)
    vpp.send_plan(Signer().signed(document()))
    await until(lambda: site.plans.rolling, "the plan of the cloud")
    site.plans = Plans()  # as if the broker had dropped it
    vpp.send_plan(b"forged", kind="yearly", retain=False)
    await until(lambda: site.plans.rolling, "the plan, which is retained")


async def test_a_forged_message_that_is_retained_is_not_asked_for_again_and_again(mosquitto, edge, cloud):
    broker = mosquitto(BROKER)
    vpp = await cloud(broker, watermarks=False)
    vpp.send_plan(b"forged", kind="yearly").wait_for_publish(10.0)
    site = edge(broker, UplinkOptions(link=QUICK, calm_after_s=0.05), keys=KeyRing(KEYS))
    refused = []
    answer = site.uplink._on_document

    async def noted(kind, arrived):
        refused.append(kind)
        return await answer(kind, arrived)

    site.uplink._on_document = noted
    site.begin()
    vpp.send_plan(Signer().signed(document()))
    await until(lambda: site.plans.rolling, "a plan that came after it")
    asyncio.get_running_loop().call_later(0.5, refused.append, "half a second, ten times the calm")
    await until(lambda: "half a second, ten times the calm" in refused, "time")
    assert refused.count(PlanKind.YEARLY) == 1


def test_the_library_for_signatures_is_loaded_only_where_keys_are_named():
    text = (
        "import sys, agent.app; from agent.cloud.signatures import KeyRing; KeyRing({}); "
        "print('cryptography' in sys.modules, 'joserfc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]
