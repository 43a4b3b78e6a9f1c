"""Our layouts against the models that the SunSpec Alliance publishes, as shipped by a third-party client."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from drivers.sunspec_layout import layout

OURS = sorted(
    int(entry.name.removeprefix("model_").removesuffix(".toml"))
    for entry in (resources.files("drivers") / "sunspec_models").iterdir()
)


def published(model_id):
    """Offset, type, size, scale factor and access of each point by its path, as published."""
    source = resources.files("sunspec2") / "models" / "json" / f"model_{model_id}.json"
    rows, at = {}, 0

    def walk(group, prefix):
        nonlocal at
        for point in group.get("points", []):
            rows[prefix + point["name"]] = (
                at,
                point["type"],
                point["size"],
                point.get("sf"),
                point.get("access") == "RW",
            )
            at += point["size"]
        for inner in group.get("groups", []):
            if inner.get("count", 1) == 1:
                walk(inner, f"{prefix}{inner['name']}.")

    walk(json.loads(source.read_text(encoding="utf-8"))["group"], "")
    return rows, at - 2


def test_the_models_that_the_roles_use_are_there():
    assert {1, 101, 103, 203, 701, 702, 704, 713, 715, 802} <= set(OURS)


@pytest.mark.parametrize("model_id", OURS)
def test_every_point_is_where_the_alliance_publishes_it(model_id):
    rows, length = published(model_id)
    ours = layout(model_id)
    assert {p.name: (p.at, p.type, p.size, p.sf, p.writable) for p in ours.points.values()} == rows
    assert ours.length == length
