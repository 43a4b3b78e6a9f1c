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
FAMILY = {
    1, 101, 102, 103, 111, 112, 113, 120, 121, 122, 123, 124, 160, 201, 202, 203, 204, 211, 212, 213, 214,
    701, 702, 703, 704, 711, 713, 714, 715, 802, 803,
}  # fmt: skip


def published(model_id):
    """Offset, type, size, scale factor, unit and access of each point by its path, and of the repeated group."""
    source = resources.files("sunspec2") / "models" / "json" / f"model_{model_id}.json"

    def walk(group, prefix, at, rows):
        repeated = []
        for point in group.get("points", []):
            rows[prefix + point["name"]] = (
                at,
                point["type"],
                point["size"],
                point.get("sf"),
                (point.get("units") or "").strip(),
                point.get("access") == "RW",
            )
            at += point["size"]
        for inner in group.get("groups", []):
            if inner.get("count", 1) == 1:
                at, _ = walk(inner, f"{prefix}{inner['name']}.", at, rows)
            else:
                repeated.append(inner)
        return at, repeated

    rows, group_rows = {}, {}
    end, repeated = walk(json.loads(source.read_text(encoding="utf-8"))["group"], "", 0, rows)
    assert len(repeated) <= 1
    for inner in repeated:
        size, deeper = walk(inner, "", 0, group_rows)
        assert not deeper
        return rows, end - 2, (inner["name"], size, group_rows)
    return rows, end - 2, None


def flat(points):
    return {p.name: (p.at, p.type, p.size, p.sf, p.unit, p.writable) for p in points.values()}


def test_every_model_of_the_family_is_there():
    assert set(OURS) == FAMILY


@pytest.mark.parametrize("model_id", OURS)
def test_every_point_is_where_the_alliance_publishes_it(model_id):
    rows, length, group = published(model_id)
    ours = layout(model_id)
    assert flat(ours.points) == rows
    assert ours.length == length
    assert (ours.group and (ours.group.name, ours.group.size, flat(ours.group.points))) == group


@pytest.mark.parametrize(
    ("model_id", "offsets"),
    [
        (704, {"WMaxLimPctEna": 14, "WMaxLimPct": 15, "WSetEna": 22, "WSetMod": 23, "WSet": 24, "WSetRvrt": 26,
               "WSetEnaRvrt": 30, "WSetRvrtTms": 31}),
        (123, {"WMaxLimPct": 5, "WMaxLimPct_RvrtTms": 7, "WMaxLim_Ena": 9}),
        (124, {"StorCtl_Mod": 5, "OutWRte": 12, "InWRte": 13, "InOutWRte_RvrtTms": 15, "ChaGriSet": 17}),
        (713, {"WHRtg": 2, "WHAvail": 3, "SoC": 4, "SoH": 5}),
        (715, {"LocRemCtl": 2, "DERHb": 3, "ControllerHb": 5, "AlarmReset": 7, "OpCtl": 8}),
        (802, {"SoC": 11, "CtrlHb": 19, "State": 22, "V": 34, "AChaMax": 45, "ADisChaMax": 46, "W": 47, "SetOp": 50}),
    ],
)  # fmt: skip
def test_the_points_that_control_power_are_at_the_offsets_of_the_vendors_manuals(model_id, offsets):
    """Written down by hand from notes on real devices, not from the same files as the layouts."""
    assert {name: layout(model_id).points[name].at for name in offsets} == offsets


@pytest.mark.parametrize(
    ("model_id", "name", "first", "second"), [(160, "DCW", 21, 41), (714, "PrtTyp", 20, 45), (803, "StrSoC", 32, 64)]
)
def test_repeated_points_follow_one_another(model_id, name, first, second):
    known = layout(model_id)
    assert (known.grouped(1, name).at, known.grouped(2, name).at) == (first, second)
    assert known.grouped(2, name).name == f"{known.group.name}.2.{name}"


@pytest.mark.parametrize(("length", "groups"), [(8, 0), (27, 0), (28, 1), (88, 4), (5, 0), (89, 4)])
def test_a_model_holds_as_many_groups_as_fit_whole(length, groups):
    assert layout(160).groups_in(length) == groups


def test_a_model_without_groups_holds_none():
    assert layout(203).groups_in(500) == 0
