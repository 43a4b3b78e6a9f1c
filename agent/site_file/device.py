"""`[[device]]`: one device at one Modbus address, with the limits that its role has."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from agent.core.envelope_rules import DEFAULT_LIMITS, BatteryLimits, PvRules
from agent.core.hybrid import SharedInverter
from agent.core.rules import BatteryRules
from agent.quantity import Energy, Frequency, Percent, Power, Time
from agent.site_file.derating import DeratingSection
from agent.site_file.section import Name, Section
from drivers.endpoint import BROADCAST_UNIT, LAST_SERIAL_UNIT, has_transactions, parse_url, place

DEAD_BAND_SHARE = 0.001
"""Default dead band of a battery's setpoint writes, as a share of the rating."""
PV_DEAD_BAND_SHARE = 0.01
"""The same for PV ceilings: most inverters count them in whole percent of their rating."""
LOOSEN_AFTER_S = 10.0


class SharedInverterSection(Section):
    """`[device.shared_inverter]`: the inverter that a DC-coupled battery shares with a PV field."""

    pv: Name
    rated_power: Annotated[Power, Field(gt=0)]
    pv_peak: Annotated[Power, Field(gt=0)]
    grid_charge: bool = True

    def rules(self) -> SharedInverter:
        """The same as the core sees it."""
        return SharedInverter(self.pv, self.rated_power, self.pv_peak, self.grid_charge)


class DeviceSection(Section):
    """One device at one Modbus address."""

    id: Name
    role: Literal["battery", "pv", "meter"]
    profile: Name | None = None
    url: str
    unit_id: Annotated[int, Field(ge=0, le=255)] = 1
    unit_ids: dict[str, Annotated[int, Field(ge=0, le=255)]] = Field(default_factory=dict)
    poll: Annotated[Time, Field(ge=0.05, le=60.0)] = 1.0
    timeout: Annotated[Time, Field(ge=0.05, le=5.0)] = 1.0
    base_address: Annotated[int, Field(ge=0, le=65535)] | None = None
    expected_model: str | None = None
    expected_serial: str | None = None
    positive: Literal["export", "import"] | None = None
    frequency_resolution: Annotated[Frequency, Field(gt=0, le=1)] | None = None
    rated_power: Annotated[Power, Field(gt=0)] | None = None
    rated_charge_power: Annotated[Power, Field(gt=0)] | None = None
    capacity: Annotated[Energy, Field(gt=0)] | None = None
    soc_min: Annotated[Percent, Field(ge=0, le=100)] = 5.0
    soc_max: Annotated[Percent, Field(ge=0, le=100)] = 95.0
    soc_reserve: Annotated[Percent, Field(gt=0, lt=100)] | None = None
    soc_taper: Annotated[Percent, Field(ge=0, le=50)] = DEFAULT_LIMITS.taper_pct
    soc_hysteresis: Annotated[Percent, Field(ge=0, le=50)] = DEFAULT_LIMITS.hysteresis_pct
    one_way_efficiency: Annotated[Percent, Field(gt=50, le=100)] = 95.0
    min_useful_power: Annotated[Power, Field(ge=0)] = DEFAULT_LIMITS.min_useful_w
    can_be_limited: bool = False
    raise_after: Annotated[Time, Field(ge=1, le=600)] = LOOSEN_AFTER_S
    dead_man: Annotated[Time, Field(ge=1, le=60)] = 60.0
    dead_band: Annotated[Power, Field(ge=0)] | None = None
    frequency_response: Literal["agent", "device"] = "agent"
    derating: DeratingSection | None = None
    shared_inverter: SharedInverterSection | None = None

    @field_validator("url")
    @classmethod
    def _endpoint(cls, url: str) -> str:
        parse_url(url)
        return url

    @model_validator(mode="after")
    def _fits_role(self) -> Self:
        for key, roles in _ONLY_FOR.items():
            if key in self.model_fields_set and self.role not in roles:
                raise ValueError(f"{key} is for a {' or '.join(roles)}, but this device is a {self.role}")
        if self.role == "meter" and self.positive is None and self.profile is None:
            raise ValueError('positive is missing: does this meter count "export" or "import" as positive power?')
        if self.role == "battery":
            self._check_battery()
        if self.role == "pv":
            self._check_pv()
        if not has_transactions(parse_url(self.url)):
            self._check_serial_units()
        if self.dead_man % 1:
            raise ValueError("dead_man must be whole seconds: devices count it so")
        if self.dead_man <= 3 * self.poll:
            raise ValueError("dead_man must be longer than three polls, or it would fire in normal operation")
        if self.rated_power is not None and (self.dead_band or 0.0) >= self.rated_power:
            raise ValueError("dead_band must lie below rated_power, or nothing would ever be written")
        return self

    def _check_serial_units(self) -> None:
        for key, unit_id in (("unit_id", self.unit_id), *((f"unit_ids.{k}", v) for k, v in self.unit_ids.items())):
            if not BROADCAST_UNIT < unit_id <= LAST_SERIAL_UNIT:
                raise ValueError(
                    f"{key} must be 1 to {LAST_SERIAL_UNIT} on a serial line; 0 is a broadcast without answer"
                )

    def _check_battery(self) -> None:
        if self.rated_power is None:
            raise ValueError('rated_power is missing: a battery needs its nameplate power, for example "500 kW"')
        low, high = self.soc_min, self.soc_max
        if low >= high:
            raise ValueError(f"soc_min ({low:g} %) must lie below soc_max ({high:g} %)")
        if self.soc_reserve is not None and not low < self.soc_reserve < high:
            window = f"soc_min ({low:g} %) and soc_max ({high:g} %)"
            raise ValueError(f"soc_reserve ({self.soc_reserve:g} %) must lie between {window}")
        floor = self.soc_reserve if self.soc_reserve is not None else low
        for key, value in (("soc_taper", self.soc_taper), ("soc_hysteresis", self.soc_hysteresis)):
            if 2 * value > high - floor:
                raise ValueError(f"{key} ({value:g} %) takes more than half of the window {floor:g} to {high:g} %")
        if self.frequency_response == "device" and self.profile is not None:
            raise ValueError(
                'frequency_response = "device" needs a SunSpec battery with a droop of its own (model 711); a device '
                'with a profile has none that the agent can set: leave it at "agent"'
            )
        if self.min_useful_power >= self.rated_power:
            raise ValueError("min_useful_power must lie below rated_power, or the battery would never be used")

    def _check_pv(self) -> None:
        if self.can_be_limited and self.rated_power is None:
            raise ValueError('rated_power is missing: a PV inverter is limited in shares of it, for example "300 kW"')
        idle = sorted(self.model_fields_set & {"raise_after", "dead_man", "dead_band"})
        if idle and not self.can_be_limited:
            raise ValueError(f"{', '.join(idle)} needs can_be_limited = true: nothing is written to this inverter")

    @property
    def address(self) -> tuple[tuple[str, ...], int]:
        """The line and the unit id: what makes two devices the same."""
        return (place(parse_url(self.url)), self.unit_id)

    def is_hybrid_with(self, other: DeviceSection) -> bool:
        """Whether both may be one device that fills several roles at one address.

        A hybrid by one profile, or a device that a profile describes in part and its SunSpec models for the rest. Two
        that state nothing but their roles are taken for a mistake, but for a hybrid.
        """
        if self.role == other.role:
            return False
        if self.profile == other.profile:
            return self.profile is not None or {self.role, other.role} == {"battery", "pv"}
        return any(name is None or name.startswith("sunspec-") for name in (self.profile, other.profile))

    def battery_rules(self) -> BatteryRules:
        """A battery as the core sees it."""
        rated_w = self.rated_power or 0.0
        return BatteryRules(
            device_id=self.id,
            rated_discharge_w=rated_w,
            rated_charge_w=self.rated_charge_power or rated_w,
            soc_min_pct=self.soc_min,
            soc_max_pct=self.soc_max,
            one_way_efficiency=self.one_way_efficiency / 100.0,
            dead_man_s=self.dead_man,
            dead_band_w=self.dead_band if self.dead_band is not None else rated_w * DEAD_BAND_SHARE,
            limits=BatteryLimits(
                deratings=self.derating.rules() if self.derating is not None else (),
                reserve_pct=self.soc_reserve,
                taper_pct=self.soc_taper,
                hysteresis_pct=self.soc_hysteresis,
                min_useful_w=self.min_useful_power,
                shared_inverter=self.shared_inverter.rules() if self.shared_inverter is not None else None,
            ),
        )

    def pv_rules(self) -> PvRules | None:
        """A PV inverter that can be limited as the core sees it; None for any other device."""
        if not self.can_be_limited:
            return None
        rated_w = self.rated_power or 0.0
        dead_band_w = self.dead_band if self.dead_band is not None else rated_w * PV_DEAD_BAND_SHARE
        return PvRules(self.id, rated_w, dead_band_w, self.dead_man, self.raise_after)


_ONLY_FOR: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("positive", "frequency_resolution"), ("meter",)),
    **dict.fromkeys(("rated_power", "dead_man", "dead_band"), ("battery", "pv")),
    **dict.fromkeys(("can_be_limited", "raise_after"), ("pv",)),
    **dict.fromkeys(
        (
            *("rated_charge_power", "capacity"),
            *("soc_min", "soc_max", "soc_reserve", "soc_taper", "soc_hysteresis"),
            *("one_way_efficiency", "min_useful_power", "frequency_response", "derating", "shared_inverter"),
        ),
        ("battery",),
    ),
}
"""Keys that make sense for some roles only."""
