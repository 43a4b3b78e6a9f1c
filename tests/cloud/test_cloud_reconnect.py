"""How long a site waits for its broker, and what that is for all sites of a fleet together."""

import random
from collections import Counter

import pytest

from agent.cloud.reconnect import LinkOptions, wait_s

OPTIONS = LinkOptions()


def at_most(failures, options=OPTIONS, **more):
    return wait_s(failures, options, lambda: 1.0 - 1e-9, **more)


def at_least(failures, options=OPTIONS, **more):
    return wait_s(failures, options, lambda: 0.0, **more)


def test_the_wait_doubles_with_each_failure_up_to_its_limit():
    assert [at_most(n) for n in (1, 2, 3, 7, 1000)] == pytest.approx([5, 10, 20, 60, 60])
    assert [at_least(n) for n in (1, 2, 3, 7, 1000)] == pytest.approx([2.5, 5, 10, 30, 30])


def test_after_a_connection_that_held_it_is_any_time_within_the_spread():
    assert (at_least(0), at_most(0)) == pytest.approx((0.0, OPTIONS.spread_s))
    assert at_most(0, LinkOptions(spread_s=0.0)) == 0.0


def test_after_another_client_took_the_id_the_wait_is_long_at_once():
    for failures in (0, 1):
        assert at_least(failures, LinkOptions(longest_wait_s=1), taken_over=True) >= 30


@pytest.mark.parametrize("away_s", [0.0, 3.0, 10.0, 300.0])
def test_a_fleet_that_loses_its_broker_in_one_instant_does_not_come_back_in_one(away_s):
    """Of 5000 sites no more than a quarter come back within any second, after a short or a long outage."""
    chance, sites = random.Random(1).random, 5_000
    per_second = Counter()
    for _ in range(sites):
        at_s, failures = wait_s(0, OPTIONS, chance), 0
        while at_s < away_s:
            failures += 1
            at_s += wait_s(failures, OPTIONS, chance)
        per_second[int(at_s)] += 1
    assert sum(per_second.values()) == sites
    assert max(per_second.values()) < sites / 4
