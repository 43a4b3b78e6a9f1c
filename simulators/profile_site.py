"""One simulated device, made from its profile, in real time on Modbus TCP.

In a test: `async with ProfileSite(profile) as site: ... site.port`. As a process:
`python -m simulators.profile_site huawei-sun2000-luna2000 --port 5020`, until it is interrupted: something to try
`ems devices read` and a site file on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from drivers.profile.load import find, load
from drivers.profile.model import Profile
from drivers.profile.problem import BadProfile
from simulators.battery import BatteryConfig
from simulators.lying_battery import HONEST, Lies, LyingProfileDevice
from simulators.modbus_server import ModbusServer
from simulators.plant import DayConfig, GridConfig, LoadConfig, Plant, PlantConfig, PvConfig
from simulators.profile_device import ProfileDevice
from simulators.site_config import measured_irradiance
from simulators.sunspec_profile import SunSpecProfileDevice

TICK_S = 0.05
"""The plant is brought to now at least this often; each register access does it too."""
NOON_S = 12.5 * 3600.0
HOUSE = PlantConfig(
    battery=BatteryConfig(
        rated_discharge_w=5_000.0,
        rated_charge_w=5_000.0,
        capacity_wh=10_000.0,
        nominal_voltage_v=200.0,
        standby_loss_w=20.0,
        thermal_mass_j_per_k=1e5,
        cooling_w_per_k=20.0,
    ),
    pv=PvConfig(peak_w=9_000.0, inverter_limit_w=8_000.0),
    load=LoadConfig(base_w=1_500.0, noise_pct=1.0),
    grid=GridConfig(initial_export_wh=1_000_000.0, initial_import_wh=2_000_000.0),
)
"""A size that every profile can express: 5 kW, 10 kWh, with PV and load behind the meter."""


class ProfileSite:
    """A plant, and one device of it that is made from `profile`."""

    def __init__(
        self,
        profile: Profile,
        *,
        config: PlantConfig = HOUSE,
        unit_id: int = 1,
        unit_ids: Mapping[str, int] | None = None,
        positive: str = "import",
        host: str = "127.0.0.1",
        port: int = 0,
        monotonic_s: Callable[[], float] = time.monotonic,
        lies: Lies = HONEST,
    ) -> None:
        """`lies` are those of a battery whose registers the profile itself lays out, not SunSpec's models."""
        day = DayConfig(day_offset_s=NOON_S, day_epoch_utc_s=time.time(), solar_time_factor=1e-3)
        pv = PvConfig(config.pv.peak_w, config.pv.inverter_limit_w, irradiance_w_per_m2=measured_irradiance())
        self._monotonic_s = monotonic_s
        self._start_utc_s, self._start_monotonic_s = time.time(), monotonic_s()
        self.plant = Plant(PlantConfig(config.battery, pv, config.load, config.grid, day), 0, self._start_utc_s)
        self.device: ProfileDevice | SunSpecProfileDevice
        if profile.sunspec is not None:
            self.device = SunSpecProfileDevice(profile, self.plant, self.advance_to_now, unit_id, positive=positive)
        else:
            place = (profile, self.plant, self.advance_to_now, unit_id)
            if lies.none:
                self.device = ProfileDevice(*place, unit_ids=unit_ids, positive=positive)
            else:
                self.device = LyingProfileDevice(*place, unit_ids=unit_ids, positive=positive, lies=lies)
        self._server = ModbusServer(self.device.units, host, port, inputs=self.device.inputs)
        self._ticking: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The TCP port that clients connect to."""
        return self._server.port

    @property
    def server(self) -> ModbusServer:
        """The Modbus server, with its faults."""
        return self._server

    def advance_to_now(self) -> None:
        """Lets the plant live until now, the device's dead-man at its exact instant."""
        now_utc_s = self._start_utc_s + self._monotonic_s() - self._start_monotonic_s
        while (revert_utc_s := self.device.revert_at_utc_s) is not None and revert_utc_s <= now_utc_s:
            self.plant.advance_to(revert_utc_s)
            self.device.revert_if_due(revert_utc_s)
        self.plant.advance_to(now_utc_s)

    async def __aenter__(self) -> Self:
        """Opens the endpoint and lets time run; raises OSError when the port is taken."""
        await self._server.start()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the endpoint."""
        assert self._ticking is not None
        self._ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ticking
        await self._server.stop()

    async def _tick(self) -> None:
        while True:
            self.advance_to_now()
            await asyncio.sleep(TICK_S)


async def _serve(profile: Profile, host: str, port: int, unit_id: int) -> None:
    async with ProfileSite(profile, unit_id=unit_id, host=host, port=port) as site:
        print(f"tcp://{host}:{site.port} unit {unit_id}", flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """Runs one simulated device until it is interrupted; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulators.profile_site", description=main.__doc__)
    parser.add_argument("profile", help="the name of a shipped profile, or a profile file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: any free port, which is printed")
    parser.add_argument("--unit", type=int, default=1, help="unit id (default: 1)")
    arguments = parser.parse_args()
    try:
        named = Path(arguments.profile)
        profile = load(named) if named.suffix == ".toml" else find(arguments.profile, None)
        asyncio.run(_serve(profile, arguments.host, arguments.port, arguments.unit))
    except BadProfile as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"the simulated device cannot run: {error}; is the port taken?", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
