"""The words of SunSpec points against those that the SunSpec Alliance publishes, as shipped by a third-party client."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from drivers.sunspec_layout import known_models, layout
from drivers.sunspec_words import label, words


def published(model_id):
    """{path: {word: value}} of each point that has any."""
    source = resources.files("sunspec2") / "models" / "json" / f"model_{model_id}.json"

    def walk(group, prefix):
        for point in group.get("points", []):
            if "symbols" in point:
                yield prefix + point["name"], {one["name"]: one["value"] for one in point["symbols"]}
        for inner in group.get("groups", []):
            yield from walk(inner, f"{prefix}{inner['name']}.")

    return dict(walk(json.loads(source.read_text(encoding="utf-8"))["group"], ""))


@pytest.mark.parametrize("model_id", known_models())
def test_the_words_are_the_published_ones(model_id):
    for name, told in published(model_id).items():
        assert words(f"{model_id}.{name}") == told, name


@pytest.mark.parametrize("model_id", known_models())
def test_enumerations_of_our_layouts_have_words_wherever_any_are_published(model_id):
    known = layout(model_id)
    named = [p.name for p in known.points.values() if p.type.startswith(("enum", "bitfield"))]
    assert [name for name in named if bool(words(f"{model_id}.{name}")) != (name in published(model_id))] == []


def test_a_point_of_a_repeated_group_has_those_of_the_group():
    assert words("714.Prt.2.DCSta") == words("714.Prt.1.DCSta") != {}
    assert words("701#2.St") == words("701.St")


@pytest.mark.parametrize(
    ("key", "kind", "value", "told"),
    [
        ("713.Sta", "enum16", 0, "OK"),
        ("713.Sta", "enum16", 77, None),
        ("101.Evt1", "bitfield32", 0, "none"),
        ("101.Evt1", "bitfield32", 0b1001, "GROUND_FAULT, DC_DISCONNECT"),
        ("101.Evt1", "bitfield32", 1 << 31 | 1, "GROUND_FAULT, 0x80000000 without a name"),
        ("713.SoC", "uint16", 5.0, None),
        ("713.Sta", "enum16", None, None),
    ],
)
def test_a_value_is_told_by_its_words(key, kind, value, told):
    assert label(key, kind, value) == told
