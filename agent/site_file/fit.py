"""Whether the parts of a site file fit together: what one section says about another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from agent.site_file.device import DeviceSection
from agent.site_file.product import ProductSection
from drivers.endpoint import parse_url, place


class ConnectionPoint(Protocol):
    """What is asked of the section `[connection_point]`."""

    @property
    def meter(self) -> str | None: ...  # noqa: D102
    @property
    def load(self) -> bool: ...  # noqa: D102
    @property
    def nominal_frequency(self) -> float: ...  # noqa: D102


def check_site(devices: Sequence[DeviceSection], products: Sequence[ProductSection], point: ConnectionPoint) -> None:
    """Raises ValueError, which names the key and the reason, for the first thing that does not fit."""
    _check_addresses(devices)
    _check_lines(devices)
    roles = {device.id: device.role for device in devices}
    if "battery" not in roles.values():
        raise ValueError("device: there is no battery; the agent has nothing to steer")
    if point.meter is not None and roles.get(point.meter) != "meter":
        raise ValueError(f"connection_point.meter: {point.meter!r} is not the id of a device with role meter")
    if point.meter is None and ("pv" in roles.values() or point.load):
        raise ValueError("connection_point.meter: a site with PV or load needs the meter at its connection point")
    _check_shared_inverters(devices, roles)
    _check_frequency_response(devices)
    _check_products(products, point)


def _check_addresses(devices: Sequence[DeviceSection]) -> None:
    seen_id: dict[str, int] = {}
    seen_address: dict[tuple[tuple[str, ...], int], list[tuple[str, DeviceSection]]] = {}
    for index, device in enumerate(devices):
        where = _where(index, device)
        if device.id in seen_id:
            raise ValueError(f"{where}.id: device[{seen_id[device.id]}] has the same id")
        here = seen_address.setdefault(device.address, [])
        for other, there in here:
            if not device.is_hybrid_with(there):
                raise ValueError(f"{where}.url: {device.url} unit {device.unit_id} is already the address of {other}")
        seen_id[device.id] = index
        here.append((where, device))


def _check_lines(devices: Sequence[DeviceSection]) -> None:
    """One line has one speed, one framing, one parity: all its devices must state the same url."""
    seen: dict[tuple[str, ...], tuple[str, DeviceSection]] = {}
    for index, device in enumerate(devices):
        where = _where(index, device)
        endpoint = parse_url(device.url)
        other, first = seen.setdefault(place(endpoint), (where, device))
        if parse_url(first.url) != endpoint:
            raise ValueError(f"{where}.url: {device.url} is the line of {other}, which states it as {first.url}")


def _check_shared_inverters(devices: Sequence[DeviceSection], roles: Mapping[str, str]) -> None:
    taken: dict[str, str] = {}
    for index, device in enumerate(devices):
        shared = device.shared_inverter
        if shared is None:
            continue
        where = f"{_where(index, device)}.shared_inverter.pv"
        if roles.get(shared.pv) != "pv":
            raise ValueError(f"{where}: {shared.pv!r} is not the id of a device with role pv")
        if shared.pv in taken:
            other = taken[shared.pv]
            raise ValueError(f"{where}: {shared.pv!r} shares its inverter with {other} already; one battery each")
        taken[shared.pv] = device.id


def _check_frequency_response(devices: Sequence[DeviceSection]) -> None:
    batteries = [(index, device) for index, device in enumerate(devices) if device.role == "battery"]
    chosen = {device.frequency_response for _, device in batteries}
    if len(chosen) > 1:
        index, device = next(one for one in batteries if one[1].frequency_response == "agent")
        raise ValueError(
            f"{_where(index, device)}.frequency_response: an award is handed to all batteries or to none, but "
            'others say "device"; state the same for each'
        )


def _check_products(products: Sequence[ProductSection], point: ConnectionPoint) -> None:
    seen: dict[str, int] = {}
    for index, product in enumerate(products):
        where = f"product[{index}] ({product.name})"
        if product.name in seen:
            raise ValueError(f"{where}.name: product[{seen[product.name]}] has the same name")
        seen[product.name] = index
        base = product.base
        if base is not None and base.nominal_hz != point.nominal_frequency:
            raise ValueError(
                f"{where}: {base.name} is for {base.nominal_hz:g} Hz, but connection_point.nominal_frequency is "
                f"{point.nominal_frequency:g} Hz"
            )
        if point.meter is None:
            raise ValueError(f"{where}: reserve is answered by the frequency at connection_point.meter; name the meter")


def _where(index: int, device: DeviceSection) -> str:
    return f"device[{index}] ({device.id})"
