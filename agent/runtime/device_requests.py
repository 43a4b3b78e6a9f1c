"""What the daemon answers about its devices: how each link does, and what a device says point by point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent.runtime.board import DeviceHealth
from agent.runtime.clock import Clock
from agent.runtime.local_socket import Handler, Peer, Refusal
from agent.runtime.request_fields import device_of
from drivers.device import Device
from drivers.errors import DeviceError
from drivers.link import Link
from drivers.link_facts import UnitFacts
from drivers.look import PointRead, UnknownPoint, look
from drivers.standing import accepts_remote, has_dead_man


@dataclass(frozen=True)
class DeviceRequests:
    """The commands about devices. `devices`, `links` and `profiles` (names) are by device id."""

    devices: Mapping[str, Device]
    links: Mapping[str, Link]
    profiles: Mapping[str, str | None]
    health: Sequence[DeviceHealth]
    clock: Clock

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {"devices": self._list, "device_read": self._read}

    async def _list(self, _request: dict[str, Any], _peer: Peer) -> list[dict[str, Any]]:
        now_s = self.clock.mono_s()
        return [self._line(health, now_s) for health in self.health]

    def _line(self, health: DeviceHealth, now_s: float) -> dict[str, Any]:
        device, link = self.devices[health.device_id], self.links[health.device_id]
        spec, lately = device.spec, health.record.lately(now_s)
        return {
            "device_id": health.device_id,
            "role": spec.role,
            "maker": spec.profile.about.maker if spec.profile is not None else "SunSpec",
            "profile": self.profiles[health.device_id],
            "endpoint": health.endpoint,
            "identity": health.identity,
            "health": health.word,
            "stranger": health.stranger,
            "age_s": None if health.read_mono_s is None else round(now_s - health.read_mono_s, 3),
            "latency_ms": {"median": _ms(lately.latency_median_s), "p95": _ms(lately.latency_p95_s)},
            "last_hour": {"polls": lately.polls, "errors": lately.errors, "error_pct": lately.error_pct},
            "polls": health.polls,
            "failures": health.failures,
            "last_error": health.last_error,
            "refused": {name: str(why) for name, why in device.session.refusals.items()},
            "remote": accepts_remote(device),
            "dead_man": has_dead_man(device),
            "unit": _unit(link.unit(spec.unit_id)),
            "link": _link(link, now_s),
        }

    async def _read(self, request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        device, names = device_of("device_read", request, self.devices), request.get("points", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Refusal("device_read", "points must be a list of names", "leave it out to read all")
        try:
            found = await look(device, names, self.clock.mono_s)
        except UnknownPoint as unknown:
            raise Refusal("device_read", str(unknown), "name one of these, or none to read all") from unknown
        except DeviceError as error:
            hint = error.hint or "ems devices list shows how its link does"
            raise Refusal("device_read", str(error), hint) from error
        return {"identified": not found.mismatch, "mismatch": list(found.mismatch), "points": point_rows(found.points)}


def _link(link: Link, now_s: float) -> dict[str, Any]:
    """The connection, and what has happened on it."""
    counted = asdict(link.stats)
    since_s = counted.pop("connected_mono_s")
    connected_s = round(now_s - since_s, 3) if link.connected and since_s is not None else None
    return {"connected": link.connected, "connected_s": connected_s, "read_only": link.read_only, **counted}


def _unit(facts: UnitFacts) -> dict[str, Any]:
    """How long its answers are waited for, and whether it is left alone now."""
    return {
        "state": facts.state,
        "waits_up_to_ms": _ms(facts.timeout_s),
        "usually_ms": _ms(facts.usual_s),
        "failures_in_a_row": facts.failures_in_a_row,
        "retry_in_s": None if facts.retry_in_s is None else round(facts.retry_in_s, 1),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000.0 * seconds, 2)


def point_rows(points: Sequence[PointRead]) -> list[dict[str, Any]]:
    """Points as the socket and `--json` tell them."""
    return [
        {
            "point": point.name,
            "value": point.value,
            "unit": point.unit,
            "label": point.label,
            "raw": point.raw,
            "registers": list(point.registers),
            "age_s": None if point.age_s is None else round(point.age_s, 4),
            "quality": point.quality,
            "note": point.note,
            "writable": point.writable,
        }
        for point in points
    ]
