"""The site file: TOML, strictly validated; every error names the file, the key and the reason."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agent.core.admission import PlanLimits
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from agent.quantity import Percent, Power, Time
from drivers.endpoint import parse_url

DEAD_BAND_SHARE = 0.001
"""Default dead band of setpoint writes, as a share of the rating."""
MAX_SOCKET_PATH_BYTES = 107
"""sun_path of Linux, less its final NUL."""


class ConfigError(Exception):
    """The site file cannot be used; `problems` holds one line per problem: `file: key: reason`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]


class SiteSection(_Section):
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


class ControlSection(_Section):
    """The control loop."""

    tick: Annotated[Time, Field(ge=0.1, le=10.0)] = 1.0
    local_rule: LocalRule = Field(default=LocalRule.IDLE, strict=False)


class ConnectionPointSection(_Section):
    """What the grid contract allows, and who measures it."""

    meter: Name | None = None
    export_limit: Annotated[Power, Field(ge=0)]
    import_limit: Annotated[Power, Field(ge=0)]
    load: bool = False


class DeviceSection(_Section):
    """One device at one Modbus address."""

    id: Name
    role: Literal["battery", "pv", "meter"]
    url: str
    unit_id: Annotated[int, Field(ge=0, le=255)] = 1
    poll: Annotated[Time, Field(ge=0.05, le=60.0)] = 1.0
    timeout: Annotated[Time, Field(ge=0.05, le=5.0)] = 1.0
    base_address: Annotated[int, Field(ge=0, le=65535)] | None = None
    expected_model: str | None = None
    expected_serial: str | None = None
    positive: Literal["export", "import"] | None = None
    rated_power: Annotated[Power, Field(gt=0)] | None = None
    soc_min: Annotated[Percent, Field(ge=0, le=100)] = 5.0
    soc_max: Annotated[Percent, Field(ge=0, le=100)] = 95.0
    one_way_efficiency: Annotated[Percent, Field(gt=50, le=100)] = 95.0
    dead_man: Annotated[Time, Field(ge=1, le=60)] = 60.0
    dead_band: Annotated[Power, Field(ge=0)] | None = None

    @field_validator("url")
    @classmethod
    def _modbus_tcp(cls, url: str) -> str:
        parse_url(url)
        return url

    @model_validator(mode="after")
    def _fits_role(self) -> Self:
        if self.role == "battery" and self.rated_power is None:
            raise ValueError('rated_power is missing: a battery needs its nameplate power, for example "500 kW"')
        if self.role == "meter" and self.positive is None:
            raise ValueError('positive is missing: does this meter count "export" or "import" as positive power?')
        given = self.model_fields_set
        for role, keys in _ONLY_FOR.items():
            for key in keys & given if self.role != role else ():
                raise ValueError(f"{key} is for a {role}, but this device is a {self.role}")
        if self.soc_min >= self.soc_max:
            raise ValueError(f"soc_min ({self.soc_min:g} %) must lie below soc_max ({self.soc_max:g} %)")
        if self.dead_man % 1:
            raise ValueError("dead_man must be whole seconds: devices count it so")
        if self.dead_man <= 3 * self.poll:
            raise ValueError("dead_man must be longer than three polls, or it would fire in normal operation")
        return self

    @property
    def address(self) -> tuple[str, int, int]:
        """Host, port and unit id: what makes two devices the same."""
        endpoint = parse_url(self.url)
        return (endpoint.host, endpoint.port, self.unit_id)


_ONLY_FOR = {
    "battery": {"rated_power", "soc_min", "soc_max", "one_way_efficiency", "dead_man", "dead_band"},
    "meter": {"positive"},
}


class CloudSection(_Section):
    """The MQTT link."""

    broker: str
    confirm: Literal["watermark", "puback"] = "watermark"
    frame: Annotated[Time, Field(ge=1.0, le=3600.0)] = 60.0
    reconnect_max: Annotated[Time, Field(ge=1.0, le=600.0)] = 60.0
    resend_after: Annotated[Time, Field(ge=1.0, le=3600.0)] = 60.0

    @field_validator("broker")
    @classmethod
    def _mqtt(cls, url: str) -> str:
        _check_broker(url)
        return url


class StoreSection(_Section):
    """Where plans, events and telemetry are kept."""

    directory: str = "/var/lib/ems-agent"


class ApiSection(_Section):
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


class SiteFile(_Section):
    """The whole site file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    site: SiteSection
    control: ControlSection = ControlSection()
    connection_point: ConnectionPointSection
    device: Annotated[list[DeviceSection], Field(min_length=1, max_length=64)]
    cloud: CloudSection | None = None
    store: StoreSection = StoreSection()
    api: ApiSection = ApiSection()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        seen_id: dict[str, int] = {}
        seen_address: dict[tuple[str, int, int], str] = {}
        for index, device in enumerate(self.device):
            where = f"device[{index}] ({device.id})"
            if device.id in seen_id:
                raise ValueError(f"{where}.id: device[{seen_id[device.id]}] has the same id")
            if device.address in seen_address:
                other = seen_address[device.address]
                raise ValueError(f"{where}.url: {device.url} unit {device.unit_id} is already the address of {other}")
            seen_id[device.id] = index
            seen_address[device.address] = where
        roles = {device.id: device.role for device in self.device}
        if "battery" not in roles.values():
            raise ValueError("device: there is no battery; the agent has nothing to steer")
        meter = self.connection_point.meter
        if meter is not None and roles.get(meter) != "meter":
            raise ValueError(f"connection_point.meter: {meter!r} is not the id of a device with role meter")
        if meter is None and ("pv" in roles.values() or self.connection_point.load):
            raise ValueError("connection_point.meter: a site with PV or load needs the meter at its connection point")
        return self

    def rules(self) -> SiteRules:
        """The site as the core sees it."""
        point = self.connection_point
        return SiteRules(
            site_id=self.site.id,
            tick_s=self.control.tick,
            batteries=tuple(_battery_rules(d) for d in self.device if d.role == "battery"),
            pv_ids=tuple(d.id for d in self.device if d.role == "pv"),
            meter_id=point.meter,
            export_limit_w=point.export_limit,
            import_limit_w=point.import_limit,
            has_load=point.load,
            local_rule=self.control.local_rule,
        )

    def plan_limits(self) -> PlanLimits:
        """The largest powers a plan for this site can mean."""
        total_w = sum(d.rated_power or 0.0 for d in self.device)
        point = self.connection_point
        return PlanLimits(total_w, total_w, point.export_limit, point.import_limit)


def _battery_rules(device: DeviceSection) -> BatteryRules:
    rated_w = device.rated_power or 0.0
    return BatteryRules(
        device_id=device.id,
        rated_discharge_w=rated_w,
        rated_charge_w=rated_w,
        soc_min_pct=device.soc_min,
        soc_max_pct=device.soc_max,
        one_way_efficiency=device.one_way_efficiency / 100.0,
        dead_man_s=device.dead_man,
        dead_band_w=device.dead_band if device.dead_band is not None else rated_w * DEAD_BAND_SHARE,
    )


def _check_broker(url: str) -> None:
    example = "write it as mqtt://broker.example:1883"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}; {example}") from error
    if parts.scheme != "mqtt" or not parts.hostname or parts.path not in ("", "/") or port == 0:
        raise ValueError(f"{url!r} is not the address of a broker; {example}")


def load(path: Path) -> SiteFile:
    """The site file at `path`; ConfigError with all its problems when it cannot be used."""
    try:
        with path.open("rb") as stream:
            data = tomllib.load(stream)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from error
    try:
        return SiteFile.model_validate(data)
    except ValidationError as error:
        raise ConfigError([_problem(path, data, detail) for detail in error.errors()]) from error


def _problem(path: Path, data: dict[str, Any], detail: Any) -> str:
    key = _key(data, detail["loc"])
    kind, message = detail["type"], detail["msg"]
    if kind == "value_error":
        message = str(detail["ctx"]["error"])
    elif kind == "extra_forbidden":
        message = f"unknown key{_suggestion(detail['loc'])}"
    elif kind == "missing":
        message = "missing"
    # The checks that span sections name their keys themselves.
    return f"{path}: {key}: {message}" if key else f"{path}: {message}"


def _key(data: dict[str, Any], loc: tuple[int | str, ...]) -> str:
    key = ""
    at: Any = data
    for part in loc:
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            at = None
        if isinstance(part, int):
            name = at.get("id") if isinstance(at, dict) else None
            key += f"[{part}]" + (f" ({name})" if isinstance(name, str) else "")
        else:
            key += f".{part}" if key else part
    return key


_SECTIONS: dict[str, type[_Section]] = {
    "site": SiteSection,
    "control": ControlSection,
    "connection_point": ConnectionPointSection,
    "device": DeviceSection,
    "cloud": CloudSection,
    "store": StoreSection,
    "api": ApiSection,
}


def _suggestion(loc: tuple[int | str, ...]) -> str:
    section = _SECTIONS.get(str(loc[0])) if len(loc) > 1 else None
    known = list(section.model_fields) if section else [*_SECTIONS, "schema"]
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(sorted(known))}"
