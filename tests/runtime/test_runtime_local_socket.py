"""The daemon's Unix socket: permissions, answers, and bad requests."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from agent.runtime.local_socket import (
    MAX_REQUEST_BYTES,
    Accounts,
    Credentials,
    LocalSocket,
    Refusal,
    at_first_use,
    is_operator,
)


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


DAEMON, ALICE, BOB = 500, 1000, 1001
USERS, OPERATORS = 100, 200
KNOWN = Accounts(
    own_uid=lambda: DAEMON,
    gid_of={"ems-operator": OPERATORS}.get,
    groups_of=lambda uid, gid: frozenset({gid, OPERATORS} if uid == ALICE else {gid}),
)


@pytest.mark.parametrize(
    ("who", "allowed"),
    [
        (Credentials(0, 0, frozenset()), True),
        (Credentials(DAEMON, USERS, frozenset()), True),
        (Credentials(ALICE, USERS, frozenset()), True),
        (Credentials(BOB, USERS, frozenset()), False),
        (Credentials(BOB, OPERATORS, frozenset()), True),
        (Credentials(BOB, USERS, frozenset({USERS, OPERATORS})), True),
        (Credentials(BOB, USERS, frozenset({USERS, 201})), False),
    ],
    ids=["root", "the daemon's user", "by the user database", "nobody", "by group", "by supplementary group", "other"],
)
def test_an_operator_is_root_the_daemons_user_or_a_member_of_the_group(who, allowed):
    assert is_operator(who, "ems-operator", KNOWN) is allowed


@pytest.mark.parametrize("group", [None, "", "no-such-group"])
def test_without_an_operator_group_only_root_and_the_daemons_user_are_operators(group):
    assert is_operator(Credentials(0, 0, frozenset()), group, KNOWN)
    assert is_operator(Credentials(DAEMON, 1, frozenset()), group, KNOWN)
    assert not is_operator(Credentials(ALICE, OPERATORS, frozenset({OPERATORS})), group, KNOWN)


ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1])
    line.sendall(b'{"cmd": "echo"}' + bytes([10]))
    print(line.makefile().readline())
"""


NOBODY = 65534


@pytest.fixture
def open_folder():
    """A folder that everybody may enter, unlike those of pytest."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(("extra", "operator"), [((), False), (("daemon",), True)])
async def test_the_kernel_tells_who_asks_with_supplementary_groups(open_folder, extra, operator):
    path = open_folder / "ems.sock"
    served = LocalSocket(path, {"echo": echo}, grp.getgrgid(NOBODY).gr_name, "daemon")
    await served.start()
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-S", "-c", ASK, str(path), stdout=asyncio.subprocess.PIPE,
        user=NOBODY, group=NOBODY, extra_groups=[grp.getgrnam(name).gr_gid for name in extra],
    )  # fmt: skip
    out, _ = await process.communicate()
    await served.stop()
    assert json.loads(out)["result"]["operator"] is operator


async def test_what_is_loaded_at_first_use_is_loaded_once_for_all_who_ask_and_not_before():
    loads = []

    async def named(request, _peer):
        return request["text"]

    def load():
        loads.append(threading.current_thread())
        return {"one": named, "two": named}

    handlers = at_first_use(("one", "two"), load)
    assert loads == []
    asked = [handlers[name]({"text": name}, None) for name in ("one", "two", "one")]
    assert await asyncio.gather(*asked) == ["one", "two", "one"]
    assert len(loads) == 1
    assert loads[0] is not threading.main_thread()
