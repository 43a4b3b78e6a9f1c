"""What is known about one device over a connection that may be replaced at any time.

What was learnt about a device (its map, its identity) holds for the connection it was learnt over. After a
new connection it is learnt again before a value is believed or a register written: the device may have been
swapped, or restarted with another map.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from drivers.errors import IdentityMismatch, LinkDown
from drivers.read_plan import Read, Reads
from drivers.registers import Registers
from drivers.spec import DeviceSpec, Identity

RECHECK_EVERY_S = 60.0
"""How often the identity is read again over the same connection: behind a gateway a device can be swapped."""
MAX_ROUNDS = 2
"""A connection that is replaced during two rounds in a row is not one to work with."""


class Plan(Protocol):
    """The requests of one poll."""

    async def read(self, link: Registers, unit_id: int, clock: Callable[[], float]) -> Mapping[str, Read]:
        """All points, each with the time at which its request was sent."""
        ...


class Learnt(NamedTuple):
    """What one look at a device told."""

    generation: int
    """The connection over which the look began."""
    identity: Identity
    plan: Plan


class KnownDevice(ABC):
    """The identity and the polling of one device; errors are `DeviceError`s."""

    def __init__(self, spec: DeviceSpec, link: Registers, clock: Callable[[], float]) -> None:
        self.spec = spec
        self._link = link
        self._clock = clock
        self._known: Learnt | None = None
        self.newest: Reads = {}
        """What the last poll brought."""
        self._checked_mono_s = 0.0
        self._learning = asyncio.Lock()

    @property
    def link(self) -> Registers:
        """The connection to it."""
        return self._link

    @abstractmethod
    async def _look(self) -> Learnt:
        """Everything about the device, anew: who it is and how it is polled; `compare` was called on it."""

    @abstractmethod
    async def _glance(self, known: Identity) -> Identity:
        """Who answers now; may take from `known` what cannot change without a new connection."""

    @property
    def identity(self) -> Identity | None:
        """Who the device is, None while that is not known for the present connection."""
        if self._known is None or self._known.generation != self._link.generation:
            return None
        return self._known.identity

    async def identify(self) -> Identity:
        """Find out who the device is, and compare it with what is expected."""
        async with self._learning:
            return await self._learn()

    async def ensure_identified(self) -> Identity:
        """The identity, learnt again if the connection is new or the last look is long ago."""
        if self.identity is not None and self._clock() - self._checked_mono_s < RECHECK_EVERY_S:
            return self.identity
        async with self._learning:  # the poller and the writer may both find that it must be done
            identity = self.identity
            if identity is None:
                return await self._learn()
            seen = await self._glance(identity)
            self._checked_mono_s = self._clock()
            if seen != identity or self.identity is None:
                return await self._learn()
            return identity

    async def poll(self) -> Reads:
        """All points of the plan, read from the device that was identified."""
        for _ in range(MAX_ROUNDS):
            await self.ensure_identified()
            known = self._known
            if known is not None:
                reads = await known.plan.read(self._link, self.spec.unit_id, self._clock)
                if self.identity is not None:
                    self.newest = reads
                    return reads
        raise self._unstable()

    async def _learn(self) -> Identity:
        self._known = None
        for _ in range(MAX_ROUNDS):
            learnt = await self._look()
            self._checked_mono_s = self._clock()
            if self._link.generation == learnt.generation:
                self._known = learnt
                return learnt.identity
        raise self._unstable()

    def _unstable(self) -> LinkDown:
        return LinkDown(
            "the connection is replaced faster than the device can be read",
            endpoint=self._link.name,
            unit_id=self.spec.unit_id,
            hint="check whether another client takes the device's only connection",
        )

    def compare(self, identity: Identity) -> None:
        """`IdentityMismatch` if the site file states another model or serial."""
        spec = self.spec
        for what, expected, seen in (
            ("model", spec.expected_model, identity.model),
            ("serial", spec.expected_serial, identity.serial),
        ):
            if expected is not None and expected != seen:
                raise IdentityMismatch(
                    f"{spec.device_id} should have the {what} {expected!r}, but {seen!r} answers",
                    endpoint=self._link.name,
                    unit_id=spec.unit_id,
                    hint="check the address and the wiring, or correct the site file; nothing is written to it",
                )
