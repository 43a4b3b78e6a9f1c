"""A command desk on a store in memory or on disk, with a clock that only moves when told."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

from agent.cloud.signatures import Arrived
from agent.core.admission import PlanLimits
from agent.core.records import Stage, StorageFailed
from agent.runtime.command_desk import CommandDesk, Reach

NOW = 1_705_287_600.0
SITE = "demo-01"
LIMITS = PlanLimits(500e3, 400e3, 300e3, 200e3)


def iso(utc_s):
    return datetime.fromtimestamp(utc_s, UTC).isoformat().replace("+00:00", "Z")


def message(type_="hold", command_id="c1", *, issued=NOW, valid_s=60.0, without=(), site=SITE, **params):
    """One command; the parameters of the type are given by name."""
    if type_ == "set_power":
        params = {"target": "battery", "unit": "kW", "positive": "export", "power": 10.0, "duration_s": 60.0} | params
    if type_ in {"hold", "neutral"}:
        params = {"duration_s": 60.0} | params
    if type_ == "narrow_limits":
        params = {"unit": "kW", "duration_s": 60.0} | params
    content = {"schema": "1.0", "site_id": site, "id": command_id, "type": type_}
    content |= {"issued_at": iso(issued), "expires_at": iso(issued + valid_s), "params": params}
    return json.dumps({key: value for key, value in content.items() if key not in without}).encode()


class Clock:
    """Wall and monotonic time, moved by hand; sleepers wait for ever."""

    def __init__(self):
        self.utc, self.mono = NOW, 0.0

    def utc_s(self):
        return self.utc

    def mono_s(self):
        return self.mono

    def pass_s(self, seconds):
        self.utc += seconds
        self.mono += seconds

    async def sleep_until(self, _mono_s):
        await asyncio.sleep(0.01)


class MemoryCommands:
    """What the desk needs of the store, which can be told to fail as a disk does."""

    def __init__(self):
        self.records, self.outcomes = {}, []
        self.failing = False

    async def take_command(self, record, ends=()):
        self._check()
        known = self.records.get(record.command_id)
        if known is not None:
            return known
        self.records[record.command_id] = record
        self.outcomes.append(record.outcome)
        await self.end_commands(ends)
        return None

    async def end_commands(self, ends):
        self._check()
        for end in ends:
            record = self.records[end.command_id]
            if record.stage is Stage.ACCEPTED:
                ended = replace(
                    record, stage=end.stage, at_utc_s=end.at_utc_s, reason=end.reason, detail=end.detail, document=None
                )
                self.records[end.command_id] = ended
                self.outcomes.append(ended.outcome)

    async def announce_acks(self):
        self._check()

    async def record_outcome(self, outcome, *, once=False):
        self._check()
        self.outcomes.append(outcome)

    def open(self):
        return [record for record in self.records.values() if record.stage is Stage.ACCEPTED]

    def _check(self):
        if self.failing:
            raise StorageFailed("control", "the disk is full")


class Site:
    """A desk with what it reaches noted."""

    def __init__(self, store=None, clock=None, *, read_only=False):
        self.store = store or MemoryCommands()
        self.clock = clock or Clock()
        self.trusted, self.safe_mode = True, False
        self.told, self.acted, self.lives, self.worked = [], [], [], []
        self.reports = 0
        self.result = "some words"
        self.book = None
        self.desk = CommandDesk(
            store=self.store,
            site_id=SITE,
            limits=lambda: LIMITS,
            clock=self.clock,
            reach=Reach(
                in_force=lambda book: setattr(self, "book", book),
                act=self._act,
                trusted=lambda: self.trusted,
                safe_mode=lambda: self.safe_mode,
                report=self._report,
                live=self.lives.append,
                work=self._work,
            ),
            read_only=read_only,
            courtesy=self.told.append,
            on_answered=lambda: None,
        )

    async def send(self, payload):
        """The answer."""
        return await self.desk.receive(Arrived(payload, payload))

    def tick(self, command_id=None):
        """A control tick in which this command decided."""
        self.desk.after_tick(command_id, clock_trusted=self.trusted)

    def stages(self, command_id):
        """What was durably told of a command."""
        return [outcome.stage for outcome in self.store.outcomes if outcome.command_id == command_id]

    def last(self, command_id):
        return [outcome for outcome in self.store.outcomes if outcome.command_id == command_id][-1]

    async def _act(self):
        order = self.book.order
        if order is not None:
            assert self.store.records[order.command_id].stage is Stage.ACCEPTED, "it must be on disk before it acts"
        self.acted.append(order and order.command_id)

    def _report(self):
        self.reports += 1

    async def _work(self, command):
        self.worked.append(command.command_id)
        return self.result
