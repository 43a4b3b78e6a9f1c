"""A simulated cloud over real MQTT: plans for one site or many, stores and counts what they send.

`ems cloud-sim` runs one by itself; the demo runs one in its own process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import paho.mqtt.client as mqtt
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from simulators.cloud_connection import BrokerAccess, begin, new_client
from simulators.cloud_desk import DeskOptions, SiteDesk
from simulators.cloud_planner import Planner
from simulators.market import MarketClock
from simulators.optimiser import NoScheduleError

WORK_PERIOD_S = 0.5
MOST_SITES = 10_000
HEARD = ("cloud/watermark", "edge/#")
"""The first is the cloud's own word, how far an earlier run had stored everything: it must be known before the rest."""


class SimulatedCloud:
    """One connection and one desk per site; plans and counts in its own threads."""

    def __init__(
        self,
        access: BrokerAccess,
        clock: MarketClock,
        planners: Sequence[Planner] = (),
        *,
        options: DeskOptions | None = None,
        new_planner: Callable[[str], Planner] | None = None,
        client_id: str = "cloud-sim",
    ) -> None:
        """Nothing runs yet. With `new_planner` every site that speaks is served."""
        self._access, self._clock = access, clock
        self._options = options or DeskOptions()
        self._new_planner = new_planner
        self._lock = threading.Lock()
        self._subscribed = False
        self._ending = threading.Event()
        self._worker = threading.Thread(target=self._work, name="cloud", daemon=True)
        self._mqtt = new_client(access, client_id)
        self._mqtt.on_connect = self._on_connect
        self._mqtt.on_message = self._on_message
        self._mqtt.on_subscribe = lambda *_: self._on_subscribed()
        self._mqtt.on_disconnect = lambda _c, _u, _f, reason, _p: self._on_disconnect(str(reason))
        self._mqtt.on_connect_fail = lambda *_: self._on_disconnect(f"nobody answers at {access.url}; it is tried on")
        self._desks = {planner.site.site_id: self._new_desk(planner) for planner in planners}
        self.trouble: str | None = None
        """Why there is no connection, or no plan."""
        self.on_work: Callable[[], None] = lambda: None
        """Called some times a second, beside the desks."""

    @property
    def place(self) -> str:
        """The broker's address."""
        return self._access.url

    @property
    def connected(self) -> bool:
        """Connected, and what sites send will arrive."""
        return self._subscribed and self._mqtt.is_connected()

    def desk(self, site_id: str) -> SiteDesk:
        """The desk of a site that is served; KeyError for another."""
        return self._desks[site_id]

    def desks(self) -> list[SiteDesk]:
        """All of them, by site id."""
        with self._lock:
            return [self._desks[site_id] for site_id in sorted(self._desks)]

    def publish_raw(self, topic: str, payload: bytes, *, qos: int = 0) -> None:
        """Anything at all, on any topic; dropped while there is no connection."""
        if self._mqtt.is_connected():
            self._mqtt.publish(topic, payload, qos=qos)

    def start(self, first_slot_utc_s: int) -> None:
        """Publish plans that begin at `first_slot_utc_s`, connect, and go on planning."""
        for desk in self.desks():
            desk.start(first_slot_utc_s)
        begin(self._mqtt, self._access)
        self._worker.start()

    def stop(self) -> None:
        """End the threads and disconnect. May be called again."""
        self._ending.set()
        if self._worker.is_alive():
            self._worker.join()
        self._mqtt.disconnect()
        self._mqtt.loop_stop()

    def _new_desk(self, planner: Planner) -> SiteDesk:
        def publish(name: str, payload: bytes, retain: bool) -> None:
            if self._mqtt.is_connected():  # else it is said again on the next connection
                self._mqtt.publish(name, payload, qos=1, retain=retain)

        return SiteDesk(planner, publish, lambda: self.connected, self._options)

    def _on_connect(
        self, client: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, _more: object
    ) -> None:
        if reason.is_failure:
            self.trouble = f"the broker refused the connection: {reason}"
            return
        names = ["+"] if self._new_planner is not None else [desk.site_id for desk in self.desks()]
        # Our own word is wanted as an earlier run left it, not as an echo.
        client.subscribe(
            [(f"ems/v1/{name}/{rest}", SubscribeOptions(qos=1, noLocal=True)) for name in names for rest in HEARD]
        )
        for desk in self.desks():
            desk.say_all_again()

    def _on_subscribed(self) -> None:
        for desk in self.desks():
            desk.settle()
        self._subscribed, self.trouble = True, None

    def _on_disconnect(self, why: str) -> None:
        self._subscribed = False
        if not self._ending.is_set():
            self.trouble = f"no connection to the broker: {why}"

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        del client, userdata
        parts = message.topic.split("/", 3)
        if len(parts) == 4 and parts[:2] == ["ems", "v1"]:
            desk = self._desks.get(parts[2]) or self._discovered(parts[2])
            if desk is not None:
                desk.take(parts[3], bytes(message.payload))

    def _discovered(self, site_id: str) -> SiteDesk | None:
        """A desk for a site that was not known before: it spoke, or was served by an earlier run."""
        if self._new_planner is None or len(self._desks) >= MOST_SITES:
            return None
        desk = self._new_desk(self._new_planner(site_id))
        desk.settle()
        with self._lock:
            self._desks[site_id] = desk
        return desk

    def _work(self) -> None:
        begun = {desk.site_id for desk in self.desks()}
        while not self._ending.wait(min(WORK_PERIOD_S, self._clock.slot_s / 8)):
            self.on_work()
            for desk in self.desks():
                try:
                    if desk.site_id not in begun:
                        begun.add(desk.site_id)
                        desk.start(self._clock.slot_start(self._options.now()))
                    desk.work()
                except NoScheduleError as error:
                    self.trouble = f"{desk.site_id}: {error}"
