"""The gate on ratios, and the table that people read."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks import figures, gate
from tests.benchmarks.figures import BEGIN, END, PAGE, Figure

POLL = Figure("poll.cpu", "the daemon", 0.8, "%", 0.2, "a bare script", 0.9)
DAYS = Figure("simulate.days", "days", 3.0, "days/s", 0.5, "a loop", None, "more")
ALONE = Figure("day.disk", "to the disk", 12.0, "MB")
ACCEPTED = {"poll.cpu": {"ratio": 4.0, "margin": 0.25}, "simulate.days": {"ratio": 6.0, "margin": 0.5}}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Where the results and the accepted ratios lie now."""
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "build" / "bench.json")
    monkeypatch.setattr(gate, "RESULTS", tmp_path / "build" / "bench.json")
    monkeypatch.setattr(gate, "ACCEPTED", tmp_path / "accepted.json")
    return tmp_path


def kept(*found: Figure, name="poll"):
    return figures.keep({name: figures.part("python -m x", found, {"raw": 1}, ["a note"])})


def now(*found: Figure):
    return gate.ratios({"parts": {"a": figures.part("c", found, {})}})


def test_a_ratio_within_its_margin_passes_and_one_beyond_it_is_told_with_both_numbers():
    assert gate.judged(ACCEPTED, now(POLL, DAYS)) == []
    dearer = Figure("poll.cpu", "", 1.04, "%", 0.2)
    (line,) = gate.judged(ACCEPTED, now(dearer, DAYS))
    assert "poll.cpu: 5.2 times its reference, accepted are 4" in line
    assert "30 % worse, margin 25 %" in line


def test_the_gate_looks_at_ratios_and_not_at_times():
    slower_machine = Figure("poll.cpu", "", 8.0, "%", 2.0)
    assert gate.judged(ACCEPTED, now(slower_machine, DAYS)) == []


def test_what_other_gateways_take_is_none_of_its_business():
    peer = figures.part("c", [Figure("peers.other.cpu", "", 9.0, "%", 1.0)], {})
    assert gate.ratios({"parts": {"peers": peer}}) == {}
    assert now(Figure("poll.c", "beside a C loop, where there is one", 0.8, "%", 0.07)) == {}


def test_where_more_is_better_less_is_worse():
    assert gate.judged(ACCEPTED, now(POLL, Figure("simulate.days", "", 4.2, "", 1.0, "", None, "more"))) == []
    (line,) = gate.judged(ACCEPTED, now(POLL, Figure("simulate.days", "", 3.9, "", 1.0, "", None, "more")))
    assert line.startswith("simulate.days: 3.9 times")
    assert gate.judged(ACCEPTED, now(POLL, Figure("simulate.days", "", 90.0, "", 1.0, "", None, "more"))) == []


def test_a_figure_that_was_not_measured_fails():
    (line,) = gate.judged(ACCEPTED, now(DAYS))
    assert line.startswith("poll.cpu: not measured; run make bench")


def test_accepting_takes_the_present_ratios_and_keeps_the_margins():
    anew = gate.accepted_anew(ACCEPTED, now(POLL, ALONE, Figure("droop.beyond", "", 3.0, "ms", 1.0)))
    assert anew == {"droop.beyond": {"ratio": 3.0, "margin": gate.MARGIN}, "poll.cpu": {"ratio": 4.0, "margin": 0.25}}


def test_the_command_fails_without_results_and_says_what_to_run(results, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gate"])
    assert gate.main() == 1
    assert "run make bench first" in capsys.readouterr().err
    kept(POLL)
    gate.ACCEPTED.write_text(json.dumps({"poll.cpu": ACCEPTED["poll.cpu"]}))
    assert gate.main() == 0
    gate.ACCEPTED.write_text(json.dumps({"poll.cpu": {"ratio": 2.0, "margin": 0.25}}))
    assert gate.main() == 1


def test_a_part_that_is_run_again_takes_the_place_of_its_older_self_only(results):
    kept(POLL)
    kept(DAYS, name="simulate")
    whole = kept(Figure("poll.cpu", "the daemon", 0.5, "%", 0.2, "a bare script", 0.9))
    assert list(whole["parts"]) == ["poll", "simulate"]
    assert json.loads(figures.RESULTS.read_text()) == whole
    assert gate.ratios(whole) == {"poll.cpu": (2.5, "less"), "simulate.days": (6.0, "more")}


def test_the_table_shows_what_was_missed_and_replaces_only_what_is_between_its_marks(results):
    found = kept(POLL, ALONE, Figure("poll.memory", "its memory", 66.0, "MB", 22.0, "a bare script", 60.0))
    page = figures.refreshed(f"above\n{BEGIN}\nold\n{END}\nbelow\n", found)
    assert page.startswith("above\n")
    assert page.endswith(f"- a note\n{END}\nbelow\n")
    assert "old" not in page
    assert "| the daemon | 0.8 % | 0.2 %: a bare script | 4 | at most 0.9 |" in page
    assert "| its memory | 66 MB | 22 MB: a bare script | 3 | at most 60: **missed** |" in page
    assert "| to the disk | 12 MB |  |  |  |" in page
    assert figures.refreshed(page, found) == page


def test_the_page_has_its_marks_and_every_accepted_ratio_its_row():
    page = PAGE.read_text()
    assert page.index(BEGIN) < page.index(END)
    accepted = json.loads(gate.ACCEPTED.read_text())
    assert accepted
    assert all(one["ratio"] > 0 and 0 < one["margin"] <= 2 for one in accepted.values())
