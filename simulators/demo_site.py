"""The site of the demo: its sizes, and the files that tell the simulator, the agent and the cloud of it.

Powers and energies are those of the market. A slot of the demo is `factor` times shorter than half an hour, so the
simulated battery holds 1/`factor` of its energy: at the same power it is then full after as many slots.
"""

from __future__ import annotations

import math
import random
from datetime import datetime
from pathlib import Path

from simulators.cloud_planner import SiteModel
from simulators.market import JST, MarketClock
from simulators.optimiser import BatteryModel, Connection
from simulators.three_devices import THREE_DEVICES

SITE_ID = "demo-01"
RATED_KW = 500.0
CAPACITY_KWH = 3000.0
CONNECTION_KW = 600.0
PV_PEAK_KW = 150.0
LOAD_BASE_KW = 60.0
INITIAL_SOC_PCT = 40.0
PLANNED_SHARE = 0.88
"""The cloud plans with this share of the rating; the rest is for its forecast errors."""

CLOUDED_SHARES = (1.0, 0.95, 0.9, 0.75, 0.6)
SKY_PARTS = 96
"""Clouds change every quarter of an hour: 1 s on the demo's clock, which the agent must follow."""

_SIMULATOR_TOML = """\
seed = {seed}

[battery]
rated_discharge_w = {rated_w}
rated_charge_w = {rated_w}
capacity_wh = {capacity_wh}
initial_soc_pct = {soc_pct}

[pv]
peak_w = {pv_peak_w}
inverter_limit_w = {pv_peak_w}
irradiance_w_per_m2 = {sky}

[load]
base_w = {load_base_w}
noise_pct = 2.0

[day]
day_epoch_utc_s = {day_epoch_utc_s}
day_offset_s = {day_offset_s}
solar_time_factor = {factor}
"""

_AGENT_TOML = (
    """\
# The agent's site file in the demo. Compare config/site.example.toml: only the times are short, for the fast market.
schema = 1

[site]
id = "{site_id}"
name = "Demo: battery, PV and load behind one connection point"
timezone = "Asia/Tokyo"

[control]
tick = "{tick_ms} ms"

"""
    + THREE_DEVICES
    + """
[cloud]
broker = "{broker_url}"
frame = "1 s"
reconnect_max = "1 s"

[store]
directory = "{folder}/store"

[api]
socket = "{folder}/ems.sock"
"""
)


def site_model() -> SiteModel:
    """What the cloud knows of the site."""
    planned_kw = RATED_KW * PLANNED_SHARE
    battery = BatteryModel(CAPACITY_KWH, planned_kw, planned_kw, 0.965, 0.965)
    connection = Connection(CONNECTION_KW, CONNECTION_KW)
    return SiteModel(SITE_ID, battery, connection, PV_PEAK_KW, LOAD_BASE_KW, INITIAL_SOC_PCT)


def sky_w_per_m2(seed: int) -> list[float]:
    """Irradiance over one day, local time: clear-sky half sine, with clouds drawn from `seed`."""
    clouds = random.Random(f"sky {seed}")
    heights = (math.sin((part / SKY_PARTS * 24.0 - 6.0) / 12.0 * math.pi) for part in range(SKY_PARTS))
    return [round(900.0 * max(0.0, height) * clouds.choice(CLOUDED_SHARES), 1) for height in heights]


def write_simulator_file(path: Path, clock: MarketClock, seed: int) -> None:
    """Write the configuration of `python -m simulators.site`."""
    begin = datetime.fromtimestamp(clock.epoch_market_s, JST)
    text = _SIMULATOR_TOML.format(
        seed=seed,
        rated_w=RATED_KW * 1000.0,
        capacity_wh=CAPACITY_KWH * 1000.0 / clock.factor,
        soc_pct=INITIAL_SOC_PCT,
        pv_peak_w=PV_PEAK_KW * 1000.0,
        sky=sky_w_per_m2(seed),
        load_base_w=LOAD_BASE_KW * 1000.0,
        day_epoch_utc_s=float(clock.epoch_utc_s),
        day_offset_s=(begin.hour * 60.0 + begin.minute) * 60.0,
        factor=clock.factor,
    )
    path.write_text(text)


def tick_ms(clock: MarketClock) -> int:
    """The agent's tick: a twentieth of a slot, within what the agent takes, and never slower than a real site."""
    return min(1000, max(100, clock.slot_s * 50))


def write_agent_file(path: Path, clock: MarketClock, broker_url: str, *, battery_port: int, gateway_port: int) -> None:
    """Write the agent's site file; it polls as often as it decides."""
    text = _AGENT_TOML.format(
        site_id=SITE_ID,
        tick_ms=tick_ms(clock),
        poll_ms=tick_ms(clock),
        export_kw=CONNECTION_KW,
        import_kw=CONNECTION_KW,
        rated_kw=RATED_KW,
        dead_man_s=30,
        battery_options='one_way_efficiency = "96.5 %"\n',
        pv_options="",
        battery_port=battery_port,
        gateway_port=gateway_port,
        broker_url=broker_url,
        folder=path.parent,
    )
    path.write_text(text)
