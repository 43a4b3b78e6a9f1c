"""A SunSpec device made from its profile: the models that the profile asks for, fed by the plant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, cast

from drivers.profile.model import Profile
from simulators.ceiling_control import CeilingControl
from simulators.plant import Plant
from simulators.pv_limited import LimitedPvDevice
from simulators.setpoint_control import SetpointControl
from simulators.sunspec_devices import MANUFACTURER, BatteryDevice, MeterConfig, MeterDevice
from simulators.sunspec_hybrid import HybridDevice
from simulators.sunspec_storage import RateWindow, StorageDevice

DER, STORAGE = 704, 124
BASE_ADDRESS = 40000
PV_MODELS = (101, 102, 103, 111, 112, 113)
METER_MODELS = (201, 202, 203, 204, 211, 212, 213, 214)

Device = BatteryDevice | StorageDevice | LimitedPvDevice | MeterDevice


class SunSpecProfileDevice:
    """One simulated device; `units` and `inputs` are what a Modbus server serves."""

    def __init__(
        self,
        profile: Profile,
        plant: Plant,
        bring_to_now: Callable[[], None],
        unit_id: int = 1,
        *,
        positive: str = "import",
    ) -> None:
        """`positive`: what a positive power means at a meter whose profile leaves it to the site."""
        assert profile.sunspec is not None
        self.profile = profile
        self.reversions = 0
        """How often its dead-man ended a setpoint or a ceiling."""
        base = profile.sunspec.base_address
        place = (unit_id, BASE_ADDRESS if base is None else base, bring_to_now)
        self.made = _made(profile, plant, place, profile.sunspec.positive or positive)
        for point, pattern in (("1.Mn", profile.sunspec.maker), ("1.Md", profile.sunspec.model)):
            if pattern is not None:
                self.made.image.text(point, _text(pattern))
        self.units = {unit_id: self.made}
        self.inputs: dict[int, Any] = {}

    @property
    def revert_at_utc_s(self) -> float | None:
        """When its dead-man ends what it was told, unless it is written to; None: it does not."""
        return min((one.revert_at_utc_s for one in self._timers() if one.revert_at_utc_s is not None), default=None)

    def revert_if_due(self, now_utc_s: float) -> bool:
        """Ends what it was told if the dead-man's time has come; True when it happened now."""
        ended = sum(one.revert_if_due(now_utc_s) for one in self._timers())
        if isinstance(self.made, LimitedPvDevice):
            self.made.apply_limit()
        elif not isinstance(self.made, MeterDevice):
            self.made.apply_setpoint()
        self.reversions += ended
        return ended > 0

    def _timers(self) -> list[SetpointControl | CeilingControl | RateWindow]:
        """What ends by itself."""
        made = self.made
        if isinstance(made, MeterDevice):
            return []
        return [made.control, made.ceiling] if isinstance(made, HybridDevice) else [made.control]


def _made(profile: Profile, plant: Plant, place: tuple[int, int, Callable[[], None]], positive: str) -> Device:
    assert profile.sunspec is not None
    asked = [model_id for group in profile.sunspec.models for model_id in group]
    roles = profile.sunspec.roles
    if "battery" in roles:
        newer = _first(asked, (DER, STORAGE)) == DER
        if "pv" in roles:
            return HybridDevice(plant, *place) if newer else StorageDevice(plant, *place, hybrid=True)
        return BatteryDevice(plant, *place) if newer else StorageDevice(plant, *place, hybrid=False)
    if "pv" in roles:
        return LimitedPvDevice(plant, *place, model_id=_first(asked, PV_MODELS))
    config = MeterConfig(positive=cast("Any", positive), model=cast("Any", _first(asked, METER_MODELS)))
    return MeterDevice(plant, config, *place)


def _first(asked: Iterable[int], known: tuple[int, ...]) -> int:
    """The first of the models asked for that can be simulated."""
    return next((model_id for model_id in asked if model_id in known), known[0])


def _text(pattern: str) -> str:
    """A text that a simple pattern takes."""
    tries = (MANUFACTURER, pattern.replace(".*", ""), pattern.replace(".*", "1"))
    return next(text for text in tries if re.fullmatch(pattern, text))
