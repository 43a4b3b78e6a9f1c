"""The site file: TOML, strictly validated; every error names the file, the key and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from agent.core.droop import NOMINAL_HZ
from agent.core.envelope_rules import SiteLimits
from agent.core.ramp import RampRules
from agent.core.rules import LocalRule, SiteRules
from agent.quantity import Frequency, Power, Ramp, Time
from agent.site_file.cloud_access import CloudAccess
from agent.site_file.device import DeviceSection
from agent.site_file.fit import check_site
from agent.site_file.metrics import MetricsSection
from agent.site_file.modbus_tls import ModbusTlsSection, check_tls
from agent.site_file.problems import problem
from agent.site_file.product import ProductSection
from agent.site_file.profiles import device_profiles, device_spec, frequency_resolution_hz
from agent.site_file.replan import ReplanSection
from agent.site_file.section import Name, Section
from agent.toml_text import BadToml, parse
from drivers.profile.model import Profile
from drivers.spec import DeviceSpec

__all__ = ["CloudSection", "ConfigError", "DeviceSection", "SiteFile", "load"]

MAX_SOCKET_PATH_BYTES = 107
"""sun_path of Linux, less its final NUL."""


class ConfigError(Exception):
    """The site file cannot be used; `problems` holds one line per problem: `file: key: reason`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class SiteSection(Section):
    """Who this site is."""

    id: Name
    name: str = ""
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        from zoneinfo import ZoneInfo  # noqa: PLC0415 (only the daemon and `config check` pay for it)

        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{zone!r} is not a time zone, for example Asia/Tokyo") from error
        return zone


class ControlSection(Section):
    """The control loop."""

    mode: Literal["control", "read_only"] = "control"
    tick: Annotated[Time, Field(ge=0.1, le=10.0)] = 1.0
    local_rule: LocalRule = Field(default=LocalRule.IDLE, strict=False)
    ramp_up: Annotated[Ramp, Field(gt=0)] | None = None
    ramp_down: Annotated[Ramp, Field(gt=0)] | None = None


class ConnectionPointSection(Section):
    """What the grid contract allows, and who measures it."""

    meter: Name | None = None
    export_limit: Annotated[Power, Field(ge=0)]
    import_limit: Annotated[Power, Field(ge=0)]
    load: bool = False
    nominal_frequency: Frequency = 50.0

    @field_validator("nominal_frequency")
    @classmethod
    def _a_grid(cls, nominal_hz: float) -> float:
        if nominal_hz not in NOMINAL_HZ:
            raise ValueError(f'{nominal_hz:g} Hz is not a grid\'s nominal frequency: write "50 Hz" or "60 Hz"')
        return nominal_hz


class CloudSection(CloudAccess):
    """The MQTT link."""

    confirm: Literal["watermark", "puback"] = "watermark"
    frame: Annotated[Time, Field(ge=1.0, le=3600.0)] = 60.0
    reconnect_max: Annotated[Time, Field(ge=1.0, le=600.0)] = 60.0
    reconnect_spread: Annotated[Time, Field(ge=0.0, le=600.0)] = 10.0
    resend_after: Annotated[Time, Field(ge=1.0, le=3600.0)] = 60.0
    history_per_s: Annotated[float, Field(ge=0.1, le=1000.0)] = 20.0
    link: Literal["normal", "metered"] = "normal"
    aggregate: Annotated[Time, Field(ge=1.0, le=3600.0)] = 60.0

    @model_validator(mode="after")
    def _whole_frames(self) -> Self:
        if self.link == "metered" and (self.aggregate < self.frame or self.aggregate % self.frame):
            raise ValueError(
                f"aggregate ({self.aggregate:g} s) must be a whole multiple of frame ({self.frame:g} s): "
                "the means are made of whole frames"
            )
        return self


class StoreSection(Section):
    """Where plans, events and telemetry are kept."""

    directory: str = "/var/lib/ems-agent"
    telemetry_mb: Annotated[int, Field(ge=10, le=1_000_000)] = 400


class ApiSection(Section):
    """The local socket of the `ems` command."""

    socket: str = "/run/ems-agent/ems.sock"
    read_group: str | None = "ems"
    operator_group: str | None = "ems-operator"

    @field_validator("socket")
    @classmethod
    def _short_enough(cls, path: str) -> str:
        if len(path.encode()) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"a Unix socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes; choose a shorter one")
        return path


class SiteFile(Section):
    """The whole site file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    site: SiteSection
    control: ControlSection = ControlSection()
    connection_point: ConnectionPointSection
    device: Annotated[list[DeviceSection], Field(min_length=1, max_length=128)]
    product: list[ProductSection] = Field(default_factory=list, max_length=32)
    replan: ReplanSection = ReplanSection()
    modbus_tls: ModbusTlsSection | None = None
    cloud: CloudSection | None = None
    store: StoreSection = StoreSection()
    api: ApiSection = ApiSection()
    metrics: MetricsSection = MetricsSection()
    _profiles: dict[str, Profile] = PrivateAttr(default_factory=dict)
    _path: Path = PrivateAttr(default=Path())

    @property
    def path(self) -> Path:
        """The file that it was read from."""
        return self._path

    def profile(self, device_id: str) -> Profile | None:
        """What describes this device; None for one that describes itself."""
        return self._profiles.get(device_id)

    def find_profiles(self, folder: Path) -> list[str]:
        """Look up the profiles of the devices, shipped or in `folder`/profiles; every problem as `key: reason`."""
        self._profiles, problems = device_profiles(self.device, folder)
        return problems

    def spec(self, device: DeviceSection) -> DeviceSpec:
        """A device as the drivers want it stated; its profile must have been found."""
        return device_spec(device, self._profiles[device.id] if device.profile is not None else None)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_site(self.device, self.product, self.connection_point)
        check_tls(self.device, self.modbus_tls)
        return self

    def rules(self) -> SiteRules:
        """The site as the core sees it."""
        point = self.connection_point
        return SiteRules(
            site_id=self.site.id,
            tick_s=self.control.tick,
            batteries=tuple(d.battery_rules() for d in self.device if d.role == "battery"),
            pv_ids=tuple(d.id for d in self.device if d.role == "pv"),
            meter_id=point.meter,
            export_limit_w=point.export_limit,
            import_limit_w=point.import_limit,
            has_load=point.load,
            local_rule=self.control.local_rule,
            limits=SiteLimits(
                RampRules(self.control.ramp_up, self.control.ramp_down),
                tuple(rules for d in self.device if (rules := d.pv_rules()) is not None),
            ),
            nominal_hz=point.nominal_frequency,
            frequency_resolution_hz=next(
                (frequency_resolution_hz(d, self._profiles) for d in self.device if d.id == point.meter), None
            ),
            products={product.name: product.table(point.nominal_frequency) for product in self.product},
            delegated=frozenset(d.id for d in self.device if d.frequency_response == "device"),
        )


def load(path: Path) -> SiteFile:
    """The site file at `path`; ConfigError with all its problems when it cannot be used."""
    try:
        data = parse(path.read_bytes())
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except BadToml as bad:
        raise ConfigError([f"{path}: {bad}"]) from bad
    try:
        site = SiteFile.model_validate(data)
    except ValidationError as error:
        raise ConfigError([problem(path, data, SiteFile, detail) for detail in error.errors()]) from error
    site._path = path  # noqa: SLF001 (only here is it known)
    problems = site.find_profiles(path.parent)
    if problems:
        raise ConfigError([f"{path}: {reason}" for reason in problems])
    return site
