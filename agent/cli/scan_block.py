"""A device that was found as a `[[device]]` of a site file, ready to be pasted."""

from __future__ import annotations

from collections import Counter
from typing import Any


def blocks(found: dict[str, Any], taken: Counter[str]) -> list[str]:
    """The lines of the blocks, one per role; `taken` counts the ids that were given away."""
    lines: list[str] = []
    for role in found["roles"]:
        taken[role["role"]] += 1
        lines += ["", *_block(found, role, f"{role['role']}-{taken[role['role']]}")]
    return lines[1:]


def _block(found: dict[str, Any], role: dict[str, Any], device_id: str) -> list[str]:
    identity = found["identity"] or {}
    lines = ["[[device]]", f'id = "{device_id}"', f'role = "{role["role"]}"']
    if found["fits"]:
        lines.append(f'profile = "{found["fits"][0]["profile"]}"')
    lines += [f'url = "{found["url"]}"', f"unit_id = {found['unit_id']}"]
    if identity.get("serial"):
        lines.append(f"expected_serial = {_text(identity['serial'])}  # another device is never written to")
    if role["role"] == "battery":
        lines += _battery(role)
    if role["dead_man_s"] is not None:
        lines.append(f'dead_man = "{role["dead_man_s"]:g} s"')
    if role["asks_for_sign"]:
        lines.append('positive = "?"  # "export" or "import": what + means, by the wiring')
    if role["trouble"]:
        lines.append(f"# not usable as it is: {' '.join(role['trouble'].split())}")
    return lines


def _battery(role: dict[str, Any]) -> list[str]:
    rated_w = role["rated_w"]
    lines = [
        'rated_power = "?"  # such as "500 kW": the device does not state it'
        if rated_w is None
        else f'rated_power = "{rated_w / 1000:g} kW"'
    ]
    return lines + ([] if role["states_capacity"] else ['capacity = "?"  # such as "1000 kWh": it does not state it'])


def _text(value: str) -> str:
    """A TOML string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
