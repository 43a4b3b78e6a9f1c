"""What the cloud keeps account of: delays in bounded memory, and that every command has one outcome."""

import random

import pytest

from simulators import cloud_account
from simulators.cloud_account import SLACK_S, CommandAccount, Delays


class TestDelays:
    def test_percentiles_are_exact_to_a_step_of_ten_percent(self):
        chance = random.Random(1)
        values = sorted(chance.expovariate(1.0) for _ in range(5_000))
        delays = Delays()
        for value in values:
            delays.take(value)
        for percent in (50, 90, 99):
            true = values[int(len(values) * percent / 100) - 1]
            assert true <= delays.percentile_s(percent) <= true * 1.1 + 1e-9
        assert delays.percentile_s(100) == delays.worst_s == values[-1]

    def test_nothing_has_no_percentile_and_no_worst(self):
        assert Delays().facts() == {"count": 0, "p50_s": None, "p90_s": None, "p99_s": None, "worst_s": None}

    def test_clocks_that_disagree_make_no_negative_delay(self):
        delays = Delays()
        delays.take(-5.0)
        assert (delays.count, delays.percentile_s(50), delays.worst_s) == (1, 0.0, 0.0)

    def test_two_counts_are_one(self):
        one, other = Delays(), Delays()
        one.take(1.0)
        other.take(10.0)
        one.add(other)
        assert (one.count, one.worst_s) == (2, 10.0)
        assert one.percentile_s(50) == pytest.approx(1.0, rel=0.1)

    def test_memory_does_not_grow_with_what_is_counted(self):
        delays = Delays()
        for number in range(20_000):
            delays.take(number % 86_400)
        assert len(delays._counts) < 250


class TestCommands:
    def test_a_command_is_open_until_its_one_outcome(self):
        account = CommandAccount()
        account.send("a", 100.0, 30.0)
        assert account.open == 1
        account.take("a", "accepted", 100.5)
        assert (account.open, account.twice) == (1, 0)
        account.take("a", "done", 110.0)
        assert (account.open, account.twice, dict(account.ends)) == (0, 0, {"done": 1})
        assert account.answers.percentile_s(100) == pytest.approx(0.5)

    def test_a_second_outcome_is_a_fault(self):
        account = CommandAccount()
        account.send("a", 0.0, 30.0)
        for stage in ("rejected", "done"):
            account.take("a", stage, 1.0)
        assert (account.twice, dict(account.ends)) == (1, {"rejected": 1})

    def test_an_outcome_that_does_not_come_is_overdue_after_its_time(self):
        account = CommandAccount()
        account.send("a", 0.0, 30.0)
        assert account.overdue(30.0 + SLACK_S) == 0
        assert account.overdue(30.1 + SLACK_S) == 1
        account.take("a", "expired", 200.0)
        assert account.overdue(1e9) == 0

    def test_answers_to_what_somebody_else_sent_are_no_matter(self):
        account = CommandAccount()
        account.take("another", "done", 0.0)
        account.take(None, "rejected", 0.0)
        assert (account.open, account.twice, account.believed) == (0, 0, 0)

    def test_a_forged_command_that_is_accepted_is_a_fault_and_one_that_is_refused_is_not(self):
        account = CommandAccount()
        account.forbid("bad")
        account.take("bad", "rejected", 0.0)
        assert account.believed == 0
        account.take("bad", "accepted", 0.0)
        assert account.believed == 1

    def test_what_is_forgotten_without_an_outcome_stays_overdue(self, monkeypatch):
        monkeypatch.setattr(cloud_account, "REMEMBERED_COMMANDS", 2)
        account = CommandAccount()
        for name in ("a", "b", "c"):
            account.send(name, 0.0, 1.0)
        account.take("b", "done", 1.0)
        account.send("d", 0.0, 1.0)
        assert account.overdue(0.0) == 1
