"""docs/events.md says of every code that the agent can tell what it means and what to do."""

import re
from pathlib import Path

import pytest
from event_codes import codes

PAGE = (Path(__file__).parents[1] / "docs" / "events.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| `")]


def test_the_codes_are_found_in_the_sources():
    found = codes()
    assert {"device_silent", "certificate_expires", "override_set", "client_id_taken", "site_restored"} <= set(found)
    assert len(found) > 70


def test_every_code_has_one_row_and_no_row_is_of_a_code_that_there_is_not():
    told = [row[0].strip("` ") for row in ROWS]
    assert len(told) == len(set(told))
    assert set(told) == set(codes()), "docs/events.md has a row for each code of an event"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("` "))
def test_a_row_says_how_bad_it_is_what_it_means_and_what_to_do(row):
    assert len(row) == 4
    code, severity, meaning, todo = row
    assert re.search(r"alarm|warning|info", severity)
    assert [one for one in codes()[code.strip("` ")] if one not in severity] == []
    assert len(meaning.split()) >= 4
    assert todo
    assert todo != "nothing" or "alarm" not in severity


def test_what_the_page_points_to_is_there():
    folder = Path(__file__).parents[1] / "docs"
    for name, anchor in re.findall(r"\]\(([a-z-]+\.md)(?:#([a-z-]+))?\)", PAGE):
        text = (folder / name).read_text()
        headings = [
            re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        ]
        assert not anchor or anchor in headings, f"{name}#{anchor}"
