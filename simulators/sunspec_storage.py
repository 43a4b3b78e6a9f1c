"""The older SunSpec storage inverter as a register bank: models 103, 120 to 124, 802, 803, and 160 on a hybrid.

Its control is a window of power: InWRte limits charging, OutWRte discharging, in percent of WChaMax; a negative rate
forces the other direction. A window the wrong way round is refused, as Fronius' manual (42,0410,2049) states. When the
reversion time runs out the window is open again and the battery idles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simulators.modbus_server import ILLEGAL_VALUE, RequestRefusedError
from simulators.plant import Plant
from simulators.sunspec_devices import (
    HEADROOM,
    LINE_VOLTAGE_V,
    SunSpecDevice,
    charge_state,
    identify,
    show_current_limits,
)
from simulators.sunspec_image import MAX_INT16, MAX_UINT16, SunSpecImage, finest_scale

MODELS = (1, 103, 120, 121, 122, 123, 124, 802, 803)
HYBRID_MODELS = (1, 103, 120, 121, 122, 123, 160, 124, 802, 803)
MODULES = ("MPPT 1", "MPPT 2", "StCha 3", "StDisCha 4")
"""The labels of model 160 as a Fronius GEN24 has them: its battery is two modules, one for each direction."""
LIMIT_CHARGE, LIMIT_DISCHARGE = 1, 2
"""Bits of 124.StorCtl_Mod."""
OPEN_PCT = 100.0
MAX_REVERSION_S = 28_800.0
WRITABLE = ("124.StorCtl_Mod", "124.OutWRte", "124.InWRte", "124.InOutWRte_RvrtTms", "802.CtrlHb")


@dataclass(slots=True)
class RateWindow:
    """The window of power, with its reversion timer."""

    most_w: float
    """WChaMax: what 100 % means, in both directions."""
    mode: int = 0
    out_pct: float = OPEN_PCT
    in_pct: float = OPEN_PCT
    revert_after_s: float = 0.0
    revert_at_utc_s: float | None = None
    """When the window opens unless it is written again; None: it does not."""
    reversions: int = 0

    @property
    def wanted_w(self) -> float:
        """0 W, or the power nearest to it inside the window; + = discharge."""
        lowest_w = -self.most_w * (self.in_pct / 100.0 if self.mode & LIMIT_CHARGE else 1.0)
        highest_w = self.most_w * (self.out_pct / 100.0 if self.mode & LIMIT_DISCHARGE else 1.0)
        return max(lowest_w, min(highest_w, 0.0))

    def write(self, written: Mapping[str, float], now_utc_s: float) -> bool:
        """Takes over all of `written` (point name to value) and starts the time anew; False, and nothing, if not."""
        mode = int(written.get("StorCtl_Mod", self.mode))
        out_pct, in_pct = written.get("OutWRte", self.out_pct), written.get("InWRte", self.in_pct)
        revert_after_s = written.get("InOutWRte_RvrtTms", self.revert_after_s)
        inside = all(-100.0 <= value <= 100.0 for value in (out_pct, in_pct)) and 0 <= mode <= 3
        if not inside or -in_pct > out_pct or not 0 <= revert_after_s <= MAX_REVERSION_S:
            return False
        self.mode, self.out_pct, self.in_pct, self.revert_after_s = mode, out_pct, in_pct, revert_after_s
        self.revert_at_utc_s = now_utc_s + revert_after_s if mode and revert_after_s > 0 else None
        return True

    def revert_if_due(self, now_utc_s: float) -> bool:
        """Opens the window if its time has come; True when it happened now."""
        if self.revert_at_utc_s is None or now_utc_s < self.revert_at_utc_s:
            return False
        self.mode, self.revert_at_utc_s = 0, None
        self.reversions += 1
        return True

    def reset(self) -> None:
        """The device starts anew: what was written is lost."""
        self.mode, self.out_pct, self.in_pct, self.revert_after_s = 0, OPEN_PCT, OPEN_PCT, 0.0
        self.revert_at_utc_s = None


class StorageDevice(SunSpecDevice):
    """Battery with inverter, and with the PV field on the same DC side if `hybrid`."""

    def __init__(
        self,
        plant: Plant,
        unit_id: int,
        base_address: int,
        bring_to_now: Callable[[], None],
        *,
        hybrid: bool = False,
    ) -> None:
        models, repeats = (HYBRID_MODELS, {160: len(MODULES)}) if hybrid else (MODELS, {})
        super().__init__(SunSpecImage(models, base_address, {803: 1, **repeats}), plant, bring_to_now)
        battery = plant.config.battery
        self._hybrid = hybrid
        self._heartbeat = 0.0
        self.control = RateWindow(max(battery.rated_charge_w, battery.rated_discharge_w))
        self._writable = {self.image.address(name): name for name in WRITABLE}
        self._set_scales()
        self._show_nameplate(unit_id)

    def write(self, address: int, data: bytes) -> None:
        """Takes over rates, mode, timer and heartbeat; exception 2 for other registers, 3 out of range."""
        self._bring_to_now()
        written = self._points_written(address, data)
        control = {name[4:]: value for name, value in written.items() if name.startswith("124.")}
        if control and not self.control.write(control, self._plant.utc_s):
            raise RequestRefusedError(ILLEGAL_VALUE)
        self._heartbeat = written.get("802.CtrlHb", self._heartbeat)
        self.apply_setpoint()

    def reboot(self) -> None:
        """The window and its timer are lost; the battery idles."""
        self._bring_to_now()
        self.control.reset()
        self._heartbeat = 0.0
        self.apply_setpoint()

    def apply_setpoint(self) -> None:
        """Hands the wanted power to the plant."""
        self._plant.setpoint_w = self.control.wanted_w

    def _set_scales(self) -> None:
        config, scale = self._plant.config, self.image.scale
        battery, most_w = config.battery, self.control.most_w
        largest_w = most_w + (config.pv.inverter_limit_w if self._hybrid else 0.0)
        for name in ("103.W_SF", "103.VA_SF"):
            scale(name, finest_scale(HEADROOM * largest_w, MAX_INT16))
        scale("103.A_SF", finest_scale(HEADROOM * largest_w / LINE_VOLTAGE_V, MAX_UINT16))
        for name, factor in (("V_SF", -1), ("Hz_SF", -2), ("WH_SF", 0), ("Tmp_SF", -1)):
            scale(f"103.{name}", factor)
        for name in ("120.WRtg_SF", "120.MaxChaRte_SF", "120.MaxDisChaRte_SF", "121.WMax_SF", "124.WChaMax_SF"):
            scale(name, finest_scale(largest_w, MAX_UINT16, 0))
        for name in ("120.WHRtg_SF", "802.WHRtg_SF"):
            scale(name, finest_scale(battery.capacity_wh, MAX_UINT16, 0))
        for name in ("124.ChaState_SF", "124.InOutWRte_SF", "802.SoC_SF"):
            scale(name, -2)
        scale("802.V_SF", -1)
        scale("802.AMax_SF", finest_scale(2 * HEADROOM * most_w / battery.nominal_voltage_v, MAX_UINT16))
        scale("803.ModTmp_SF", -1)
        if self._hybrid:
            scale("160.DCW_SF", finest_scale(HEADROOM * largest_w, MAX_UINT16))

    def _show_nameplate(self, unit_id: int) -> None:
        config, number = self._plant.config, self.image.number
        battery, most_w = config.battery, self.control.most_w
        identify(self.image, "Storage", "SIM-STORAGE-1", unit_id)
        shared_w = max(most_w, config.pv.inverter_limit_w) if self._hybrid else most_w
        constants = {
            "120.DERTyp": 82,  # PV with storage
            "120.WRtg": shared_w,
            "120.WHRtg": battery.capacity_wh,
            "120.MaxChaRte": battery.rated_charge_w,
            "120.MaxDisChaRte": battery.rated_discharge_w,
            "121.WMax": shared_w,
            "122.StorConn": 7,  # connected, available, operating
            "123.Conn": 1,
            "124.WChaMax": most_w,
            "124.ChaGriSet": 1,  # the grid may charge
            "802.WHRtg": battery.capacity_wh,
            "802.LocRemCtl": 0,  # remote
            "802.Typ": 4,  # lithium ion
            "803.NStr": 1,
            "803.NStrCon": 1,
        }
        for name, value in constants.items():
            number(name, value)
        for index, label in enumerate(MODULES if self._hybrid else (), start=1):
            number(f"160.module.{index}.ID", index)
            self.image.text(f"160.module.{index}.IDStr", label)
        if self._hybrid:
            number("160.N", len(MODULES))

    def _show(self) -> None:
        plant, number = self._plant, self.image.number
        battery, window = plant.battery, self.control
        number("103.W", plant.battery_w + (plant.pv_w if self._hybrid else 0.0))
        number("103.Hz", plant.frequency_hz)
        number("103.St", 4 if plant.ready else 1)  # MPPT, off
        number("124.ChaState", plant.soc_pct)
        number("124.ChaSt", charge_state(plant))
        number("124.StorCtl_Mod", window.mode)
        number("124.OutWRte", window.out_pct)
        number("124.InWRte", window.in_pct)
        number("124.InOutWRte_RvrtTms", window.revert_after_s)
        number("802.SoC", plant.soc_pct)
        number("802.State", 3 if plant.ready else 1)  # connected, disconnected
        number("802.V", battery.voltage_v)
        number("802.CtrlHb", self._heartbeat)
        show_current_limits(self.image, battery)
        for name in ("803.ModTmpMax", "803.ModTmpMin", "803.string.1.StrModTmpAvg"):
            number(name, battery.temperature_c)
        if self._hybrid:
            for index, power_w in enumerate(
                (plant.pv_w / 2, plant.pv_w / 2, max(-plant.battery_w, 0.0), max(plant.battery_w, 0.0)), start=1
            ):
                number(f"160.module.{index}.DCW", power_w)
