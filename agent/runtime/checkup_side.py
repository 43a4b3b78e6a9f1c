"""What only the running daemon can tell `ems doctor`; loaded when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.cloud.transport import Transport
from agent.cloud.uplink import Uplink
from agent.runtime.control import ControlLoop
from agent.runtime.local_socket import Handler, at_first_use

COMMANDS = ("checkup", "broker_check")


@dataclass(frozen=True)
class CheckupSide:
    """The running parts that `ems doctor` asks about."""

    control: ControlLoop
    link: Callable[[], tuple[Transport, Uplink] | None]
    """The way to the broker and the session with it, as they are now; None on a site without one."""
    utc_s: Callable[[], float]

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return at_first_use(COMMANDS, self.loaded)

    def loaded(self) -> dict[str, Handler]:
        """The same, ready."""
        from agent.runtime.checkup_answers import CheckupAnswers  # noqa: PLC0415 (a daemon that is not asked does without)

        return CheckupAnswers(self.control, self.link, self.utc_s).handlers()
