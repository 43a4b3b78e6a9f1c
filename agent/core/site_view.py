"""The whole site at one instant: aged readings, and the powers that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from agent.core.decision import Inputs, State
from agent.core.droop import MAX_AWAY_HZ
from agent.core.made_often import made_often
from agent.core.rules import SiteRules
from agent.core.skew import Pairing, paired
from agent.core.snapshot import BELIEVABLE, BatterySample, MeterSample, PvSample, Reading, all_stand

SOC_READING_SLACK_PCT = 1.0
"""A reported SoC up to this far outside 0..100 % is a full or empty battery; farther out it is not a SoC."""
LEAST_CAPACITY_WH = 1.0
"""A battery that states less (0, a negative number) states nothing."""


@made_often
@dataclass(frozen=True, slots=True)
class SiteView:
    """The site now; a power is None as soon as one of its parts is unknown."""

    batteries: tuple[BatterySample, ...]
    pvs: tuple[PvSample, ...]
    meter: MeterSample | None
    battery_w: float | None
    led_battery_w: float
    """Power of the batteries that can be read and take setpoints, whether or not others do."""
    stray_w: float
    """Power of the batteries that can be read but refuse setpoints."""
    pv_w: float | None
    grid_w: float | None
    soc_pct: float | None
    at_mono_s: float
    others_w: float | None
    """Everything at the connection point but the batteries that we lead: PV, load, a silent or refusing battery."""
    pairing: Pairing | None
    """How `others_w` was told apart, for the next tick; None without meter or batteries."""

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


def view(rules: SiteRules, inputs: Inputs, refusing: frozenset[str], state: State) -> SiteView:
    """The site as of `inputs.mono_s`; what is too old (`STALE_AFTER_S`) or cannot be true is no longer a number.

    `refusing` are the batteries that take no setpoints: what they do is not ours to decide. `state` is of
    the last tick: readings need not be of the same instant.
    """
    at = inputs.mono_s
    batteries = tuple([_aged_battery(sample, at) for sample in inputs.batteries])
    pvs = tuple([_aged_pv(sample, at) for sample in inputs.pvs])
    meter = _aged_meter(inputs.meter, at, rules.nominal_hz) if inputs.meter is not None else None
    battery_w = _total([sample.power_w for sample in batteries])
    grid_w = meter.power_w.value if meter is not None else None
    if grid_w is None and rules.battery_alone:
        grid_w = battery_w
    pv_w = _total([sample.power_w for sample in pvs])
    led_w = stray_w = 0.0
    led: list[str] = []
    led_mono_s = inf
    for sample in batteries:
        power_w = sample.power_w.value
        if power_w is None:
            continue
        if sample.device_id in refusing:
            stray_w += power_w
        else:
            led_w += power_w
            led.append(sample.device_id)
            led_mono_s = min(led_mono_s, sample.power_w.read_mono_s)
    others_w = grid_w - led_w if grid_w is not None else None
    pairing = None
    if led and meter is not None and (measured_w := meter.power_w.value) is not None:
        grid, batteries_then = (meter.power_w.read_mono_s, measured_w), (led_mono_s, led_w)
        rated_w = rules.rated_discharge_w
        pairing = paired(state.pairing, state.told, grid, batteries_then, led=tuple(led), rated_w=rated_w)
        others_w = pairing.others_w
    soc_pct = _mean_soc_pct(batteries)
    return SiteView(
        batteries, pvs, meter, battery_w, led_w, stray_w, pv_w, grid_w, soc_pct, at, others_w, pairing
    )  # fmt: skip


def _aged_battery(sample: BatterySample, at: float) -> BatterySample:
    """The sample seen now; itself while all of it still counts, which is nearly always."""
    soc = sample.soc_pct.at(at).within(-SOC_READING_SLACK_PCT, 100.0 + SOC_READING_SLACK_PCT)
    capacity = sample.capacity_wh.at(at).within(LEAST_CAPACITY_WH, BELIEVABLE)
    others = (
        sample.power_w, sample.rated_discharge_w, sample.rated_charge_w, sample.live_discharge_limit_w,
        sample.live_charge_limit_w, sample.ready, sample.held_setpoint_w, sample.temperature_c, sample.cell_min_v,
        sample.cell_max_v, sample.own_droop_from_hz, sample.alarms,
    )  # fmt: skip
    if soc is sample.soc_pct and capacity is sample.capacity_wh and all_stand(others, at):
        return sample
    power, discharge, charge, live_discharge, live_charge, ready, held, degrees, low_v, high_v, droop, alarms = (
        reading.at(at) for reading in others
    )
    return BatterySample(
        sample.device_id, power, soc, capacity, discharge, charge, live_discharge, live_charge, ready, held,
        sample.has_dead_man, degrees, low_v, high_v, sample.serial, droop, alarms, sample.droop_offer,
    )  # fmt: skip


def _aged_pv(sample: PvSample, at: float) -> PvSample:
    if all_stand((sample.power_w, sample.limited, sample.ceiling_w), at):
        return sample
    return PvSample(
        sample.device_id,
        sample.power_w.at(at),
        sample.limited.at(at),
        sample.ceiling_w.at(at),
        sample.has_limit,
        sample.has_dead_man,
    )


def _aged_meter(sample: MeterSample, at: float, nominal_hz: float) -> MeterSample:
    frequency = sample.frequency_hz.at(at).within(nominal_hz - MAX_AWAY_HZ, nominal_hz + MAX_AWAY_HZ)
    if frequency is sample.frequency_hz and all_stand((sample.power_w, sample.export_wh, sample.import_wh), at):
        return sample
    return MeterSample(
        sample.device_id,
        sample.power_w.at(at),
        frequency,
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
        if soc_pct is None or capacity_wh is None:
            return None
        stored += soc_pct * capacity_wh
        capacity += capacity_wh
    return stored / capacity if capacity else None
