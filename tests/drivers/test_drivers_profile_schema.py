"""What editors are told of a profile: the schema takes every profile that the agent takes, and marks what it refuses."""

from __future__ import annotations

import datetime as dt
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from drivers.profile.load import shipped
from drivers.profile.schema import json_schema

SCHEMA = json_schema()
FILES = {name: found.path for name, found in shipped().items()}
FILES["nordwind-ess"] = Path(__file__).parents[1] / "integration" / "unseen" / "nordwind-ess.toml"
TEXT = FILES["sungrow-sh"].read_text()


def told(text):
    """What an editor marks: the place of each mistake."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return value.isoformat() if isinstance(value, dt.date) else value

    return [error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(plain(tomllib.loads(text)))]


def test_it_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_profile_is_taken(name):
    assert told(FILES[name].read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('type = "u16", scale = 0.01, unit = "kWh"', 'type = "u17", unit = "kWh"', "$.points.battery_capacity.type"),
        ("max_gap = 20", "max_gaps = 20", "$.reads"),
        ('maker = "Sungrow"', "maker = 3", "$.about.maker"),
        ('dead_man = { point = "heartbeat"', 'dead_men = { point = "heartbeat"', "$.battery"),
        ("[points]", "[dots]", "$"),
        ("[identity]", "[who]", "$"),
    ],
)
def test_mistakes_are_marked_where_they_are(old, new, place):
    assert old in TEXT
    found = told(TEXT.replace(old, new, 1))
    assert [one for one in found if one.startswith(place)], found
