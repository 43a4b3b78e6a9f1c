"""The whole site at one instant: aged readings, and the powers that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.decision import Inputs
from agent.core.rules import SiteRules
from agent.core.snapshot import BatterySample, MeterSample, PvSample, Reading


@dataclass(frozen=True, slots=True)
class SiteView:
    """The site now; a power is None as soon as one of its parts is unknown."""

    batteries: tuple[BatterySample, ...]
    pvs: tuple[PvSample, ...]
    meter: MeterSample | None
    battery_w: float | None
    read_battery_w: float
    """Power of the batteries that can be read, whether or not others are silent."""
    pv_w: float | None
    grid_w: float | None
    soc_pct: float | None

    @property
    def others_w(self) -> float | None:
        """Everything at the connection point but the batteries that can be read: PV, load, a silent battery."""
        return self.grid_w - self.read_battery_w if self.grid_w is not None else None

    @property
    def load_w(self) -> float | None:
        """What is left when batteries and PV are taken from the connection power (<= 0 when it is a load)."""
        if self.grid_w is None or self.battery_w is None or self.pv_w is None:
            return None
        return self.grid_w - self.battery_w - self.pv_w

    @property
    def frequency_hz(self) -> float | None:
        """Grid frequency at the connection meter."""
        return self.meter.frequency_hz.value if self.meter is not None else None


def view(rules: SiteRules, inputs: Inputs) -> SiteView:
    """The site as of `inputs.mono_s`, readings older than `STALE_AFTER_S` no longer numbers."""
    at = inputs.mono_s
    batteries = tuple(_aged_battery(sample, at) for sample in inputs.batteries)
    pvs = tuple(PvSample(sample.device_id, sample.power_w.at(at)) for sample in inputs.pvs)
    meter = _aged_meter(inputs.meter, at) if inputs.meter is not None else None
    battery_w = _total([sample.power_w for sample in batteries])
    grid_w = meter.power_w.value if meter is not None else None
    if grid_w is None and rules.battery_alone:
        grid_w = battery_w
    pv_w = _total([sample.power_w for sample in pvs])
    read_w = sum(sample.power_w.value for sample in batteries if sample.power_w.value is not None)
    return SiteView(batteries, pvs, meter, battery_w, read_w, pv_w, grid_w, _mean_soc_pct(batteries))


def _aged_battery(sample: BatterySample, at: float) -> BatterySample:
    return BatterySample(
        sample.device_id,
        sample.power_w.at(at),
        sample.soc_pct.at(at),
        sample.capacity_wh.at(at),
        sample.rated_discharge_w.at(at),
        sample.rated_charge_w.at(at),
        sample.live_discharge_limit_w.at(at),
        sample.live_charge_limit_w.at(at),
        sample.ready.at(at),
        sample.held_setpoint_w.at(at),
        sample.has_dead_man,
        sample.temperature_c.at(at),
        sample.cell_min_v.at(at),
        sample.cell_max_v.at(at),
    )


def _aged_meter(sample: MeterSample, at: float) -> MeterSample:
    return MeterSample(
        sample.device_id,
        sample.power_w.at(at),
        sample.frequency_hz.at(at),
        sample.export_wh.at(at),
        sample.import_wh.at(at),
    )


def _total(readings: list[Reading]) -> float | None:
    total = 0.0
    for reading in readings:
        if reading.value is None:
            return None
        total += reading.value
    return total


def _mean_soc_pct(batteries: tuple[BatterySample, ...]) -> float | None:
    stored = capacity = 0.0
    for sample in batteries:
        soc_pct, capacity_wh = sample.soc_pct.value, sample.capacity_wh.value
        if soc_pct is None or capacity_wh is None or capacity_wh <= 0:
            return None
        stored += soc_pct * capacity_wh
        capacity += capacity_wh
    return stored / capacity if capacity else None
