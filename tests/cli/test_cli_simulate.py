"""`ems simulate` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.main import app

CONFIG = Path(__file__).parents[2] / "config"
SITE = str(CONFIG / "site.example.toml")


def simulate(*options):
    return CliRunner().invoke(app, ["simulate", SITE, *options])


def test_a_day_of_the_example_site_is_simulated_and_reported(tmp_path):
    done = simulate("--tick", "60", "--seed", "7", "--out", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.stdout)["result"]
    assert numbers["violations"]["count"] == 0
    assert numbers["target"] == "grid"
    assert json.loads((tmp_path / "result.json").read_text()) == numbers
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_a_bad_price_file_is_refused_with_file_line_and_column(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("slot_start_utc,x\n2024-01-01T00:00:00Z,1\n2024-01-01T00:30:00Z,oops\n")
    done = simulate("--prices", str(path), "--price-column", "x")
    assert done.exit_code == 1
    assert f"{path}: line 3: x: 'oops' is not a number" in done.output


def test_an_unknown_choice_is_told_with_those_there_are():
    done = simulate("--faults", "many")
    assert done.exit_code == 1
    assert "--faults 'many': use none or swarm" in done.output


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_site_can_be_simulated_without_a_broken_invariant(path):
    done = CliRunner().invoke(app, ["simulate", str(path), "--tick", "60", "--no-references", "--json"])
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.stdout)["result"]
    assert (numbers["violations"]["count"], numbers["days"]) == (0, 1)
    assert numbers["cycles"] > 0.1


def test_an_award_that_the_site_cannot_keep_is_refused_with_the_products_there_are():
    done = simulate("--award", "magic:100:0:1")
    assert done.exit_code == 1
    assert "--award 'magic:100:0:1': there is no droop table of this name" in done.output
    assert "ce-fcr-offset" in done.output


def test_a_frequency_without_an_award_has_one_sold_and_says_which(tmp_path):
    frequency = tmp_path / "frequency.csv"
    frequency.write_text("second_of_day,frequency_hz\n0,sixty\n")
    done = simulate("--frequency", str(frequency))
    assert "no --award given, reserve sold: --award eprx-primary-online-50hz:" in done.stderr
    assert done.exit_code == 1
    assert "frequency.csv: line 2: frequency_hz" in done.output


def test_the_answer_to_an_award_is_told():
    done = simulate("--tick", "60", "--award", "ce-fcr-offset:100:0:0.1", "--no-references")
    assert done.exit_code == 0, done.output
    assert "frequency response   100 % of 330 s within 1 %" in done.output
    assert "more than the device alone (ce-fcr-offset)" in done.output
