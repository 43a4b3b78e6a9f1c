"""The split of one site power over batteries of which some answer the frequency by themselves.

What such a battery gives by itself cannot be moved to another one: the baseline is split over the setpoints as ever,
each device's own answer comes on top of its setpoint, and what the agent answers goes to the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.core.allocate import Unit, share_out
from agent.core.bounds import Room


def share_around(
    power_w: float, units: Sequence[Unit], by_device_w: Mapping[str, float], own_w: float, in_use: frozenset[str]
) -> tuple[dict[str, float], frozenset[str]]:
    """Each battery's share of `power_w`, and the batteries that work now.

    `by_device_w` is what devices give by themselves, a part of `power_w` and of their shares; `own_w` is the agent's
    answer, another part, for the batteries that have none of their own; without such batteries all take it.
    """
    bare = [_beside(unit, by_device_w.get(unit.device_id, 0.0)) for unit in units]
    baseline_w = power_w - own_w - sum(by_device_w.values())
    setpoints_w, in_use = share_out(baseline_w, bare, in_use)
    if own_w:
        takers = [unit for unit in bare if unit.device_id not in by_device_w] or bare
        extra_w, _ = share_out(own_w, [_left(unit, setpoints_w[unit.device_id]) for unit in takers], in_use)
        setpoints_w |= {device_id: setpoints_w[device_id] + more_w for device_id, more_w in extra_w.items()}
    return {device_id: at_w + by_device_w.get(device_id, 0.0) for device_id, at_w in setpoints_w.items()}, in_use


def widened(units: Sequence[Unit], by_device_w: Mapping[str, float]) -> list[Unit]:
    """The units with what they may be doing now: a setpoint that was read back lies beneath the device's answer."""
    found: list[Unit] = []
    for unit in units:
        answer_w, doing_w = by_device_w.get(unit.device_id, 0.0), unit.doing_w
        if answer_w and doing_w is not None:
            doing_w = doing_w[0] + min(answer_w, 0.0), doing_w[1] + max(answer_w, 0.0)
        found.append(replace(unit, doing_w=doing_w))
    return found


def _beside(unit: Unit, answer_w: float) -> Unit:
    """The unit with the room that its device's answer leaves to the baseline; comfort is not asked about the answer."""
    if not answer_w:
        return unit
    kept, hard = _less(unit.room.kept, answer_w), _less(unit.room.hard, answer_w)
    low_w, high_w = (min(max(edge_w, kept[0]), kept[1]) for edge_w in unit.room.soft)
    return replace(unit, room=Room((low_w, high_w), kept, hard))


def _left(unit: Unit, taken_w: float) -> Unit:
    """The unit with the room that the baseline leaves to the agent's answer, which comfort does not hold back."""
    kept = _less(unit.room.kept, taken_w)
    return replace(unit, room=Room(kept, kept, _less(unit.room.hard, taken_w)))


def _less(room_w: tuple[float, float], taken_w: float) -> tuple[float, float]:
    return room_w[0] - taken_w, room_w[1] - taken_w
