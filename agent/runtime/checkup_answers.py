"""What only the running daemon can tell `ems doctor`: how the site's numbers fit, and the way to the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agent.cloud.broker_check import way
from agent.cloud.transport import Transport
from agent.cloud.uplink import Uplink
from agent.core.checkup import BrokerFacts, Grade, Step
from agent.core.plausibility import plausibility
from agent.runtime.control import ControlLoop
from agent.runtime.local_socket import Handler, Peer

BROKER_WITHIN_S = 9.0
"""The command waits 10 s for an answer."""
AGAIN_AFTER_S = 5.0
"""Whoever asks again and again gets the same answer: the broker is not flooded by a script."""


@dataclass
class CheckupAnswers:
    """The commands `checkup` and `broker_check`."""

    control: ControlLoop
    link: Callable[[], tuple[Transport, Uplink] | None]
    """The way to the broker and the session with it, as they are now; None on a site without one."""
    utc_s: Callable[[], float]
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _told: dict[str, Any] | None = None
    _told_mono_s: float = float("-inf")

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {"checkup": self._checkup, "broker_check": self._broker}

    async def _checkup(self, _request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        rules = self.control.rules
        rated_w = sum(max(one.rated_discharge_w, one.rated_charge_w) for one in rules.batteries)
        needed_hz = [table.needed_resolution_hz for table in rules.products.values()]
        return {
            **asdict(plausibility(self.control.decisions, rated_w)),
            "rated_w": rated_w,
            "has_load": rules.has_load,
            "has_meter": rules.meter_id is not None,
            "frequency_resolution_hz": rules.frequency_resolution_hz,
            "needed_resolution_hz": min(needed_hz, default=None),
        }

    async def _broker(self, _request: dict[str, Any], _peer: Peer) -> dict[str, Any] | None:
        """The way to the broker, and what the daemon's own session says: a second one could throw it out."""
        link = self.link()
        if link is None:
            return None
        async with self._lock:
            loop = asyncio.get_running_loop()
            if self._told is None or loop.time() - self._told_mono_s > AGAIN_AFTER_S:
                self._told = asdict(await self._looked(*link))
                self._told_mono_s = loop.time()
        return self._told

    async def _looked(self, transport: Transport, uplink: Uplink) -> BrokerFacts:
        try:
            async with asyncio.timeout(BROKER_WITHIN_S):
                facts, session = await asyncio.gather(asyncio.to_thread(way, transport, self.utc_s()), _session(uplink))
        except TimeoutError:
            why = f"the steps to the broker were not over within {BROKER_WITHIN_S:g} s"
            step = Step("way", Grade.FAILED, why, "the line is down, or drops what it carries: see the router")
            return BrokerFacts(str(transport.address.host), (step,))
        return replace(facts, steps=(*facts.steps, *session))


async def _session(uplink: Uplink) -> tuple[Step, ...]:
    if not uplink.connected:
        text = f"no session: {uplink.last_trouble or 'the daemon has not connected yet'}"
        return (Step("login", Grade.FAILED, text, "the line above that failed says what to do first"),)
    login = Step("login", Grade.OK, "the daemon's session stands")
    took_s = await uplink.round_trip_s()
    if isinstance(took_s, str):
        todo = "the line, or the access list of the broker (docs/operator.md)"
        return (login, Step("round trip", Grade.FAILED, took_s, todo))
    return (login, Step("round trip", Grade.OK, "the broker takes what we publish", "", 1000.0 * took_s))
