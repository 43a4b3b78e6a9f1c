"""The command desk: durable before its effect, one effect, one end, whatever comes again or breaks in between."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from runtime_commands import NOW, Clock, Site, iso, message

from agent.cloud.answer_limit import MAX_PER_WINDOW
from agent.cloud.signatures import REASONS as SIGNATURE_REASONS
from agent.cloud.signatures import Arrived
from agent.core.admission import MAX_ISSUED_AHEAD_S, Refused
from agent.core.command import LONGEST_COMMAND_S
from agent.core.command_admission import BURST, MOST_JOBS, MOST_NARROWINGS
from agent.core.reasons import COMMAND_ENDS, COMMANDS_ONLY, DOCUMENTS_AND_COMMANDS
from agent.core.records import Stage

BAD = [
    ("too_large", None, b" " * 20_000),
    ("bad_compression", None, b"\x1f\x8b broken"),
    ("not_json", None, b"{"),
    ("not_json", None, b"[" * 3000),
    ("not_json", "id", b'{"id": "a", "id": "b"}'),
    ("schema_unsupported", "schema", message().replace(b'"1.0"', b'"2.0"')),
    ("missing_field", "type", message(without=("type",))),
    ("missing_field", "expires_at", message(without=("expires_at",))),
    ("missing_field", "params.duration_s", message().replace(b"duration_s", b"duration")),
    ("unknown_field", "params.more", message(more=1)),
    ("bad_value", "id", message(command_id="a b")),
    ("bad_value", "params.duration_s", message(duration_s=0)),
    ("bad_value", "params.duration_s", message(duration_s=86_401)),
    ("bad_value", "params.duration_s", message(duration_s="60")),
    ("bad_value", "params.power", message("set_power", power=float("nan"))),
    ("bad_value", "params.target", message("set_power", target="moon")),
    ("bad_value", "params.export_limit", message("narrow_limits", export_limit=-1.0)),
    ("bad_value", "params", message("narrow_limits")),
    ("bad_value", "params.duration_s", message("live", duration_s=3_601.0)),
    ("bad_value", "params.to_seq", message("resend", stream="ack", from_seq=2, to_seq=1)),
    ("bad_value", "params.stream", message("resend", stream="all", from_seq=1, to_seq=1)),
    ("bad_value", "params.from_seq", message("resend", stream="ack", from_seq=0, to_seq=1)),
    ("bad_value", "params.to", message("fcr_evidence", **{"from": iso(NOW), "to": iso(NOW)})),
    ("bad_value", "params.from", message("fcr_evidence", **{"from": iso(NOW), "to": iso(NOW + 1)})),
    ("bad_value", "expires_at", message(valid_s=0.0)),
    ("wrong_site", "site_id", message(site="demo-02")),
    ("too_long", "expires_at", message(valid_s=86_401.0)),
    ("too_long", "params.to_seq", message("resend", stream="ack", from_seq=1, to_seq=100_001)),
    ("too_long", "params.to", message("fcr_evidence", **{"from": iso(NOW - 800_000), "to": iso(NOW)})),
    ("from_the_future", "issued_at", message(issued=NOW + 301)),
    ("command_expired", "expires_at", message(issued=NOW - 60)),
    ("beyond_rating", "params.power", message("set_power", power=526.0)),
    ("beyond_rating", "params.power", message("set_power", power=421.0, positive="import")),
    ("beyond_rating", "params.power", message("set_power", power=316.0, target="grid")),
    ("not_tighter", "params.export_limit", message("narrow_limits", export_limit=301.0)),
    ("not_tighter", "params.import_limit", message("narrow_limits", import_limit=201.0)),
    ("not_tighter", "params.discharge_limit", message("narrow_limits", discharge_limit=501.0)),
    ("not_tighter", "params.charge_limit", message("narrow_limits", charge_limit=401.0)),
    ("unknown_type", "type", message("explode")),
    ("unknown_command", "params.id", message("release", id="nobody")),
]


def worked_off(type_, command_id="c1"):
    """A command that asks for messages, not for power."""
    span = {"from": iso(NOW - 9), "to": iso(NOW)} if type_ == "fcr_evidence" else {"from_seq": 1, "to_seq": 2}
    return message(type_, command_id, **span, **({"stream": "ack"} if type_ == "resend" else {}))


@pytest.fixture
def site():
    return Site()


@asynccontextmanager
async def running(site):
    """The desk's own work goes on."""
    task = asyncio.create_task(site.desk.run())
    yield
    task.cancel()
    await asyncio.wait([task])


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class TestRefused:
    @pytest.mark.parametrize(
        ("reason", "field", "payload"), BAD, ids=[f"{r}-{f}-{i}" for i, (r, f, _) in enumerate(BAD)]
    )
    async def test_a_bad_command_has_no_effect_and_is_refused_by_name(self, site, reason, field, payload):
        outcome = await site.send(payload)
        assert (outcome.stage, outcome.reason, outcome.field) == (Stage.REJECTED, reason, field)
        assert (outcome.subject, bool(outcome.detail)) == ("command", True)
        assert (site.acted, site.lives, site.worked, site.reports) == ([], [], [], 0)
        assert site.store.outcomes == [outcome], "the answer is kept"

    @pytest.mark.parametrize("reason", SIGNATURE_REASONS)
    async def test_what_may_not_be_read_is_not_read(self, site, reason):
        outcome = await site.desk.receive(Arrived(message(), Refused(reason, None, "forged")))
        assert (outcome.reason, outcome.command_id, site.acted) == (reason, None, [])
        assert site.store.records == {}, "whoever forged it does not take the id away"

    async def test_a_command_for_another_site_does_not_take_an_id_away(self, site):
        await site.send(message(site="demo-02"))
        assert (await site.send(message())).stage is Stage.ACCEPTED

    @pytest.mark.parametrize(
        ("payload", "kept_s"),
        [
            (message(more=1), LONGEST_COMMAND_S + MAX_ISSUED_AHEAD_S),
            (message(valid_s=10 * LONGEST_COMMAND_S), LONGEST_COMMAND_S + MAX_ISSUED_AHEAD_S),
            (message("set_power", power=9e3, valid_s=60.0), 60.0),
        ],
    )
    async def test_its_id_is_remembered_for_as_long_as_one_could_count(self, site, payload, kept_s):
        await site.send(payload)
        assert site.store.records["c1"].expires_utc_s == NOW + kept_s

    async def test_without_a_trusted_clock_no_command_counts(self, site):
        site.trusted = False
        outcome = await site.send(message())
        assert (outcome.reason, site.acted) == ("clock_untrusted", [])

    @pytest.mark.parametrize("type_", ["set_power", "hold", "neutral"])
    async def test_a_site_that_may_not_write_takes_no_command_that_moves(self, type_):
        site = Site(read_only=True)
        assert (await site.send(message(type_))).reason == "read_only"
        assert (await site.send(message("report", "c2"))).stage is Stage.ACCEPTED

    @pytest.mark.parametrize("type_", ["set_power", "hold", "neutral"])
    async def test_in_safe_mode_no_command_moves(self, site, type_):
        site.safe_mode = True
        assert (await site.send(message(type_))).reason == "safe_mode"
        assert (await site.send(message("report", "c2"))).stage is Stage.ACCEPTED

    async def test_a_disk_that_refuses_lets_nothing_happen_and_the_command_may_come_again(self, site):
        site.store.failing = True
        outcome = await site.send(message())
        assert (outcome.stage, outcome.reason, site.acted) == (Stage.REJECTED, "storage_failed", [])
        assert site.told[-1] == outcome
        site.store.failing = False
        assert (await site.send(message())).stage is Stage.ACCEPTED

    async def test_so_many_narrowings_and_no_more(self, site):
        for number in range(MOST_NARROWINGS):
            assert (await site.send(message("narrow_limits", f"n{number}", charge_limit=5.0))).stage is Stage.ACCEPTED
        assert (await site.send(message("narrow_limits", "one", charge_limit=5.0))).reason == "too_many"

    async def test_so_many_ranges_and_no_more(self, site):
        for number in range(MOST_JOBS):
            await site.send(worked_off("resend", f"r{number}"))
        assert (await site.send(worked_off("resend", "one"))).reason == "too_many"

    async def test_a_flood_is_neither_judged_nor_written_and_ends(self, site):
        for number in range(BURST):
            await site.send(message("report", f"r{number}"))
        written = len(site.store.outcomes)
        outcome = await site.send(message("set_power", "late"))
        assert (outcome.reason, site.told[-1]) == ("rate_limited", outcome)
        assert (len(site.store.outcomes), site.acted[-1]) == (written, None)
        site.clock.pass_s(1.0)
        assert (await site.send(message("set_power", "late"))).stage is Stage.ACCEPTED

    async def test_so_many_answers_to_what_has_no_id_are_only_told(self, site):
        for number in range(MAX_PER_WINDOW + 5):
            await site.send(b"nonsense %d" % number)
        assert len(site.store.outcomes) == MAX_PER_WINDOW
        assert len(site.told) == 5

    async def test_after_its_record_was_lost_only_commands_issued_since_count(self, site):
        site.desk.restore((), NOW, since_utc_s=NOW + 10)
        assert (await site.send(message())).reason == "record_lost"
        site.clock.pass_s(10)
        assert (await site.send(message(command_id="c2", issued=NOW + 10))).stage is Stage.ACCEPTED

    def test_a_test_produces_each_reason_for_which_a_command_may_be_refused(self):
        produced = {reason for reason, *_ in BAD} | set(SIGNATURE_REASONS)
        produced |= {
            "clock_untrusted",
            "storage_failed",
            "too_many",
            "rate_limited",
            "record_lost",
            "id_conflict",
            "read_only",
            "safe_mode",
        }
        assert produced == DOCUMENTS_AND_COMMANDS | COMMANDS_ONLY


class TestGoneMeanwhile:
    async def test_a_command_that_is_on_disk_is_in_force_although_the_connection_broke_meanwhile(self, site):
        begun, go_on = asyncio.Event(), asyncio.Event()
        kept = site.store.take_command

        async def slow(record, ends=()):
            begun.set()
            await go_on.wait()
            return await kept(record, ends)

        site.store.take_command = slow
        asking = asyncio.create_task(site.send(message("set_power")))
        await begun.wait()
        asking.cancel()
        await asyncio.wait([asking])
        go_on.set()
        await until(lambda: site.acted == ["c1"])
        assert (await site.send(message("set_power"))).stage is Stage.ACCEPTED


class TestAgain:
    async def test_the_same_again_gets_the_same_answer_and_no_second_effect(self, site):
        first = await site.send(message("set_power"))
        assert await site.send(message("set_power")) == first
        assert (site.acted, site.told[-1], site.stages("c1")) == (["c1"], first, [Stage.ACCEPTED])

    async def test_also_after_it_has_ended_after_a_restart_and_after_its_expiry(self, site):
        await site.send(message("set_power", valid_s=5.0))
        site.tick("c1")
        await site.send(message("release", "c2"))
        later = Site(site.store, site.clock)
        later.desk.restore(later.store.open(), NOW)
        later.clock.pass_s(3600)
        later.trusted = False
        again = await later.send(message("set_power", valid_s=5.0))
        assert (again.stage, again.detail) == (Stage.DONE, "ended before its time by release c2")
        assert (later.acted, later.stages("c1")) == ([], [Stage.ACCEPTED, Stage.DONE])

    async def test_a_refused_one_stays_refused(self, site):
        first = await site.send(message("set_power", power=900.0))
        site.clock.pass_s(1.0)
        assert await site.send(message("set_power", power=900.0)) == first
        assert site.stages("c1") == [Stage.REJECTED]

    async def test_another_command_under_the_same_id_is_refused_and_the_first_keeps_its_outcome(self, site):
        await site.send(message("set_power"))
        outcome = await site.send(message("neutral"))
        assert (outcome.stage, outcome.reason, outcome.command_id) == (Stage.REJECTED, "id_conflict", "c1")
        assert (site.acted, site.stages("c1"), site.told[-1]) == (["c1"], [Stage.ACCEPTED], outcome)


class TestEnd:
    async def test_it_is_done_when_it_decided_and_its_time_is_over(self, site):
        await site.send(message("set_power"))
        async with running(site):
            site.tick("c1")
            site.clock.pass_s(59.9)
            site.tick("c1")
            assert site.book.order.command_id == "c1"
            site.clock.pass_s(0.2)
            site.tick()
            assert site.book.order is None
            await until(lambda: site.stages("c1") == [Stage.ACCEPTED, Stage.DONE])

    async def test_it_is_expired_when_it_never_decided(self, site):
        await site.send(message("set_power"))
        async with running(site):
            site.tick("another")
            site.clock.pass_s(61)
            site.tick()
            await until(lambda: len(site.stages("c1")) == 2)
        assert (site.last("c1").stage, site.last("c1").reason) == (Stage.EXPIRED, "never_decided")

    async def test_a_later_one_ends_the_one_before_in_the_same_commit(self, site):
        await site.send(message("set_power"))
        site.tick("c1")
        await site.send(message("hold", "c2"))
        assert [(o.command_id, o.stage) for o in site.store.outcomes] == [
            ("c1", Stage.ACCEPTED), ("c2", Stage.ACCEPTED), ("c1", Stage.DONE),
        ]  # fmt: skip
        assert site.last("c1").detail == "ended before its time by hold c2"
        assert site.acted == ["c1", "c2"]

    async def test_release_ends_what_moves_the_batteries_and_leaves_limits_alone(self, site):
        await site.send(message("narrow_limits", "n", charge_limit=5.0))
        await site.send(message("neutral", "c1"))
        await site.send(message("release", "c2"))
        assert (site.stages("c1"), site.stages("c2"), site.stages("n")) == (
            [Stage.ACCEPTED, Stage.EXPIRED], [Stage.ACCEPTED, Stage.DONE], [Stage.ACCEPTED],
        )  # fmt: skip
        assert ([one.command_id for one in site.book.narrowings], site.acted[-1]) == (["n"], None)
        await site.send(message("release", "c3", id="n"))
        assert (site.book.narrowings, site.stages("n")[-1]) == ((), Stage.DONE)

    async def test_release_of_nothing_is_done_too(self, site):
        await site.send(message("release", "c2"))
        assert site.last("c2").detail == "released: nothing was in force"

    async def test_live_goes_on_and_off(self, site):
        await site.send(message("live", duration_s=90.0))
        assert site.lives == [90.0]
        await site.send(message("live", "c2", duration_s=30.0))
        assert (site.lives, site.stages("c1")) == ([90.0, 30.0], [Stage.ACCEPTED, Stage.DONE])
        await site.send(message("release", "c3", id="c2"))
        assert site.lives[-1] == 0.0
        await site.send(message("live", "c4", duration_s=30.0))
        site.clock.pass_s(31)
        site.tick()
        assert site.lives[-2:] == [30.0, 0.0]

    async def test_report_is_done_at_once(self, site):
        await site.send(message("report"))
        assert (site.reports, site.stages("c1")) == (1, [Stage.ACCEPTED, Stage.DONE])

    @pytest.mark.parametrize("refused", [None, "storage_failed", "publish_refused", "not_kept"])
    async def test_what_is_worked_off_is_done_or_failed_when_that_is_over(self, site, refused):
        site.result = Refused(refused, None, "the disk is full") if refused else "3 of 3"
        await site.send(message("resend", stream="ack", from_seq=1, to_seq=3))
        assert site.stages("c1") == [Stage.ACCEPTED]
        async with running(site):
            await until(lambda: len(site.stages("c1")) == 2)
        stage = Stage.FAILED if refused else Stage.DONE
        assert (site.last("c1").stage, site.last("c1").reason, site.worked) == (stage, refused, ["c1"])

    async def test_an_end_that_the_disk_refuses_is_written_when_it_takes_again(self, site):
        await site.send(message("set_power"))
        site.tick("c1")
        async with running(site):
            site.store.failing = True
            site.clock.pass_s(61)
            site.tick()
            await asyncio.sleep(0.05)
            assert site.stages("c1") == [Stage.ACCEPTED]
            site.store.failing = False
            await until(lambda: site.stages("c1") == [Stage.ACCEPTED, Stage.DONE])

    async def test_nothing_survives_a_clock_that_is_set_back(self, site):
        await site.send(message("set_power"))
        site.clock.utc -= 3600
        site.clock.mono += 61
        site.trusted = False
        site.tick()
        assert site.book.order is None


class TestRestart:
    async def restarted(self, site, off_s=0.0, *, utc_s=None):
        clock = Clock()
        clock.utc = NOW + off_s if utc_s is None else utc_s
        later = Site(site.store, clock)
        later.desk.restore(later.store.open(), max(clock.utc, NOW))
        return later

    async def test_what_was_in_force_goes_on_for_the_rest_of_its_time(self, site):
        await site.send(message("set_power"))
        await site.send(message("narrow_limits", "n", charge_limit=5.0))
        await site.send(message("live", "l", duration_s=60.0))
        later = await self.restarted(site, 20.0)
        assert (later.book.order.command_id, [one.command_id for one in later.book.narrowings]) == ("c1", ["n"])
        assert later.lives == [40.0]
        later.clock.pass_s(39.9)
        later.tick("c1")
        assert later.book.order is not None
        later.clock.pass_s(0.2)
        async with running(later):
            later.tick("c1")
            await until(lambda: all(len(later.stages(one)) == 2 for one in ("c1", "n", "l")))
        assert {later.last(one).stage for one in ("c1", "n", "l")} == {Stage.DONE}

    async def test_what_the_disk_garbled_is_not_in_force_again(self, site):
        await site.send(message("set_power"))
        (record,) = site.store.open()
        other = record.document.replace(b'"power": ', b'"power": 1')
        assert other != record.document
        later = Site(site.store, Clock())
        later.desk.restore([replace(record, document=other)], NOW)
        assert later.book.order is None
        async with running(later):
            await until(lambda: later.stages("c1")[-1] is Stage.FAILED)
        assert later.last("c1").reason == "interrupted"

    async def test_no_end_on_disk_makes_it_longer_than_it_said_itself(self, site):
        await site.send(message("set_power", duration_s=60.0))
        (record,) = site.store.open()
        later = Site(site.store, Clock())
        later.desk.restore([replace(record, until_utc_s=NOW + 1e6)], NOW + 20.0)
        assert later.book.move.term.until_utc_s == NOW + 80.0

    async def test_what_ran_out_meanwhile_is_expired_and_decides_nothing(self, site):
        await site.send(message("set_power"))
        later = await self.restarted(site, 61.0)
        async with running(later):
            later.tick()
            await until(lambda: len(later.stages("c1")) == 2)
        assert (later.last("c1").stage, later.book.order) == (Stage.EXPIRED, None)
        assert later.last("c1").detail.endswith("after a restart of the agent")

    async def test_with_a_clock_that_may_be_wrong_it_does_not_move_the_battery(self, site):
        await site.send(message("set_power"))
        later = await self.restarted(site, utc_s=0.0)
        assert not later.book.order.term.stands(0.0, later.clock.mono, clock_trusted=False)

    @pytest.mark.parametrize("type_", ["resend", "fcr_evidence"])
    async def test_what_was_being_worked_off_is_begun_again_and_has_its_one_end(self, site, type_):
        await site.send(worked_off(type_))
        later = await self.restarted(site)
        async with running(later):
            await until(lambda: len(later.stages("c1")) == 2)
        assert (later.last("c1").stage, later.last("c1").detail, later.worked) == (Stage.DONE, "some words", ["c1"])

    async def test_all_that_waited_to_be_worked_off_goes_on_in_its_order(self, site):
        ids = [f"r{number}" for number in range(MOST_JOBS)]
        for command_id in ids:
            assert (await site.send(worked_off("resend", command_id))).stage is Stage.ACCEPTED
        later = await self.restarted(site)
        async with running(later):
            await until(lambda: len(later.worked) == MOST_JOBS)
        assert later.worked == ids

    async def test_what_was_being_worked_off_a_day_ago_is_failed_and_not_begun_again(self, site):
        await site.send(worked_off("resend"))
        later = await self.restarted(site, LONGEST_COMMAND_S)
        async with running(later):
            await until(lambda: len(later.stages("c1")) == 2)
        assert (later.last("c1").stage, later.last("c1").reason, later.worked) == (Stage.FAILED, "interrupted", [])

    def test_a_test_produces_each_reason_for_which_a_command_ends_without_its_effect(self):
        assert {"never_decided", "interrupted", "not_kept", "publish_refused"} == COMMAND_ENDS
