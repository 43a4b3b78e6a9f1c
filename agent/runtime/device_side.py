"""All that the local socket answers about devices: listed, read, written by hand, checked, traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.authority import Source
from agent.core.events import Event
from agent.runtime.board import DeviceHealth
from agent.runtime.clock import Clock
from agent.runtime.control import ControlLoop
from agent.runtime.device_checks import DeviceChecks
from agent.runtime.device_requests import DeviceRequests
from agent.runtime.device_traces import DeviceTraces
from agent.runtime.device_writes import DeviceWrites, Standing
from agent.runtime.local_socket import Handler
from agent.site_file.device import DeviceSection
from drivers.device import Device
from drivers.link import Link


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
        profiles = {section.id: section.profile for section in self.sections}
        return {
            **DeviceRequests(self.devices, self.links, profiles, self.health, self.clock).handlers(),
            **DeviceChecks(self.sections, self.devices, self.clock, lambda: self.control.board.batteries).handlers(),
            **DeviceTraces(self.devices, self.links, self.clock).handlers(),
            **DeviceWrites(self.devices, self.links, self.clock, self.standing, self.tell).handlers(),
        }

    def standing(self) -> Standing:
        """Who decides at the site now, and which awards are answered."""
        control = self.control
        source, override = control.decisions[-1].source, control.override
        awards = control.in_force.awards.at(self.clock.utc_s()) if control.trust.trusted else ()
        if source is Source.OVERRIDE and override is not None and override.suspends_awards:
            awards = ()
        return Standing(source, tuple(sold.award.award_id for sold in awards))
