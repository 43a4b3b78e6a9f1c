"""A hybrid by the 700 series: one inverter for battery and PV, model 704 for both together, model 714 for its DC ports.

The battery makes up what PV lacks of the setpoint, as far as it can; without one it idles and PV goes to the grid.
"""

from __future__ import annotations

from collections.abc import Callable

from simulators.plant import Plant
from simulators.setpoint_control import SetpointControl
from simulators.sunspec_devices import BATTERY_MODELS, HEADROOM, BatteryDevice
from simulators.sunspec_image import MAX_INT16, MAX_UINT16, SunSpecImage, finest_scale

HYBRID_MODELS = (*BATTERY_MODELS, 714, 803)
PV_PORT, BATTERY_PORT = 0, 1
"""714.PrtTyp."""
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

    def apply_setpoint(self) -> None:
        """Tells the battery what PV lacks of the setpoint."""
        wanted_w = self.control.wanted_w
        self._plant.setpoint_w = None if wanted_w is None else wanted_w - self._plant.pv_w

    def _show(self) -> None:
        self.apply_setpoint()
        super()._show()
        plant, number = self._plant, self.image.number
        number("701.W", plant.battery_w + plant.pv_w)
        number("714.DCW", plant.battery_w + plant.pv_w)
        number("714.Prt.1.DCW", plant.pv_w)
        number("714.Prt.2.DCW", plant.battery_w)
        for name in ("ModTmpMax", "ModTmpMin"):
            number(f"803.{name}", plant.battery.temperature_c)
