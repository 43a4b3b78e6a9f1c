"""Whether the batteries rest, proven: asked for 0 kW, confirmed by each, and measured. Pure."""

from __future__ import annotations

from collections.abc import Mapping

AT_REST_W = 1_000.0
"""Below what inverters lose or measure wrongly, above what moves energy worth naming."""


def not_neutral(
    shares_w: Mapping[str, float], confirmed: Mapping[str, bool], battery_w: float | None, *, writes: bool
) -> str | None:
    """Why the site is not neutral; None when it is.

    `shares_w` is what each battery was last given, `confirmed` whether it holds that, `battery_w` what all measure
    together. Where the agent does not write (`writes` false), whatever the batteries do is not its doing.
    """
    if not writes:
        return None
    moving = sorted(device_id for device_id, share_w in shares_w.items() if share_w != 0)
    if moving:
        return f"{', '.join(moving)} has a setpoint that is not 0 kW"
    unsure = sorted(device_id for device_id in shares_w if not confirmed.get(device_id))
    if unsure:
        return f"0 kW is not confirmed by {', '.join(unsure)}"
    if battery_w is None:
        return "the power of the batteries cannot be read"
    if abs(battery_w) > AT_REST_W:
        return f"the batteries still give {battery_w / 1000:+.1f} kW"
    return None
