"""Who may do what over the local socket: what nobody said to be harmless is for operators."""

import pytest

from agent.runtime.local_socket import Peer, Refusal
from agent.runtime.roles import READING, by_role

SOMEBODY, OPERATOR = Peer(1000, operator=False), Peer(1000, operator=True)


async def done(request, peer):
    return request["text"], peer.operator


async def test_whoever_may_look_is_answered_and_what_does_more_is_refused_by_name():
    handlers = by_role({"status": done, "something_new": done})
    assert await handlers["status"]({"text": 1}, SOMEBODY) == (1, False)
    with pytest.raises(Refusal) as refused:
        await handlers["something_new"]({"text": 1}, SOMEBODY)
    assert refused.value.what == "something new"
    assert "ems-operator" in refused.value.hint


async def test_an_operator_may_do_both():
    handlers = by_role({"status": done, "something_new": done})
    assert [await handlers[name]({"text": 2}, OPERATOR) for name in handlers] == [(2, True), (2, True)]


@pytest.mark.parametrize("word", ["set", "reset", "clear", "import", "write", "start", "go", "reload", "end"])
def test_no_command_that_does_something_counts_as_looking(word):
    assert not [name for name in READING if word in name.split("_")]
