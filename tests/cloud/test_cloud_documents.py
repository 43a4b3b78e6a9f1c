"""The plan desk: one answer per document, one effect, and none for what is bad."""

import pytest
from cloud_documents import AWARD, BAD, BAD_ORDERS, NOW, SITE, awards, curtailments, document, outages
from cloud_stores import MemoryStore

from agent.cloud import signatures
from agent.cloud.answer_limit import MAX_PER_WINDOW, WINDOW_S
from agent.cloud.documents import DocumentDesk
from agent.cloud.signatures import Arrived
from agent.core.admission import PlanLimits, Refused, admit
from agent.core.events import Severity
from agent.core.order_admission import admit_orders
from agent.core.orders import Award, Curtailment, Direction, OrderDocuments, OrderKind, Outage
from agent.core.plan import Plan, PlanKind, Plans
from agent.core.reasons import DOCUMENTS_AND_COMMANDS, DOCUMENTS_ONLY
from agent.core.records import Stage
from agent.core.rules import BatteryRules, LocalRule, SiteRules

LIMITS = PlanLimits(500e3, 500e3, 500e3, 500e3)
BESS = BatteryRules("bess", 500e3, 500e3, 10.0, 90.0, 0.95, 60.0, 500.0)
RULES = SiteRules(SITE, 1.0, (BESS,), ("pv",), "meter", 500e3, 500e3, has_load=True, local_rule=LocalRule.IDLE)


class Site:
    """A desk with what surrounds it."""

    def __init__(self):
        self.now = NOW
        self.plans = Plans()
        self.orders = OrderDocuments()
        self.load_w = None
        self.store = MemoryStore()
        self.told = []
        self.wakes = 0
        self.desk = DocumentDesk(
            store=self.store,
            site_id=SITE,
            held=lambda kind: (self.plans if isinstance(kind, PlanKind) else self.orders).of(kind),
            judge=self._judge,
            utc_s=lambda: self.now,
            on_stored=self._on_stored,
            courtesy=self.told.append,
            on_answered=self._on_answered,
        )

    def _judge(self, document):
        if isinstance(document, Plan):
            return admit(document, self.plans, LIMITS, self.now)
        return admit_orders(document, self.orders.of(document.kind), RULES, self.now, self.load_w)

    def _on_stored(self, document):
        assert self.store.plans[-1][0] == document, "it must be on disk before it comes into force"
        if isinstance(document, Plan):
            self.plans = self.plans.replaced(document)
        else:
            self.orders = self.orders.replaced(document)

    def _on_answered(self):
        self.wakes += 1

    async def send(self, payload, kind=PlanKind.ROLLING):
        return await self.desk.receive(kind, Arrived(payload, payload))


@pytest.fixture
async def site():
    return Site()


@pytest.fixture
async def holding(site):
    await site.send(document(version=16))
    return site


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

    @pytest.mark.parametrize(
        ("reason", "field", "kind", "payload"),
        BAD_ORDERS,
        ids=[f"{k}-{r}-{f}-{i}" for i, (r, f, k, _) in enumerate(BAD_ORDERS)],
    )
    async def test_bad_orders_are_refused_whole_by_name_and_those_in_force_stay(
        self, holding, reason, field, kind, payload
    ):
        await holding.send(awards({}, {"power": 10.0}, version=4), OrderKind.AWARDS)
        before = holding.orders
        outcome = await holding.send(payload, OrderKind(kind))
        assert (outcome.stage, outcome.reason, outcome.field) == (Stage.REJECTED, reason, field), outcome.detail
        assert outcome.detail
        assert outcome.kind == kind
        assert holding.orders is before

    async def test_a_disk_that_refuses_is_told_and_the_plan_in_force_stays(self, holding):
        before, holding.store.failing = holding.plans, True
        outcome = await holding.send(document())
        assert (outcome.stage, outcome.reason) == (Stage.REJECTED, "storage_failed")
        assert "the disk is full" in outcome.detail
        assert holding.plans is before
        assert holding.told[-1] == outcome, "the disk cannot keep the answer, so it is told at least once"

    def test_a_test_produces_each_reason_for_which_a_document_may_be_refused(self):
        produced = {reason for reason, *_ in (*BAD, *BAD_ORDERS)} | {"storage_failed", *signatures.REASONS}
        assert produced == DOCUMENTS_AND_COMMANDS | DOCUMENTS_ONLY


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
        outcome = await site.desk.import_document(Arrived(b"", document()))
        assert (outcome.stage, site.plans.rolling.version) == (Stage.STORED, 17)
        assert isinstance(await site.desk.import_document(Arrived(b"", b"{}")), Refused)

    async def test_a_yearly_plan_does_not_touch_the_rolling_one(self, holding):
        await holding.send(document(kind="yearly", version=3), PlanKind.YEARLY)
        assert (holding.plans.rolling.version, holding.plans.yearly.version) == (16, 3)
        assert (16, Stage.SUPERSEDED) not in holding.store.stages()


class TestOrders:
    async def test_awards_are_stored_and_in_force_in_watts_and_unix_time(self, site):
        outcome = await site.send(awards({}, {"direction": "up", "power": 50.0}), OrderKind.AWARDS)
        assert (outcome.stage, outcome.kind, outcome.detail) == (Stage.STORED, "awards", None)
        first, second = site.orders.awards.entries
        assert first == Award("eprx-0", AWARD["product"], NOW + 7200, NOW + 9000, 400e3, Direction.BOTH)
        assert (second.award_id, second.power_w, second.direction) == ("eprx-1", 50e3, Direction.UP)
        assert site.store.stages() == [(5, Stage.STORED)]

    async def test_curtailments_and_outages_are_in_force_beside_them_and_touch_no_other_kind(self, holding):
        await holding.send(awards({}), OrderKind.AWARDS)
        await holding.send(curtailments({"import_limit": 0.0}), OrderKind.CURTAILMENTS)
        await holding.send(outages({}, {"device": None}), OrderKind.OUTAGES)
        assert holding.orders.awards.version == 5
        assert holding.orders.curtailments.entries == (Curtailment("tso-0", NOW, NOW + 3600, 100e3, 0.0),)
        assert holding.orders.outages.entries == (
            Outage("work-0", NOW, NOW + 3600, "bess"),
            Outage("work-1", NOW, NOW + 3600, None),
        )
        assert holding.plans.rolling.version == 16

    async def test_a_newer_document_replaces_its_kind_whole_and_an_empty_one_withdraws_all(self, site):
        await site.send(awards({}, {"power": 10.0}), OrderKind.AWARDS)
        outcome = await site.send(awards(version=6), OrderKind.AWARDS)
        assert outcome.stage is Stage.STORED
        assert site.orders.awards.entries == ()
        assert site.store.stages() == [(5, Stage.STORED), (6, Stage.STORED), (5, Stage.SUPERSEDED)]

    async def test_the_same_document_again_gets_the_same_answer_and_changes_nothing(self, site):
        await site.send(awards({}), OrderKind.AWARDS)
        before = site.orders
        assert (await site.send(awards({}), OrderKind.AWARDS)).stage is Stage.STORED
        assert site.orders is before
        assert len(site.store.plans) == 1

    async def test_an_import_limit_below_the_load_is_taken_but_told_with_the_answer(self, site):
        site.load_w = -30e3
        payload = curtailments({"import_limit": 29.0}, {"import_limit": 31.0}, {"import_limit": None})
        outcome = await site.send(payload, OrderKind.CURTAILMENTS)
        assert outcome.stage is Stage.STORED
        assert "the load is 30.0 kW now, above the import limit of tso-0 (29 kW)" in outcome.detail
        assert "tso-1" not in outcome.detail
        assert site.store.written[-1].detail == outcome.detail

    async def test_limits_that_fit_the_load_or_have_ended_or_an_unknown_load_need_no_word(self, site):
        over = {"import_limit": 0.0, "start": "2024-01-15T02:00:00Z", "end": "2024-01-15T03:00:00Z"}
        for version, load_w, change in (
            (5, -30e3, {"import_limit": 30.0}),
            (6, -30e3, over),
            (7, None, {"import_limit": 0.0}),
        ):
            site.load_w = load_w
            payload = curtailments(change, version=version)
            assert (await site.send(payload, OrderKind.CURTAILMENTS)).detail is None

    async def test_an_award_that_has_ended_may_name_what_is_not_known_here_any_more(self, site):
        past = {"start": "2024-01-15T02:00:00Z", "end": "2024-01-15T03:00:00Z", "product": "gone"}
        assert (await site.send(awards(past, {}), OrderKind.AWARDS)).stage is Stage.STORED

    async def test_the_very_same_entry_twice_counts_once(self, site):
        twice = curtailments({"id": "x"}, {"id": "x"})
        assert (await site.send(twice, OrderKind.CURTAILMENTS)).stage is Stage.STORED

    async def test_a_later_minor_version_may_say_more_even_within_an_entry(self, site):
        outcome = await site.send(awards({"price": 3.0}, schema="1.7", region="tokyo"), OrderKind.AWARDS)
        assert outcome.stage is Stage.STORED

    async def test_imported_orders_go_the_same_way(self, site):
        outcome = await site.desk.import_document(Arrived(b"", outages({})))
        assert (outcome.stage, outcome.kind) == (Stage.STORED, "outages")
        assert site.orders.outages.version == 5


class TestFlood:
    async def test_the_same_bad_document_over_and_over_is_written_once_a_minute_and_told_each_time(self, holding):
        for _ in range(100):
            await holding.send(b"{")
        assert len(holding.store.written) == 2
        assert len([o for o in holding.told if o.stage is Stage.REJECTED]) == 99
        holding.now += WINDOW_S
        await holding.send(b"{")
        assert len(holding.store.written) == 3

    async def test_the_minute_is_that_since_the_answer_was_written_and_not_one_of_the_clock(self, holding):
        await holding.send(b"[")
        holding.now += WINDOW_S - 1.0
        await holding.send(b"{")
        holding.now += 2.0
        await holding.send(b"{")
        assert len(holding.store.written) == 3, "one of before, and each of the two bad ones once"

    async def test_in_no_minute_are_more_than_so_many_written(self, holding):
        times = []
        for i in range(400):
            holding.now += 0.5
            before = len(holding.store.written)
            await holding.send(b"{" * (i + 1))
            times += [holding.now] * (len(holding.store.written) - before)
        most = max(sum(0 <= at - since < WINDOW_S for at in times) for since in times)
        assert most == MAX_PER_WINDOW
        assert [event.code for event in holding.store.events] == ["answers_not_kept"] * 4

    async def test_a_clock_that_is_set_back_does_not_hold_answers_up(self, holding):
        for i in range(MAX_PER_WINDOW):
            await holding.send(b"{" * (i + 1))
        holding.now -= 3600.0
        before = len(holding.store.written)
        await holding.send(b"[" * 7)
        assert len(holding.store.written) == before + 1

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
