"""A short run of the fuzzer at every parser, and that it would find what it looks for."""

import pytest

from tests.fuzz import cloud_messages as fuzzer


@pytest.mark.parametrize("name", fuzzer.SEEDS)
def test_mutated_messages_are_answered_in_time_and_memory_stays_flat(name):
    found = fuzzer.fuzz(name, 1500, seed=2)
    assert found["faults"] == []
    assert 0 < found["taken"] < 1500, "both good and bad ones must be among them"


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


def test_the_same_seed_makes_the_same_messages():
    def first(seed):
        rng = fuzzer.random.Random(seed)
        return [fuzzer.mutated(fuzzer.PLAN, rng, sign=True) for _ in range(50)]

    assert first(7) == first(7)
    assert first(7) != first(8)
