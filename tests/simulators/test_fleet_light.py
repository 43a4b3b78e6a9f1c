"""Light edge clients: their packets against a broker that answers by hand, and a fleet of them against a real one."""

import asyncio
import json
import struct
from contextlib import suppress
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from agent.cli.main import app
from agent.cloud.reconnect import LinkOptions
from simulators import fleet_run
from simulators.fleet import Habits, Place
from simulators.fleet_run import FleetError, FleetRun, FleetTask
from simulators.mqtt_light import MAX_PACKET_BYTES, Hello, LightClient

CONNACK = bytes([0x20, 3, 0, 0, 0])


class HandBroker:
    """Keeps what came; answers only what a test sends."""

    def __init__(self):
        self.came, self.writer, self._news, self._served = bytearray(), None, asyncio.Event(), asyncio.Event()

    async def begin(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        self.writer = writer
        with suppress(OSError):
            while data := await reader.read(65_536):
                self.came += data
                self._news.set()
        self._served.set()

    async def end(self):
        self.server.close()
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()
        await asyncio.wait_for(self._served.wait(), 20)

    async def until(self, condition):
        async with asyncio.timeout(20):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def send(self, data):
        self.writer.write(data)


@pytest.fixture
async def pair():
    """A client that has sent its CONNECT, and the broker that got it."""
    broker = HandBroker()
    port = await broker.begin()
    client = LightClient(Hello("ems-a", will=("t", b"gone"), user="u", password="p"))
    client.events = asyncio.Queue()
    client.on_up = lambda reason: client.events.put_nowait(("up", reason))
    client.on_message = lambda topic, payload: client.events.put_nowait((topic, payload))
    client.on_taken = lambda tag: client.events.put_nowait(("taken", tag))
    client.on_down = lambda: client.events.put_nowait("down")
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", port)
    await broker.until(lambda: broker.came.endswith(b"\x00\x01u\x00\x01p"))
    yield client, broker
    client.close()
    await broker.end()


async def event(client):
    return await asyncio.wait_for(client.events.get(), 20)


def message(topic, payload, mid=None):
    body = struct.pack("!H", len(topic)) + topic
    body += (struct.pack("!H", mid) if mid else b"") + b"\x00" + payload
    return bytes([0x32 if mid else 0x30, len(body)]) + body


async def test_the_connect_asks_for_a_session_that_lasts_and_leaves_a_will(pair):
    _, broker = pair
    assert broker.came[0] == 0x10
    assert b"\x00\x04MQTT\x05\xec" in broker.came, "version 5; name, password, will: retained, QoS 1; no clean start"
    assert b"\x00\x05ems-a\x00\x00\x01t\x00\x04gone" in broker.came


async def test_packets_are_found_however_the_stream_is_cut(pair):
    client, broker = pair
    stream = CONNACK + message(b"a/b", b"one") + message(b"c", b"x" * 100, 7) + message(b"d", b"")
    for byte in stream:
        broker.send(bytes([byte]))
        await broker.writer.drain()
    assert [await event(client) for _ in range(4)] == [("up", 0), ("a/b", b"one"), ("c", b"x" * 100), ("d", b"")]
    await broker.until(lambda: broker.came.endswith(bytes([0x40, 2, 0, 7])))


async def test_no_more_is_on_its_way_than_the_broker_takes(pair):
    client, broker = pair
    properties = bytes([0x27, 0, 0, 16, 0, 0x24, 1, 0x21, 0, 2])  # the last: Receive Maximum 2
    broker.send(bytes([0x20, 3 + len(properties), 0, 0, len(properties)]) + properties)
    assert await event(client) == ("up", 0)
    for number in range(4):
        client.publish("t", b"payload-%d" % number, tag=number)
    await broker.until(lambda: b"payload-1" in broker.came)
    assert b"payload-2" not in broker.came
    broker.send(bytes([0x40, 2, 0, 1]))
    assert await event(client) == ("taken", 0)
    await broker.until(lambda: b"payload-2" in broker.came)
    assert b"payload-3" not in broker.came


@pytest.mark.parametrize("nonsense", [b"\x30\xff\xff\xff\xff\x7f", b"\x30\xff\xff\xff\x7f", b"\xe0\x00"])
async def test_what_is_no_packet_or_a_goodbye_ends_the_connection(pair, nonsense):
    client, broker = pair
    broker.send(CONNACK + nonsense)
    assert await event(client) == ("up", 0)
    assert await event(client) == "down"
    assert MAX_PACKET_BYTES < 0x0FFFFFFF


async def test_a_refusal_is_told_and_the_client_is_not_up(pair):
    client, broker = pair
    broker.send(bytes([0x20, 3, 0, 0x87, 0]))
    assert (await event(client), client.up) == (("up", 0x87), False)


def habits(frame_s=0.3, spread_s=0.4):
    return Habits(frame_s, 400, LinkOptions(first_wait_s=0.2, spread_s=spread_s))


async def test_a_fleet_is_connected_heard_planned_for_and_comes_back_whole(mosquitto):
    said = []
    place = Place("127.0.0.1", mosquitto().port)
    task = FleetTask(place, 20, 1.5, habits(), connects_per_s=200.0, herd=True)
    run = FleetRun(task, said.append)
    found = await run.run()
    assert found["complete"], found
    assert run._tally.plans == 20, "the plan that comes again after a reconnect is not stored again"
    assert found["connect"]["connected"] == found["plan"]["stored"] == found["herd"]["back"] == 20
    assert found["account"]["connections_lost"] == 20
    assert found["account"]["telemetry_messages"] >= 20
    assert found["plan"]["published_to_stored"]["count"] == 20
    assert found["steady"]["payload_bytes_per_s"] >= 400 * 20
    assert "connected: 20 of 20" in said


async def test_a_fleet_that_cannot_all_connect_is_not_complete(mosquitto, monkeypatch):
    monkeypatch.setattr(fleet_run, "DEADLINE_S", 1.0)
    few = "listener {port} 127.0.0.1\nallow_anonymous true\nmax_connections 6\nuser root\npersistence_location {directory}/\n"
    task = FleetTask(Place("127.0.0.1", mosquitto(few).port), 10, 1.0, habits())
    run = FleetRun(task, lambda _text: None)
    found = await run.run()
    assert (found["complete"], found["connect"]["connected"] < 10) == (False, True)
    assert max(site._failures for site in run._sites) >= 1, "who is not let in waits longer"


@pytest.mark.parametrize(
    ("spoiled", "complete"),
    [({}, True), ({"gaps": 1}, False), ({"unconfirmed": 1}, False), ({"connections_lost": 1}, False)],
)
def test_a_run_with_a_frame_or_a_connection_lost_is_not_complete(spoiled, complete):
    account = {"gaps": 0, "unconfirmed": 0, "connections_lost": 0} | spoiled
    found = {"connect": {"connected": 1}, "plan": {"stored": 1}, "account": account}
    assert FleetRun(FleetTask(Place("x", 1), 1), lambda _text: None)._complete(found) == complete


async def test_without_a_broker_the_fleet_says_where_it_looked():
    with pytest.raises(FleetError, match=r"no broker at 127\.0\.0\.1:9"):
        await FleetRun(FleetTask(Place("127.0.0.1", 9), 1), lambda _text: None).run()


def test_the_command_brings_its_own_broker_and_tells_what_it_costs():
    done = CliRunner().invoke(app, ["fleet-sim", "--sites", "5", "--seconds", "1", "--frame", "0.5", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])["result"]
    assert (found["complete"], found["sites"], "herd" in found) == (True, 5, False)
    assert found["memory"]["broker_kb_per_session"] is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--broker", "http://x"], "is no address of a broker"),
        (["--broker", "mqtt://127.0.0.1:9"], "no broker at 127.0.0.1:9"),
    ],
)
def test_what_cannot_be_reached_is_told(options, words):
    done = CliRunner().invoke(app, ["fleet-sim", "--sites", "1", *options])
    assert (done.exit_code, words in done.output) == (1, True), done.output


def test_frames_of_a_site_do_not_come_together(monkeypatch):
    """Each site has an instant of its own within the period, the same for the same seed."""
    chances = [fleet_run.random.Random(1).random() for _ in range(2)]
    assert chances[0] == chances[1]
    sites = FleetRun(FleetTask(Place("x", 1), 50, seed=3), lambda _text: None)._sites
    instants = sorted(site._chance.random() for site in sites)
    assert max(b - a for a, b in pairwise(instants)) < 0.2
