"""Faults of everything around the agent, drawn from a seed in bursts, each healed before the next burst.

A burst is a random subset of what can go wrong, of devices, broker, clock, disk and process at once. Between two bursts
there is time enough to be normal again, and to look at that.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from simulators.modbus_units import Faults
from simulators.virtual.broker import SESSION_TAKEN_OVER
from simulators.virtual.disk import USUAL_S
from simulators.virtual.world import World

FIRST_BURST_S = 120.0
BURST_S = 420.0
"""The faults of a burst begin and end within this time."""
CALM_S = 420.0
"""After that everything works for this long: five minutes to be normal again, and two to be seen so."""
SHORTEST_S = 2.0
MOST_AT_ONCE = 4
SLOW_DEVICE_S = 5.0
SLOW_DISK_S = 5.0
FLAP_S = 4.0
LONGEST_SLEEP_S = 600.0
DEVICES = ("battery", "pv", "meter")


class Kind(StrEnum):
    """What can go wrong."""

    SILENT = "device silent"
    SLOW = "device slow"
    GARBAGE = "device answers garbage"
    TRUNCATED = "device truncates"
    DUPLICATE = "device answers twice"
    LATE = "device answers late"
    FLIPPED = "bits flip on the way from the device"
    WRONG_TRANSACTION = "device answers with another transaction"
    EXCEPTION = "device refuses"
    REBOOT = "device reboots"
    HALF_OPEN = "connection half-open"
    DROPS = "device closes connections"
    LIE = "device accepts and does not apply"
    FROZEN = "device repeats old values"
    SENTINELS = "device tells no values"
    NOT_READY = "battery stopped"
    UNPLUGGED = "network to the devices away"
    BROKER_DOWN = "broker down"
    BROKER_FORGETS = "broker restarted without memory"
    BROKER_DEAF = "line to the broker dead"
    FLAPPING = "connection to the broker flaps"
    TAKEN_OVER = "client id taken"
    LOST_AFTER_ACK = "acknowledged and lost"
    DUPLICATED = "messages twice"
    REORDERED = "messages out of order"
    REFUSED = "broker refuses"
    SLOW_BROKER = "broker slow"
    CLOUD_STORES_NOTHING = "cloud stores nothing"
    HOSTILE = "hostile messages"
    CLOCK = "clock set"
    ASLEEP = "machine asleep"
    KILLED = "kill -9"
    STOPPED = "stopped and started"
    DISK_FULL = "disk full"
    DISK_SLOW = "disk slow"


def _sets(name: str, value: object) -> Callable[[Faults], None]:
    return lambda faults: setattr(faults, name, value)


OF_DEVICES: dict[Kind, Callable[[Faults], None]] = {
    Kind.SILENT: _sets("silent", True),
    Kind.SLOW: _sets("delay_s", SLOW_DEVICE_S),
    Kind.GARBAGE: _sets("garbage", True),
    Kind.TRUNCATED: _sets("truncated", True),
    Kind.DUPLICATE: _sets("duplicate", True),
    Kind.LATE: _sets("late", True),
    Kind.FLIPPED: _sets("flip_bits", 2),
    Kind.WRONG_TRANSACTION: _sets("wrong_transaction", True),
    Kind.EXCEPTION: _sets("exception", 4),
    Kind.REBOOT: _sets("reboot", True),
    Kind.HALF_OPEN: _sets("half_open", True),
    Kind.DROPS: _sets("drop_connection", True),
    Kind.LIE: _sets("lie", True),
    Kind.FROZEN: _sets("frozen", True),
    Kind.SENTINELS: _sets("sentinels", True),
}
"""What each of these does to one unit."""
RARE = frozenset({Kind.KILLED, Kind.STOPPED})
"""At most so many starts in ten minutes that the agent does not take them for a crash loop: one such fault a burst."""
CRIPPLING = frozenset({*OF_DEVICES, *RARE, Kind.NOT_READY, Kind.UNPLUGGED, Kind.ASLEEP})
"""While these last, nobody may be able to keep the connection within its limits."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault over `[start_s, end_s)`, seconds from the start of the run."""

    kind: Kind
    start_s: float
    end_s: float
    device: str
    size: float


def drawn(seed: int, seconds: float, kinds: tuple[Kind, ...] = tuple(Kind)) -> list[list[Fault]]:
    """The bursts of one run, as many as fit."""
    source = random.Random(f"virtual swarm {seed}")
    chosen = [kind for kind in kinds if source.random() < 0.5] or [source.choice(kinds)]
    bursts: list[list[Fault]] = []
    begin_s = FIRST_BURST_S
    while begin_s + BURST_S + CALM_S <= seconds:
        picked = source.sample(chosen, k=min(len(chosen), source.randint(1, MOST_AT_ONCE)))
        one_restart = [kind for kind in picked if kind in RARE][:1]
        picked = [kind for kind in picked if kind not in RARE] + one_restart
        bursts.append([_one(kind, begin_s, source) for kind in picked])
        begin_s += BURST_S + CALM_S
    return bursts


def _one(kind: Kind, begin_s: float, source: random.Random) -> Fault:
    lasts_s = min(BURST_S, source.choice((SHORTEST_S, 8.0, 20.0, 70.0, 200.0, BURST_S)))
    start_s = begin_s + source.uniform(0.0, BURST_S - lasts_s)
    size = source.choice((-86_400.0, -3600.0, -30.0, -1.5, 2.0, 100.0)) if kind is Kind.CLOCK else source.random()
    device = "battery" if kind is Kind.LIE else source.choice(DEVICES)
    return Fault(kind, start_s, start_s + lasts_s, device, size)


class Injector:
    """Brings faults into a world and takes them back."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random.Random(f"injector {world.site.seed}")

    async def begin(self, fault: Fault) -> None:
        """The fault is there."""
        world, broker = self._world, self._world.broker
        if fault.kind in OF_DEVICES:
            OF_DEVICES[fault.kind](world.plant.faults[fault.device])
            return
        actions: dict[Kind, Callable[[], object]] = {
            Kind.NOT_READY: lambda: world.plant.set_ready(False),
            Kind.UNPLUGGED: self._unplug,
            Kind.BROKER_DOWN: broker.go_down,
            Kind.BROKER_FORGETS: lambda: broker.go_down(forget=True),
            Kind.BROKER_DEAF: broker.go_deaf,
            Kind.TAKEN_OVER: lambda: broker.cut_all(SESSION_TAKEN_OVER),
            Kind.LOST_AFTER_ACK: lambda: setattr(broker.faults, "lost_after_ack", 0.3),
            Kind.DUPLICATED: lambda: setattr(broker.faults, "duplicated", 0.3),
            Kind.REORDERED: lambda: setattr(broker.faults, "reordered", 0.3),
            Kind.REFUSED: lambda: setattr(broker.faults, "refused", True),
            Kind.SLOW_BROKER: lambda: setattr(broker.faults, "latency_s", 1.0 + 2.0 * fault.size),
            Kind.CLOUD_STORES_NOTHING: lambda: setattr(world.cloud, "stores", False),
            Kind.CLOCK: lambda: setattr(world.clock, "step_s", fault.size),
            Kind.ASLEEP: lambda: world.loop.pause(LONGEST_SLEEP_S * fault.size),
            Kind.DISK_FULL: lambda: world.disk.full(full=True),
            Kind.DISK_SLOW: lambda: setattr(world.disk, "job_s", SLOW_DISK_S * fault.size),
        }
        if fault.kind in actions:
            actions[fault.kind]()
        elif fault.kind is Kind.KILLED and world.running:
            await world.kill_agent()
        elif fault.kind is Kind.STOPPED and world.running:
            await world.stop_agent()

    async def goes_on(self, fault: Fault) -> None:
        """A second of it has passed."""
        if fault.kind is Kind.FLAPPING and self._world.loop.time() % FLAP_S < 1.0:
            self._world.broker.cut_all()
        elif fault.kind is Kind.HOSTILE:
            self._attack()

    async def end(self, fault: Fault) -> None:
        """The fault is healed."""
        world, broker = self._world, self._world.broker
        if fault.kind in OF_DEVICES:
            self._heal_device(fault)
            return
        actions: dict[Kind, Callable[[], object]] = {
            Kind.NOT_READY: lambda: world.plant.set_ready(True),
            Kind.UNPLUGGED: world.loop.network.unplugged.clear,
            Kind.BROKER_DOWN: broker.go_up,
            Kind.BROKER_FORGETS: broker.go_up,
            Kind.BROKER_DEAF: broker.go_up,
            Kind.LOST_AFTER_ACK: lambda: setattr(broker.faults, "lost_after_ack", 0.0),
            Kind.DUPLICATED: lambda: setattr(broker.faults, "duplicated", 0.0),
            Kind.REORDERED: lambda: setattr(broker.faults, "reordered", 0.0),
            Kind.REFUSED: lambda: setattr(broker.faults, "refused", False),
            Kind.SLOW_BROKER: lambda: setattr(broker.faults, "latency_s", 0.02),
            Kind.CLOUD_STORES_NOTHING: lambda: setattr(world.cloud, "stores", True),
            Kind.CLOCK: lambda: setattr(world.clock, "step_s", 0.0),
            Kind.DISK_FULL: lambda: world.disk.full(full=False),
            Kind.DISK_SLOW: lambda: setattr(world.disk, "job_s", USUAL_S),
        }
        if fault.kind in actions:
            actions[fault.kind]()
        elif fault.kind in RARE and not world.running:
            world.start_agent()

    def _heal_device(self, fault: Fault) -> None:
        faults, good = self._world.plant.faults[fault.device], Faults()
        broken = Faults()
        OF_DEVICES[fault.kind](broken)
        for name in Faults.__slots__:
            if getattr(broken, name) != getattr(good, name):
                setattr(faults, name, getattr(good, name))

    def _unplug(self) -> None:
        network = self._world.loop.network
        network.unplugged |= network.ports
        for transport in list(network.open_transports):
            transport.cut()

    def _attack(self) -> None:
        """Messages that must have no effect."""
        cloud, source = self._world.cloud, self._random
        old = [one.payload for one in cloud.commands.values()]
        broken: list[tuple[str, bytes]] = [
            ("command", source.randbytes(source.randint(0, 200))),
            ("command", b'{"schema": "1.0", "site_id": "' + b"x" * 3000 + b'"}'),
            ("command", b"[" * 5000),
            ("plan/rolling", b'{"schema": "1.0", "power": [NaN, 1e999]}'),
            ("plan/rolling", source.randbytes(500)),
            ("watermark", b'{"schema": "1.0", "site_id": "virtual-01", "stored": {"telemetry": 999999999}}'),
        ]
        if old:
            replayed = source.choice(old)
            broken += [("command", replayed), ("command", replayed.replace(b"virtual-01", b"virtual-02"))]
        name, payload = source.choice(broken)
        cloud.send_raw(name, payload)
