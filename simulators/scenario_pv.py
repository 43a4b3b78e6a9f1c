"""The PV inverters of a scenario: equal parts of one sun, each under the ceiling that it was told."""

from __future__ import annotations

import math

from agent.core.pv_limit import CeilingWrite
from agent.core.rules import SiteRules
from agent.core.snapshot import CeilingOutcome, PvSample, Quality, Reading

PERCENT_STEP = 0.001
"""Inverters count a ceiling in tenths of a percent of their rating."""


class Inverters:
    """What each inverter was told; a ceiling ends by itself when it is not repeated."""

    def __init__(self, rules: SiteRules, tick_s: float) -> None:
        self._least_s = 3.0 * tick_s
        self._ids = rules.pv_ids
        self._rules = {pv.device_id: pv for pv in rules.limits.pvs}
        self._held: dict[str, tuple[float, float]] = {}
        """Ceiling and the second of the run at which it ends, by id."""
        self.limited_wh = 0.0
        """Energy that the sun would have given above the ceilings."""

    def limited_w(self, sun_w: float, now_s: float) -> float:
        """What all inverters give together while the sun would give `sun_w`."""
        if not self._held:
            return sun_w
        each_w = sun_w / len(self._ids)
        return sum(min(each_w, self._ceiling_w(device_id, now_s)) for device_id in self._ids)

    def energy_wh(self, sun_wh: float, dt_s: float, now_s: float) -> float:
        """The same as energy over `dt_s`, by mean power."""
        if not self._held:
            return sun_wh
        given_wh = self.limited_w(sun_wh * 3600.0 / dt_s, now_s) * dt_s / 3600.0
        self.limited_wh += sun_wh - given_wh
        return given_wh

    def write(self, write: CeilingWrite, now_s: float, mono_s: float) -> CeilingOutcome:
        """The outcome of a write that lands now: rounded down, read back."""
        rules = self._rules[write.device_id]
        self._held.pop(write.device_id, None)
        if write.ceiling_w is None:
            return CeilingOutcome(write.device_id, None, None, ok=True, reason="", done_mono_s=mono_s)
        step_w = PERCENT_STEP * rules.rated_w
        held_w = math.floor(min(write.ceiling_w, rules.rated_w) / step_w) * step_w
        self._held[write.device_id] = (held_w, now_s + max(rules.dead_man_s or math.inf, self._least_s))
        return CeilingOutcome(write.device_id, write.ceiling_w, held_w, ok=True, reason="", done_mono_s=mono_s)

    def samples(self, sun_w: float, step_w: float, now_s: float, mono_s: float) -> tuple[PvSample, ...]:
        """The inverters as read at `mono_s`, powers in steps of `step_w`."""
        if not self._ids:
            return ()
        each_w = sun_w / len(self._ids)
        return tuple(
            [
                self._sample(device_id, each_w, self._ceiling_w(device_id, now_s), step_w, mono_s)
                for device_id in self._ids
            ]
        )

    def _sample(self, device_id: str, sun_w: float, ceiling_w: float, step_w: float, mono_s: float) -> PvSample:
        power = Reading(round(min(sun_w, ceiling_w) / step_w) * step_w, mono_s)
        if device_id not in self._rules:
            return PvSample(device_id, power)
        free = ceiling_w == math.inf
        ceiling = Reading(None, mono_s, Quality.MISSING) if free else Reading(ceiling_w, mono_s)
        return PvSample(
            device_id, power, Reading(0.0 if free else 1.0, mono_s), ceiling, has_limit=True, has_dead_man=True
        )

    def _ceiling_w(self, device_id: str, now_s: float) -> float:
        held_w, end_s = self._held.get(device_id, (math.inf, math.inf))
        return held_w if now_s < end_s else math.inf
