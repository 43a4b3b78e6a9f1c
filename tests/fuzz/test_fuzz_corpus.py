"""The inputs that the search kept, and a few hundred mutations of them, at every target: what was found stays mended."""

import random
import sys

import pytest

from tests.fuzz.cloud_messages import damaged
from tests.fuzz.targets import CORPUS, TARGETS, Wrong, hold, kept, target

MUTATIONS = {"socket": 100, "site_file": 300, "profile": 300, "row": 300, "device": 300}
"""Of each target where a case is dear; of the others 600."""
MOST_BYTES = 300_000


@pytest.fixture(autouse=True)
def no_daemon_stays():
    yield
    if "tests.fuzz.target_socket" in sys.modules:
        asked = sys.modules["tests.fuzz.target_socket"].ASKED
        while asked:
            asked.pop().close()


def mutated(payload, words, chance):
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = chance.randrange(len(payload) + 1)
        if words and chance.random() < 0.4:
            payload = payload[:place] + chance.choice(words) + payload[place + chance.randrange(12) :]
        else:
            payload = damaged(payload, chance)
    return payload


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_breaks_no_promise(name):
    judge = target(name)
    assert kept(name)
    for path in kept(name):
        try:
            judge(path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{name}/{path.name}") from error


@pytest.mark.parametrize("name", TARGETS)
def test_nor_do_some_mutations_of_it(name):
    judge, chance = target(name), random.Random(f"mutations of {name}")
    inputs = [path.read_bytes() for path in kept(name)]
    for number in range(MUTATIONS.get(name, 600)):
        payload = mutated(chance.choice(inputs), TARGETS[name].words, chance)
        try:
            judge(payload)
        except Exception as error:
            raise AssertionError(f"{name}, mutation {number}: {payload!r}") from error


def test_the_corpus_is_small_and_of_these_targets():
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for name in TARGETS for path in kept(name)) < MOST_BYTES


@pytest.mark.parametrize(
    ("name", "module", "attribute"),
    [
        ("plan", "target_documents", "parse_document"),
        ("command", "target_documents", "parse_command"),
        ("profile", "target_files", "examine"),
        ("modbus_tcp", "target_modbus", "answer_of"),
        ("row", "target_rows", "documents_held"),
    ],
)
def test_a_parser_that_raises_would_be_found(monkeypatch, name, module, attribute):
    def raises(*_):
        raise IndexError("beyond the end")

    def all_kept():
        for path in kept(name):
            target(name)(path.read_bytes())

    all_kept()
    monkeypatch.setattr(f"tests.fuzz.{module}.{attribute}", raises)
    with pytest.raises(IndexError):
        all_kept()


def test_a_broken_promise_is_told_in_words():
    hold(True, "it is kept")
    with pytest.raises(Wrong, match="it is not kept"):
        hold(False, "it is not kept")
