"""A whole simulated site in real time: the plant, and its devices on Modbus TCP.

In a test: `async with SimulatedSite(config) as site: ... site.battery_port`. As a process:
`python -m simulators.site --config FILE.toml --truth-every 0.5`, which prints JSON lines: first the ports, then what is
true in the plant. Whoever starts the process must read its output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from simulators.lying_battery import LyingBattery
from simulators.modbus_server import Faults, ModbusServer
from simulators.plant import Plant
from simulators.pv_limited import LimitedPvDevice
from simulators.site_config import ConfigRefusedError, SiteConfig, load_config
from simulators.started import Started
from simulators.sunspec_devices import BatteryDevice, MeterDevice
from simulators.sunspec_droop import DroopDevice
from simulators.sunspec_hybrid import HybridDevice
from simulators.sunspec_storage import StorageDevice

TICK_S = 0.1
"""The plant is brought to now at least this often; each register access does it too."""
EXIT_BAD_CONFIG = 2


@dataclass(frozen=True, slots=True)
class SiteClock:
    """Where the site's time comes from: Unix time at the start, then the monotonic clock, so steps do not matter."""

    utc_s: Callable[[], float] = time.time
    monotonic_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    tick_s: float = TICK_S


@dataclass(frozen=True, slots=True)
class Truth:
    """What is so in the plant at one instant, W positive toward the grid; counters as the meter's."""

    utc_s: float
    battery_w: float
    pv_w: float
    load_w: float
    grid_w: float
    soc_pct: float
    export_wh: float
    import_wh: float
    frequency_hz: float


class SimulatedSite(Started):
    """A battery on its own endpoint, PV inverter and meter on another, fed by one plant.

    `on_truth` is called at every whole multiple of `truth_every_s` in Unix time, with the plant at that very instant.
    """

    def __init__(
        self,
        config: SiteConfig,
        *,
        clock: SiteClock | None = None,
        truth_every_s: float | None = None,
        on_truth: Callable[[Truth], None] | None = None,
    ) -> None:
        self._clock = clock or SiteClock()
        self._start_utc_s = self._clock.utc_s()
        self._start_monotonic_s = self._clock.monotonic_s()
        self.plant = Plant(config.plant(), config.seed, self._start_utc_s)
        modbus = config.modbus
        base = modbus.base_address
        place = (modbus.battery_unit, base, self.advance_to_now)
        self.battery: BatteryDevice | StorageDevice
        match modbus.battery_kind:
            case "der" if config.lies.none:
                self.battery = BatteryDevice(self.plant, *place)
            case "der":
                self.battery = LyingBattery(self.plant, *place, config.lies)
            case "der-droop":
                self.battery = DroopDevice(self.plant, *place)
            case "der-hybrid":
                self.battery = HybridDevice(self.plant, *place)
            case kind:
                self.battery = StorageDevice(self.plant, *place, hybrid=kind == "storage-hybrid")
        place = (modbus.pv_unit, base, self.advance_to_now)
        self.pv = LimitedPvDevice(self.plant, *place, model_id=modbus.pv_model, limit=modbus.pv_limit)
        self.meter = MeterDevice(self.plant, config.meter, modbus.meter_unit, base, self.advance_to_now)
        self._battery_server = ModbusServer({modbus.battery_unit: self.battery}, modbus.host, modbus.battery_port)
        self._gateway_server = ModbusServer(
            {modbus.pv_unit: self.pv, modbus.meter_unit: self.meter}, modbus.host, modbus.gateway_port
        )
        self.faults: dict[str, Faults] = {
            "battery": self._battery_server.faults[modbus.battery_unit],
            "pv": self._gateway_server.faults[modbus.pv_unit],
            "meter": self._gateway_server.faults[modbus.meter_unit],
        }
        """What is wrong with `"battery"`, `"pv"` and `"meter"`; set at any time."""
        self._truth_every_s = truth_every_s
        self._on_truth = on_truth
        self._next_truth_utc_s = math.inf
        if truth_every_s is not None:
            self._next_truth_utc_s = math.ceil(self._start_utc_s / truth_every_s) * truth_every_s
        self._ticking: asyncio.Task[None] | None = None

    @property
    def battery_port(self) -> int:
        """The TCP port of the battery."""
        return self._battery_server.port

    @property
    def gateway_port(self) -> int:
        """The TCP port that PV inverter and meter share."""
        return self._gateway_server.port

    def set_ready(self, ready: bool) -> None:
        """Starts or stops the battery's inverter; stopped, it gives no power."""
        self.advance_to_now()
        self.plant.ready = ready

    def truth(self) -> Truth:
        """What is so in the plant where it stands; call `advance_to_now` first for now."""
        plant = self.plant
        return Truth(
            utc_s=plant.utc_s,
            battery_w=plant.battery_w,
            pv_w=plant.pv_w,
            load_w=plant.load_w,
            grid_w=plant.grid_w,
            soc_pct=plant.soc_pct,
            export_wh=plant.export_wh,
            import_wh=plant.import_wh,
            frequency_hz=plant.frequency_hz,
        )

    def advance_to_now(self) -> None:
        """Lets the plant live until now, with reversions and truths at their exact instants."""
        now_utc_s = self._start_utc_s + self._clock.monotonic_s() - self._start_monotonic_s
        control, ceiling = self.battery.control, self.pv.control
        own = self.battery.ceiling if isinstance(self.battery, HybridDevice) else ceiling
        while True:
            timers = (control.revert_at_utc_s, ceiling.revert_at_utc_s, own.revert_at_utc_s)
            stop_utc_s = min(now_utc_s, self._next_truth_utc_s, *(at_s for at_s in timers if at_s is not None))
            self.plant.advance_to(stop_utc_s)
            if control.revert_if_due(stop_utc_s) or (own is not ceiling and own.revert_if_due(stop_utc_s)):
                self.battery.apply_setpoint()
            if ceiling.revert_if_due(stop_utc_s):
                self.pv.apply_limit()
            if stop_utc_s >= self._next_truth_utc_s:
                self._tell_truth()
            if stop_utc_s >= now_utc_s:
                return

    async def start(self) -> None:
        """Opens both endpoints and lets time run; raises OSError when a port is taken."""
        await self._battery_server.start()
        try:
            await self._gateway_server.start()
        except OSError:
            await self._battery_server.stop()
            raise
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        """Closes both endpoints; raises what went wrong in the plant, if anything did."""
        if self._ticking is not None:
            self._ticking.cancel()
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    await self._ticking
            finally:
                self._ticking = None
                await self._battery_server.stop()
                await self._gateway_server.stop()

    async def run_until(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set, or when the plant failed; `stop()` then raises what happened."""
        assert self._ticking is not None, "the site is not started"
        stopping = asyncio.get_running_loop().create_task(stop.wait())
        await asyncio.wait((stopping, self._ticking), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    async def _tick(self) -> None:
        while True:
            self.advance_to_now()
            to_truth_s = self._next_truth_utc_s - self.plant.utc_s
            await self._clock.sleep(min(self._clock.tick_s, max(to_truth_s, 0.001)))

    def _tell_truth(self) -> None:
        assert self._truth_every_s is not None
        # Counted in whole periods: adding up would drift away from the multiples.
        count = round(self._next_truth_utc_s / self._truth_every_s)
        self._next_truth_utc_s = (count + 1) * self._truth_every_s
        if self._on_truth is not None:
            self._on_truth(self.truth())


def _print_line(content: dict[str, object]) -> None:
    print(json.dumps(content), flush=True)


def _print_truth(truth: Truth) -> None:
    _print_line({name: round(value, 3) for name, value in asdict(truth).items()})


def _stop_when_stdin_closes(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Sets `stop` when the parent is gone; reads the descriptor, for a thread in `sys.stdin` blocks the exit."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True, name="stdin").start()


async def _run(config: SiteConfig, truth_every_s: float | None, exit_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if exit_with_stdin:
        _stop_when_stdin_closes(loop, stop)
    site = SimulatedSite(config, truth_every_s=truth_every_s, on_truth=_print_truth)
    await site.start()
    _print_line({"ready": True, "battery_port": site.battery_port, "gateway_port": site.gateway_port})
    await site.run_until(stop)
    await site.stop()


def main() -> int:
    """Runs a simulated site until SIGTERM; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulators.site", description=main.__doc__)
    parser.add_argument("--config", type=Path, help="TOML file; without it the built-in site is simulated")
    parser.add_argument("--truth-every", type=float, metavar="S", help="print what is true, every S seconds")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when standard input closes")
    arguments = parser.parse_args()
    if arguments.truth_every is not None and not arguments.truth_every > 0:
        parser.error("--truth-every must be above 0 seconds")
    try:
        config = load_config(arguments.config) if arguments.config else SiteConfig()
        asyncio.run(_run(config, arguments.truth_every, arguments.exit_with_stdin))
    except ConfigRefusedError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_CONFIG
    except OSError as error:
        print(f"the simulated site cannot run: {error}; is a port taken?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
