"""Who may write a point by hand, and what is kept of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agent.core.authority import Source
from agent.runtime.device_side import COMMANDS, DeviceSide
from agent.runtime.device_writes import DeviceWrites, Standing
from agent.runtime.local_socket import Peer, Refusal
from drivers.device import DeviceSpec, open_device
from drivers.endpoint import TcpEndpoint
from drivers.link import Link

OPERATOR, LOOKER = Peer(0, operator=True), Peer(12345, operator=False)
ASKED = {"device_id": "m", "point": "203.W", "value": "1"}


class Now:
    def mono_s(self):
        return 0.0

    def utc_s(self):
        return 1.7e9


def writes(*, read_only=False):
    """The command for a meter that nobody can reach; and the events that it told."""
    link = Link(TcpEndpoint("127.0.0.1", 1), clock=Now().mono_s, read_only=read_only)
    device = open_device(DeviceSpec("m", "meter", 1, positive="import"), link, Now().mono_s)
    told = []
    standing = Standing(Source.ROLLING, ())
    handlers = DeviceWrites({"m": device}, {"m": link}, Now(), lambda: standing, told.append).handlers()
    return handlers["device_write"], told, link


@pytest.mark.parametrize("more", [{}, {"dry_run": True}, {"point": 7}, {"device_id": "none"}])
async def test_who_is_no_operator_is_refused_before_anything_else(more):
    ask, told, link = writes()
    with pytest.raises(Refusal) as refused:
        await ask(ASKED | more, LOOKER)
    assert refused.value.why == "uid 12345 is not an operator"
    assert "ems-operator" in refused.value.hint
    assert (link.stats.requests, told) == (0, [])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"device_id": "none"}, "there is no device 'none'"),
        ({"device_id": None}, "there is no device None"),
        ({"point": 7}, "point and value must be texts"),
        ({"value": 7}, "point and value must be texts"),
        ({"value": None}, "point and value must be texts"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_with_a_reason(more, why):
    ask, told, link = writes()
    with pytest.raises(Refusal) as refused:
        await ask(ASKED | more, OPERATOR)
    assert refused.value.why.startswith(why)
    assert (link.stats.requests, told) == (0, [])


async def test_a_device_that_does_not_answer_is_a_refusal_and_no_event():
    ask, told, _ = writes()
    with pytest.raises(Refusal, match="Connection refused"):
        await ask(ASKED, OPERATOR)
    assert told == []


async def test_the_read_only_mode_refuses_before_the_device_is_asked():
    ask, told, link = writes(read_only=True)
    with pytest.raises(Refusal, match="read-only mode"):
        await ask(ASKED, OPERATOR)
    assert (link.stats.requests, told) == (0, [])


def standing(*, source=Source.ROLLING, trusted=True, override=None):
    sold = SimpleNamespace(award=SimpleNamespace(award_id="a-1"))
    control = SimpleNamespace(
        decisions=[SimpleNamespace(source=source)],
        override=override,
        trust=SimpleNamespace(trusted=trusted),
        in_force=SimpleNamespace(awards=SimpleNamespace(at=lambda utc_s: (sold,))),
    )
    return DeviceSide([], {}, {}, [], Now(), control, lambda event: None).standing()


def test_every_command_about_devices_is_there_when_it_is_asked_for():
    side = DeviceSide([], {}, {}, [], Now(), None, lambda event: None)
    assert set(side.handlers()) == set(COMMANDS) == set(side.loaded())


def test_the_awards_that_count_are_those_that_are_answered():
    suspending = SimpleNamespace(suspends_awards=True)
    answering = SimpleNamespace(suspends_awards=False)
    assert standing() == Standing(Source.ROLLING, ("a-1",))
    assert standing(trusted=False).awards == (), "without a clock none is known to count"
    assert standing(source=Source.OVERRIDE, override=answering).awards == ("a-1",)
    assert standing(source=Source.OVERRIDE, override=suspending).awards == ()
    assert standing(override=suspending).awards == ("a-1",), "an override that does not decide suspends nothing"
