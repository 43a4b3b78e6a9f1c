"""The daemon's Unix socket: permissions, answers, and bad requests."""

from __future__ import annotations

import asyncio
import json
import stat

import pytest

from agent.runtime.local_socket import MAX_REQUEST_BYTES, LocalSocket, Refusal


async def echo(request, peer):
    return {"said": request.get("text"), "operator": peer.operator}


async def refuse(_request, _peer):
    raise Refusal("plan import", "it is torn", "bring another")


@pytest.fixture
async def served(tmp_path):
    socket = LocalSocket(tmp_path / "run" / "ems.sock", {"echo": echo, "refuse": refuse}, None, None)
    await socket.start()
    yield tmp_path / "run" / "ems.sock"
    await socket.stop()


async def exchange(path, *lines: bytes) -> list[dict]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"".join(line + b"\n" for line in lines))
    writer.write_eof()
    replies = (await asyncio.wait_for(reader.read(), 5)).splitlines()
    writer.close()
    return [json.loads(reply) for reply in replies]


async def test_the_socket_is_closed_to_others(served):
    assert stat.S_IMODE(served.stat().st_mode) == 0o660


async def test_several_requests_on_one_line_are_answered_in_order(served):
    replies = await exchange(served, b'{"cmd": "echo", "text": 1}', b'{"cmd": "echo", "text": 2}')
    assert [reply["result"]["said"] for reply in replies] == [1, 2]


async def test_the_daemons_own_user_is_an_operator(served):
    (reply,) = await exchange(served, b'{"cmd": "echo"}')
    assert reply["result"]["operator"] is True


async def test_a_refusal_says_what_why_and_what_next(served):
    (reply,) = await exchange(served, b'{"cmd": "refuse"}')
    assert reply == {"ok": False, "error": {"what": "plan import", "why": "it is torn", "next": "bring another"}}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"cmd": "fly"}',
        b'{"cmd": 7}',
        b'{"cmd": null}',
        b'{"cmd": []}',
        b"\xff",
        b"[" * 10_000,
    ],
)
async def test_a_bad_request_is_answered_and_the_next_one_served(served, line):
    bad, good = await exchange(served, line, b'{"cmd": "echo", "text": "still here"}')
    assert bad["ok"] is False
    assert good["result"]["said"] == "still here"


async def test_a_request_without_end_is_dropped_and_others_are_served(served):
    reader, writer = await asyncio.open_unix_connection(str(served))
    try:
        writer.write(b"x" * (MAX_REQUEST_BYTES * 2 + 1))
        assert await asyncio.wait_for(reader.read(), 10) == b""
    except ConnectionError:
        pass  # the daemon closed while we still wrote: dropped just the same
    writer.close()
    (reply,) = await exchange(served, b'{"cmd": "echo", "text": "ok"}')
    assert reply["ok"] is True


async def test_a_stale_socket_file_is_replaced(tmp_path):
    first = LocalSocket(tmp_path / "ems.sock", {"echo": echo}, None, None)
    await first.start()
    second = LocalSocket(tmp_path / "ems.sock", {"echo": echo}, None, None)
    await second.start()
    (reply,) = await exchange(tmp_path / "ems.sock", b'{"cmd": "echo"}')
    assert reply["ok"] is True
    await second.stop()
    assert not (tmp_path / "ems.sock").exists()
    await first.stop()
