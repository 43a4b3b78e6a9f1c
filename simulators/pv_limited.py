"""A simulated PV inverter whose power can be limited, by model 123 (older) or 704 (newer), beside what it measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from simulators.ceiling_control import FIELDS, CeilingControl
from simulators.modbus_server import ILLEGAL_VALUE, RequestRefusedError
from simulators.plant import Plant
from simulators.sunspec_devices import PvDevice
from simulators.sunspec_image import MAX_UINT16, finest_scale

PvLimit = Literal["none", "123", "704"]
MODELS: dict[PvLimit, tuple[int, ...]] = {"none": (), "123": (120, 121, 123), "704": (702, 704)}
"""The models that go with each: what 100 % means, and the limit itself."""
RATINGS: dict[PvLimit, tuple[str, ...]] = {
    "none": (),
    "123": ("120.WRtg", "121.WMax"),
    "704": ("702.WMaxRtg", "702.WMax"),
}
RATING_SCALES: dict[PvLimit, tuple[str, ...]] = {
    "none": (),
    "123": ("120.WRtg_SF", "121.WMax_SF"),
    "704": ("702.W_SF",),
}


class LimitedPvDevice(PvDevice):
    """PV inverter with a power limit; `"none"` is one without."""

    def __init__(
        self,
        plant: Plant,
        unit_id: int,
        base_address: int,
        bring_to_now: Callable[[], None],
        *,
        model_id: int = 103,
        limit: PvLimit = "123",
    ) -> None:
        self.control = CeilingControl()
        self._fields = {f"{limit}.{name}": field for name, field in FIELDS.get(limit, {}).items()}
        super().__init__(plant, unit_id, base_address, bring_to_now, model_id, more_models=MODELS[limit])
        self._writable = {self.image.address(name): name for name in self._fields}
        limit_w = plant.config.pv.inverter_limit_w
        for name in RATING_SCALES[limit]:
            self.image.scale(name, finest_scale(limit_w, MAX_UINT16))
        for name in RATINGS[limit]:
            self.image.number(name, limit_w)
        if self._fields:
            self.image.scale(f"{limit}.WMaxLimPct_SF", -1)

    def write(self, address: int, data: bytes) -> None:
        """Takes over the power limit; exception 2 for other registers, 3 out of range."""
        self._bring_to_now()
        points = self._points_written(address, data)
        written = {self._fields[name]: value for name, value in points.items()}
        if not self.control.allows(written):
            raise RequestRefusedError(ILLEGAL_VALUE)
        self.control.write(written, self._plant.utc_s)
        self.apply_limit()

    def reboot(self) -> None:
        """The limit is lost."""
        self._bring_to_now()
        self.control.reset()
        self.apply_limit()

    def apply_limit(self) -> None:
        """Hands the limit to the plant."""
        self._plant.pv_limit = self.control.share

    def _show(self) -> None:
        super()._show()
        for name, field in self._fields.items():
            self.image.number(name, getattr(self.control.points, field))
