"""A cloud for tests: counts what comes by (stream, sequence), and says how far it has stored everything."""

import asyncio
import json
from collections import Counter

import paho.mqtt.client as mqtt
from cloud_documents import SITE
from cloud_schemas import faults
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from simulators.cloud_messages import column_values, read_message

DEADLINE_S = 15.0
WATERMARK_EVERY_S = 0.05
PREFIX = f"ems/v1/{SITE}/"


async def until(condition, what="the condition", deadline_s=DEADLINE_S):
    """Returns when the condition holds; fails by name when it does not in time."""

    async def poll():
        while not condition():  # noqa: ASYNC110 - any condition, also on threads and disks
            await asyncio.sleep(0.005)

    try:
        await asyncio.wait_for(poll(), deadline_s)
    except TimeoutError:
        raise AssertionError(f"not within {deadline_s} s: {what}") from None


class Cloud:
    """A paho client with a session of its own; `watermarks=False` makes it say nothing about what it stored."""

    def __init__(self, broker, *, watermarks=True):
        self.loop = asyncio.get_running_loop()
        self.statuses, self.messages, self.invalid = [], [], []
        self.topics = {}
        self.contents = {}
        self.times_seen = Counter()
        self.ready = asyncio.Event()
        self.paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "the-cloud", protocol=mqtt.MQTTv5)
        self.paho.reconnect_delay_set(1, 1)
        self.paho.on_connect = lambda client, *_: client.subscribe(PREFIX + "edge/#", qos=1)
        self.paho.on_subscribe = lambda *_: self.loop.call_soon_threadsafe(self.ready.set)
        self.paho.on_message = lambda _c, _u, message: self.loop.call_soon_threadsafe(self._arrived, message)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self.paho.connect("127.0.0.1", broker.port, keepalive=5, clean_start=False, properties=properties)
        self.paho.loop_start()
        self._saying = asyncio.create_task(self._keep_saying()) if watermarks else None

    def _arrived(self, message):
        content = read_message(message.payload, SITE)
        name = message.topic.removeprefix(PREFIX)
        self.messages.append((name, content))
        self.invalid += [f"{name}: {fault}" for fault in faults(content)]
        if name == "edge/status":
            self.statuses.append(content)
        if content.get("seq") is None:
            return
        key = (content["stream"], content["seq"])
        self.times_seen[key] += 1
        self.topics.setdefault(key, name)
        assert self.contents.setdefault(key, message.payload) == message.payload, "a sequence with other content"

    async def _keep_saying(self):
        """As a real one does: now and then, so that one that was lost or overtaken does no harm."""
        while True:
            await asyncio.sleep(WATERMARK_EVERY_S)
            if self.contents and self.paho.is_connected():
                self.say_stored({stream: self.complete_to(stream) for stream in {name for name, _ in self.contents}})

    def say_stored(self, stored):
        body = {"schema": "1.0", "site_id": SITE, "stored": stored}
        self.paho.publish(PREFIX + "cloud/watermark", json.dumps(body), qos=1, retain=True)

    def send_plan(self, payload, kind="rolling", *, retain=True):
        return self.paho.publish(PREFIX + f"cloud/plan/{kind}", payload, qos=1, retain=retain)

    def seqs(self, stream):
        return sorted(seq for name, seq in self.contents if name == stream)

    def complete_to(self, stream):
        have = set(self.seqs(stream))
        highest = 0
        while highest + 1 in have:
            highest += 1
        return highest

    def messages_of(self, topic):
        return [content for name, content in self.messages if name == topic]

    def acks(self):
        return self._each_once("edge/ack")

    def events(self):
        return self._each_once("edge/event")

    def _each_once(self, topic):
        """As the contract asks of a cloud: what came again, after a new connection, counts once."""
        return list(
            {content["seq"]: content for content in self.messages_of(topic) if content["seq"] is not None}.values()
        )

    def samples(self):
        """Every (boot, time) of the frames stored, once per frame that has it."""
        frames = [
            read_message(payload, SITE) for (stream, _), payload in self.contents.items() if stream == "telemetry"
        ]
        return Counter((f["boot_id"], f["start"], t) for f in frames for t in column_values(f["t_ms"]))

    async def listen(self, *, on):
        """Subscribes or unsubscribes what comes from the site; returns once the broker has done so."""
        self.ready.clear()
        self.paho.on_unsubscribe = self.paho.on_subscribe
        if on:
            self.paho.subscribe(PREFIX + "edge/#", qos=1)
        else:
            self.paho.unsubscribe(PREFIX + "edge/#")
        async with asyncio.timeout(DEADLINE_S):
            await self.ready.wait()

    def close(self):
        if self._saying is not None:
            self._saying.cancel()
        self.paho.disconnect()
        self.paho.loop_stop()
