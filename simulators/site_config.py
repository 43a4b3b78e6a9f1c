"""The simulated site's configuration: what it consists of, and the TOML file that says so.

Quantities carry their unit in the key. An unknown key, a wrong type or an impossible value refuses the whole file.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import TypeAdapter, ValidationError

from simulators.battery import BatteryConfig
from simulators.lying_battery import Lies
from simulators.plant import DayConfig, GridConfig, LoadConfig, PlantConfig, PvConfig
from simulators.pv_limited import PvLimit
from simulators.sunspec_devices import MeterConfig


class ConfigRefusedError(ValueError):
    """The file cannot be used; the text names file, key and reason."""


@dataclass(frozen=True, slots=True)
class ModbusConfig:
    """Where the devices are found; port 0 takes a free one."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    host: str = "127.0.0.1"
    battery_port: int = 0
    gateway_port: int = 0
    """PV inverter and meter share this endpoint."""
    base_address: int = 40_000
    """The first register of the SunSpec chain in every device."""
    battery_unit: int = 1
    pv_unit: int = 2
    meter_unit: int = 3
    battery_kind: Literal["der", "der-droop", "der-hybrid", "storage", "storage-hybrid"] = "der"
    """SunSpec models of the 700 series, or the older 103 and 124; a hybrid has PV on its own DC side (714, 160), and
    "der-droop" can answer the frequency by itself (711)."""
    pv_model: Literal[101, 102, 103, 111, 112, 113] = 103
    pv_limit: PvLimit = "123"
    """The model by which the PV inverter's power is limited: an older inverter, a newer one, or none."""

    def __post_init__(self) -> None:
        """Refuse what cannot be reached."""
        for name in ("battery_port", "gateway_port"):
            if not 0 <= getattr(self, name) <= 65_535:
                raise ValueError(f"{name} must be 0 (any free port) to 65535")
        for name in ("battery_unit", "pv_unit", "meter_unit"):
            if not 1 <= getattr(self, name) <= 247:
                raise ValueError(f"{name} must be 1 to 247")
        if self.pv_unit == self.meter_unit:
            raise ValueError("pv_unit and meter_unit share one endpoint and must differ")
        if not 0 <= self.base_address <= 60_000:
            raise ValueError("base_address must be 0 to 60000")


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """A whole simulated site."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    battery: BatteryConfig = field(default_factory=BatteryConfig)
    pv: PvConfig = field(default_factory=PvConfig)
    load: LoadConfig = field(default_factory=LoadConfig)
    grid: GridConfig = field(default_factory=GridConfig)
    day: DayConfig = field(default_factory=DayConfig)
    meter: MeterConfig = field(default_factory=MeterConfig)
    modbus: ModbusConfig = field(default_factory=ModbusConfig)
    lies: Lies = field(default_factory=Lies)
    """Of a battery of the kind "der"."""
    seed: int = 0

    def plant(self) -> PlantConfig:
        """The physics, with the measured day where no irradiance is given."""
        pv = self.pv
        if not pv.irradiance_w_per_m2:
            pv = dataclasses.replace(pv, irradiance_w_per_m2=measured_irradiance())
        return PlantConfig(self.battery, pv, self.load, self.grid, self.day)


def measured_irradiance() -> tuple[float, ...]:
    """Global horizontal irradiance of one very cloudy day, W/m², one value per minute of local time."""
    file = resources.files("simulators").joinpath("data", "irradiance_1min_day.csv")
    with file.open(encoding="utf-8") as lines:
        return tuple(float(row["ghi_w_per_m2"]) for row in csv.DictReader(lines))


def load_config(path: Path) -> SiteConfig:
    """The configuration in a TOML file; `ConfigRefusedError` if any part of it cannot be used."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigRefusedError(f"{path}: cannot be read as TOML: {error}") from error
    try:
        # By way of JSON: strict about types, yet a list may fill a tuple.
        return TypeAdapter(SiteConfig).validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        raise ConfigRefusedError("\n".join(_complaints(path, error))) from error


def _complaints(path: Path, error: ValidationError) -> list[str]:
    complaints = []
    for detail in error.errors(include_url=False):
        key = ".".join(str(part) for part in detail["loc"]) or "the whole file"
        unknown = detail["type"] == "unexpected_keyword_argument"
        reason = "unknown key; remove it or check its spelling" if unknown else detail["msg"]
        complaints.append(f"{path}: {key}: {reason}")
    return complaints
