"""Runs one simulated cloud for people: its parts put together, its account shown again and again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Event
from typing import Any

from rich.console import Console
from rich.live import Live

from simulators.cloud import SimulatedCloud
from simulators.cloud_connection import BrokerAccess
from simulators.cloud_count import REMEMBERED_FRAMES, REMEMBERED_SAMPLES
from simulators.cloud_desk import DeskOptions, SiteDesk
from simulators.cloud_misbehaviour import Misbehaviour, Misdeed
from simulators.cloud_planner import Planner, SiteModel
from simulators.cloud_script import Order, Script, parse_order
from simulators.cloud_signer import Signer
from simulators.cloud_view import account, table
from simulators.market import MarketClock, SpotPrices

REMEMBERED_BY_ALL = 2_000_000
"""Instants and frames that all sites together are compared with: some hundred MB at most."""
ASSUMED_SITES = 100
"""Where sites are found by their speaking."""
RANDOM_ORDERS = (
    "hold 5s", "neutral 2s", "set_power 20 10s", "set_power -20 10s grid", "report", "live 5s", "narrow export=50 10s",
    "release", "resend ack 1 1",
)  # fmt: skip
"""What `--commands-every` sends, one after another."""


@dataclass(frozen=True, slots=True)
class CloudTask:
    """What one run is to do."""

    access: BrokerAccess
    sites: Sequence[str]
    """Empty: every site that speaks."""
    model: Callable[[str], SiteModel]
    prices: SpotPrices
    slot_s: int
    signer: Signer | None = None
    yearly: bool = True
    orders: Sequence[Order] = ()
    commands_every_s: float | None = None
    misdeeds: Sequence[Misdeed] = ()
    misbehave_every_s: float = 10.0
    seed: int = 1
    client_id: str = "cloud-sim"


class CloudRun:
    """One cloud at work."""

    def __init__(self, task: CloudTask, say: Callable[[str], None]) -> None:
        """Nothing is connected yet; `say` hears of each order as it is carried out."""
        self._task, self._begun_s = task, time.time()
        slot_s, now_s = task.slot_s, int(time.time())
        first_slot = now_s // slot_s * slot_s
        # Versions count seconds, so that those of the next run are higher.
        clock = MarketClock(first_slot, first_slot // 1800 * 1800, slot_s)
        share = REMEMBERED_BY_ALL // max(1, len(task.sites) or ASSUMED_SITES)
        options = DeskOptions(
            yearly=task.yearly,
            signer=task.signer,
            kept_samples=0,
            remembered_samples=min(REMEMBERED_SAMPLES, share),
            remembered_frames=min(REMEMBERED_FRAMES, share),
        )
        typical: dict[tuple[int, bool], Any] = {}

        def planner(site_id: str) -> Planner:
            return Planner(task.model(site_id), task.prices, clock, now_s, typical_days=typical)

        self.cloud = SimulatedCloud(
            task.access, clock, [planner(site_id) for site_id in task.sites], options=options,
            new_planner=None if task.sites else planner, client_id=task.client_id,
        )  # fmt: skip
        self._first_slot = first_slot
        self.misbehaviour = Misbehaviour(task.misdeeds, self._raw, task.misbehave_every_s, task.seed)
        self._script = Script(task.orders, self.misbehaviour, say)
        self._sent_every: dict[str, tuple[int, float]] = {}
        self.cloud.on_work = self._work

    def start(self) -> None:
        """Plans are published, and what is due is done from now on."""
        self.cloud.start(self._first_slot)

    def stop(self) -> None:
        """All threads have ended."""
        self.cloud.stop()

    def account(self) -> dict[str, Any]:
        """The account now."""
        misdeeds = dict(self.misbehaviour.done)
        return account(self.cloud.desks(), time.time(), misdeeds=misdeeds, trouble=self.cloud.trouble)

    def _raw(self, topic: str, payload: bytes, qos: int) -> None:
        self.cloud.publish_raw(topic, payload, qos=qos)

    def _work(self) -> None:
        if not self.cloud.connected:
            return
        now_s, desks = time.time(), [desk for desk in self.cloud.desks() if desk.traffic()[0]]
        self._script.due(desks, now_s, now_s - self._begun_s)
        self.misbehaviour.due(desks, now_s)
        if self._task.commands_every_s is not None:
            for desk in desks:
                self._one_of_many(desk, now_s, self._task.commands_every_s)

    def _one_of_many(self, desk: SiteDesk, now_s: float, every_s: float) -> None:
        number, next_s = self._sent_every.get(desk.site_id, (0, now_s))
        if now_s >= next_s:
            parse_order(RANDOM_ORDERS[number % len(RANDOM_ORDERS)]).act(desk, now_s, self.misbehaviour)
            self._sent_every[desk.site_id] = (number + 1, max(next_s + every_s, now_s))


def show(
    run: CloudRun, *, seconds: float | None, every_s: float, as_json: bool, stop: Event, console: Console
) -> dict[str, Any]:
    """Shows the account every so often until the time is over or `stop` is set; the last account."""
    until_s = None if seconds is None else time.monotonic() + seconds
    title = f"cloud-sim at {run.cloud.place}"
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else None
    over = False
    with live or nullcontext():
        while True:
            found = run.account()
            if as_json:
                print(json.dumps({"at": round(time.time(), 3), **found}), flush=True)
            elif live is not None:
                live.update(table(found, title), refresh=True)
            if over:
                break
            left_s = every_s if until_s is None else min(every_s, until_s - time.monotonic())
            over = left_s <= 0 or stop.wait(left_s)
    if live is None and not as_json:
        console.print(table(found, title))
    return found
