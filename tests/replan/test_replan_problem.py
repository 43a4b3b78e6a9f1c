"""The JSON between agent and solver process: there and back, and nothing else is taken."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan_requests import any_request, priced

from agent.replan.problem import (
    MAX_JSON_BYTES,
    MalformedError,
    Proposal,
    proposal_from_json,
    proposal_json,
    request_from_json,
    request_json,
)

ASKED = priced(1.0, None)


@settings(max_examples=50)
@given(asked=any_request())
def test_a_request_comes_back_the_same(asked):
    assert request_from_json(request_json(asked)) == asked


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(0, 100))), st.booleans())
def test_a_proposal_comes_back_the_same(rows, used_milp):
    proposal = Proposal(tuple(w for w, _ in rows), tuple(soc for _, soc in rows), used_milp)
    assert proposal_from_json(proposal_json(proposal)) == proposal


def test_nan_is_never_written():
    with pytest.raises(ValueError, match="JSON compliant"):
        request_json(priced(float("nan")))


def broken(**changes):
    content = json.loads(request_json(ASKED))
    slot = {key[5:]: content_value for key, content_value in changes.items() if key.startswith("slot_")}
    content["slots"][1] |= slot
    content |= {key: value for key, value in changes.items() if not key.startswith("slot_")}
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "object is wanted"),
        (b"{}", "is missing"),
        (b" " * (MAX_JSON_BYTES + 1), "at most"),
        (b'{"slots": [], "slots": []}', "twice"),
        (broken(surprise=1), "'surprise' is not known"),
        (broken(slots={}), "slots: a list"),
        (broken(slots=[1]), r"slots\[0\]: an object"),
        (broken(capacity_wh=True), "capacity_wh: a finite number"),
        (broken(capacity_wh="1"), "capacity_wh: a finite number"),
        (broken(capacity_wh=None), "capacity_wh: a finite number"),
        (broken(capacity_wh=float("nan")), "NaN is not a number"),
        (broken(slot_price_per_kwh=float("inf")), "Infinity is not a number"),
        (broken(slot_pv_w=None), r"slots\[1\].pv_w: a finite number"),
        (broken(slot_target="sun"), r"slots\[1\].target: battery or grid"),
        (broken(slot_target=None), r"slots\[1\].target: battery or grid"),
        (request_json(ASKED).replace(b"100000.0", b"1e999"), "finite number"),
    ],
)
def test_a_request_that_we_did_not_write_is_refused_with_its_place(document, reason):
    with pytest.raises(MalformedError, match=reason):
        request_from_json(document)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"Traceback (most recent call last)", "not JSON"),
        (b'{"error": "no plan: infeasible"}', "no plan: infeasible"),
        (b'{"battery_w": [0], "soc_end_pct": [50]}', "used_milp is missing"),
        (b'{"battery_w": [null], "soc_end_pct": [50], "used_milp": false}', r"battery_w\[0\]"),
        (b'{"battery_w": [0], "soc_end_pct": ["50"], "used_milp": false}', r"soc_end_pct\[0\]"),
        (b'{"battery_w": 0, "soc_end_pct": [50], "used_milp": false}', "battery_w: a list"),
        (b'{"battery_w": [0], "soc_end_pct": [50], "used_milp": 0}', "used_milp: true or false"),
        (b'{"battery_w": [NaN], "soc_end_pct": [50], "used_milp": false}', "NaN is not a number"),
    ],
)
def test_a_proposal_that_is_none_is_refused_with_the_reason(document, reason):
    with pytest.raises(MalformedError, match=reason):
        proposal_from_json(document)
