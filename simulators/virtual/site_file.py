"""The site file of a simulated site, and the simulator's own configuration of the same site."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simulators.battery import BatteryConfig
from simulators.plant import LoadConfig, PvConfig
from simulators.site_config import ModbusConfig, SiteConfig
from simulators.three_devices import THREE_DEVICES

SITE_ID = "virtual-01"
BATTERY_PORT = 5020
GATEWAY_PORT = 5021


@dataclass(frozen=True, slots=True)
class VirtualSite:
    """One site: what a seed may vary."""

    seed: int = 0
    rated_kw: float = 100.0
    capacity_kwh: float = 200.0
    connection_kw: float = 150.0
    export_kw: float = 150.0
    pv_kw: float = 60.0
    load_kw: float = 20.0
    battery_kind: str = "der"
    initial_soc_pct: float = 50.0
    replan: bool = False
    self_consumption: bool = False
    pv_limited: bool = False
    """The agent may lower the PV inverter."""
    frame_s: int = 60
    confirm: str = "watermark"
    telemetry_mb: int = 64
    dead_man_s: int = 30
    poll_s: float = 1.0
    tick_s: float = 1.0

    def plant(self) -> SiteConfig:
        """What `SimulatedSite` needs."""
        return SiteConfig(
            battery=BatteryConfig(
                rated_discharge_w=1000.0 * self.rated_kw,
                rated_charge_w=1000.0 * self.rated_kw,
                capacity_wh=1000.0 * self.capacity_kwh,
                initial_soc_pct=self.initial_soc_pct,
            ),
            pv=PvConfig(peak_w=1000.0 * self.pv_kw, inverter_limit_w=1000.0 * self.pv_kw),
            load=LoadConfig(base_w=1000.0 * self.load_kw),
            modbus=ModbusConfig(
                battery_port=BATTERY_PORT,
                gateway_port=GATEWAY_PORT,
                battery_kind=self.battery_kind,  # type: ignore[arg-type] # one of the known words
            ),
            seed=self.seed,
        )

    def agent(self, folder: Path) -> str:
        """The agent's site file; state and socket lie in `folder`."""
        return _AGENT_TOML.format(
            site_id=SITE_ID,
            rule="self_consumption" if self.self_consumption else "idle",
            export_kw=self.export_kw,
            import_kw=self.connection_kw,
            rated_kw=self.rated_kw,
            poll_ms=round(1000 * self.poll_s),
            tick_ms=round(1000 * self.tick_s),
            dead_man_s=self.dead_man_s,
            replan=str(self.replan).lower(),
            battery_options="",
            pv_options=f'rated_power = "{self.pv_kw:g} kW"\ncan_be_limited = {str(self.pv_limited).lower()}\n',
            frame_s=self.frame_s,
            confirm=self.confirm,
            telemetry_mb=self.telemetry_mb,
            battery_port=BATTERY_PORT,
            gateway_port=GATEWAY_PORT,
            folder=folder,
        )


_AGENT_TOML = (
    """\
schema = 1

[site]
id = "{site_id}"
name = "Virtual site"
timezone = "Asia/Tokyo"

[control]
tick = "{tick_ms} ms"
local_rule = "{rule}"

"""
    + THREE_DEVICES
    + """
[replan]
enabled = {replan}

[cloud]
broker = "mqtt://127.0.0.1:1883"
frame = "{frame_s} s"
confirm = "{confirm}"

[store]
directory = "{folder}/store"
telemetry_mb = {telemetry_mb}

[api]
socket = "{folder}/ems.sock"
"""
)
