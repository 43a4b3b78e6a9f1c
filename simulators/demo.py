"""`python -m simulators.demo`: a whole site, broker, cloud and agent, and one minute in which much goes wrong.

Real processes, real Modbus TCP, a real MQTT broker, real prices; only plant, cloud and the speed of the market are
simulated. Exit code 0: everything held; 1: something did not, or could not start; 2: wrong command line.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console
from rich.live import Live

from simulators.broker import Broker, BrokerError
from simulators.cloud import SimulatedCloud
from simulators.cloud_connection import BrokerAccess
from simulators.cloud_planner import Planner
from simulators.demo_checks import Evidence, judge
from simulators.demo_processes import AgentProcess, DemoError, SimulatorProcess, log_end
from simulators.demo_show import MIN_SHOW_SLOTS, PLANS, Show, Stage
from simulators.demo_site import SITE_ID, site_model, tick_ms, write_agent_file, write_simulator_file
from simulators.demo_summary import slot_results, summary, text
from simulators.demo_view import Scene, picture
from simulators.market import MARKET_SLOT_S, SHOW_START, MarketClock, SpotPrices, load_jepx

SHOW_S = 60
MIN_SHOW_S = 40
BOOT_S = 5
"""Time for everything to start before the market opens."""
READY_TIMEOUT_S = 30.0
DRAIN_TIMEOUT_S = 10.0
STEP_S = 0.1
MAX_STARTS = 20
"""Live, an agent that somebody killed is started again, but not for ever."""
LEDGER_EVERY_S = 1.0
LEDGER_SPAN_SLOTS = 60

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """The command line; `seconds` is None when the show shall go on until Ctrl-C."""

    headless: bool
    seconds: int | None
    as_json: bool
    slot_s: int
    seed: int

    @property
    def show_slots(self) -> int:
        """How many whole slots the acts are spread over."""
        return (self.seconds or max(SHOW_S, MIN_SHOW_SLOTS * self.slot_s)) // self.slot_s


def parse(arguments: list[str]) -> Options:
    """The options; ends the process with code 2 when they make no sense."""
    parser = argparse.ArgumentParser(prog="python -m simulators.demo", description=__doc__)
    parser.add_argument("--headless", action="store_true", help="no live view; a summary at the end")
    parser.add_argument("--seconds", type=int, help=f"length of the show (default {SHOW_S}; live: then until Ctrl-C)")
    parser.add_argument("--json", action="store_true", help="with --headless: the summary as one JSON object")
    parser.add_argument("--slot-seconds", type=int, default=2, help="real seconds of a half-hour (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="of clouds in the sky and of the load (default 1)")
    given = parser.parse_args(arguments)
    if given.json and not given.headless:
        parser.error("--json belongs to --headless; the live view needs the terminal")
    if not 1 <= given.slot_seconds <= MARKET_SLOT_S:
        parser.error(f"--slot-seconds must be 1 to {MARKET_SLOT_S}")
    shortest = max(MIN_SHOW_S, MIN_SHOW_SLOTS * given.slot_seconds)
    if given.seconds is not None and given.seconds < shortest:
        parser.error(
            f"--seconds {given.seconds} is too short for all acts of the show: "
            f"with slots of {given.slot_seconds} s it takes at least {shortest}"
        )
    seconds = SHOW_S if given.seconds is None and given.headless and given.slot_seconds <= 3 else given.seconds
    return Options(given.headless, seconds, given.json, given.slot_seconds, given.seed)


def build(folder: Path, planner: Planner, seed: int, stack: ExitStack, say: Say) -> Stage:
    """Start everything, each part ended by `stack`; raises DemoError or BrokerError when a part does not come up."""
    clock = planner.clock
    say(f"1/4 broker: starting, on a free port; logs are in {folder}")
    (folder / "broker").mkdir()
    broker = Broker(folder=folder / "broker")
    stack.callback(broker.stop)
    broker.start()
    say(f"2/4 cloud: planning on JEPX prices of {SHOW_START:%d %B %Y}, talking through {broker.kind}")
    cloud = SimulatedCloud(BrokerAccess(broker.url), clock, [planner])
    stack.callback(cloud.stop)
    cloud.start(clock.epoch_utc_s)
    say("3/4 site: battery, PV and meter on Modbus TCP")
    write_simulator_file(folder / "simulator.toml", clock, seed)
    simulator = SimulatorProcess(folder / "simulator.toml", folder / "simulator.log")
    stack.callback(simulator.stop)
    say(f"4/4 agent: ems run --config {folder / 'site.toml'}")
    write_agent_file(
        folder / "site.toml",
        clock,
        broker.url,
        battery_port=simulator.battery_port,
        gateway_port=simulator.gateway_port,
    )
    agent = AgentProcess(folder / "site.toml", folder / "agent.log")
    stack.callback(agent.stop)
    agent.start()
    stage = Stage(clock, broker, cloud.desk(planner.site.site_id), simulator, agent)
    await_ready(stage, folder)
    return stage


def await_ready(stage: Stage, folder: Path) -> None:
    """Return when the agent measures, holds both plans and is connected; raises DemoError if it does not."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    missing = ["any answer"]
    while missing:
        if not stage.agent.running:
            raise stage.agent.failure()
        if time.monotonic() > deadline:
            waited = f"after {READY_TIMEOUT_S:.0f} s the agent still lacks: {', '.join(missing)}"
            raise DemoError(f"{waited}; its log says: {log_end(folder / 'agent.log')}")
        time.sleep(STEP_S / 2)
        status = stage.agent.status()
        missing = ["any answer"] if status is None else not_ready(status)
        if not stage.cloud.counts().connected:
            missing.append("a cloud that listens")


def not_ready(status: dict[str, Any]) -> list[str]:
    """What the agent still lacks for the show."""
    plans = status.get("plans") or {}
    lacks = {
        "battery power": (status.get("powers_w") or {}).get("battery") is None,
        "SoC": status.get("soc_pct") is None,
        "the cloud": not (status.get("cloud") or {}).get("connected"),
        **{f"the {kind} plan": not plans.get(kind) for kind in PLANS},
    }
    return [name for name, lacking in lacks.items() if lacking]


class Run:
    """One show from its first slot to the summary."""

    def __init__(self, stage: Stage, prices: SpotPrices, options: Options, say: Say) -> None:
        """The show begins with the first whole slot from now on, not before the market opens."""
        slot_s = stage.clock.slot_s
        start = max(stage.clock.epoch_utc_s, math.ceil(time.time() / slot_s) * slot_s)
        self.stage, self.prices, self.options = stage, prices, options
        self.show = Show(stage, start, options.show_slots, say)
        self._status: dict[str, Any] | None = None
        self._rows: list[dict[str, Any]] = []
        self._rows_at_utc_s = 0.0

    def step(self, now_utc_s: float) -> None:
        """One turn of the loop: ask the agent, play the script; raises DemoError when a part ended by itself."""
        agent, facts = self.stage.agent, self.show.facts
        self._status = agent.status() if agent.running else None
        if not self.options.headless and agent.starts < MAX_STARTS:
            self.show.heal(now_utc_s)
        elif not agent.running and facts.restart_utc_s is None:
            raise agent.failure()
        if not self.stage.simulator.running:
            raise DemoError("the simulated site ended by itself")
        self.show.step(now_utc_s, self._status)

    def scene(self, now_utc_s: float) -> Scene:
        """What to show now."""
        clock = self.stage.clock
        if now_utc_s - self._rows_at_utc_s >= LEDGER_EVERY_S and self.stage.agent.running:
            rows = self.stage.agent.slots(now_utc_s - LEDGER_SPAN_SLOTS * clock.slot_s, now_utc_s)
            self._rows, self._rows_at_utc_s = rows if rows is not None else self._rows, now_utc_s
        return Scene(
            now_utc_s,
            clock,
            self.prices,
            self._status,
            broker_up=self.stage.broker.running,
            cloud_up=self.stage.cloud.counts().connected,
            expected_soc_pct=self.stage.cloud.expected_soc_pct(now_utc_s),
            caption=self.show.caption or "The market opens in a moment.",
            progress=self._progress(now_utc_s),
            past_slots=self._rows,
            hint=f"ems watch --socket {self.stage.agent.socket_path}  {self._pids()}",
        )

    def _pids(self) -> str:
        return f"agent {self.stage.agent.pid} broker {self.stage.broker.pid}"

    def _progress(self, now_utc_s: float) -> str:
        slot = int((now_utc_s - self.show.start_utc_s) // self.stage.clock.slot_s) + 1
        if slot > self.options.show_slots:
            return "the site runs on; Ctrl-C ends"
        return f"slot {max(slot, 0)} of {self.options.show_slots}"

    def finish(self) -> dict[str, Any]:
        """Wait for the telemetry, end the agent, judge; the summary."""
        stage, show = self.stage, self.show
        last = self._last_look()
        drained = self._drain(last)
        counts = stage.cloud.counts()
        rows = stage.agent.slots(show.start_utc_s, show.end_utc_s) or []
        rows = [row for row in rows if show.start_utc_s <= row["start_utc_s"] < show.end_utc_s]
        status = stage.agent.status() or last
        exit_code = stage.agent.stop()
        evidence = Evidence(
            slots=slot_results(rows, stage, self.prices, show.facts),
            slots_expected=self.options.show_slots,
            slot_s=stage.clock.slot_s,
            tick_s=tick_ms(stage.clock) / 1000.0,
            facts=show.facts,
            counts=counts,
            samples=stage.cloud.samples(),
            counters=stage.agent.counters,
            outbox_depth=(status.get("cloud") or {}).get("outbox_depth"),
            drained=drained,
            agent_starts=stage.agent.starts,
            final_source=last.get("source"),
            agent_exit_code=exit_code,
        )
        return summary(evidence, judge(evidence), stage.clock, stage.broker.kind.value)

    def _last_look(self) -> dict[str, Any]:
        """A status from just after the last slot, which is closed by the first tick behind it."""
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while time.monotonic() < deadline:
            status = self.stage.agent.status()
            closed = self.stage.agent.slots(self.show.start_utc_s, self.show.end_utc_s) or []
            end_utc_s = max((row["end_utc_s"] for row in closed), default=0.0)
            if status is not None and end_utc_s >= self.show.end_utc_s:
                return status
            time.sleep(STEP_S)
        raise DemoError(f"the agent did not close the last slot within {DRAIN_TIMEOUT_S:.0f} s")

    def _drain(self, last: dict[str, Any]) -> bool:
        """Whether everything sealed until `last` came to the cloud in time, without a hole."""
        del last
        sealed = self.stage.agent.counters["frames_sealed"]
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while time.monotonic() < deadline:
            counts = self.stage.cloud.counts()
            if counts.telemetry_frames >= sealed and counts.gaps == 0 and counts.other_gaps == 0:
                return True
            time.sleep(STEP_S)
        return False


def play_headless(run: Run) -> dict[str, Any]:
    """The show without pictures; the summary."""
    while (now := time.time()) < run.show.end_utc_s:
        run.step(now)
        time.sleep(STEP_S)
    return run.finish()


def play_live(run: Run, console: Console) -> dict[str, Any] | None:
    """The show on the terminal, then on until Ctrl-C unless a length was given; None when ended before its end."""
    until_utc_s = run.show.end_utc_s if run.options.seconds is not None else math.inf
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while (now := time.time()) < until_utc_s:
                run.step(now)
                if console.is_terminal:
                    live.update(picture(run.scene(now)), refresh=True)
                time.sleep(STEP_S)
    except KeyboardInterrupt:
        if time.time() < run.show.end_utc_s:
            return None
    return run.finish()


def perform(options: Options, folder: Path, console: Console) -> dict[str, Any] | None:
    """Build everything, play, and end everything; the summary, None when ended early."""
    prices = load_jepx("kyushu")
    slot_s = options.slot_s
    epoch = math.ceil((time.time() + BOOT_S) / slot_s) * slot_s
    clock = MarketClock(epoch, int(SHOW_START.timestamp()), slot_s)

    def say(line: str) -> None:
        # The live view shows captions itself.
        if options.headless or not console.is_terminal or run is None:
            at = f"{clock.market_text(time.time())} JST" if run is not None else "starting"
            print(f"{at:<21} {line}", file=sys.stderr if options.headless else sys.stdout, flush=True)

    run: Run | None = None
    with ExitStack() as stack:
        stage = build(folder, Planner(site_model(), prices, clock), options.seed, stack, say)
        run = Run(stage, prices, options, say)
        return play_headless(run) if options.headless else play_live(run, console)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    folder = Path(tempfile.mkdtemp(prefix="ems-demo-"))
    keep = True
    try:
        result = perform(options, folder, Console())
        keep = result is not None and not result["ok"]
    except (DemoError, BrokerError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        keep = False
        return 130
    except SystemExit:
        keep = False
        raise
    finally:
        if keep:
            print(f"demo: logs, site file and databases are kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if result is None:
        print("demo: ended before the end of the show; nothing was judged", file=sys.stderr)
        return 130
    print(json.dumps(result) if options.as_json else text(result))
    for name, why in result["why_not"].items():
        print(f"demo: {SITE_ID}: {name} did not hold: {why}", file=sys.stderr)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
