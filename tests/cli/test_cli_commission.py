"""What `ems commission` shows, and the report that it writes: whole in itself, safe against what devices say."""

import json
import re
from xml.etree import ElementTree as ET

import pytest

from agent.cli.commission import ending, lines, step_lines
from agent.cli.commission_report import report_files, report_html, step_chart
from agent.cli.commissioned import status_lines

SERIES = [[0.0, 0.0, 0.0, 10e3, 50.0, 50.0], [1.0, 25e3, 12e3, 22e3, 50.0, 50.0], [2.0, 25e3, 25e3, 35e3, 49.9, None]]


def step(name, word, *, text="all is well", hint="", title=None, series=()):
    found = [] if word is None else [{"word": word, "code": "c", "text": text, "hint": hint}]
    times = {} if word is None else {"begun_utc_s": 1.8e9, "ended_utc_s": 1.8e9 + 12.0, "series": series}
    measures = {"lag_s": 0.5, "gone_w": None}
    return {"step": name, "title": title or name, "word": word, "findings": found, "measures": measures, **times}


def facts(*steps, verdict="failed", running=None, why="", measured=None):
    device = {"device_id": "bess", "role": "battery", "manufacturer": "<b>Maker</b>", "model": "M & M", "serial": "1",
              "firmware": None, "endpoint": "tcp://x"}  # fmt: skip
    return {
        "site": "a-1", "verdict": verdict, "running": running, "why": why, "who": "maria", "steps": list(steps),
        "begun": "2027-01-15T08:00:00.000Z", "ended": "2027-01-15T08:04:00.000Z", "begun_utc_s": 1.8e9,
        "devices": [device], "measured": measured or {},
    }  # fmt: skip


MEASURED = {
    "bess": {"at": "2027-01-15T08:03:00.000Z", "lag_s": 0.5, "settling_s": 2.0, "accuracy_w": -12.0,
             "has_dead_man": True, "dead_man_s": 58.2},
}  # fmt: skip


def test_each_step_has_its_verdict_and_each_fault_what_to_do():
    shown = "\n".join(
        lines(facts(step("limits", "passed"), step("cloud", "failed", hint="mend it"), step("fcr", None)))
    )
    assert "ok        limits\n          all is well" in shown
    assert "FAILED    cloud\n          FAILED: all is well\n          next: mend it" in shown
    assert "-         fcr: not done yet" in shown


def test_a_remark_is_told_as_one():
    assert "REMARK: all is well" in "\n".join(step_lines(step("identity", "remark")))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (facts(step("x", "passed"), verdict="passed"), "PASSED"),
        (facts(step("x", "failed"), step("y", "stopped"), why="an alarm"), "FAILED    x, y\n          an alarm"),
        (facts(step("x", None), verdict="stopped"), "STOPPED   not complete"),
        (facts(running={"title": "dead-man of bess", "who": "ken"}), "running   dead-man of bess, led by ken"),
    ],
)
def test_the_end_is_told_with_what_to_do_next(told, said):
    shown = "\n".join(ending(told))
    assert said in shown
    assert ("--resume" in shown) == (told["verdict"] != "passed" and told["running"] is None)


def test_the_report_is_whole_in_itself_and_shows_every_step():
    page = report_html(
        facts(step("sign", "failed", text="it is reversed", hint="turn it", series=SERIES), measured=MEASURED)
    )
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 1
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)", page)
    for said in ("it is reversed", "next: turn it", "58.2 s", "0.5 s", "maria", "signature", "FAILED", "lag_s 0.5"):
        assert said in page, said
    assert "gone_w" not in page
    ET.fromstring(re.search(r"<svg.*</svg>", page)[0])


def test_what_a_device_says_is_text_and_never_markup():
    page = report_html(facts(step("x", "failed", text="<script>alert(1)</script>")))
    assert "<script>" not in page
    assert "<b>Maker" not in page
    assert "M &amp; M" in page


def test_a_device_without_a_dead_man_is_shouted():
    nothing = {**MEASURED["bess"], "has_dead_man": False, "dead_man_s": None}
    assert "NONE" in report_html(facts(measured={"bess": nothing}))
    assert "not measured" in report_html(facts(measured={"bess": {**nothing, "has_dead_man": None}}))
    assert "dead_man NONE" in "\n".join(status_lines({"running": None, "measured": {"bess": nothing}}))


def test_a_chart_breaks_where_nothing_was_measured_and_needs_two_rows():
    gap = [*SERIES, [3.0, 25e3, None, 35e3, None, None], [4.0, 25e3, 25e3, 35e3, None, None]]
    battery = step_chart(gap).split("var(--battery)")[2]
    assert battery.partition("/>")[0].count("M") == 2, "the battery's line is in two parts"
    assert step_chart(SERIES[:1]) == ""
    assert step_chart([]) == ""
    assert "nan" not in step_chart([[0.0, 0.0, 0.0, None, None, None], [1.0, 0.0, 0.0, None, None, None]])


def test_both_files_are_written_and_the_json_says_what_its_columns_are(tmp_path):
    page, data = report_files(tmp_path / "new" / "folder", facts(step("sign", "passed", series=SERIES)))
    assert page.read_text().startswith("<!doctype html>")
    content = json.loads(data.read_text())
    assert content["series_columns"] == ["seconds", "asked_w", "battery_w", "grid_w", "soc_pct", "frequency_hz"]
    assert content["steps"][0]["series"] == SERIES
    assert len(content["series_columns"]) == len(SERIES[0])


def test_the_status_tells_a_running_commissioning_and_what_was_proven():
    running = {"who": "maria", "title": "dead-man of bess", "done": 4, "steps": 10, "stage": "waiting"}
    shown = status_lines({"running": running, "measured": MEASURED})
    assert shown[0] == "proving  maria commissions: dead-man of bess (5 of 10), waits for a word"
    assert shown[1] == "proven   bess lag 0.5 s, settling 2.0 s, dead_man 58.2 s (commissioned 2027-01-15)"
