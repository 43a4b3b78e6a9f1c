"""The limits that a site file puts in force, each with its value, its unit and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.config import SiteFile
from agent.core.droop import DroopTable
from agent.site_file.derating import DeratingSection
from agent.site_file.device import DeviceSection
from agent.site_file.product import ProductSection, key_of
from agent.site_file.section import Section

SITE_FILE, DEFAULT = "site file", "default"
NO_LIMIT = "no limit"


@dataclass(frozen=True, slots=True)
class LimitLine:
    """One limit in force, for people."""

    subject: str
    """`connection point`, `all batteries`, a device or a product."""
    key: str
    """The key of the site file that sets it."""
    value: str
    """With its unit."""
    source: str


def limits_in_force(site: SiteFile) -> tuple[LimitLine, ...]:
    """Every limit of the site, the connection point first, then device by device, then what is sold."""
    found = [*_connection(site), *_all_batteries(site)]
    for device in site.device:
        if device.role == "battery":
            found += _battery(device)
        elif device.role == "pv":
            found += _pv(device)
    nominal_hz = site.connection_point.nominal_frequency
    for product in site.product:
        found += _product(product, product.table(nominal_hz))
    return tuple(found)


def watts(power_w: float | None) -> str:
    """A power in the unit in which it is read most easily."""
    if power_w is None:
        return NO_LIMIT
    for size, unit in ((1e6, "MW"), (1e3, "kW")):
        if abs(power_w) >= size:
            return f"{power_w / size:.6g} {unit}"
    return f"{power_w:.6g} W"


def hertz(frequency_hz: float) -> str:
    """A frequency, small ones in mHz."""
    return f"{frequency_hz:.6g} Hz" if frequency_hz >= 1.0 else f"{frequency_hz * 1000:.6g} mHz"


def _source(section: Section, key: str) -> str:
    return SITE_FILE if key in section.model_fields_set else DEFAULT


def _connection(site: SiteFile) -> Iterator[LimitLine]:
    point, subject = site.connection_point, "connection point"
    for key, value in (
        ("export_limit", watts(point.export_limit)),
        ("import_limit", watts(point.import_limit)),
        ("nominal_frequency", hertz(point.nominal_frequency)),
    ):
        yield LimitLine(subject, key, value, _source(point, key))


def _all_batteries(site: SiteFile) -> Iterator[LimitLine]:
    control, subject = site.control, "all batteries"
    for key, rate in (("ramp_up", control.ramp_up), ("ramp_down", control.ramp_down)):
        value = NO_LIMIT if rate is None else f"{watts(rate)}/s"
        yield LimitLine(subject, key, value, _source(control, key))


def _battery(device: DeviceSection) -> Iterator[LimitLine]:
    rules = device.battery_rules()
    subject = f"{device.id} (battery)"
    reserve = "none" if device.soc_reserve is None else f"{device.soc_reserve:g} %"
    for key, value in (
        ("rated_power", watts(rules.rated_discharge_w)),
        ("rated_charge_power", watts(rules.rated_charge_w)),
        ("soc_min", f"{device.soc_min:g} %"),
        ("soc_max", f"{device.soc_max:g} %"),
        ("soc_reserve", reserve),
        ("soc_taper", f"{device.soc_taper:g} %"),
        ("soc_hysteresis", f"{device.soc_hysteresis:g} %"),
        ("min_useful_power", watts(device.min_useful_power)),
        ("dead_man", f"{device.dead_man:g} s"),
        ("dead_band", watts(rules.dead_band_w)),
        ("frequency_response", f"by the {device.frequency_response}"),
    ):
        yield LimitLine(subject, key, value, _source(device, key))
    if device.derating is not None:
        yield from _deratings(subject, device.derating)
    shared = device.shared_inverter
    if shared is not None:
        charge = "" if shared.grid_charge else ", not charged from the grid"
        value = f"{watts(shared.rated_power)} with {shared.pv} ({watts(shared.pv_peak)} peak){charge}"
        yield LimitLine(subject, "shared_inverter", value, SITE_FILE)


def _deratings(subject: str, section: DeratingSection) -> Iterator[LimitLine]:
    for key in type(section).model_fields:
        table = getattr(section, key)
        if table is None:
            continue
        ways = [way for way in ("charge", "discharge") if getattr(table, way) is not None]
        value = f"{' and '.join(ways)} by curve, {table.when_unknown:g} % while it cannot be read"
        yield LimitLine(subject, f"derating.{key}", value, SITE_FILE)


def _pv(device: DeviceSection) -> Iterator[LimitLine]:
    subject = f"{device.id} (pv)"
    rules = device.pv_rules()
    value = "yes" if rules is not None else "no"
    yield LimitLine(subject, "can_be_limited", value, _source(device, "can_be_limited"))
    if rules is None:
        return
    for key, value in (
        ("rated_power", watts(rules.rated_w)),
        ("dead_man", f"{device.dead_man:g} s"),
        ("dead_band", watts(rules.dead_band_w)),
        ("raise_after", f"{rules.loosen_after_s:g} s"),
    ):
        yield LimitLine(subject, key, value, _source(device, key))


def _product(section: ProductSection, table: DroopTable) -> Iterator[LimitLine]:
    subject = f"{section.name} (product)"
    stated = section.stated()
    preset = DEFAULT if section.base is None else f"preset {section.base.name}"

    def line(field: str, value: str) -> LimitLine:
        return LimitLine(subject, key_of(field), value, SITE_FILE if field in stated else preset)

    first_hz = table.dead_band_hz
    yield line("points", f"from {hertz(first_hz)}, whole award at {hertz(table.full_hz)}")
    yield line("full_by_s", f"{table.full_by_s:g} s")
    yield line("sustain_s", f"{table.sustain_s:g} s")
    yield line("power_headroom", f"{100 * table.power_headroom:g} %")
    yield line("opposite_headroom", f"{100 * table.opposite_headroom:g} %")
    yield line("needed_resolution_hz", hertz(table.needed_resolution_hz))
