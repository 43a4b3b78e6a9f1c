"""Reads the devices of a site directly, for `ems doctor --devices`, while no daemon does. Nothing is written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agent.core.checkup import Finding, Grade
from agent.runtime.clock import SystemClock
from agent.runtime.device_checks import DeviceChecks
from agent.runtime.local_socket import Peer
from drivers.device import Device, open_device
from drivers.endpoint import Endpoint, parse_url
from drivers.link import Link
from drivers.tls import BadTls

if TYPE_CHECKING:
    from agent.config import SiteFile

GRADES = {"ok": Grade.OK, "warning": Grade.WARNING, "error": Grade.FAILED}
NEXT = "docs/devices.md, when a device is missing; ems devices read --profile NAME --url URL shows more"


async def read_directly(site: SiteFile) -> list[Finding]:
    """What `ems devices check` finds at each device, over links that cannot write."""
    try:
        tls = site.modbus_tls.files() if site.modbus_tls is not None else None
    except BadTls as error:
        return [Finding("device", "tls", Grade.FAILED, str(error), "mend the files under modbus_tls")]
    links: dict[Endpoint, Link] = {}
    devices: dict[str, Device] = {}
    for section in site.device:
        endpoint = parse_url(section.url)
        if endpoint not in links:
            links[endpoint] = Link(endpoint, timeout_s=section.timeout, clock=time.monotonic, tls=tls, read_only=True)
        devices[section.id] = open_device(site.spec(section), links[endpoint], time.monotonic)
    checks = DeviceChecks(site.device, devices, SystemClock(), lambda: ())
    found: list[Finding] = []
    try:
        for device_id in devices:
            told: dict[str, Any] = await checks.handlers()["device_check"]({"device_id": device_id}, Peer(0, False))
            found += [_finding(device_id, one) for one in told["found"]]
    finally:
        for link in links.values():
            await link.close()
    return found


def _finding(device_id: str, one: dict[str, Any]) -> Finding:
    grade = GRADES[one["verdict"]]
    return Finding("device", f"{device_id} {one['what']}", grade, one["detail"], "" if grade is Grade.OK else NEXT)
