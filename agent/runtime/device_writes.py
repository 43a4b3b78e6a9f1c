"""Points written by hand over the local socket: for operators only, confirmed, read back, and kept as an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.core.authority import Source
from agent.core.events import Event, EventState, Severity
from agent.core.hand_write import refuse_hand_write
from agent.runtime.clock import Clock
from agent.runtime.local_socket import Handler, Peer, Refusal
from agent.runtime.request_fields import device_of
from agent.runtime.roles import need_operator
from drivers.codec import Value
from drivers.device import Device
from drivers.errors import DeviceError
from drivers.link import Link
from drivers.point_write import PointRefused, PointWrite, Written, prepare, write

WHAT = "devices write"


@dataclass(frozen=True, slots=True)
class Standing:
    """Who decides at the site now, and which awards are answered."""

    source: Source
    awards: tuple[str, ...]


@dataclass(frozen=True)
class DeviceWrites:
    """The command `device_write`. `devices` and `links` are by device id; `tell` takes the event of each write."""

    devices: Mapping[str, Device]
    links: Mapping[str, Link]
    clock: Clock
    standing: Callable[[], Standing]
    """Asked at each write."""
    tell: Callable[[Event], None]

    def handlers(self) -> dict[str, Handler]:
        """The command by name."""
        return {"device_write": self._write}

    async def _write(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        """With `dry_run` only what would be written; else what became of it."""
        need_operator(WHAT, peer)
        device = self._device(request)
        name, text = request.get("point"), request.get("value")
        if not isinstance(name, str) or not isinstance(text, str):
            raise Refusal(WHAT, "point and value must be texts", 'such as "point": "ems_mode", "value": "2"')
        try:
            planned = await prepare(device, name, text, self.clock.mono_s)
        except PointRefused as refused:
            raise Refusal(WHAT, str(refused), refused.hint) from refused
        except DeviceError as error:
            raise Refusal(WHAT, str(error), error.hint or "ems devices list shows how its link does") from error
        standing = self.standing()
        no = refuse_hand_write(owned=planned.owned, source=standing.source, awards=standing.awards)
        if no is not None:
            raise Refusal(WHAT, f"{name} of {device.spec.device_id}: {no.why}", no.hint)
        if request.get("dry_run") is True:
            return _planned(planned)
        outcome = await write(device, planned, self.clock.mono_s)
        self.tell(self._event(device.spec.device_id, planned, outcome, peer.name))
        return {
            **_planned(planned),
            "seen": outcome.seen,
            "seen_label": outcome.seen_label,
            "confirmed": not outcome.reason,
            "reason": outcome.reason,
        }

    def _device(self, request: dict[str, Any]) -> Device:
        device = device_of(WHAT, request, self.devices)
        if self.links[device.spec.device_id].read_only:
            why = "the agent runs in its read-only mode, in which it cannot write to any device"
            raise Refusal(WHAT, why, 'leave out mode = "read_only" in [control] once the site is commissioned')
        return device

    def _event(self, device_id: str, planned: PointWrite, outcome: Written, who: str) -> Event:
        old, new = _shown(planned.old, planned.old_label), _shown(planned.new, planned.new_label)
        became = "confirmed" if not outcome.reason else f"not confirmed: {outcome.reason}"
        return Event(
            self.clock.utc_s(),
            EventState.NOTED,
            Severity.WARNING,
            "point_written",
            device_id,
            f"{who} wrote {planned.name}: {old} to {new} {planned.unit}".rstrip() + f", {became}",
            {
                "who": who,
                "point": planned.name,
                "old": planned.old,
                "new": planned.new,
                "seen": outcome.seen,
                "reason": outcome.reason,
            },
        )


def _planned(planned: PointWrite) -> dict[str, Any]:
    return {
        "point": planned.name,
        "unit": planned.unit,
        "old": planned.old,
        "old_label": planned.old_label,
        "new": planned.new,
        "new_label": planned.new_label,
        "unit_id": planned.unit_id,
        "address": planned.address,
        "registers": list(planned.registers),
        "kind": planned.kind,
        "owned": planned.owned,
        "budget_left": planned.budget_left,
        "changes_nothing": planned.changes_nothing,
    }


def _shown(value: Value | None, label: str | None) -> str:
    """A value for people."""
    if value is None:
        return "unknown"
    number = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{number} ({label})" if label else number
