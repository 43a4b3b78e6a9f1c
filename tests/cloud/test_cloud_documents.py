"""The plan desk: one answer per document, one effect, and none for what is bad."""

import ast
import re
from pathlib import Path

import pytest
from cloud_documents import BAD, NOW, SITE, document
from cloud_stores import MemoryStore

from agent.cloud.answer_limit import MAX_PER_WINDOW, WINDOW_S
from agent.cloud.documents import PlanDesk
from agent.core.admission import PlanLimits, Refused
from agent.core.events import Severity
from agent.core.plan import PlanKind, Plans
from agent.core.records import Stage

ROOT = Path(__file__).parents[2]
LIMITS = PlanLimits(500e3, 500e3, 500e3, 500e3)


class Site:
    """A desk with what surrounds it."""

    def __init__(self):
        self.now = NOW
        self.plans = Plans()
        self.store = MemoryStore()
        self.told = []
        self.wakes = 0
        self.desk = PlanDesk(
            store=self.store,
            site_id=SITE,
            limits=lambda: LIMITS,
            held=lambda: self.plans,
            utc_s=lambda: self.now,
            on_stored=self._on_stored,
            courtesy=self.told.append,
            on_answered=self._on_answered,
        )

    def _on_stored(self, plan):
        assert self.store.plans[-1][0] == plan, "it must be on disk before it comes into force"
        self.plans = self.plans.replaced(plan)

    def _on_answered(self):
        self.wakes += 1

    async def send(self, payload, kind=PlanKind.ROLLING):
        return await self.desk.receive(kind, payload)


@pytest.fixture
async def site():
    return Site()


@pytest.fixture
async def holding(site):
    await site.send(document(version=16))
    return site


def documented_reasons():
    table = (ROOT / "docs/contract.md").read_text().split("| reason | what it means")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    return {code for row in rows for code in re.findall(r"`(\w+)`", row)}


def written_reasons():
    """Every literal first argument of Refused(...) in the code that judges documents."""
    files = [ROOT / "agent/core/admission.py", *(ROOT / "agent/cloud").glob("*.py")]
    calls = [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    first = [c.args[0] for c in calls if getattr(c.func, "id", "") == "Refused" and c.args]
    return {arg.value for arg in first if isinstance(arg, ast.Constant)} | {"gap", "overlap"}


class TestReasons:
    @pytest.mark.parametrize(
        ("reason", "field", "payload"), BAD, ids=[f"{r}-{f}-{i}" for i, (r, f, _) in enumerate(BAD)]
    )
    async def test_a_bad_document_is_refused_by_name_and_the_plan_in_force_stays(self, holding, reason, field, payload):
        before = holding.plans
        outcome = await holding.send(payload)
        assert (outcome.stage, outcome.reason, outcome.field) == (Stage.REJECTED, reason, field)
        assert outcome.detail
        assert holding.plans is before
        assert holding.store.written[-1] == outcome
        assert len(holding.store.plans) == 1

    async def test_a_disk_that_refuses_is_told_and_the_plan_in_force_stays(self, holding):
        before, holding.store.failing = holding.plans, True
        outcome = await holding.send(document())
        assert (outcome.stage, outcome.reason) == (Stage.REJECTED, "storage_failed")
        assert "the disk is full" in outcome.detail
        assert holding.plans is before
        assert holding.told[-1] == outcome, "the disk cannot keep the answer, so it is told at least once"

    def test_the_contract_lists_each_reason_and_a_test_produces_it(self):
        produced = {reason for reason, _, _ in BAD} | {"storage_failed"}
        assert documented_reasons() == produced
        assert documented_reasons() == written_reasons()


class TestLife:
    async def test_a_good_plan_is_received_stored_and_in_force(self, site):
        outcome = await site.send(document())
        assert outcome.stage is Stage.STORED
        assert site.plans.rolling.version == 17
        assert [o.stage for o in site.told] == [Stage.RECEIVED]
        assert site.store.stages() == [(17, Stage.STORED)]
        assert site.store.plans[0][1] == document()
        assert site.wakes == 1

    async def test_the_plan_before_is_superseded_once_the_new_one_is_in_force(self, holding):
        await holding.send(document())
        assert holding.store.stages() == [(16, Stage.STORED), (17, Stage.STORED), (16, Stage.SUPERSEDED)]

    async def test_an_expired_plan_is_not_superseded_too(self, holding):
        await holding.desk.mark(holding.plans.rolling, Stage.EXPIRED)
        await holding.send(document())
        assert (16, Stage.SUPERSEDED) not in holding.store.stages()

    async def test_a_plan_that_was_marked_superseded_is_not_told_so_twice(self, holding):
        await holding.desk.mark(holding.plans.rolling, Stage.SUPERSEDED)
        await holding.send(document())
        assert holding.store.stages().count((16, Stage.SUPERSEDED)) == 1

    async def test_a_stage_is_told_once_however_often_it_is_marked(self, holding):
        for _ in range(3):
            await holding.desk.mark(holding.plans.rolling, Stage.ACTIVE)
        assert holding.store.stages() == [(16, Stage.STORED), (16, Stage.ACTIVE)]

    async def test_the_same_document_again_gets_the_same_answer_and_has_no_second_effect(self, holding):
        before = holding.plans
        holding.now += WINDOW_S
        outcome = await holding.send(document(version=16))
        assert (outcome.stage, outcome.version) == (Stage.STORED, 16)
        assert holding.plans is before
        assert len(holding.store.plans) == 1
        assert holding.store.stages() == [(16, Stage.STORED), (16, Stage.STORED)]

    async def test_the_same_version_with_other_content_is_alarmed(self, holding):
        await holding.send(document(version=16, price=None))
        (event,) = holding.store.events
        assert (event.code, event.severity) == ("version_conflict", Severity.ALARM)

    async def test_an_imported_document_goes_the_same_way(self, site):
        outcome = await site.desk.import_document(document())
        assert (outcome.stage, site.plans.rolling.version) == (Stage.STORED, 17)
        assert isinstance(await site.desk.import_document(b"{}"), Refused)

    async def test_a_yearly_plan_does_not_touch_the_rolling_one(self, holding):
        await holding.send(document(kind="yearly", version=3), PlanKind.YEARLY)
        assert (holding.plans.rolling.version, holding.plans.yearly.version) == (16, 3)
        assert (16, Stage.SUPERSEDED) not in holding.store.stages()


class TestFlood:
    async def test_the_same_bad_document_over_and_over_is_written_once_a_minute_and_told_each_time(self, holding):
        for _ in range(100):
            await holding.send(b"{")
        assert len(holding.store.written) == 2
        assert len([o for o in holding.told if o.stage is Stage.REJECTED]) == 99
        holding.now += WINDOW_S
        await holding.send(b"{")
        assert len(holding.store.written) == 3

    async def test_a_flood_of_different_bad_documents_is_bounded_and_alarmed_once(self, holding):
        for i in range(500):
            await holding.send(b"{" * (i + 1))
        assert len(holding.store.written) <= MAX_PER_WINDOW + 1
        assert [event.code for event in holding.store.events] == ["answers_not_kept"]

    async def test_a_flood_does_not_keep_a_good_plan_out(self, holding):
        for i in range(100):
            await holding.send(b"{" * (i + 1))
        assert (await holding.send(document())).stage is Stage.STORED
        assert holding.store.stages()[-2:] == [(17, Stage.STORED), (16, Stage.SUPERSEDED)]
