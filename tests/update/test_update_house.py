"""The folders of a gateway, and what the daemon's answers mean for an update."""

import pytest
from update_world import Killed, World

from agent.core.update_health import Look
from agent.core.update_steps import Journal, Phase
from agent.update.debian import look_from
from agent.update.house import MARK, House
from agent.update.not_done import NotDone

BEFORE = Look(1.5, "1.0", "b", 7, frozenset({"bess"}), frozenset({("unit_resting", "pv")}), connected=True)


@pytest.fixture
def house(tmp_path):
    return World(tmp_path).house


@pytest.mark.parametrize("before", [BEFORE, None])
def test_a_journal_is_read_as_it_was_written(house, before):
    journal = Journal(Phase.GOING_BACK, "1.0", "1.1", "it does not answer", 3)
    house.write_journal(journal, before)
    assert House(house.root).journal() == (journal, before)
    house.clear_journal()
    assert house.journal() is None


def test_a_journal_that_cannot_be_read_is_no_reason_to_guess(house):
    (house.root / "update.json").write_text("{")
    with pytest.raises(NotDone, match=r"update.json cannot be read"):
        house.journal()


def test_with_the_journal_the_version_in_use_is_the_one_that_finishes(house):
    house.write_journal(Journal(Phase.PREPARING, "1.0", "1.1"), None)
    assert (house.root / "updater").resolve() == house.home("1.0").resolve()


def test_a_journal_takes_the_place_of_the_former_one_whole(house):
    """A power cut while it is written leaves the former one."""
    house.write_journal(Journal(Phase.PREPARING, "1.0", "1.1"), None)
    with (house.root / "update.json").open() as former:
        house.write_journal(Journal(Phase.SWITCHING, "1.0", "1.1"), None)
        assert '"preparing"' in former.read()


def test_a_version_half_removed_is_not_taken_for_whole(house, monkeypatch):
    def cut_off(_folder):
        raise Killed

    (house.home("0.9")).mkdir()
    (house.home("0.9") / MARK).touch()
    monkeypatch.setattr("shutil.rmtree", cut_off)
    with pytest.raises(Killed):
        house.remove("0.9")
    assert house.home("0.9").exists()
    assert not house.complete("0.9")


def test_the_version_in_use_is_never_removed(house):
    with pytest.raises(AssertionError):
        house.remove("1.0")


def test_half_a_version_is_not_one_to_go_back_to(house):
    (house.versions_folder / "0.9").mkdir()
    assert house.previous() is None


def test_where_nothing_is_installed_no_version_is_in_use(tmp_path):
    assert (House(tmp_path).current(), House(tmp_path).versions()) == (None, [])
    with pytest.raises(NotDone, match="was not installed from a bundle"), House(tmp_path).alone(wait=True):
        pass


STATUS = {
    "version": "1.1",
    "boot_id": "b",
    "counters": {"ticks": 12},
    "cloud": {"connected": True},
    "conditions": [
        {"code": "not_following", "subject": "bess", "severity": "alarm"},
        {"code": "read_only", "subject": "site", "severity": "warning"},
        {"code": "told", "subject": "site", "severity": "info"},
    ],
}
EXPLAINED = {
    "shares_w": {"bess": 0.0, "other": 5.0},
    "last_outcomes": {"bess": {"confirmed": True}, "other": {"confirmed": False}, "pv": {"confirmed": True}},
}


def test_a_look_is_what_the_daemon_says_of_itself():
    conditions = frozenset({("not_following", "bess"), ("read_only", "site")})
    assert look_from(STATUS, EXPLAINED, 3.0) == Look(
        3.0, "1.1", "b", 12, frozenset({"bess"}), conditions, connected=True
    )


def test_a_site_without_a_cloud_is_neither_connected_nor_not():
    assert look_from(STATUS | {"cloud": None}, EXPLAINED, 3.0).connected is None
