"""A small MQTT client for tests of brokers and clouds."""

import queue
import socket

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

DEADLINE_S = 10.0


class Client:
    """A paho client whose messages arrive in a queue."""

    def __init__(self, port, client_id, *, clean_start=True, will=None):
        self.messages: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self._states: queue.Queue[str] = queue.Queue()
        self.session_present = False
        self.paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5)
        self.paho.reconnect_delay_set(1, 1)
        self.paho.on_message = lambda *args: self.messages.put(args[2])
        self.paho.on_connect = self._connected
        self.paho.on_disconnect = lambda *_: self._states.put("down")
        self.paho.on_subscribe = lambda *_: self._states.put("subscribed")
        if will:
            self.paho.will_set(*will, qos=1, retain=True)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self.paho.connect("127.0.0.1", port, keepalive=5, clean_start=clean_start, properties=properties)
        self.paho.loop_start()
        self.expect("up")

    def _connected(self, client, userdata, flags, reason, properties):
        self.session_present = flags.session_present
        self._states.put("up")

    def expect(self, state):
        assert self._states.get(timeout=DEADLINE_S) == state

    def subscribe(self, topic):
        self.paho.subscribe(topic, qos=1)
        self.expect("subscribed")

    def publish(self, topic, payload, *, retain=False):
        sent = self.paho.publish(topic, payload, qos=1, retain=retain)
        sent.wait_for_publish(DEADLINE_S)
        assert sent.is_published()

    def next(self):
        return self.messages.get(timeout=DEADLINE_S)

    def drop(self):
        """Break the connection as a power cut does: no DISCONNECT packet."""
        self.paho.loop_stop()
        self.paho.socket().shutdown(socket.SHUT_RDWR)

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()
