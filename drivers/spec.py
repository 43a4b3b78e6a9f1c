"""What the site file states about one device, and what the device states about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from drivers.profile.model import ASK_SITE, Profile, SunSpec

Role = Literal["battery", "pv", "meter"]
Positive = Literal["export", "import"]

ROLES: Final = ("battery", "pv", "meter")
MAX_UNIT_ID = 255
"""Modbus TCP; 1 to 247 name devices, 0 and 255 often mean "the device at this address itself"."""
MAX_BASE_ADDRESS = 65_000
MAX_REVERSION_S = 60
"""A battery must be neutral by its own dead-man within 60 s (invariant 6 of the design)."""
ANY_SUNSPEC: Final = SunSpec(roles=["battery", "pv", "meter"])
"""What holds of a device without a profile: whatever its models say."""


class BadSpec(ValueError):  # noqa: N818  # named for what the file states
    """The site file states something about a device that cannot be."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device of the site, as configured; `BadSpec` names the key that is wrong."""

    device_id: str
    role: Role
    unit_id: int
    base_address: int | None = None
    """Where the SunSpec map begins, if not at one of the usual places."""
    reversion_s: int = 60
    """Battery: without a new setpoint for so long, the device goes to 0 W by itself. PV: a ceiling ends after it."""
    rated_w: float | None = None
    """PV: what a ceiling is a share of, where the device does not say."""
    capacity_wh: float | None = None
    """Battery: what it holds from 0 to 100 % SoC, where the device does not say."""
    positive: Positive | None = None
    """Meter: what its positive power means. Vendors differ, so that it must be stated."""
    expected_model: str | None = None
    expected_serial: str | None = None
    profile: Profile | None = None
    """What describes the device; None for one that describes itself (SunSpec)."""
    unit_ids: Mapping[str, int] = field(default_factory=dict)
    """Other unit ids of the profile that differ at this site, by their names in it."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.role not in ROLES:
            raise BadSpec(f"{self.device_id}: role {self.role!r} is not one of {', '.join(ROLES)}")
        if not 0 <= self.unit_id <= MAX_UNIT_ID:
            raise BadSpec(f"{self.device_id}: unit_id {self.unit_id} is not within 0 to {MAX_UNIT_ID}")
        if self.base_address is not None and not 0 <= self.base_address <= MAX_BASE_ADDRESS:
            raise BadSpec(f"{self.device_id}: base_address {self.base_address} is not within 0 to {MAX_BASE_ADDRESS}")
        if not 1 <= self.reversion_s <= MAX_REVERSION_S:
            raise BadSpec(f"{self.device_id}: reversion_s {self.reversion_s} is not within 1 to {MAX_REVERSION_S}")
        if self.profile is not None:
            self._check_profile(self.profile)
        if self.role == "meter" and self.positive not in ("export", "import") and self.asks_for_sign:
            raise BadSpec(
                f'{self.device_id}: positive must be "export" or "import": vendors differ in the sign of a meter'
            )
        if self.role != "meter" and self.positive is not None:
            raise BadSpec(f"{self.device_id}: positive is for meters; SunSpec fixes it for a {self.role}")

    @property
    def sunspec(self) -> SunSpec | None:
        """What is stated about a device that describes itself; None for one that is described by registers."""
        if self.profile is None:
            return ANY_SUNSPEC
        return self.profile.sunspec

    @property
    def asks_for_sign(self) -> bool:
        """Whether only the site knows what this meter's positive power means."""
        if self.profile is None:
            return True
        if self.profile.sunspec is not None:
            return self.profile.sunspec.positive is None
        return any(point.positive == ASK_SITE for point in self.profile.points.values())

    def _check_profile(self, profile: Profile) -> None:
        if self.role not in profile.roles:
            fills = " and ".join(profile.roles)
            raise BadSpec(f"{self.device_id}: the profile fills the role {fills}, not {self.role}")
        strange = sorted(set(self.unit_ids) - set(profile.unit_ids))
        if strange:
            names = ", ".join(profile.unit_ids) or "none"
            raise BadSpec(f"{self.device_id}: unit_ids: the profile has no {strange[0]!r}; it names {names}")
        if self.base_address is not None and profile.sunspec is None:
            raise BadSpec(f"{self.device_id}: base_address is for SunSpec devices, not for one with a profile")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a device says it is, and what it offers; None where it says nothing."""

    manufacturer: str | None
    model: str | None
    serial: str | None
    firmware: str | None
    base_address: int | None = None
    """Where its SunSpec map begins; None for a device that is described by a profile."""
    models: tuple[int, ...] = ()
    """The ids of its SunSpec models, in the order of its map."""
    cut_short: str = ""
    """Why the chain of models ended early; "" if it did not."""
