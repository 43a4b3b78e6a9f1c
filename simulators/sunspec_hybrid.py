"""A hybrid by the 700 series: one inverter for battery and PV, model 704 for both together, model 714 for its DC ports.

The battery makes up what PV lacks of the setpoint, as far as it can; without one it idles and PV goes to the grid.
Its power limit is that of the inverter too: what the battery gives is not left to PV, what it takes is.
"""

from __future__ import annotations

from collections.abc import Callable

from simulators.ceiling_control import FIELDS, CeilingControl
from simulators.modbus_server import ILLEGAL_VALUE, RequestRefusedError
from simulators.plant import Plant
from simulators.setpoint_control import SetpointControl
from simulators.sunspec_devices import BATTERY_MODELS, HEADROOM, BatteryDevice
from simulators.sunspec_image import MAX_INT16, MAX_UINT16, SunSpecImage, finest_scale

HYBRID_MODELS = (*BATTERY_MODELS, 714, 803)
PV_PORT, BATTERY_PORT = 0, 1
"""714.PrtTyp."""
LIMIT = {f"704.{name}": field for name, field in FIELDS["704"].items()}
"""The points of the power limit, and their fields."""
PORTS = (("PV", PV_PORT), ("Battery", BATTERY_PORT))


class HybridDevice(BatteryDevice):
    """Battery and PV behind one inverter."""

    def __init__(self, plant: Plant, unit_id: int, base_address: int, bring_to_now: Callable[[], None]) -> None:
        image = SunSpecImage(HYBRID_MODELS, base_address, {714: len(PORTS), 803: 1})
        super().__init__(plant, unit_id, base_address, bring_to_now, image)
        battery, pv_w = plant.config.battery, plant.config.pv.inverter_limit_w
        widest_w = battery.rated_discharge_w + pv_w
        image.scale("701.W_SF", finest_scale(HEADROOM * widest_w, MAX_INT16))
        image.scale("702.W_SF", finest_scale(widest_w, MAX_UINT16))
        for name in ("WMaxRtg", "WMax"):
            image.number(f"702.{name}", widest_w)
        for name in ("WChaRteMaxRtg", "WChaRteMax"):
            image.number(f"702.{name}", battery.rated_charge_w)
        for name in ("WDisChaRteMaxRtg", "WDisChaRteMax"):
            image.number(f"702.{name}", battery.rated_discharge_w)
        image.scale("714.DCW_SF", finest_scale(HEADROOM * widest_w, MAX_INT16))
        image.number("714.NPrt", len(PORTS))
        for index, (label, kind) in enumerate(PORTS, start=1):
            image.number(f"714.Prt.{index}.PrtTyp", kind)
            image.number(f"714.Prt.{index}.ID", index)
            image.text(f"714.Prt.{index}.IDStr", label)
        image.number("803.NStr", 1)
        image.scale("803.ModTmp_SF", -1)
        self.control = SetpointControl(battery.rated_charge_w, widest_w)
        self.ceiling = CeilingControl()
        self._widest_w = widest_w
        image.scale("704.WMaxLimPct_SF", -2)
        self._writable |= {image.address(name): name for name in LIMIT}

    def write(self, address: int, data: bytes) -> None:
        """Takes over the power limit, and all that a battery takes; exception 2 for other registers, 3 out of range."""
        if self._writable.get(address) not in LIMIT:
            super().write(address, data)
            return
        self._bring_to_now()
        written = {LIMIT[name]: value for name, value in self._points_written(address, data).items() if name in LIMIT}
        if not self.ceiling.allows(written):
            raise RequestRefusedError(ILLEGAL_VALUE)
        self.ceiling.write(written, self._plant.utc_s)
        self.apply_setpoint()

    def reboot(self) -> None:
        """The limit is lost too."""
        self.ceiling.reset()
        super().reboot()

    def apply_setpoint(self) -> None:
        """Tells the battery what PV lacks of the setpoint, and PV what the limit leaves beside the battery."""
        wanted_w, plant = self.control.wanted_w, self._plant
        plant.setpoint_w = None if wanted_w is None else wanted_w - plant.pv_available_w
        left_w = self.ceiling.share * self._widest_w - plant.battery_w
        plant.pv_limit = min(max(left_w / plant.config.pv.inverter_limit_w, 0.0), 1.0)

    def _show(self) -> None:
        self.apply_setpoint()
        super()._show()
        plant, number = self._plant, self.image.number
        number("701.W", plant.battery_w + plant.pv_w)
        number("714.DCW", plant.battery_w + plant.pv_w)
        number("714.Prt.1.DCW", plant.pv_w)
        number("714.Prt.2.DCW", plant.battery_w)
        for name, field in LIMIT.items():
            number(name, getattr(self.ceiling.points, field))
        for name in ("ModTmpMax", "ModTmpMin"):
            number(f"803.{name}", plant.battery.temperature_c)
