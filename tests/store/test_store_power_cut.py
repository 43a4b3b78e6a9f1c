"""Some hundred power cuts and spoilt files; `power_cut.py --cuts 3000 --damage 500` does more."""

import json
import subprocess
import sys
from pathlib import Path

import power_cut
import pytest

from tests.disk_shim import library


def campaign(**asked):
    library()  # or skipped, with the reason
    command = [sys.executable, str(Path(power_cut.__file__))]
    command += [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_cut_at_any_point_of_a_recorded_life_nothing_promised_is_lost_and_nothing_torn():
    found = campaign(cuts=150, seed=5)
    assert found["cuts"] == 150
    assert {"log: page", "log: frame header", "file: other page", "restoring: renamed"} <= set(found["by_class"])


def test_any_damage_to_a_file_at_rest_is_found_or_harmless():
    found = campaign(cuts=0, damage=120, seed=6)
    assert sum(found["damaged"].values()) == 120


class TestWhatAPowerCutLeaves:
    def written(self, *changes):
        files = power_cut.Files()
        for change in changes:
            files.change(*change)
        return files

    def some(self, files, count=200):
        return [files.after_cut(power_cut.random.Random(seed)) for seed in range(count)]

    def test_what_was_synchronised_is_certain(self):
        files = self.written(("C", "a", 0, b""), ("W", "a", 0, b"x" * 1024), ("S", "a", 0, b""), ("S", ".", 0, b""))
        assert all(left == {"a": b"x" * 1024} for left in self.some(files))

    def test_a_later_write_may_be_there_in_any_of_its_sectors(self):
        files = self.written(("C", "a", 0, b""), ("W", "a", 0, b"x" * 1024), ("S", "a", 0, b""), ("S", ".", 0, b""))
        files.change("W", "a", 0, b"y" * 1024)
        found = {bytes(left["a"]) for left in self.some(files)}
        assert found == {first * 512 + second * 512 for first in (b"x", b"y") for second in (b"x", b"y")}

    def test_a_name_that_was_not_synchronised_may_be_the_old_one(self):
        files = self.written(("C", "a", 0, b""), ("W", "a", 0, b"x"), ("S", "a", 0, b""), ("S", ".", 0, b""))
        files.change("R", "a", 0, b"b")
        assert {tuple(left) for left in self.some(files)} == {("a",), (), ("b",)}

    def test_after_a_kill_everything_is_there(self):
        files = self.written(("C", "a", 0, b""), ("W", "a", 0, b"xyz"), ("T", "a", 2, b""), ("C", "b", 0, b""))
        assert files.after_kill() == {"a": b"xy", "b": b""}


@pytest.mark.parametrize(
    ("promised", "wrong"),
    [
        ({"version": 1}, "lost plan"),
        ({"event": "e1"}, "lost event"),
        ({"command": "c1"}, "lost command"),
        ({"frame": 7}, "lost frame"),
        ({"stream": "event", "seq": 1, "sha256": "of something else"}, "repeated"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_the_judge_finds_what_is_missing(tmp_path, promised, wrong):
    of = power_cut.Promised()
    of.hear(json.dumps(promised))
    assert dict(await power_cut.judge(tmp_path, of)) == {wrong: 1}


async def test_the_judge_finds_a_torn_document(tmp_path):
    store = await power_cut.open_store(tmp_path)
    made, _, outcome = power_cut.plan(3, size=300)
    torn = power_cut.plan(3, size=301)[1]
    await store.save_document(made, torn, outcome)
    await store.close()
    found = await power_cut.judge(tmp_path, power_cut.Promised())
    assert found["told as damaged"] == 1, "its content is not what its hash says, so it is not used"
