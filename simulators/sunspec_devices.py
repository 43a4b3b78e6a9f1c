"""The three devices of the simulated site as SunSpec register banks: battery, PV inverter, connection point meter.

Each access first brings the plant to now, so a value read and a setpoint written are never late. Enumeration values
are those of the SunSpec models named beside them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from drivers.sunspec_layout import layout
from simulators.battery import Battery
from simulators.modbus_server import ILLEGAL_ADDRESS, ILLEGAL_VALUE, RequestRefusedError
from simulators.plant import Plant
from simulators.setpoint_control import FIELD_OF_POINT, SetpointControl
from simulators.sunspec_image import MAX_INT16, MAX_UINT16, FixedRegisters, SunSpecImage, finest_scale

BATTERY_MODELS = (1, 701, 702, 704, 713, 715, 802)
HEADROOM = 1.5
"""Power registers hold this multiple of the rating."""
LINE_VOLTAGE_V = 400.0
PHASE_VOLTAGE_V = LINE_VOLTAGE_V / math.sqrt(3.0)
NOISE_SIGMAS = 6.0
"""The load's noise is not seen beyond this many standard deviations."""
MANUFACTURER = "Simulated"
CONTROL_POINTS = tuple(f"704.{name}" for name in FIELD_OF_POINT)
COMMAND_POINTS = ("715.ControllerHb", "715.OpCtl", "802.CtrlHb")
STOP, START = 0, 1
"""715.OpCtl."""


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """How the meter shows what it measures."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    positive: Literal["export", "import"] = "export"
    """What a positive number in W means; vendors differ. The energy counters keep their names."""
    model: Literal[201, 202, 203, 204, 211, 212, 213, 214] = 203
    energy_scale_factor: int = -2
    """The counters' resolution is 10 to this power, in Wh: -2 shows what a slot of seconds moves."""
    ct_factor: float = 1.0
    """What its current transformers do to the power: 10 for a wrong ratio, -1 when they are turned round (the energy
    counters then count the wrong way)."""


class SunSpecDevice(ABC):
    """What the devices share: the image, brought up to date at each access; nothing is writable."""

    def __init__(self, image: SunSpecImage, plant: Plant, bring_to_now: Callable[[], None]) -> None:
        self.image = image
        self._plant = plant
        self._bring_to_now = bring_to_now
        self._writable: dict[int, str] = {}
        """First register of each point that a client may write."""

    def read(self, address: int, count: int) -> bytes:
        """The registers as the plant is now."""
        self._refresh()
        return self.image.read(address, count)

    def write(self, address: int, data: bytes) -> None:  # noqa: ARG002  # the bank's signature
        """Refuses: this device has no writable register."""
        raise RequestRefusedError(ILLEGAL_ADDRESS)

    def snapshot(self) -> FixedRegisters:
        """The registers as they are now, and stay."""
        self._refresh()
        return self.image.snapshot()

    def without_values(self) -> FixedRegisters:
        """The chain of models with every point not implemented."""
        return self.image.without_values()

    def reboot(self) -> None:  # noqa: B027  # doing nothing is right for most
        """A device without writable registers has nothing to lose."""

    def _points_written(self, address: int, data: bytes) -> Mapping[str, float]:
        """Point to value; refused as a whole if any register is not writable, or half a point is written."""
        written: dict[str, float] = {}
        offset = 0
        while offset < len(data):
            name = self._writable.get(address + offset // 2)
            if name is None or offset + 2 * self.image.size(name) > len(data):
                raise RequestRefusedError(ILLEGAL_ADDRESS)
            end = offset + 2 * self.image.size(name)
            written[name] = self.image.decoded(name, data[offset:end])
            offset = end
        return written

    def _refresh(self) -> None:
        self._bring_to_now()
        self._show()

    @abstractmethod
    def _show(self) -> None:
        """Puts the plant's values into the image."""


def identify(image: SunSpecImage, model: str, serial: str, unit_id: int) -> None:
    """Model 1: who this is."""
    image.text("1.Mn", MANUFACTURER)
    image.text("1.Md", model)
    image.text("1.Vr", "1.0")
    image.text("1.SN", serial)
    image.number("1.DA", unit_id)


def charge_state(plant: Plant) -> int:
    """802.ChaSt, 124.ChaSt: 1 off, 2 empty, 3 discharging, 4 charging, 5 full, 6 holding."""
    if not plant.ready:
        return 1
    if plant.battery.stored_wh <= 0.0:
        return 2
    if plant.battery.stored_wh >= plant.config.battery.capacity_wh:
        return 5
    if plant.battery_w == 0.0:
        return 6
    return 3 if plant.battery_w > 0.0 else 4


def show_current_limits(image: SunSpecImage, battery: Battery) -> None:
    """802.AChaMax, 802.ADisChaMax: rounded down, for a limit must not be shown larger than it is."""
    step_a = image.resolution("802.AChaMax")
    image.number("802.AChaMax", math.floor(battery.charge_limit_a / step_a) * step_a)
    image.number("802.ADisChaMax", math.floor(battery.discharge_limit_a / step_a) * step_a)


class BatteryDevice(SunSpecDevice):
    """Battery with inverter: models 701 (AC), 702, 704 (setpoint), 713, 715 and 802 (BMS)."""

    def __init__(
        self,
        plant: Plant,
        unit_id: int,
        base_address: int,
        bring_to_now: Callable[[], None],
        image: SunSpecImage | None = None,
    ) -> None:
        super().__init__(image or SunSpecImage(BATTERY_MODELS, base_address), plant, bring_to_now)
        battery = plant.config.battery
        self._rating_w = max(battery.rated_charge_w, battery.rated_discharge_w)
        self._started_utc_s = plant.utc_s
        self._controller_heartbeat = self._bank_heartbeat = 0.0
        self.alarm_bits = 0
        """701.Alrm, for tests to set; 6 = manual shutdown."""
        self._set_scales()
        self._show_nameplate(unit_id)
        self.control = SetpointControl(
            self._as_shown("702.WChaRteMaxRtg", battery.rated_charge_w),
            self._as_shown("702.WDisChaRteMaxRtg", battery.rated_discharge_w),
        )
        self._writable = {self.image.address(name): name for name in (*CONTROL_POINTS, *COMMAND_POINTS)}

    def write(self, address: int, data: bytes) -> None:
        """Takes over setpoint, reversion and commands; exception 2 for other registers, 3 out of range."""
        self._bring_to_now()
        written = self._points_written(address, data)
        control = {name[4:]: value for name, value in written.items() if name.startswith("704.")}
        command = written.get("715.OpCtl")
        if not self.control.allows(control) or command not in (None, STOP, START):
            raise RequestRefusedError(ILLEGAL_VALUE)
        if control:
            self.control.write(control, self._plant.utc_s)
            self.apply_setpoint()
        if command is not None:
            self._plant.ready = command == START
        self._controller_heartbeat = written.get("715.ControllerHb", self._controller_heartbeat)
        self._bank_heartbeat = written.get("802.CtrlHb", self._bank_heartbeat)

    def reboot(self) -> None:
        """The setpoint, its timer and the heartbeats are lost; the battery idles."""
        self._bring_to_now()
        self.control.reset()
        self._controller_heartbeat = self._bank_heartbeat = 0.0
        self._started_utc_s = self._plant.utc_s
        self.apply_setpoint()

    def apply_setpoint(self) -> None:
        """Hands the wanted power to the plant."""
        self._plant.setpoint_w = self.control.wanted_w

    def _as_shown(self, name: str, value: float) -> float:
        """A rating rounded up to what the register shows, so that the shown rating may be commanded."""
        step = self.image.resolution(name)
        return max(value, round(value / step) * step)

    def _set_scales(self) -> None:
        battery, scale = self._plant.config.battery, self.image.scale
        power = finest_scale(HEADROOM * self._rating_w, MAX_INT16)
        ac_current = finest_scale(HEADROOM * self._rating_w / (math.sqrt(3) * LINE_VOLTAGE_V), MAX_INT16)
        dc_current = finest_scale(2 * HEADROOM * self._rating_w / battery.nominal_voltage_v, MAX_INT16)
        for name in ("701.W_SF", "701.VA_SF", "701.Var_SF", "802.W_SF"):
            scale(name, power)
        rating = finest_scale(self._rating_w, MAX_UINT16)
        for name in ("702.W_SF", "702.VA_SF", "802.WChaDisChaMax_SF"):
            scale(name, rating)
        for name in ("701.A_SF", "702.A_SF"):
            scale(name, ac_current)
        for name in ("802.A_SF", "802.AMax_SF"):
            scale(name, dc_current)
        for name in ("701.V_SF", "702.V_SF", "802.V_SF", "701.Tmp_SF"):
            scale(name, -1)
        for name in ("701.Hz_SF", "701.PF_SF"):
            scale(name, -3)
        for name in ("701.TotWh_SF", "704.WSetPct_SF", "713.Pct_SF", "802.SoC_SF", "802.SoH_SF"):
            scale(name, -2)
        scale("704.WSet_SF", 0)
        for name in ("713.WH_SF", "802.WHRtg_SF"):
            scale(name, finest_scale(battery.capacity_wh, MAX_UINT16))
        scale("802.AHRtg_SF", finest_scale(battery.capacity_wh / battery.nominal_voltage_v, MAX_UINT16))

    def _show_nameplate(self, unit_id: int) -> None:
        battery, number = self._plant.config.battery, self.image.number
        identify(self.image, "Battery", "SIM-BATTERY-1", unit_id)
        for suffix in ("Rtg", ""):
            number(f"702.WMax{suffix}", self._rating_w)
            number(f"702.VAMax{suffix}", self._rating_w)
            number(f"702.WChaRteMax{suffix}", battery.rated_charge_w)
            number(f"702.WDisChaRteMax{suffix}", battery.rated_discharge_w)
            number(f"702.VNom{suffix}", LINE_VOLTAGE_V)
            number(f"702.AMax{suffix}", self._rating_w / (math.sqrt(3) * LINE_VOLTAGE_V))
        number("713.WHRtg", battery.capacity_wh)
        number("802.WHRtg", battery.capacity_wh)
        number("802.AHRtg", battery.capacity_wh / battery.nominal_voltage_v)
        number("802.WChaRteMax", battery.rated_charge_w)
        number("802.WDisChaRteMax", battery.rated_discharge_w)
        constants = {
            "701.ACType": 2,  # three phase
            "701.DERMode": 1,  # bit 0: grid following
            "701.PF": 1,
            "701.Var": 0,
            "701.LLV": LINE_VOLTAGE_V,
            "701.LNV": PHASE_VOLTAGE_V,
            "713.SoH": 100,
            "713.Sta": 0,  # OK
            "715.LocRemCtl": 0,  # remote
            "802.SoCMax": 100,
            "802.SoCMin": 0,
            "802.SoH": 100,
            "802.LocRemCtl": 0,  # remote
            "802.Typ": 4,  # lithium ion
            "802.Evt1": 0,
        }
        for name, value in constants.items():
            number(name, value)

    def _show(self) -> None:
        plant, number = self._plant, self.image.number
        ready = plant.ready
        number("701.St", 1 if ready else 0)  # on, off
        number("701.InvSt", self._inverter_state())
        number("701.ConnSt", 1 if ready else 0)  # connected, disconnected
        number("701.Alrm", self.alarm_bits)
        number("701.W", plant.battery_w)
        number("701.VA", abs(plant.battery_w))
        number("701.A", plant.battery_w / (math.sqrt(3) * LINE_VOLTAGE_V))
        number("701.Hz", plant.frequency_hz)
        number("701.TotWhInj", plant.battery.discharged_wh)
        number("701.TotWhAbs", plant.battery.charged_wh)
        number("701.TmpCab", plant.battery.temperature_c)
        number("713.WHAvail", plant.battery.stored_wh)
        number("713.SoC", plant.soc_pct)
        number("715.DERHb", self._heartbeat())
        number("715.ControllerHb", self._controller_heartbeat)
        number("715.OpCtl", START if ready else STOP)
        self._show_control()
        self._show_bms()

    def _show_control(self) -> None:
        points, number = self.control.points, self.image.number
        number("704.WSetEna", points.enabled)
        number("704.WSetMod", points.mode)
        number("704.WSet", points.set_w)
        number("704.WSetRvrt", points.revert_w)
        number("704.WSetPct", points.set_pct)
        number("704.WSetPctRvrt", points.revert_pct)
        number("704.WSetEnaRvrt", points.revert_enabled)
        number("704.WSetRvrtTms", points.revert_after_s)
        number("704.WSetRvrtRem", self.control.remaining_s(self._plant.utc_s))

    def _show_bms(self) -> None:
        plant, number = self._plant, self.image.number
        battery = plant.battery
        number("802.SoC", plant.soc_pct)
        number("802.ChaSt", charge_state(plant))
        number("802.Hb", self._heartbeat() % MAX_UINT16)
        number("802.CtrlHb", self._bank_heartbeat)
        number("802.State", 3 if plant.ready else 1)  # connected, disconnected
        number("802.V", battery.voltage_v)
        number("802.A", battery.current_a)
        number("802.W", battery.voltage_v * battery.current_a)
        show_current_limits(self.image, battery)

    def _heartbeat(self) -> int:
        """Whole seconds since the device started."""
        return int(self._plant.utc_s - self._started_utc_s)

    def _inverter_state(self) -> int:
        """701.InvSt: 0 off, 3 running, 4 throttled (told more than the BMS allows)."""
        plant = self._plant
        if not plant.ready:
            return 0
        wanted_w = plant.setpoint_w or 0.0
        within = -plant.battery.charge_limit_w <= wanted_w <= plant.battery.discharge_limit_w
        return 3 if within else 4


class PvDevice(SunSpecDevice):
    """PV inverter: one of models 101 to 103 and 111 to 113, measurements only."""

    def __init__(
        self,
        plant: Plant,
        unit_id: int,
        base_address: int,
        bring_to_now: Callable[[], None],
        model_id: int = 103,
        *,
        more_models: Sequence[int] = (),
    ) -> None:
        super().__init__(SunSpecImage((1, model_id, *more_models), base_address), plant, bring_to_now)
        self._model = str(model_id)
        identify(self.image, "PV inverter", "SIM-PV-1", unit_id)
        limit_w = plant.config.pv.inverter_limit_w
        for name in ("W_SF", "VA_SF"):
            self.image.scale(f"{self._model}.{name}", finest_scale(HEADROOM * limit_w, MAX_INT16, -1))
        self.image.scale(f"{self._model}.A_SF", finest_scale(HEADROOM * limit_w / PHASE_VOLTAGE_V, MAX_UINT16, -2))
        for name, factor in (("V_SF", -1), ("Hz_SF", -3), ("WH_SF", -2), ("Tmp_SF", -1)):
            self.image.scale(f"{self._model}.{name}", factor)
        for name in ("PhVphA", "PhVphB", "PhVphC"):
            self.image.number(f"{self._model}.{name}", PHASE_VOLTAGE_V)
        for name in ("PPVphAB", "PPVphBC", "PPVphCA"):
            self.image.number(f"{self._model}.{name}", LINE_VOLTAGE_V)
        self.image.number(f"{self._model}.TmpCab", plant.config.battery.ambient_c)
        for name in ("Evt1", "Evt2"):
            self.image.number(f"{self._model}.{name}", 0)

    def _show(self) -> None:
        plant, number = self._plant, self.image.number
        phase_a = plant.pv_w / (3.0 * PHASE_VOLTAGE_V)
        number(f"{self._model}.A", 3.0 * phase_a)
        for name in ("AphA", "AphB", "AphC"):
            number(f"{self._model}.{name}", phase_a)
        number(f"{self._model}.W", plant.pv_w)
        number(f"{self._model}.VA", plant.pv_w)
        number(f"{self._model}.Hz", plant.frequency_hz)
        number(f"{self._model}.WH", plant.pv_wh)
        limit_w = plant.config.pv.inverter_limit_w * plant.pv_limit
        throttled = plant.pv_w > 0.0 and limit_w <= plant.pv_w
        number(f"{self._model}.St", 5 if throttled else 4 if plant.pv_w > 0.0 else 2)  # throttled, MPPT, sleeping


class MeterDevice(SunSpecDevice):
    """Meter at the connection point: one of models 201 to 204 and 211 to 214."""

    def __init__(
        self,
        plant: Plant,
        meter: MeterConfig,
        unit_id: int,
        base_address: int,
        bring_to_now: Callable[[], None],
    ) -> None:
        super().__init__(SunSpecImage((1, meter.model), base_address), plant, bring_to_now)
        self._model = str(meter.model)
        identify(self.image, "Grid meter", "SIM-METER-1", unit_id)
        self._sign = (1.0 if meter.positive == "export" else -1.0) * meter.ct_factor
        self._turned = meter.ct_factor < 0.0
        largest_w = self._largest_w() * max(abs(meter.ct_factor), 1.0)
        self.image.scale(f"{self._model}.W_SF", finest_scale(largest_w, MAX_INT16, -1))
        self.image.scale(f"{self._model}.A_SF", finest_scale(largest_w / PHASE_VOLTAGE_V, MAX_INT16, -2))
        self.image.scale(f"{self._model}.V_SF", -1)
        self.image.scale(f"{self._model}.Hz_SF", -2)
        self.image.scale(f"{self._model}.TotWh_SF", meter.energy_scale_factor)
        for name in ("PhV", "PhVphA", "PhVphB", "PhVphC"):
            self.image.number(f"{self._model}.{name}", PHASE_VOLTAGE_V)
        prefix = "PPVph" if "PPVphAB" in layout(meter.model).points else "PhVph"  # 203 and 204 differ from the others
        for name in ("PPV", *(f"{prefix}{lines}" for lines in ("AB", "BC", "CA"))):
            self.image.number(f"{self._model}.{name}", LINE_VOLTAGE_V)
        self.image.number(f"{self._model}.Evt", 0)

    def _largest_w(self) -> float:
        config = self._plant.config
        battery_w = max(config.battery.rated_charge_w, config.battery.rated_discharge_w)
        load_w = config.load.base_w * max(config.load.day_shape)
        noise = 1.0 + NOISE_SIGMAS * config.load.noise_pct / 100.0
        return battery_w + config.pv.inverter_limit_w + load_w * noise

    def _show(self) -> None:
        plant, number = self._plant, self.image.number
        power_w = self._sign * plant.grid_w
        current_a = power_w / (3.0 * PHASE_VOLTAGE_V)
        number(f"{self._model}.A", 3.0 * current_a)
        number(f"{self._model}.W", power_w)
        for phase in ("phA", "phB", "phC"):
            number(f"{self._model}.A{phase}", current_a)
            number(f"{self._model}.W{phase}", power_w / 3.0)
        number(f"{self._model}.Hz", plant.frequency_hz)
        counted = (plant.import_wh, plant.export_wh) if self._turned else (plant.export_wh, plant.import_wh)
        number(f"{self._model}.TotWhExp", counted[0])
        number(f"{self._model}.TotWhImp", counted[1])
