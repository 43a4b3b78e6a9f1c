"""What becomes of a site file that is read anew; that control goes on meanwhile is tried with a real daemon elsewhere."""

import asyncio
import shutil
from pathlib import Path

import pytest
from runtime_commands import Clock

from agent.config import load
from agent.core.events import EventState
from agent.runtime.local_socket import Peer, Refusal
from agent.runtime.reload import Reloading

ROOT = Path(__file__).parents[2]
OPERATOR, READER = Peer(0, operator=True), Peer(65534, operator=False)


class Parts:
    """Notes what came into force, and takes its time over it."""

    def __init__(self):
        self.sites, self.busy, self.takes_s = [], False, 0.0

    async def use(self, site):
        assert not self.busy, "one after the other"
        self.busy = True
        await asyncio.sleep(self.takes_s)
        self.busy = False
        self.sites.append(site)


class Place:
    def __init__(self, folder):
        self.file = folder / "site.toml"
        shutil.copy(ROOT / "config/site.example.toml", self.file)
        self.parts, self.told = Parts(), []
        self.reloading = Reloading(load(self.file), self.parts, tell=self.told.append, clock=Clock())

    def write(self, old, new):
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new, 1))

    async def ask(self, peer=OPERATOR):
        return await self.reloading.handlers()["reload"]({}, peer)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


async def test_a_changed_file_comes_into_force_whole_and_is_told_with_who_and_what(place):
    place.write('soc_max = "95 %"', 'soc_max = "90 %"')
    place.write('poll = "1 s"', 'poll = "2 s"')
    assert await place.ask() == {"changed": ["device[0] (bess).poll", "device[0] (bess).soc_max"]}
    assert place.parts.sites[0].device[0].soc_max == 90.0
    (event,) = place.told
    assert (event.code, event.data["who"]) == ("site_file_reloaded", OPERATOR.name)
    assert event.data["keys"] == "device[0] (bess).poll, device[0] (bess).soc_max"
    assert await place.ask() == {"changed": []}, "it is what is in force now"


async def test_a_file_that_did_not_change_is_taken_too_for_certificates_are_read_anew_with_it(place):
    assert await place.ask() == {"changed": []}
    assert len(place.parts.sites) == 1


async def test_only_operators_ask_for_it(place):
    with pytest.raises(Refusal, match="not an operator"):
        await place.ask(READER)
    assert place.parts.sites == []


async def test_a_refusal_stands_as_a_condition_with_file_key_and_reason_until_a_file_is_taken(place):
    good = place.file.read_text()
    place.write('soc_max = "95 %"', 'soc_max = "4 %"')
    with pytest.raises(Refusal, match=r"nothing was taken over: .*soc_min"):
        await place.ask()
    (condition,) = place.reloading.conditions()
    assert (condition.code, condition.data["file"]) == ("site_file_refused", str(place.file))
    assert condition.data["key"] == "device[0] (bess)"
    assert condition.data["reason"] == "soc_min (5 %) must lie below soc_max (4 %)"
    assert place.told == [], "the condition tells the first one"
    place.file.write_text("schema =")
    assert await place.reloading.reload("SIGHUP") is None
    (event,) = place.told
    assert (event.code, event.state, event.data["key"]) == ("site_file_refused", EventState.NOTED, None)
    assert event.data["reason"].startswith("is not TOML: ")
    assert place.reloading.facts()["refused"] == [f"{place.file}: {event.data['reason']}"]
    assert place.parts.sites == []
    place.file.write_text(good)
    await place.ask()
    assert (place.reloading.conditions(), place.reloading.facts()["refused"]) == ((), [])


async def test_a_file_that_is_gone_is_refused_too(place):
    place.file.unlink()
    with pytest.raises(Refusal, match="cannot be read: No such file"):
        await place.ask()


async def test_every_key_that_needs_a_restart_is_named_and_none_that_does_not(place):
    place.write('soc_max = "95 %"', 'soc_max = "90 %"')
    place.write("unit_id = 1", "unit_id = 9")
    place.write("telemetry_mb = 400", "telemetry_mb = 500")
    with pytest.raises(Refusal) as refused:
        await place.ask()
    assert "device[0] (bess).unit_id: takes effect only with a restart" in str(refused.value)
    assert "store.telemetry_mb: takes effect only with a restart" in str(refused.value)
    assert "soc_max" not in str(refused.value)
    assert place.reloading.conditions()[0].data["more"] == 1
    assert place.parts.sites == []


async def test_a_profile_that_reads_otherwise_needs_a_restart(place):
    own = place.file.parent / "profiles"
    own.mkdir()
    meter = (ROOT / "drivers/profiles/eastron-sdm630.toml").read_text()
    (own / "own-meter.toml").write_text(meter)
    place.write('positive = "import" ', 'profile = "own-meter"\npositive = "import" ')
    site = load(place.file)
    reloading = Reloading(site, place.parts, tell=place.told.append, clock=Clock())
    assert await reloading.reload("SIGHUP") == ()
    changed = meter.replace("plausible = [0, 500]", "plausible = [0, 400]", 1)
    assert changed != meter
    (own / "own-meter.toml").write_text(changed)
    assert await reloading.reload("SIGHUP") is None
    assert "device[2] (grid-meter).profile: takes effect only with a restart" in reloading.facts()["refused"][0]


async def test_two_that_ask_at_once_are_served_one_after_the_other(place):
    place.write('soc_max = "95 %"', 'soc_max = "90 %"')
    place.parts.takes_s = 0.3  # longer than the second one needs to read the file
    first, second = await asyncio.gather(place.ask(), place.ask())
    assert (len(first["changed"]), second["changed"]) == (1, [])


async def test_the_signal_asks_for_it_too(place):
    place.reloading.hung_up()
    await place.reloading._asked_by_signal
    assert place.told[0].data["who"] == "SIGHUP"
