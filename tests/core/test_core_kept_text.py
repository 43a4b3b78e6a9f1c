"""Texts that the disk may have garbled."""

import json

import pytest

from agent.core.kept_text import moment, number, read_back, text_of


@pytest.mark.parametrize(
    "text",
    ["", "{", "NaN", "[Infinity]", "1e999", "9" * 400, "9" * 5000, "[" * 100_000, '"\ud800', "\x00"],
    ids=lambda text: text[:12] or "nothing",
)
def test_a_text_that_cannot_be_used_is_one_kind_of_error(text):
    with pytest.raises(ValueError):
        read_back(text)


def test_what_was_written_is_read_as_it_was():
    content = {"a": [1, -2.5, None, True, "ü"], "b": {"c": 2**53}}
    assert read_back(json.dumps(content)) == content


@pytest.mark.parametrize("value", [None, True, "1", [], float("nan"), float("inf"), 10**400])
def test_what_is_no_number_is_no_time_either(value):
    with pytest.raises(ValueError):
        number(value)
    with pytest.raises(ValueError):
        moment(value)


@pytest.mark.parametrize("value", [-1.0, 1e12])
def test_a_time_has_a_date(value):
    assert number(value) == value
    with pytest.raises(ValueError, match="a time is wanted"):
        moment(value)


def test_a_text_is_one():
    assert text_of("x") == "x"
    with pytest.raises(ValueError):
        text_of(5)
