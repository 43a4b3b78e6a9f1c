"""A short run of the fuzzer at every parser, and that it would find what it looks for."""

from itertools import islice

import pytest

from tests.fuzz import cloud_messages as fuzzer

PARTS, MESSAGES = 4, 27_778
"""For each of the nine parsers: a million in all, a minute of one core. `make fuzz` sends each a million."""


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", fuzzer.SEEDS)
def test_mutated_messages_are_answered_in_time_and_memory_stays_flat(name, part):
    found = fuzzer.fuzz(name, MESSAGES, seed=2 + part)
    assert found["faults"] == []
    assert found["messages"] == MESSAGES
    assert 0 < found["taken"] < MESSAGES / 2, "both good and bad ones must be among them"


@pytest.mark.parametrize("name", fuzzer.SEEDS)
def test_each_begins_as_a_message_that_is_taken(name):
    good, parse = fuzzer.SEEDS[name]
    payload = fuzzer.json.dumps(good).encode()
    if name == "signed":
        payload = fuzzer.sealed(fuzzer.json.dumps(fuzzer.GOOD_HEADER).encode(), payload)
    assert not hasattr(parse(payload), "refused")
    assert not isinstance(parse(payload), fuzzer.Refused)


def test_a_parser_that_raises_or_takes_long_is_found(monkeypatch):
    def raises(_payload):
        raise IndexError("beyond the end")

    def slow(_payload):
        begun = fuzzer.time.thread_time()
        while fuzzer.time.thread_time() < begun + 0.06:
            pass

    monkeypatch.setitem(fuzzer.SEEDS, "watermark", (fuzzer.WATERMARK, raises))
    assert "IndexError: beyond the end" in fuzzer.fuzz("watermark", 3, seed=1)["faults"][0]
    monkeypatch.setitem(fuzzer.SEEDS, "watermark", (fuzzer.WATERMARK, slow))
    assert "took" in fuzzer.fuzz("watermark", 3, seed=1)["faults"][0]


def test_memory_that_is_too_much_for_a_while_is_found(monkeypatch):
    peak = fuzzer.TARGET_PEAK_MB + 1.0
    monkeypatch.setattr(fuzzer, "resident_mb", lambda *, settled=True: 50.0 if settled else 50.0 + peak)
    assert "151 MB more memory for a while" in fuzzer.fuzz("watermark", 3, seed=1)["faults"][0]


def test_ended_early_it_tells_what_came_so_far():
    asked = iter([False, False, True])
    found = fuzzer.fuzz("watermark", 10 * fuzzer.BLOCK, seed=1, stopped=lambda: next(asked))
    assert (found["messages"], found["faults"]) == (2 * fuzzer.BLOCK, [])


def test_memory_that_grows_is_found(monkeypatch):
    grown = iter([50.0, 50.0, 50.0 + fuzzer.TARGET_GROWTH_MB + 1.0])
    monkeypatch.setattr(fuzzer, "resident_mb", lambda *, settled=True: next(grown) if settled else 50.0)
    assert "memory grew" in fuzzer.fuzz("watermark", 3, seed=1)["faults"][0]


def test_the_same_seed_makes_the_same_messages():
    def first(seed):
        rng = fuzzer.random.Random(seed)
        return list(islice(fuzzer.mutated(fuzzer.PLAN, rng, sign=True), 50))

    assert first(7) == first(7)
    assert first(7) != first(8)
