"""What a daemon takes from the machine it runs on; a simulation gives its own in its place."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from agent.cloud.mqtt_link import OpenClient, paho_client
from agent.core.decision import Effects
from agent.core.replan_request import ReplanRequest
from agent.replan.runner import Fallback, Replanned, replan
from agent.runtime import housekeeping
from agent.runtime.clock import Clock, SystemClock
from agent.runtime.control import ControlLoop


class Solver(Protocol):
    """How a re-planning is answered."""

    def __call__(self, request: ReplanRequest, *, wall_limit_s: float) -> Awaitable[Replanned | Fallback]:
        """The plan, at the latest after `wall_limit_s`."""


@dataclass(frozen=True, slots=True)
class Outside:
    """All of it. Sockets and files are those of the event loop and of the site file."""

    clock: Clock = field(default_factory=SystemClock)
    new_id: Callable[[], str] = lambda: secrets.token_hex(8)
    """A word that nobody used before, for this start."""
    open_client: OpenClient = paho_client
    housekeeper: Callable[[housekeeping.Jobs], housekeeping.Housekeeper] = housekeeping.start
    solve: Solver = replan
    end_within: Callable[[float], None] = lambda _seconds: None
    """Ends the process after so long, whatever it waits for; told when a stop begins."""
    watch: Callable[[ControlLoop, Effects], None] | None = None
    """Told after each whole tick."""
