"""One site power split over several batteries, never beyond any of them."""

from __future__ import annotations

from agent.core.envelope import Bound, Clip, clamp


def allocate(power_w: float, bounds_of: dict[str, tuple[Bound, ...]]) -> tuple[dict[str, float], tuple[Clip, ...]]:
    """Each battery's share of `power_w` in proportion to the room it has in that direction, and the clips.

    The shares add up to `power_w` unless the batteries together cannot do it; then each gives all it has, and
    the clips of every battery's bounds say why. A battery outside the game (both bounds 0) gets 0.
    """
    if len(bounds_of) == 1:
        ((only, bounds),) = bounds_of.items()
        share_w, clips = clamp(power_w, bounds)
        return {only: share_w}, clips
    extreme_w = 1e12 if power_w >= 0 else -1e12
    room_w = {device_id: clamp(extreme_w, bounds)[0] for device_id, bounds in bounds_of.items()}
    total_w = sum(room_w.values())
    # Room on the wrong side of zero (a battery that must charge) is no room for a share.
    if total_w == 0 or (total_w > 0) != (power_w > 0):
        part = {device_id: power_w / max(len(bounds_of), 1) for device_id in bounds_of}
    else:
        part = {device_id: power_w * room / total_w for device_id, room in room_w.items()}
    shares: dict[str, float] = {}
    all_clips: list[Clip] = []
    for device_id, bounds in bounds_of.items():
        shares[device_id], clips = clamp(part[device_id], bounds)
        all_clips.extend(clips)
    return shares, tuple(all_clips)
