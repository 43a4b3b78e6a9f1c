"""Tells each battery once a second that its controller is alive, while it holds a setpoint of ours.

From the control loop, after a whole tick: never from the polling, which goes on when the control behind it has stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from agent.core.writes import WriteState
from drivers.device import BatteryDevice

EVERY_S = 0.95
"""SunSpec 715.ControllerHb and 802.CtrlHb count up every second; a tick of 1 s that comes a little early counts."""


class Heartbeats:
    """When each battery was last told."""

    def __init__(self) -> None:
        self._told_mono_s: dict[str, float] = {}

    def start(
        self,
        batteries: Mapping[str, BatteryDevice],
        lines: Iterable[WriteState],
        now_mono_s: float,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """Begin the beats that are due."""
        for line in lines:
            if line.owned_w is None or line.in_flight or not batteries[line.device_id].has_heartbeat:
                continue
            if now_mono_s - self._told_mono_s.get(line.device_id, float("-inf")) >= EVERY_S:
                self._told_mono_s[line.device_id] = now_mono_s
                spawn(batteries[line.device_id].beat())
