"""Learned models between control loop, disk and technician."""

import json
from dataclasses import dataclass, field, replace

import pytest

from agent.core.battery_model import fresh_model
from agent.core.decision import State
from agent.core.model_record import model_record
from agent.core.records import StorageFailed
from agent.runtime.local_socket import Peer, Refusal
from agent.runtime.models import SAVE_EVERY_S, LearnedModels, models_held

OPERATOR, READER = Peer(0, operator=True), Peer(65534, operator=False)
LEARNED = replace(fresh_model(1e6, 0.95, "SN-1"), stretches=7)


@dataclass
class Control:
    state: State = field(default_factory=State)

    def has(self, **models):
        self.state = replace(self.state, models=models)


@dataclass
class Disk:
    rows: dict = field(default_factory=dict)
    writes: int = 0
    failing: bool = False

    async def save_models(self, bodies):
        self._check()
        self.writes += 1
        self.rows.update(bodies)

    async def forget_model(self, device_id):
        self._check()
        self.rows.pop(device_id, None)

    def _check(self):
        if self.failing:
            raise StorageFailed("control", "the disk is full")


class Bench:
    def __init__(self, held=()):
        self.now_s, self.events, self.disk, self.control = 1000.0, [], Disk(), Control()
        held = dict(held)
        self.control.has(**held)
        self.models = LearnedModels(
            store=self.disk, control=self.control, tell=self.events.append, clock=self, held=held
        )

    def mono_s(self):
        return self.now_s

    def utc_s(self):
        return 1.7e9

    async def ask(self, command, peer=OPERATOR, **request):
        return await self.models.handlers()[command](request, peer)


async def test_a_model_is_written_when_it_learned_something_and_at_most_every_few_minutes():
    at = Bench()
    at.control.has(bess=fresh_model(1e6, 0.95))
    await at.models.save()
    assert at.disk.writes == 0, "nothing is learned yet"
    at.control.has(bess=LEARNED)
    await at.models.save()
    assert at.disk.rows == {"bess": json.dumps(model_record(LEARNED))}
    await at.models.save()
    at.control.has(bess=replace(LEARNED, stretches=8))
    at.now_s += SAVE_EVERY_S - 1
    await at.models.save()
    assert at.disk.writes == 1
    at.now_s += 1
    await at.models.save()
    assert (at.disk.writes, json.loads(at.disk.rows["bess"])["stretches"]) == (2, 8)
    for _ in range(10):
        at.now_s += SAVE_EVERY_S
        await at.models.save()
    assert at.disk.writes == 2, "an unchanged model is not written again"


async def test_what_is_on_disk_is_what_the_next_process_begins_with():
    at = Bench()
    at.control.has(bess=LEARNED)
    await at.models.save_now()
    held = models_held(at.disk.rows)
    assert held == {"bess": LEARNED}
    after = Bench(held)
    await after.models.save_now()
    assert after.disk.writes == 0


def test_damaged_rows_are_left_out():
    rows = {"a": "{", "b": "[]", "c": '{"stretches": 1}', "d": json.dumps(model_record(LEARNED))}
    assert models_held(rows) == {"d": LEARNED}


async def test_a_disk_that_refuses_is_asked_again_later():
    at = Bench()
    at.control.has(bess=LEARNED)
    at.disk.failing = True
    await at.models.save()
    at.disk.failing = False
    await at.models.save()
    assert at.disk.rows == {}
    at.now_s += SAVE_EVERY_S
    await at.models.save()
    assert "bess" in at.disk.rows


async def test_another_device_is_told_once_with_what_was_lost():
    at = Bench({"bess": LEARNED})
    at.control.has(bess=fresh_model(0.8e6, 0.95, "SN-2"))
    await at.models.save_now()
    await at.models.save_now()
    (event,) = at.events
    assert (event.code, event.subject, event.data["serial"], event.data["now_serial"]) == (
        "model_dropped",
        "bess",
        "SN-1",
        "SN-2",
    )
    assert json.loads(at.disk.rows["bess"])["stretches"] == 0, "the old one does not come back"


async def test_an_operator_resets_one_battery_with_a_reason_that_is_noted():
    at = Bench({"bess": LEARNED, "other": LEARNED})
    at.disk.rows = {"bess": "x", "other": "y"}
    done = await at.ask("model_reset", device_id="bess", reason=" module replaced ")
    assert (done["device_id"], done["was"]["stretches"]) == ("bess", 7)
    assert set(at.control.state.models) == {"other"}
    assert set(at.disk.rows) == {"other"}
    (event,) = at.events
    assert (event.code, event.subject, event.data["reason"]) == ("model_reset", "bess", "module replaced")
    assert event.data["who"] == OPERATOR.name
    assert (event.data["stretches"], event.data["capacity_wh"]) == (7, 1e6)


@pytest.mark.parametrize(
    ("request_", "peer", "why"),
    [
        ({"device_id": "bess", "reason": "x"}, READER, "not an operator"),
        ({"device_id": "bess", "reason": "  "}, OPERATOR, "a reason of"),
        ({"device_id": "bess"}, OPERATOR, "a reason of"),
        ({"device_id": "bess", "reason": "x" * 201}, OPERATOR, "a reason of"),
        ({"device_id": "bes", "reason": "x"}, OPERATOR, "no model of a battery 'bes'"),
        ({"device_id": 3, "reason": "x"}, OPERATOR, "no model"),
    ],
)
async def test_a_reset_that_is_refused_changes_nothing(request_, peer, why):
    at = Bench({"bess": LEARNED})
    with pytest.raises(Refusal, match=why):
        await at.ask("model_reset", peer, **request_)
    assert (at.control.state.models, at.events) == ({"bess": LEARNED}, [])


async def test_a_reset_that_the_disk_refuses_does_not_happen_by_halves():
    at = Bench({"bess": LEARNED})
    at.disk.failing = True
    with pytest.raises(Refusal, match="nothing was reset"):
        await at.ask("model_reset", device_id="bess", reason="x")
    assert at.control.state.models == {"bess": LEARNED}
    assert at.events == []


async def test_models_are_shown_all_or_one_to_everybody():
    at = Bench({"bess": LEARNED, "other": LEARNED})
    assert set(await at.ask("model_show", READER)) == {"bess", "other"}
    assert (await at.ask("model_show", READER, device_id="bess"))["bess"]["serial"] == "SN-1"
    with pytest.raises(Refusal, match="no model"):
        await at.ask("model_show", READER, device_id="x")
