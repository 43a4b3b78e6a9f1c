"""Commands in the core: what may have an effect, what is in force, and how each comes to its one end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_site import T0
from hypothesis import given
from hypothesis import strategies as st

from agent.core.admission import Accepted, PlanLimits
from agent.core.command import (
    Command,
    CommandType,
    FcrEvidence,
    Hold,
    Live,
    NarrowLimits,
    Neutral,
    Release,
    Report,
    Resend,
    SetPower,
)
from agent.core.command_admission import (
    BURST,
    MOST_JOBS,
    MOST_NARROWINGS,
    MOST_RESENT,
    PER_SECOND,
    Allowance,
    CommandLimits,
    admit_command,
    one_more,
)
from agent.core.command_book import CommandBook, InForce, decided, ended, in_force_again, taken
from agent.core.command_limits import Narrowing, battery_limits_bound, narrowed
from agent.core.curtailment import ConnectionLimits
from agent.core.plan import Target
from agent.core.records import Stage, Stream
from agent.core.term import begun, resumed

LIMITS = CommandLimits(PlanLimits(500e3, 400e3, 300e3, 200e3), clock_trusted=True)
TYPES = {
    SetPower: CommandType.SET_POWER, Hold: CommandType.HOLD, Neutral: CommandType.NEUTRAL, Release: CommandType.RELEASE,
    NarrowLimits: CommandType.NARROW_LIMITS, Live: CommandType.LIVE, Resend: CommandType.RESEND,
    Report: CommandType.REPORT, FcrEvidence: CommandType.FCR_EVIDENCE,
}  # fmt: skip
POWER = SetPower(Target.BATTERY, 10e3, 60.0)


def command(params=POWER, command_id="c1", *, issued=T0, valid_s=60.0):
    return Command(command_id, TYPES[type(params)], "a" * 64, issued, issued + valid_s, params)


def reason(params=POWER, book=None, *, now=T0, limits=LIMITS, **times):
    verdict = admit_command(command(params, **times), book or CommandBook(), limits, now)
    return None if isinstance(verdict, Accepted) else (verdict.reason, verdict.field)


def in_force(*commands, at=0.0):
    """The book after these commands, one after the other at the same instant."""
    book = CommandBook()
    for one in commands:
        book, _ = taken(book, one, T0 + at, at)
    return book


class TestAdmission:
    def test_what_was_issued_before_a_lost_record_may_have_been_there_before(self):
        limits = replace(LIMITS, remembered_since_utc_s=T0)
        assert reason(issued=T0 - 0.1, limits=limits) == ("record_lost", "issued_at")
        assert reason(issued=T0, limits=limits) is None

    @pytest.mark.parametrize("params", [Resend(Stream.ACK, 1, 2), FcrEvidence(T0 - 60.0, T0)])
    def test_only_so_much_work_may_wait(self, params):
        assert reason(params, limits=replace(LIMITS, jobs_waiting=MOST_JOBS)) == ("too_many", None)
        assert reason(params, limits=replace(LIMITS, jobs_waiting=MOST_JOBS - 1)) is None
        assert reason(limits=replace(LIMITS, jobs_waiting=MOST_JOBS)) is None, "what moves power waits for nothing"

    @pytest.mark.parametrize(
        ("times", "now", "found"),
        [
            ({}, T0, None),
            ({}, T0 + 59.999, None),
            ({}, T0 + 60.0, ("command_expired", "expires_at")),
            ({}, T0 + 1e6, ("command_expired", "expires_at")),
            ({}, T0 - 300.0, None),
            ({}, T0 - 300.1, ("from_the_future", "issued_at")),
            ({"valid_s": 0.0}, T0 - 1.0, ("bad_value", "expires_at")),
            ({"valid_s": -9.0}, T0 - 99.0, ("bad_value", "expires_at")),
            ({"valid_s": 86_400.0}, T0, None),
            ({"valid_s": 86_400.1}, T0, ("too_long", "expires_at")),
        ],
    )
    def test_it_counts_from_when_it_was_made_until_it_expires(self, times, now, found):
        assert reason(now=now, **times) == found

    def test_nothing_counts_on_a_clock_that_may_be_wrong(self):
        untrusted = replace(LIMITS, clock_trusted=False)
        for params in (POWER, Hold(1.0), Neutral(1.0), Release(None), Report(), Live(1.0), NarrowLimits(1.0, 0.0)):
            assert reason(params, limits=untrusted) == ("clock_untrusted", None)

    def test_a_site_that_may_not_write_takes_no_command_that_moves(self):
        reading = replace(LIMITS, read_only=True)
        for params in (POWER, Hold(1.0), Neutral(1.0)):
            assert reason(params, limits=reading) == ("read_only", "type")
        for params in (Release(None), Report(), Live(1.0), NarrowLimits(1.0, 0.0)):
            assert reason(params, limits=reading) is None

    @pytest.mark.parametrize(
        ("target", "power_w", "fine"),
        [
            (Target.BATTERY, 525e3, True), (Target.BATTERY, 525.1e3, False),
            (Target.BATTERY, -420e3, True), (Target.BATTERY, -420.1e3, False),
            (Target.GRID, 315e3, True), (Target.GRID, 315.1e3, False),
            (Target.GRID, -210e3, True), (Target.GRID, -210.1e3, False),
            (Target.BATTERY, float("nan"), False), (Target.BATTERY, float("inf"), False),
        ],
    )  # fmt: skip
    def test_a_power_beyond_what_the_site_can_mean_is_refused(self, target, power_w, fine):
        assert reason(SetPower(target, power_w, 1.0)) == (None if fine else ("beyond_rating", "params.power"))

    @pytest.mark.parametrize(
        ("name", "own_w"),
        [("export_limit", 300e3), ("import_limit", 200e3), ("discharge_limit", 500e3), ("charge_limit", 400e3)],
    )
    def test_a_limit_is_taken_up_to_the_sites_own_and_not_beyond(self, name, own_w):
        assert reason(NarrowLimits(1.0, **{f"{name}_w": own_w})) is None
        assert reason(NarrowLimits(1.0, **{f"{name}_w": own_w + 1.0})) == ("not_tighter", f"params.{name}")

    def test_so_many_narrowings_at_once(self):
        book = in_force(*(command(NarrowLimits(60.0, 1.0), f"n{i}") for i in range(MOST_NARROWINGS - 1)))
        assert reason(NarrowLimits(1.0, 1.0), book) is None
        book = in_force(*(command(NarrowLimits(60.0, 1.0), f"n{i}") for i in range(MOST_NARROWINGS)))
        assert reason(NarrowLimits(1.0, 1.0), book) == ("too_many", None)

    def test_release_names_what_is_in_force_or_nothing(self):
        book = in_force(command(Hold(60.0), "h"))
        assert reason(Release("h"), book) is None
        assert reason(Release(None)) is None
        assert reason(Release("other"), book) == ("unknown_command", "params.id")

    def test_ranges_go_forward_and_are_bounded(self):
        assert reason(Resend(Stream.ACK, 5, 5)) is None
        assert reason(Resend(Stream.ACK, 1, MOST_RESENT)) is None
        assert reason(Resend(Stream.ACK, 1, MOST_RESENT + 1)) == ("too_long", "params.to_seq")
        assert reason(Resend(Stream.ACK, 6, 5)) == ("bad_value", "params.to_seq")

    def test_evidence_is_of_the_past_and_of_a_week_at_most(self):
        week_s = 7 * 86_400.0
        assert reason(FcrEvidence(T0 - week_s, T0)) is None
        assert reason(FcrEvidence(T0 - week_s - 1.0, T0)) == ("too_long", "params.to")
        assert reason(FcrEvidence(T0, T0 + 9.0)) == ("bad_value", "params.from")
        assert reason(FcrEvidence(T0 - 9.0, T0 - 9.0)) == ("bad_value", "params.to")


class TestAllowance:
    def test_so_many_at_once_and_then_so_many_a_second(self):
        allowance, refused = Allowance(), []
        for number in range(BURST + 1):
            allowance, one = one_more(allowance, number * 1e-9)
            refused.append(one)
        assert refused[:BURST] == [None] * BURST
        assert refused[BURST].reason == "rate_limited"
        _, later = one_more(allowance, 1.0 / PER_SECOND + 1e-6)
        assert later is None

    @given(st.lists(st.floats(0.0, 0.5), min_size=1, max_size=400))
    def test_never_more_than_burst_and_rate_together_whatever_the_pauses(self, pauses):
        allowance, at, taken_in = Allowance(), 0.0, 0
        for pause in pauses:
            at += pause
            allowance, refused = one_more(allowance, at)
            taken_in += refused is None
        assert taken_in <= BURST + PER_SECOND * at + 1

    def test_a_clock_that_stands_still_or_goes_back_fills_nothing(self):
        allowance = Allowance(0.5, 100.0)
        assert one_more(allowance, 100.0)[1] is not None
        assert one_more(allowance, 0.0)[1] is not None


class TestBook:
    def test_what_moves_the_batteries_is_one_at_a_time_and_limits_count_together(self):
        book = in_force(
            command(POWER, "p"), command(NarrowLimits(9.0, 1.0), "n1"), command(NarrowLimits(9.0, 2.0), "n2"),
            command(Hold(9.0), "h"), command(Live(9.0), "l1"), command(Live(9.0), "l2"),
        )  # fmt: skip
        assert [one.command.command_id for one in book.all] == ["h", "n1", "n2", "l2"]
        assert [one.command_id for one in book.narrowings] == ["n1", "n2"]

    @pytest.mark.parametrize(
        ("params", "power_w", "target", "suspends"),
        [
            (SetPower(Target.GRID, -7e3, 9.0), -7e3, Target.GRID, False),
            (Hold(9.0), 0.0, Target.BATTERY, False),
            (Neutral(9.0), 0.0, Target.BATTERY, True),
        ],
    )
    def test_what_the_tick_is_told(self, params, power_w, target, suspends):
        order = in_force(command(params)).order
        assert (order.command_id, order.power_w, order.target, order.suspends_awards) == (
            "c1", power_w, target, suspends,
        )  # fmt: skip
        assert order.term == begun(T0, 0.0, params.duration_s)
        assert CommandBook().order is None

    def test_one_that_is_replaced_is_done_if_it_decided_and_expired_if_not(self):
        book = in_force(command(POWER, "p"))
        for before, stage in ((book, Stage.EXPIRED), (decided(book, "p"), Stage.DONE)):
            _, (end,) = taken(before, command(Neutral(9.0), "n"), T0 + 1.0, 1.0)
            assert (end.command.command_id, end.stage) == ("p", stage)
            assert "neutral n" in end.detail
            assert (end.reason == "never_decided") is (stage is Stage.EXPIRED)

    def test_deciding_is_noticed_once_and_only_of_the_one_in_force(self):
        book = in_force(command(POWER, "p"))
        assert decided(book, None) is book
        assert decided(book, "other") is book
        told = decided(book, "p")
        assert told.move.had_effect
        assert decided(told, "p") is told
        assert decided(CommandBook(), "p") == CommandBook()

    def test_release_ends_one_by_its_id_or_what_moves_the_batteries_and_is_itself_done(self):
        book = in_force(command(POWER, "p"), command(NarrowLimits(9.0, 1.0), "n"), command(Live(9.0), "l"))
        for released, gone, left in ((None, "p", ["n", "l"]), ("n", "n", ["p", "l"]), ("l", "l", ["p", "n"])):
            after, ends = taken(book, command(Release(released), "r"), T0, 0.0)
            assert [one.command.command_id for one in after.all] == left
            assert [end.command.command_id for end in ends] == [gone, "r"]
            assert ends[-1].stage is Stage.DONE

    def test_what_is_done_at_once_or_beside_the_loop_is_not_in_force(self):
        for params, count in ((Report(), 1), (Resend(Stream.ACK, 1, 2), 0), (FcrEvidence(T0 - 9, T0), 0)):
            book, ends = taken(CommandBook(), command(params), T0, 0.0)
            assert (book, len(ends)) == (CommandBook(), count)

    def test_at_its_end_each_leaves_the_book_with_its_outcome(self):
        book = decided(in_force(command(POWER, "p"), command(NarrowLimits(30.0, 1.0), "n")), "p")
        assert ended(book, T0 + 29.0, 29.0, clock_trusted=True) == (book, [])
        book, (narrow,) = ended(book, T0 + 30.0, 30.0, clock_trusted=True)
        assert (narrow.command.command_id, narrow.stage, book.narrowings) == ("n", Stage.DONE, ())
        book, (power,) = ended(book, T0 + 60.0, 60.0, clock_trusted=True)
        assert (power.stage, power.reason, book) == (Stage.DONE, None, CommandBook())

    def test_a_wall_clock_that_may_be_wrong_ends_nothing_early_and_the_monotonic_one_ends_it_in_time(self):
        book = in_force(command(POWER, "p"))
        assert ended(book, T0 + 1e6, 59.0, clock_trusted=False)[1] == []
        (end,) = ended(book, 0.0, 60.0, clock_trusted=False)[1]
        assert (end.stage, end.reason) == (Stage.EXPIRED, "never_decided")

    def test_after_a_restart_limits_had_their_effect_and_a_power_has_it_only_when_it_decides_again(self):
        term = resumed(T0 + 60.0, T0, 0.0)
        power, narrow = (in_force_again(command(params, "x"), term) for params in (POWER, NarrowLimits(60.0, 1.0)))
        assert (power.had_effect, narrow.had_effect) == (False, True)
        (end,) = ended(CommandBook(move=power), T0 + 61.0, 61.0, clock_trusted=True)[1]
        assert end.detail.endswith("after a restart of the agent")

    def test_the_book_finds_each_by_its_id(self):
        one = InForce(command(), begun(T0, 0.0, 9.0))
        assert CommandBook(move=one).of("c1") is one
        assert CommandBook(move=one).of("c2") is None


class TestLimits:
    @given(
        st.lists(st.tuples(*[st.one_of(st.none(), st.floats(-1e6, 1e6))] * 4), max_size=5),
        st.floats(0.0, 1e6), st.floats(0.0, 1e6),
    )  # fmt: skip
    def test_they_only_ever_get_tighter(self, asked, export_w, import_w):
        narrowings = [
            Narrowing(f"n{i}", NarrowLimits(9.0, *limits), begun(T0, 0.0, 9.0)) for i, limits in enumerate(asked)
        ]
        after = narrowed(ConnectionLimits(export_w, import_w), narrowings)
        assert 0.0 <= after.export_w <= export_w
        assert 0.0 <= after.import_w <= import_w
        bound = battery_limits_bound(narrowings)
        assert bound is None or bound.lower_w <= 0.0 <= bound.upper_w

    def test_of_several_limits_of_the_batteries_the_tightest_counts_in_any_order(self):
        loose, tight = (
            Narrowing(name, NarrowLimits(9.0, None, None, discharge_w, charge_w), begun(T0, 0.0, 9.0))
            for name, discharge_w, charge_w in (("n1", 90.0, 20.0), ("n2", 50.0, 80.0))
        )
        for both in ([loose, tight], [tight, loose]):
            bound = battery_limits_bound(both)
            assert (bound.lower_w, bound.upper_w) == (-20.0, 50.0)

    def test_an_order_of_the_grid_operator_that_is_tighter_keeps_its_name(self):
        one = Narrowing("n1", NarrowLimits(9.0, 50.0, 50.0), begun(T0, 0.0, 9.0))
        after = narrowed(ConnectionLimits(40.0, 90.0, "tso", ""), [one])
        assert (after.export_order, after.import_order) == ("tso", "narrow_limits n1")
