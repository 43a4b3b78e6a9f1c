"""What commissioning is told of the site after each tick: readings, devices, cloud, and who leads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.core.commissioning_terms import CloudFacts, DeviceFacts, Moment
from agent.core.decision import Decision, State
from agent.core.events import Severity
from agent.core.site_view import view
from agent.core.writes import refusing
from agent.runtime.board import DeviceHealth
from agent.runtime.control import ControlLoop
from agent.site_file.device import DeviceSection
from drivers.device import Device
from drivers.standing import accepts_remote, has_dead_man

NOT_OURS = ("commissioning_failed", "not_commissioned", "commissioned_otherwise")
"""Conditions that are about commissioning itself."""


@dataclass
class SiteFacts:
    """Gathers the moments; keeps when the cloud last confirmed something."""

    control: ControlLoop
    sections: Sequence[DeviceSection]
    devices: Mapping[str, Device]
    health: Sequence[DeviceHealth]
    cloud: Callable[[], dict[str, Any] | None]
    _confirmed: int | None = None
    _confirmed_mono_s: float = float("-inf")

    def device_facts(self) -> tuple[DeviceFacts, ...]:
        """Every device as it is known now."""
        sections = {section.id: section for section in self.sections}
        return tuple(_device(sections[one.device_id], self.devices[one.device_id], one) for one in self.health)

    def moment(self, decision: Decision, *, led: bool, stop: str, go: str) -> Moment:
        """What is known after the tick of `decision`."""
        control, inputs = self.control, self.control.last_inputs
        assert inputs is not None, "a tick came before"
        now = view(control.rules, inputs, refusing(control.state.writes), State())
        state = control.state
        alarms = {
            key: found.text
            for key, found in state.conditions.items()
            if found.severity is Severity.ALARM and found.code not in NOT_OURS
        }
        return Moment(
            utc_s=decision.utc_s,
            mono_s=decision.mono_s,
            batteries=now.batteries,
            meter=now.meter,
            pv_w=now.pv_w,
            decision=decision,
            writes=state.writes,
            alarms=alarms,
            latched=", ".join(f"{latch.device_id}: {latch.words}" for latch in state.latches.values()),
            outside=self.outside(decision.utc_s),
            devices=self.device_facts(),
            cloud=self._cloud(decision.mono_s),
            led=led,
            stop=stop,
            go=go,
        )

    def outside(self, utc_s: float, ahead_s: float = 0.0) -> str:
        """Who else has a right to the batteries now, or within `ahead_s`; "" while nobody has."""
        control = self.control
        if control.override is not None:
            return f"{control.override.who} set an override: {control.override.reason}"
        awards = control.in_force.awards
        sold = (*awards.at(utc_s), *awards.starting(utc_s, utc_s + ahead_s))
        if sold and control.trust.trusted:
            return f"the award {sold[0].award.award_id} is in force or about to be: it must be answered"
        return ""

    def _cloud(self, mono_s: float) -> CloudFacts | None:
        facts = self.cloud()
        if facts is None:
            return None
        # Counted where it happens: a quick cloud confirms between two ticks, and what waits looks the same at both.
        confirmed = int(facts["confirmed"])
        if self._confirmed is not None and confirmed > self._confirmed:
            self._confirmed_mono_s = mono_s
        self._confirmed = confirmed
        waiting = int(facts["outbox_depth"])
        return CloudFacts(bool(facts["connected"]), facts["trouble"], waiting, self._confirmed_mono_s)


def _device(section: DeviceSection, device: Device, health: DeviceHealth) -> DeviceFacts:
    identity = device.session.identity
    return DeviceFacts(
        device_id=section.id,
        role=section.role,
        endpoint=health.endpoint,
        manufacturer=identity.manufacturer if identity is not None else None,
        model=identity.model if identity is not None else None,
        serial=identity.serial if identity is not None else None,
        firmware=identity.firmware if identity is not None else None,
        profile=section.profile,
        expected_serial=section.expected_serial,
        answers=health.word == "good",
        trouble=health.stranger or health.last_error or "",
        stranger=health.stranger is not None,
        has_dead_man=has_dead_man(device),
        remote=accepts_remote(device) if section.role == "battery" else None,
    )
