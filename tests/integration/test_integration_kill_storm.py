"""The daemon killed some times under load; `agent_kill_storm.py --kills 1000` does it often."""

import random

import pytest
from agent_kill_storm import Storm, asked_a_write, storm


@pytest.mark.timeout(300)
def test_killed_again_and_again_under_load_it_loses_nothing_and_is_back_in_control(tmp_path_factory):
    place = tmp_path_factory.mktemp("storm")
    told, wrong = storm(place, kills=4, seed=3, most_s=20.0)
    assert wrong == 0, told
    assert told["kills"] >= 1, "on a busy machine few lives fit"
    assert told["plans_stored"] >= 1
    assert told["commands"] >= 1


class Judged(Storm):
    """A storm without a site: only its judgement."""

    def __init__(self, folder):
        self.agent = type("Nobody", (), {"folder": folder})()
        self.wrong = {"lost_plans": 0, "torn": 0, "broken": 0, "unread_writes": 0}
        self._chance = random.Random(1)


def test_the_judge_finds_a_lost_file_and_a_write_before_any_reading(tmp_path):
    judged = Judged(tmp_path)
    judged.look([(1, bytes([16])), (1, bytes([3]))], promised=4)
    assert judged.wrong == {"lost_plans": 1, "torn": 0, "broken": 0, "unread_writes": 1}
    judged.look([(2, bytes([16])), (1, bytes([3])), (1, bytes([16]))], promised=0)
    assert judged.wrong["unread_writes"] == 1, "it read its battery first"
    assert not asked_a_write([(1, bytes([3])), (2, bytes([16]))])
