"""`ems awards`: what it shows and what it writes."""

from agent.cli.awards import COLUMNS, csv_text, lines
from agent.cli.text import plan_line

HELD = {"version": 5, "sha256": "3c9d0f1b7e5a2c4d", "end": "2024-01-15T05:30:00Z"}
AWARD = {
    "id": "eprx-28",
    "product": "eprx-primary-online-50hz",
    "start": "2024-01-15T05:00:00Z",
    "end": "2024-01-15T05:30:00Z",
    "power_w": 200e3,
    "direction": "up",
    "met": True,
    "shortfall_w": 0.0,
    "shortfall_wh": 0.0,
    "cancel_by": "2024-01-15T04:00:00Z",
    "in_force": False,
}
NOW = {
    "frequency_hz": 49.9,
    "trouble": None,
    "response_w": 30e3,
    "baseline_w": -10e3,
    "setpoint_w": 20e3,
    "battery_w": 19e3,
    "tick_s": 0.2,
}


def shown(*awards, held=HELD, now=None, refused=()):
    return "\n".join(lines({"documents": {"awards": held}, "awards": awards, "now": now, "refused": refused}))


def test_an_award_is_shown_with_its_time_power_product_and_forecast():
    text = shown(AWARD)
    assert "version 5, 3c9d0f1b7e5a" in text
    assert "eprx-28" in text
    assert "200 kW up, eprx-primary-online-50hz" in " ".join(text.split())
    assert "will be met" in text


def test_what_will_be_short_says_by_how_much_and_until_when_it_can_be_given_back():
    short = AWARD | {"met": False, "shortfall_w": 1500.0, "shortfall_wh": 4200.0}
    assert "SHORT of 1.5 kW and 4.2 kWh; to be given back by 2024-" in shown(short)
    assert "given back" not in shown(short | {"in_force": True})
    assert "not forecast yet" in shown(AWARD | {"met": None, "shortfall_w": None})


def test_the_response_of_now_is_shown_or_why_there_is_none():
    text = " ".join(shown(AWARD | {"in_force": True}, now=NOW).split())
    assert "49.900 Hz, response +30.0 kW on -10.0 kW, battery +19.0 kW, a tick each 0.2 s" in text
    lost = NOW | {"frequency_hz": None, "trouble": "missing"}
    assert "now missing (missing: no response)" in " ".join(shown(now=lost).split())


def test_nothing_held_nothing_to_come_refused_and_very_many():
    assert shown(held=None) == "awards   no document held"
    assert "none in force or to come" in shown()
    refused = {"id": "a9", "reason": "unknown_product", "detail": "no droop table 'x'"}
    assert "REFUSED  a9 (unknown_product): no droop table 'x'" in shown(refused=[refused])
    many = shown(*[AWARD] * 20)
    assert many.count("eprx-28") == 12
    assert "and 8 more" in many


def test_evidence_is_written_with_unknown_values_empty_and_ids_in_one_cell():
    row = dict.fromkeys(COLUMNS) | {"time": "t", "award_ids": ["a1", "a2"], "clock_trusted": True, "ticks": 0}
    assert csv_text([row]) == "t,,,,,,,a1 a2,1,,0\n"


def test_an_empty_document_is_named_as_such():
    assert plan_line("awards", HELD | {"end": None}) == "awards   version 5, empty, 3c9d0f1b7e5a"
