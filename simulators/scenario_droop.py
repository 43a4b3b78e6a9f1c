"""A scenario's battery that can answer the frequency by its own droop: what a write does, what its registers show."""

from __future__ import annotations

import math
from dataclasses import replace

from agent.core.delegation import DroopWrite
from agent.core.droop import DeviceDroop
from agent.core.snapshot import BatterySample, DroopOffer, DroopOutcome, Quality, Reading
from simulators.droop_control import ADOPTED_AFTER_S, LN_10, DroopControl

DEAD_BAND_STEP_HZ, DROOP_STEP = 0.001, 0.0001
"""Of the simulated device (`simulators.sunspec_droop`): 711.Db_SF -3, 711.K_SF -4."""
SPARE = 2


class OwnDroop:
    """The droop of one device, as our driver leaves it (`drivers.droop_control`)."""

    def __init__(self, rated_w: float, nominal_hz: float, dead_man_s: float) -> None:
        self.control = DroopControl(rated_w, nominal_hz)
        self.writes = 0
        self._dead_man_s = dead_man_s
        self._offer = DroopOffer("", rated_w, has_dead_man=True)

    def aimed_w(self, mono_s: float, hz: float, told_w: float, dt_s: float) -> float:
        """The power to aim at after `dt_s` more at `hz` when told `told_w`."""
        return self.control.aimed_w(mono_s, hz, told_w, dt_s)

    def write(self, write: DroopWrite, mono_s: float, trouble: str) -> DroopOutcome:
        """The outcome of a write that lands at `mono_s`; with `trouble` the device does not answer."""
        part, control = write.part, self.control
        wanted = part.curve if part is not None else None
        if trouble:
            return DroopOutcome(write.device_id, wanted, None, ok=False, off=False, reason=trouble, done_mono_s=mono_s)
        self.writes += 1
        if part is None or not write.answering:
            control.write({"Ena": 0.0}, mono_s)
        if part is not None:
            self._store(part.curve, part.respond_in_s, mono_s)
            if write.answering:
                control.write({"RvrtCtl": 0.0, "RvrtTms": self._dead_man_s, "Ena": 1.0}, mono_s)
        held = wanted if control.following else None
        return DroopOutcome(
            write.device_id, wanted, held, ok=True, off=held is None, reason="", done_mono_s=mono_s + ADOPTED_AFTER_S
        )

    def shown(self, sample: BatterySample, mono_s: float) -> BatterySample:
        """The sample with what the registers of the droop show."""
        self.control.settle(mono_s)
        from_hz = Reading(None, mono_s, Quality.MISSING)
        if self.control.following:
            from_hz = Reading(self.control.sets[0].dead_band_over_hz, mono_s)
        return replace(sample, own_droop_from_hz=from_hz, droop_offer=self._offer)

    def _store(self, curve: DeviceDroop, respond_in_s: float, mono_s: float) -> None:
        dead_band_hz, droop = _stepped(curve.dead_band_hz, DEAD_BAND_STEP_HZ), _stepped(curve.droop, DROOP_STEP)
        values = {"DbOf": dead_band_hz, "DbUf": dead_band_hz, "KOf": droop, "KUf": droop, "PMin": -100.0}
        values["RspTms"] = math.floor(respond_in_s * 10.0) / 10.0
        self.control.write({f"Ctl.{SPARE}.{name}": value for name, value in values.items()}, mono_s)
        self.control.write({"AdptCtlReq": float(SPARE)}, mono_s)
        self.control.settle(mono_s + ADOPTED_AFTER_S)


def time_to_90_pct_s(lag_s: float, respond_in_s: float) -> float:
    """When an inverter of this lag, whose droop has this open-loop response time, is at 90 % of a step."""
    droop_s = max(respond_in_s / LN_10, 1e-6)
    if abs(lag_s - droop_s) < 1e-6:
        lag_s += 1e-5
    low_s, high_s = 0.0, 10.0 * (lag_s + droop_s) + 1.0
    for _ in range(60):
        at_s = (low_s + high_s) / 2.0
        left = (lag_s * math.exp(-at_s / lag_s) - droop_s * math.exp(-at_s / droop_s)) / (lag_s - droop_s)
        low_s, high_s = (at_s, high_s) if left > 0.1 else (low_s, at_s)
    return high_s


def _stepped(value: float, step: float) -> float:
    return round(value / step) * step
