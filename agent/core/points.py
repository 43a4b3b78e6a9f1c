"""What each device told, as flat names for telemetry: `bess.soc_pct`, `pv.power_w`, `meter.export_wh`."""

from __future__ import annotations

from collections.abc import Iterable

from agent.core.snapshot import BatterySample, MeterSample, PvSample, Reading

BATTERY_POINTS = (
    "power_w",
    "soc_pct",
    "held_setpoint_w",
    "live_discharge_limit_w",
    "live_charge_limit_w",
    "ready",
    "temperature_c",
    "cell_min_v",
    "cell_max_v",
)
PV_POINTS = ("power_w", "limited", "ceiling_w")
METER_POINTS = ("export_wh", "import_wh")
"""Its power and frequency are the site's own columns."""


def device_points(
    batteries: Iterable[BatterySample], pvs: Iterable[PvSample], meter: MeterSample | None, now_mono_s: float
) -> dict[str, float | None]:
    """Every point by `device.point`; None = not measured, too old, or not plausible. Units are in the names."""
    found: dict[str, float | None] = {}
    for battery in batteries:
        _add(found, battery, BATTERY_POINTS, now_mono_s)
    for pv in pvs:
        _add(found, pv, PV_POINTS, now_mono_s)
    if meter is not None:
        _add(found, meter, METER_POINTS, now_mono_s)
    return found


def _add(
    found: dict[str, float | None],
    sample: BatterySample | PvSample | MeterSample,
    names: tuple[str, ...],
    now_mono_s: float,
) -> None:
    for name in names:
        reading: Reading = getattr(sample, name)
        found[f"{sample.device_id}.{name}"] = reading.at(now_mono_s).value
