"""What several requests of the local socket name: read and checked, or refused with what is wanted instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from agent.cloud.document import printable
from agent.core.override import LONGEST_REASON
from agent.runtime.local_socket import Refusal

_Device = TypeVar("_Device")


def reason_of(what: str, request: Mapping[str, Any]) -> str:
    """Why somebody asks for it, as it may be kept and shown; raises the refusal of `what` where nobody says."""
    reason = request.get("reason")
    if not isinstance(reason, str) or not 0 < len(reason.strip()) <= LONGEST_REASON:
        raise Refusal(what, f"a reason of 1 to {LONGEST_REASON} characters is needed", 'give --reason "..."')
    return printable(reason.strip(), LONGEST_REASON)


def device_of(what: str, request: Mapping[str, Any], devices: Mapping[str, _Device]) -> _Device:
    """The device that a request names by its id; raises the refusal of `what` where this site has none."""
    device_id = request.get("device_id")
    device = devices.get(device_id) if isinstance(device_id, str) else None
    if device is None:
        known = ", ".join(devices)
        raise Refusal(what, f"there is no device {device_id!r} at this site", f"name one of {known}")
    return device
