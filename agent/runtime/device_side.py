"""All that the local socket answers about devices: listed, read, written by hand, checked, traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.authority import Source
from agent.core.events import Event
from agent.runtime.board import DeviceHealth
from agent.runtime.clock import Clock
from agent.runtime.control import ControlLoop
from agent.runtime.local_socket import Handler, at_first_use
from agent.site_file.device import DeviceSection
from drivers.device import Device
from drivers.link import Link

if TYPE_CHECKING:
    from agent.runtime.device_writes import Standing

COMMANDS = (
    "devices", "device_read", "device_check", "device_trace", "device_trace_more", "device_trace_stop", "device_write",
)  # fmt: skip
"""What people ask now and then: loaded when somebody does, a daemon that is asked nothing does without."""


@dataclass(frozen=True)
class DeviceSide:
    """The running parts that the commands about devices need; `devices` and `links` are by device id."""

    sections: Sequence[DeviceSection]
    devices: Mapping[str, Device]
    links: Mapping[str, Link]
    health: Sequence[DeviceHealth]
    clock: Clock
    control: ControlLoop
    tell: Callable[[Event], None]

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return at_first_use(COMMANDS, self.loaded)

    def loaded(self) -> dict[str, Handler]:
        """The same, ready."""
        from agent.runtime.device_checks import DeviceChecks  # noqa: PLC0415 (see COMMANDS; here and below)
        from agent.runtime.device_requests import DeviceRequests  # noqa: PLC0415
        from agent.runtime.device_traces import DeviceTraces  # noqa: PLC0415
        from agent.runtime.device_writes import DeviceWrites  # noqa: PLC0415

        profiles = {section.id: section.profile for section in self.sections}
        return {
            **DeviceRequests(self.devices, self.links, profiles, self.health, self.clock).handlers(),
            **DeviceChecks(self.sections, self.devices, self.clock, lambda: self.control.board.batteries).handlers(),
            **DeviceTraces(self.devices, self.links, self.clock).handlers(),
            **DeviceWrites(self.devices, self.links, self.clock, self.standing, self.tell).handlers(),
        }

    def standing(self) -> Standing:
        """Who decides at the site now, and which awards are answered."""
        from agent.runtime.device_writes import Standing  # noqa: PLC0415

        control = self.control
        source, override = control.decisions[-1].source, control.override
        awards = control.in_force.awards.at(self.clock.utc_s()) if control.trust.trusted else ()
        if source is Source.OVERRIDE and override is not None and override.suspends_awards:
            awards = ()
        return Standing(source, tuple(sold.award.award_id for sold in awards))
