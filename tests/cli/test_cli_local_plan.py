"""How a local plan looks to people."""

from agent.cli import explain, plan

LOCAL = {
    "made_at": "2024-01-15T02:57:11.402+00:00",
    "end": "2024-01-17T03:00:00.000+00:00",
    "by": "solver",
    "why": "the plan cannot be kept",
}


def slot(source, *, when="coming", planned_w=1e3):
    return {
        "when": when, "start": "2024-01-15T03:00:00+00:00", "end": "2024-01-15T03:30:00+00:00", "planned_w": planned_w,
        "promised_w": 2e3, "delivered_w": None, "target": "grid", "source": source, "soc_pct": 50.0,
    }  # fmt: skip


def shown(local, *sources):
    plans = {"rolling": None, "yearly": None}
    return plan.lines({"plans": plans, "local_plan": local, "slots": [slot(s) for s in sources]}, unicode=False)


def test_slots_that_were_planned_anew_are_marked_beneath_the_chart():
    lines = shown(LOCAL, "rolling", "local_plan", "local_plan", "rolling")
    assert "   local  ^^" in lines
    assert [line[9:] for line in lines if line.startswith("     SoC")] == ["5555"], "one column a slot"


def test_without_one_there_is_neither_a_line_nor_a_mark():
    assert not any("local" in line for line in shown(None, "rolling", "yearly"))


def test_the_line_says_when_by_whom_until_when_and_why_in_80_columns():
    lines = shown(LOCAL, "local_plan")
    text = " ".join(line.strip() for line in lines)
    assert "by the solver, until 2024-01-1" in text
    assert "the plan cannot be kept" in text
    assert all(len(line) < 80 for line in lines)
    assert "by rule only" in " ".join(shown(LOCAL | {"by": "rules"}, "local_plan"))


def test_explain_names_the_decider():
    assert explain.DECIDERS["local_plan"] == "local re-plan"
