"""What a usable site file may still get wrong: combinations that deserve a second look before the site runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.cli.config_limits import hertz, watts
from agent.cloud.access import transport
from agent.cloud.transport import problems
from agent.config import CloudSection, SiteFile
from agent.core.delegable import table_unfit
from agent.core.rules import LocalRule
from agent.core.writes import REFRESH_SHARE
from agent.site_file.device import DeviceSection
from agent.site_file.product import ProductSection, key_of

NO_CONNECTION = "no connection will come about"
WIDE_WINDOW_PCT = 95.0
LONG_DEAD_MAN_S = 30.0
COARSE_DEAD_BAND_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Risk:
    """One combination to look at: the key, and what may happen."""

    key: str
    text: str


def risks(site: SiteFile) -> tuple[Risk, ...]:
    """Every risky combination of the site file; empty where there is nothing to say."""
    found: list[Risk] = []
    if site.cloud is None and site.control.local_rule is LocalRule.IDLE:
        text = "without a cloud the batteries rest, but for plans that a technician imports"
        found.append(Risk("control.local_rule", text))
    if site.cloud is not None:
        found += _cloud(site.cloud)
    if site.control.mode == "read_only":
        found.append(Risk("control.mode", "nothing is written: plans, awards and curtailments are not carried out"))
    for index, device in enumerate(site.device):
        where = f"device[{index}] ({device.id})"
        if device.role == "battery":
            found += _battery(site, device, where)
        elif device.role == "pv":
            found += _pv(site, device, where)
    for index, product in enumerate(site.product):
        found += _product(site, product, f"product[{index}] ({product.name})")
    return tuple(found)


def _cloud(cloud: CloudSection) -> Iterator[Risk]:
    if not cloud.on_this_machine:
        if not cloud.address.encrypted:
            yield Risk(
                "cloud.broker",
                "mqtt:// is in clear: whoever is on the way reads all of it"
                + (", the password too" if cloud.user is not None else "")
                + "; write mqtts:// or wss:// and ask the broker's operator for its CA",
            )
        if not cloud.signing_key:
            yield Risk(
                "cloud.signing_key",
                "messages need not be signed: whoever holds the broker commands the battery within its limits; ask the "
                "cloud operator for the public key",
            )
        if cloud.address.encrypted and cloud.tls.ca is None:
            yield Risk("cloud.tls.ca", "any public CA may vouch for the broker; name the one that really does")
    for problem in problems(transport(cloud)):
        yield Risk("cloud", f"{NO_CONNECTION}: {problem}")


def _battery(site: SiteFile, device: DeviceSection, where: str) -> Iterator[Risk]:
    width = device.soc_max - device.soc_min
    if width > WIDE_WINDOW_PCT:
        yield Risk(
            f"{where}.soc_min",
            f"the SoC window is {width:g} % wide: an error of the BMS by a few percent ends in a full or empty "
            "battery; most makers ask for 5 to 95 %",
        )
    refresh_s = device.dead_man * REFRESH_SHARE
    slow_s = device.timeout + site.control.tick
    if refresh_s < slow_s:
        yield Risk(
            f"{where}.dead_man",
            f"it is refreshed every {refresh_s:.3g} s, and one request without an answer takes {slow_s:.3g} s with "
            "the tick: a single lost answer may let the dead-man fire; make it longer or the timeout shorter",
        )
    others = any(one.role == "pv" for one in site.device) or site.connection_point.load
    rated_w = sum(one.rated_power or 0.0 for one in site.device if one.role == "battery")
    narrow = min(site.connection_point.export_limit, site.connection_point.import_limit) < rated_w
    if others and narrow and device.dead_man > LONG_DEAD_MAN_S:
        yield Risk(
            f"{where}.dead_man",
            f"if the agent dies the battery holds its power for up to {device.dead_man:g} s while PV and load move: "
            "the connection limit may be exceeded for so long",
        )
    if device.dead_band is not None and device.dead_band > COARSE_DEAD_BAND_SHARE * (device.rated_power or 0.0):
        share = 100 * device.dead_band / (device.rated_power or 1.0)
        yield Risk(f"{where}.dead_band", f"{share:.3g} % of the rating: slots and reserve are met no better than that")
    if device.frequency_response == "device" and device.shared_inverter is not None:
        yield Risk(
            f"{where}.frequency_response",
            "PV shares the inverter, and its droop would answer for both: the agent answers awards, not the device",
        )
    described = device.profile is not None and not device.profile.startswith("sunspec-")
    if not described and device.derating is not None and device.derating.temperature is not None:
        unknown = device.derating.temperature.when_unknown
        yield Risk(
            f"{where}.derating.temperature",
            f"a SunSpec battery without model 803 tells no cell temperature and stays at when_unknown ({unknown:g} %)",
        )


def _pv(site: SiteFile, device: DeviceSection, where: str) -> Iterator[Risk]:
    export_w = site.connection_point.export_limit
    may_exceed = export_w == 0.0 or (device.rated_power is not None and device.rated_power > export_w)
    if may_exceed and not device.can_be_limited:
        yield Risk(
            f"{where}.can_be_limited",
            f"PV may give more than the export limit of {watts(export_w)} and the agent must not limit it: with full "
            "batteries the limit is exceeded",
        )


def _product(site: SiteFile, product: ProductSection, where: str) -> Iterator[Risk]:
    table = product.table(site.connection_point.nominal_frequency)
    for field in table.unsure:
        key = key_of(field.split("[")[0])
        yield Risk(
            f"{where}.{key}",
            f"the preset's {field} was not read in the market's own rules: check the contract, and state {key} here",
        )
    meter = next(device for device in site.device if device.id == site.connection_point.meter)
    by_device = any(device.frequency_response == "device" for device in site.device)
    if by_device and (why := table_unfit(table)):
        yield Risk(where, f"{why}; the agent answers its awards, although frequency_response says device")
    resolution_hz, needed_hz = meter.frequency_resolution, table.needed_resolution_hz
    if resolution_hz is None:
        yield Risk(
            where,
            f"it needs the frequency to {hertz(needed_hz)}: state the frequency_resolution of {meter.id}",
        )
    elif resolution_hz > needed_hz:
        yield Risk(
            where,
            f"it needs the frequency to {hertz(needed_hz)} and {meter.id} tells it to {hertz(resolution_hz)} only: "
            "awards will not be answered",
        )
