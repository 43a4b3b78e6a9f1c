"""A battery by the 700 series that can answer the frequency by itself: model 711 beside the others."""

from __future__ import annotations

from collections.abc import Callable

from simulators.droop_control import FIELD_OF_POINT, HEAD_POINTS, SETS, DroopControl
from simulators.modbus_server import ILLEGAL_ADDRESS, ILLEGAL_VALUE, RequestRefusedError
from simulators.plant import Plant
from simulators.sunspec_devices import BATTERY_MODELS, BatteryDevice
from simulators.sunspec_image import SunSpecImage

MODELS = (*(model for model in BATTERY_MODELS if model < 711), 711, *(model for model in BATTERY_MODELS if model > 711))


class DroopDevice(BatteryDevice):
    """Battery with inverter and frequency droop."""

    def __init__(self, plant: Plant, unit_id: int, base_address: int, bring_to_now: Callable[[], None]) -> None:
        image = SunSpecImage(MODELS, base_address, {711: SETS})
        super().__init__(plant, unit_id, base_address, bring_to_now, image)
        self.droop = DroopControl(self._rating_w, plant.config.grid.nominal_hz)
        plant.droop = self.droop.aimed_w
        for name, factor in (("Db_SF", -3), ("K_SF", -4), ("RspTms_SF", -1)):
            image.scale(f"711.{name}", factor)
        image.number("711.NCtl", SETS)
        spare = [f"Ctl.{index}.{name}" for index in range(2, SETS + 1) for name in FIELD_OF_POINT]
        self._writable |= {image.address(f"711.{name}"): f"711.{name}" for name in (*HEAD_POINTS, *spare)}

    def write(self, address: int, data: bytes) -> None:
        """Takes over the droop's points, and those of any battery; set 1 is read-only (exception 2)."""
        self._bring_to_now()
        written = self._points_written(address, data)
        droop = {name[4:]: value for name, value in written.items() if name.startswith("711.")}
        if not droop:
            super().write(address, data)
            return
        if len(droop) < len(written):
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        if not self.droop.allows(droop):
            raise RequestRefusedError(ILLEGAL_VALUE)
        self.droop.write(droop, self._plant.utc_s)

    def reboot(self) -> None:
        """The droop is off and its sets are the maker's again."""
        super().reboot()
        self.droop.reset()

    def _show(self) -> None:
        super()._show()
        droop, number = self.droop, self.image.number
        droop.settle(self._plant.utc_s)
        number("711.Ena", droop.enabled)
        number("711.AdptCtlReq", droop.requested)
        number("711.AdptCtlRslt", droop.result)
        number("711.RvrtTms", droop.revert_after_s)
        number("711.RvrtRem", droop.remaining_s(self._plant.utc_s))
        number("711.RvrtCtl", droop.revert_to)
        for index, stored in enumerate(droop.sets, start=1):
            for name, kept in FIELD_OF_POINT.items():
                number(f"711.Ctl.{index}.{name}", getattr(stored, kept))
            number(f"711.Ctl.{index}.ReadOnly", 1 if index == 1 else 0)
