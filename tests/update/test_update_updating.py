"""An update from beginning to end, and cut off at every point of it."""

import pytest
from update_world import Killed, Mortal, World, bundle

from agent.core.update_steps import End
from agent.update.house import House
from agent.update.not_done import NotDone
from agent.update.updating import Updating

LONGEST_WAY = 400
"""Calls in any update, with room."""


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def updating(world, *, mortal=False):
    if mortal:
        return Updating(Mortal(world.house, world), Mortal(world, world), lambda _: None)
    return Updating(House(world.house.root), world, lambda _: None)


def update(world, tmp_path, version="1.1", **more):
    return updating(world, **more).update(bundle(tmp_path, version), tmp_path / "no keys", unsigned=True)


def is_in_order(world):
    """Nothing is under way, nothing lies about, and what is in use is whole."""
    assert world.house.journal() is None
    assert not world.house.incoming.exists()
    assert not (world.house.root / "updater").is_symlink()
    assert world.house.complete(world.house.current())
    assert all(world.house.complete(version) for version in world.house.versions())


def test_a_version_that_works_takes_the_place_of_the_old_one_which_is_kept(world, tmp_path):
    result = update(world, tmp_path)
    assert (result.end, result.old, result.new) == (End.UPDATED, "1.0", "1.1")
    assert (world.house.current(), world.running) == ("1.1", "1.1")
    assert world.house.versions() == ["1.0", "1.1"]
    assert world.restarts == ["1.1"]
    assert world.copies == 1
    is_in_order(world)


def test_a_version_that_does_not_work_is_left_and_the_old_one_runs_again(world, tmp_path):
    world.works.remove("1.1")
    result = update(world, tmp_path)
    assert (result.end, result.why) == (End.WENT_BACK, "after 60 s it does not answer")
    assert world.restarts == ["1.1", "1.0"]
    assert (world.house.current(), world.running, world.house.versions()) == ("1.0", "1.0", ["1.0"])
    is_in_order(world)


def test_where_neither_works_the_old_one_is_in_use_and_it_is_said(world, tmp_path):
    world.works.clear()
    result = update(world, tmp_path)
    assert (result.end, world.house.current()) == (End.WENT_BACK_UNWELL, "1.0")
    is_in_order(world)


def test_a_version_that_does_not_take_the_site_file_is_refused_while_the_old_one_goes_on(world, tmp_path):
    world.site_refuses["1.1"] = "site.toml: control.mode: unknown"
    with pytest.raises(NotDone, match=r"version 1.1 cannot use the site file: site.toml: control.mode: unknown"):
        update(world, tmp_path)
    assert (world.restarts, world.house.versions()) == ([], ["1.0"])
    is_in_order(world)


def test_only_the_two_newest_versions_are_kept(world, tmp_path):
    world.works.add("1.2")
    update(world, tmp_path)
    update(world, tmp_path, "1.2")
    assert world.house.versions() == ["1.1", "1.2"]


def test_the_version_in_use_is_not_installed_again(world, tmp_path):
    with pytest.raises(NotDone, match=r"version 1.0 is in use already"):
        update(world, tmp_path, "1.0")
    is_in_order(world)


def test_a_damaged_bundle_changes_nothing(world, tmp_path):
    path = bundle(tmp_path, "1.1")
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(NotDone):
        updating(world).update(path, tmp_path / "no keys", unsigned=True)
    assert world.house.versions() == ["1.0"]
    is_in_order(world)


def test_back_is_the_version_before_and_back_again_the_newer_one(world, tmp_path):
    update(world, tmp_path)
    assert updating(world).back().end is End.UPDATED
    assert (world.house.current(), world.running, world.house.versions()) == ("1.0", "1.0", ["1.0", "1.1"])
    updating(world).back()
    assert world.house.current() == "1.1"
    is_in_order(world)


def test_without_another_version_there_is_no_way_back(world):
    with pytest.raises(NotDone, match=r"there is no other version than 1.0"):
        updating(world).back()


def test_without_an_interrupted_update_there_is_nothing_to_resume(world):
    assert updating(world).resume() is None


def test_two_updates_at_once_are_one_too_many(world, tmp_path):
    with world.house.alone(wait=False), pytest.raises(NotDone, match="another update is under way"):
        update(world, tmp_path)


def test_a_running_new_version_is_not_started_again_when_only_its_proof_was_interrupted(world, tmp_path):
    world.deaths = deaths_in(world, tmp_path, "look")
    with pytest.raises(Killed):
        update(world, tmp_path, mortal=True)
    assert world.running == "1.1"
    assert updating(world).resume().end is End.UPDATED
    assert world.restarts == ["1.1"]


def deaths_in(world, tmp_path, name):
    """The number of the call after the restart at which `name` is asked the first time."""
    other = World(tmp_path / "other")
    seen = []
    inner = other.look
    other.look = lambda: (seen.append((other.running, other.calls)), inner())[1]
    (tmp_path / "bundles").mkdir()
    update(other, tmp_path / "bundles", mortal=True)
    assert name == "look"
    return next(calls for running, calls in seen if running == "1.1") + 1


@pytest.mark.parametrize("works", [("1.0", "1.1"), ("1.0",)], ids=["the new one works", "the new one does not"])
@pytest.mark.parametrize("power_cut", [True, False], ids=["power cut", "process killed"])
def test_cut_off_at_any_point_it_leaves_one_version_that_works(tmp_path, works, power_cut):
    """Before and after every call to the files and the service; then finished by `--resume`, with the version kept
    for that, which is whole at that moment."""
    ends = set()
    for point in range(1, LONGEST_WAY):
        folder = tmp_path / str(point)
        folder.mkdir()
        world = World(folder, works=works)
        world.deaths = point
        try:
            update(world, folder, mortal=True)
        except Killed:
            pass
        else:
            break
        used = world.house.current()
        assert world.house.complete(used), f"killed at {point}"
        under_way = world.house.journal()
        if under_way is not None:
            updater = world.house.root / "updater"
            assert world.house.complete(updater.readlink().name), f"killed at {point}"
        if power_cut:
            world.boot()
        result = updating(world).resume()
        assert (result is None) == (under_way is None)
        ends.add(result.end if result is not None else None)
        assert world.house.current() in works, f"killed at {point}"
        assert world.running == world.house.current(), f"killed at {point}"
        assert world.house.complete(world.house.current())
        assert world.house.journal() is None
        assert power_cut or update_goes_on(world, folder), f"killed at {point}"
    else:
        pytest.fail("the update never came to its end")
    proven = End.UPDATED if "1.1" in works else End.WENT_BACK
    assert ends == {None, End.NOTHING_CHANGED, proven}
    assert point > 20


def update_goes_on(world, folder):
    """Whether the next update works as if nothing had happened."""
    world.works.add("1.2")
    update(world, folder, "1.2")
    is_in_order(world)
    return world.running == "1.2"


def test_a_second_interruption_of_the_start_goes_back(world, tmp_path):
    """A new version that brings the machine down is not started at each boot for ever."""
    world.deaths = deaths_in(world, tmp_path, "look")
    with pytest.raises(Killed):
        update(world, tmp_path, mortal=True)
    world.boot()
    world.calls, world.deaths = 0, 7
    with pytest.raises(Killed):
        updating(world, mortal=True).resume()
    world.boot()
    world.deaths = -1
    result = updating(world).resume()
    assert (result.end, result.why, world.running) == (
        End.WENT_BACK,
        "its start was interrupted 2 times",
        "1.0",
    )
    is_in_order(world)
