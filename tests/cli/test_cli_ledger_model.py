"""The ledger and the learned models as text."""

import csv
import io

import pytest

from agent.cli import ledger, model
from agent.cli.text import COLUMNS
from agent.core.battery_model import fresh_model
from agent.core.model_record import model_facts

NAMES = list(ledger.PATHS)


def slot(hour, closed=True, scale=1.0, **changes):
    row = {
        "start": f"2024-01-15T{hour:02d}:00:00.000Z",
        "end": f"2024-01-15T{hour:02d}:30:00.000Z",
        "closed": closed,
        "target": "grid",
        "source": "rolling",
        "version": 3,
        "planned_wh": 100e3 * scale,
        "delivered_wh": 99e3 * scale,
        "response_wh": 0.0,
        "imbalance_wh": -1e3 * scale,
        "battery_wh": 50e3 * scale,
        "grid_wh": 99e3 * scale,
        "unsplit_wh": 0.0,
        "paths_wh": {name: float(number) * 1e3 * scale for number, name in enumerate(NAMES)},
        "covered_s": 1800.0,
        "planned_soc_end_pct": None,
        "soc_end_pct": 40.0,
    }
    return {**row, **changes}


@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0, -500.0])
def test_a_day_fits_the_screen_and_its_sums_are_those_of_the_finished_slots(scale):
    shown = ledger.lines([slot(3, scale=scale), slot(4, scale=scale), slot(5, closed=False, scale=scale)], "2024-01-15")
    assert max(map(len, shown)) <= COLUMNS
    assert float(shown[-1].split()[1]) == pytest.approx(200 * scale)
    assert [line[6] for line in shown[3:6]] == [" ", " ", ">"]
    assert [float(word) for word in shown[3].split()[1:]] == pytest.approx(
        [scale * v for v in (100, 99, -1, 0, 1, 2, 3, 4, 5, 6)]
    )


def test_energy_without_a_path_is_told_and_what_is_not_known_is_a_dash():
    rows = [slot(3, unsplit_wh=2500.0), slot(4, delivered_wh=None, imbalance_wh=None, paths_wh=None, unsplit_wh=None)]
    shown = ledger.lines(rows, "2024-01-15")
    assert shown[-1].startswith("without a path: +2.500 kWh")
    assert shown[4].split()[1:] == ["100.0", *["-"] * 9]


def test_an_empty_day_says_so():
    assert ledger.lines([], "2024-01-15") == [
        "2024-01-15: no slot in the ledger: the agent did not run, or its clock was not trusted"
    ]


def test_the_csv_has_every_column_and_an_empty_field_for_what_is_not_known():
    first, second = csv.DictReader(io.StringIO(ledger.csv_text([slot(3), slot(4, paths_wh=None)])))
    assert first["start"] == "2024-01-15T03:00:00.000Z"
    assert [float(first[f"{name}_wh"]) for name in NAMES] == [1e3 * n for n in range(7)]
    assert [second[f"{name}_wh"] for name in NAMES] == [""] * 7
    assert set(first) == {*slot(3), *(f"{name}_wh" for name in NAMES)} - {"paths_wh"}
    assert ledger.csv_text([]).startswith("pv_to_load_wh")


def test_a_model_says_what_is_measured_and_what_was_stated():
    facts = model_facts(fresh_model(1e6, 0.95, "SN-1"))
    assert model.summary(facts) == "nothing learned yet: 1000.0 kWh and 90.2 % as stated"
    learned = {**facts, "stretches": 9, "capacity_wh": 951e3, "standby_w": 212.4, "measured_share": 0.634}
    assert model.summary(learned) == (
        "951.0 kWh, cycle 90.2 %, standby 212 W, 63 % measured in 9 stretches (1000.0 kWh and 90.2 % as stated)"
    )
    assert model.summary({**learned, "contradicted": True}).endswith("SoC CONTRADICTS the energy")
    shown = model.lines("bess", {**learned, "contradicted": True})
    assert shown[0] == "bess, serial SN-1"
    assert "believed from 500.0 kWh to 1100.0 kWh" in " ".join(shown)
    assert any(line.startswith("SoC fits  NO") for line in shown)
    assert max(map(len, shown)) <= COLUMNS
