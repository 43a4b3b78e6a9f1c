"""The three simulated devices show the plant in their registers, and the battery obeys what is written."""

import struct

import pytest

from simulators.battery import BatteryConfig
from simulators.modbus_server import RequestRefusedError
from simulators.plant import GridConfig, LoadConfig, Plant, PlantConfig, PvConfig
from simulators.sunspec_devices import BatteryDevice, MeterConfig, MeterDevice, PvDevice

BASE = 40_000


def plant(**battery):
    config = PlantConfig(
        battery=BatteryConfig(**{"rated_charge_w": 400_000.0, "rated_discharge_w": 500_000.0, **battery}),
        pv=PvConfig(irradiance_w_per_m2=(500.0,), peak_w=100_000.0),
        load=LoadConfig(base_w=30_000.0, noise_pct=0.0, day_shape=(1.0,)),
        grid=GridConfig(noise_hz=0.0),
    )
    return Plant(config, 0, 1_000.0)


class Bench:
    """A battery device whose plant advances by a second at each access if told."""

    def __init__(self, **battery):
        self.plant = plant(**battery)
        self.passing_s = 0.0
        self.device = BatteryDevice(self.plant, 1, BASE, lambda: self.plant.advance(self.passing_s))

    def get(self, name, code=">H"):
        image = self.device.image
        return struct.unpack(code, self.device.read(image.address(name), image.size(name)))[0]

    def put(self, name, value, code=">H"):
        self.device.write(self.device.image.address(name), struct.pack(code, value))


@pytest.fixture
def bench():
    return Bench()


def refusal(call, *arguments):
    with pytest.raises(RequestRefusedError) as refused:
        call(*arguments)
    return refused.value.code


def test_a_setpoint_acts_on_the_plant_at_once_and_reads_back(bench):
    bench.put("704.WSet", -123_456, ">i")
    assert bench.plant.setpoint_w is None, "not enabled yet"
    bench.put("704.WSetEna", 1)
    assert bench.plant.setpoint_w == -123_456.0
    assert (bench.get("704.WSet", ">i"), bench.get("704.WSetEna")) == (-123_456, 1)


def test_power_shown_is_positive_when_discharging(bench):
    bench.put("704.WSet", 200_000, ">i")
    bench.put("704.WSetEna", 1)
    bench.plant.advance(5.0)
    scale = bench.get("701.W_SF", ">h")
    assert bench.get("701.W", ">h") * 10.0**scale == pytest.approx(200_000.0, abs=50.0)


@pytest.mark.parametrize(
    ("name", "code", "value"),
    [
        ("704.WSet", ">i", 500_001),
        ("704.WSet", ">i", -400_001),
        ("704.WSet", ">i", -0x80000000),
        ("704.WSetEna", ">H", 0xFFFF),
        ("704.WSetRvrtTms", ">I", 0xFFFFFFFF),
        ("715.OpCtl", ">H", 3),
    ],
)
def test_a_value_out_of_range_is_refused_with_exception_3_and_changes_nothing(bench, name, code, value):
    bench.put("704.WSet", 1_000, ">i")
    bench.put("704.WSetEna", 1)
    assert refusal(bench.put, name, value, code) == 3
    assert bench.plant.setpoint_w == 1_000.0


@pytest.mark.parametrize("name", ["701.W", "702.WMax", "704.WSetRvrtRem", "704.WMaxLimPctEna", "713.SoC", "1.Mn"])
def test_a_register_that_is_not_writable_is_refused_with_exception_2(bench, name):
    assert refusal(bench.put, name, 0) == 2


def test_a_frame_is_applied_whole_or_not_at_all(bench):
    start = bench.device.image.address("704.WSetEna")
    good = struct.pack(">HHi", 1, 1, 50_000)
    assert refusal(bench.device.write, start, struct.pack(">HHi", 1, 1, 900_000)) == 3
    assert refusal(bench.device.write, start - 1, b"\0\0" + good) == 2
    assert refusal(bench.device.write, start, good[:6]) == 2, "half of WSet"
    assert bench.plant.setpoint_w is None
    bench.device.write(start, good)
    assert bench.plant.setpoint_w == 50_000.0


def test_the_shown_rating_may_be_commanded_even_if_the_register_rounds_it_up():
    bench = Bench(rated_discharge_w=123_456.0, rated_charge_w=400.0)
    shown_w = bench.get("702.WDisChaRteMaxRtg") * 10 ** bench.get("702.W_SF", ">h")
    bench.put("704.WSet", shown_w, ">i")
    assert bench.get("704.WSet", ">i") == shown_w


def test_nameplate_settings_and_capacity_are_shown(bench):
    step = 10 ** bench.get("702.W_SF", ">h")
    shown = [bench.get(f"702.{name}") * step for name in ("WMaxRtg", "WMax", "WChaRteMaxRtg", "WDisChaRteMaxRtg")]
    assert shown == [500_000, 500_000, 400_000, 500_000]
    assert bench.get("713.WHRtg") * 10 ** bench.get("713.WH_SF", ">h") == 1_000_000
    assert bench.get("713.SoC") == 5_000


def test_a_stopped_battery_says_so_everywhere(bench):
    names = ("701.St", "701.InvSt", "701.ConnSt", "802.State", "802.ChaSt", "715.OpCtl")
    assert [bench.get(name) for name in names] == [1, 3, 1, 3, 6, 1]
    bench.put("715.OpCtl", 0)
    assert not bench.plant.ready
    assert [bench.get(name) for name in names] == [0, 0, 0, 1, 1, 0]


@pytest.mark.parametrize(("target_w", "state"), [(100_000, 3), (-100_000, 4)])
def test_charging_and_discharging_are_shown(bench, target_w, state):
    bench.put("704.WSet", target_w, ">i")
    bench.put("704.WSetEna", 1)
    bench.plant.advance(1.0)
    assert bench.get("802.ChaSt") == state


def test_a_full_and_an_empty_battery_are_shown():
    assert Bench(initial_soc_pct=100.0).get("802.ChaSt") == 5
    assert Bench(initial_soc_pct=0.0).get("802.ChaSt") == 2


def test_the_bms_limits_follow_the_taper_and_are_never_shown_too_large():
    bench = Bench(initial_soc_pct=97.5)
    volts = bench.get("802.V") * 10.0 ** bench.get("802.V_SF", ">h")
    amperes = bench.get("802.AChaMax") * 10.0 ** bench.get("802.AMax_SF", ">h")
    limit_w = bench.plant.battery.charge_limit_w
    assert limit_w == pytest.approx(200_000.0)
    assert 0.97 * limit_w < volts * amperes <= limit_w
    bench.put("704.WSet", -400_000, ">i")
    bench.put("704.WSetEna", 1)
    assert bench.get("701.InvSt") == 4, "told more than the BMS allows: throttled"


def test_the_heartbeat_counts_seconds_and_the_controllers_is_kept(bench):
    first = bench.get("715.DERHb", ">I")
    bench.passing_s = 1.0
    assert bench.get("715.DERHb", ">I") == first + 1
    bench.put("715.ControllerHb", 4_711, ">I")
    assert bench.get("715.ControllerHb", ">I") == 4_711


def test_a_reboot_loses_the_setpoint(bench):
    bench.put("704.WSet", 100_000, ">i")
    bench.put("704.WSetEna", 1)
    bench.plant.advance(10.0)
    bench.device.reboot()
    assert bench.plant.setpoint_w is None
    assert (bench.get("704.WSetEna"), bench.get("704.WSet", ">i"), bench.get("715.DERHb", ">I")) == (0, 0, 0)


def number(device, name, scale, code=">h"):
    image = device.image
    raw = struct.unpack(code, device.read(image.address(name), image.size(name)))[0]
    return raw * 10.0 ** struct.unpack(">h", device.read(image.address(scale), 1))[0]


@pytest.mark.parametrize(("positive", "sign"), [("export", 1.0), ("import", -1.0)])
def test_the_meter_shows_either_sign_and_the_same_counters(positive, sign):
    site = plant()
    meter = MeterDevice(site, MeterConfig(positive=positive), 3, BASE, lambda: None)
    site.setpoint_w = 200_000.0
    site.advance(36.0)
    assert site.grid_w == pytest.approx(200_000.0 + 45_000.0 - 30_000.0, abs=1.0)
    assert number(meter, "203.W", "203.W_SF") == pytest.approx(sign * site.grid_w, abs=50.0)
    assert number(meter, "203.TotWhExp", "203.TotWh_SF", ">I") == pytest.approx(site.export_wh, abs=0.0051)
    assert number(meter, "203.TotWhImp", "203.TotWh_SF", ">I") == pytest.approx(site.import_wh, abs=0.0051)
    assert number(meter, "203.Hz", "203.Hz_SF") == pytest.approx(50.0)


def test_the_pv_inverter_shows_power_energy_and_whether_it_is_throttled():
    site = plant()
    device = PvDevice(site, 2, BASE, lambda: None)
    site.advance(36.0)
    assert number(device, "103.W", "103.W_SF") == pytest.approx(45_000.0, abs=5.0)
    assert number(device, "103.WH", "103.WH_SF", ">I") == pytest.approx(1_450.0, abs=0.01)
    assert number(device, "103.St", "103.Tmp_SF") == pytest.approx(0.4), "4: at its maximum power point"
    site.pv_limit = 0.1
    site.advance(0.1)
    assert number(device, "103.St", "103.Tmp_SF") == pytest.approx(0.5), "5: throttled"
    assert refusal(device.write, device.image.address("103.W"), b"\0\0") == 2
