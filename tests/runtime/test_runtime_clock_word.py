"""`ems clock trust` between socket, disk, control loop and command desk."""

from types import SimpleNamespace

import pytest
from runtime_commands import NOW, Clock

from agent.core.admission import MAX_ISSUED_AHEAD_S
from agent.core.clock_trust import ClockTrust
from agent.core.records import StorageFailed
from agent.runtime.clock_word import ClockWord
from agent.runtime.local_socket import Peer, Refusal

OPERATOR, READER = Peer(0, operator=True), Peer(65534, operator=False)
DAY = 86_400.0


class Place:
    def __init__(self, trust=None):
        self.kept, self.since, self.believed, self.told, self.acted, self.failing = [], [], [], [], [], False
        self.trust = trust or ClockTrust(False, NOW + DAY, "the clock is behind")
        control = SimpleNamespace(
            clock_now=lambda: self.trust,
            believe_clock=self.believed.append,
            act_now=lambda: self.acted.append(len(self.believed)),
        )
        self.word = ClockWord(
            store=self, control=control, commands_since=self.since.append, tell=self.told.append, clock=Clock()
        )

    async def believe_clock(self, utc_s, commands_since_utc_s):
        if self.failing:
            raise StorageFailed("control", "the disk is full")
        self.kept.append((utc_s, commands_since_utc_s))

    async def ask(self, peer=OPERATOR, **request):
        asked = {"watch_utc_s": NOW + 20.0, "reason": "dead battery"} | request
        return await self.word.handlers()["clock_trust"](asked, peer)


async def test_the_word_is_on_disk_in_force_and_told_with_who_gave_it():
    place = Place()
    done = await place.ask(reason=" dead\nbattery ")
    assert place.kept == [(NOW, NOW + MAX_ISSUED_AHEAD_S)]
    assert (place.believed, place.acted) == ([NOW], [1]), "a tick at once, after it is believed"
    assert place.since == [NOW + MAX_ISSUED_AHEAD_S], "ids of commands were forgotten in the wrong future"
    assert done["back_s"] == DAY
    (event,) = place.told
    assert (event.code, event.severity, event.data["who"]) == ("clock_believed", "warning", OPERATOR.name)
    assert event.data["reason"] == "dead?battery"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"peer": READER}, "is not an operator"),
        ({"reason": " "}, "a reason of 1 to"),
        ({"reason": 5}, "a reason of 1 to"),
        ({"reason": "x" * 201}, "a reason of 1 to"),
        ({"watch_utc_s": None}, "the time of your watch"),
        ({"watch_utc_s": True}, "the time of your watch"),
        ({"watch_utc_s": "2024"}, "the time of your watch"),
        ({"watch_utc_s": NOW + DAY}, "behind the time that you read off your watch"),
    ],
)
async def test_anything_else_is_refused_and_changes_nothing(request_, words):
    place = Place()
    with pytest.raises(Refusal) as refused:
        await place.ask(**request_)
    assert words in str(refused.value.why)
    assert (place.kept, place.believed, place.since, place.told) == ([], [], [], [])


async def test_a_clock_that_is_trusted_is_left_alone():
    place = Place(ClockTrust(True, NOW - 5.0, ""))
    with pytest.raises(Refusal, match="trusted already"):
        await place.ask()
    assert place.kept == []


async def test_what_the_disk_does_not_keep_does_not_count():
    place = Place()
    place.failing = True
    with pytest.raises(Refusal, match="nothing was changed"):
        await place.ask()
    assert (place.believed, place.since, place.told) == ([], [], [])
