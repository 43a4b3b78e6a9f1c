"""The Unix socket of the `ems` command: one JSON request per line, one JSON reply per line.

Reply: `{"ok": true, "result": ...}` or `{"ok": false, "error": {"what", "why", "next"}}`. Reading is allowed to
whoever the file permissions let in; what changes the plans needs the operator group, the daemon's own user or
root.
"""

from __future__ import annotations

import array
import asyncio
import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
import structlog

log = structlog.get_logger(__name__)

MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""A yearly plan on a stick, base64 in JSON, stays below this."""
MAX_CLIENTS = 16
IDLE_TIMEOUT_S = 60.0
SO_PEERGROUPS = 59
"""The supplementary groups of the peer (Linux, asm-generic/socket.h); Python does not name it."""
MAX_GROUPS = 256
"""Python reads options of at most 1024 bytes; of somebody in more groups the user database tells."""


class Refusal(Exception):  # noqa: N818  # an answer, not a fault
    """A request that cannot be served: what was asked, why not, what to do next."""

    def __init__(self, what: str, why: str, hint: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what, self.why, self.hint = what, why, hint


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is on the other end, as the kernel knows it."""

    uid: int
    operator: bool

    @property
    def name(self) -> str:
        """The login name, or the bare uid."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A process on the other end of a Unix socket."""

    uid: int
    gid: int
    groups: frozenset[int]
    """Its supplementary groups."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """What the system knows of users and groups."""

    own_uid: Callable[[], int]
    gid_of: Callable[[str], int | None]
    """The number of a group, None where there is no such group."""
    groups_of: Callable[[int, int], frozenset[int]]
    """The groups of a user (uid, primary gid) by the user database: a new member need not log in again."""


_T = TypeVar("_T")
Handler = Callable[[dict[str, Any], Peer], Awaitable[Any]]


def at_first_use(names: Iterable[str], load: Callable[[], Mapping[str, Handler]]) -> dict[str, Handler]:
    """Handlers of these names, which `load` brings at the first request for one of them; it may import, in a thread."""
    lock = asyncio.Lock()
    loaded: dict[str, Handler] = {}

    async def ask(name: str, request: dict[str, Any], peer: Peer) -> Any:
        async with lock:
            if not loaded:
                loaded.update(await asyncio.to_thread(load))
        return await loaded[name](request, peer)

    return {name: partial(ask, name) for name in names}


class LocalSocket:
    """Serves `handlers` by command name; the socket file is 0660 and belongs to the read group where that exists."""

    def __init__(
        self,
        path: Path,
        handlers: dict[str, Handler],
        read_group: str | None,
        operator_group: str | None,
        accounts: Accounts | None = None,
    ) -> None:
        self._path = path
        self._handlers = handlers
        self._accounts = accounts or SYSTEM
        self._read_group = self._accounts.gid_of(read_group) if read_group else None
        self._operator_group = operator_group
        self._server: asyncio.Server | None = None
        self._clients = 0

    async def start(self) -> None:
        """Listens; a stale file of a daemon that was killed is replaced (the store's lock proves that it is stale)."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self._path.exists() and stat.S_ISSOCK(self._path.stat().st_mode):
            self._path.unlink()
        # Created closed to everybody else, then opened to the group.
        previous = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=MAX_REQUEST_BYTES)
        finally:
            os.umask(previous)
        # Not where it is so already, as in the service: its sandbox knows no chown.
        wanted = self._read_group
        if wanted not in {None, self._path.stat().st_gid} and (os.geteuid() == 0 or wanted in os.getgroups()):
            os.chown(self._path, -1, wanted)
        self._path.chmod(0o660)

    async def stop(self) -> None:
        """Closes the listener and removes the file."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients > MAX_CLIENTS:
                return
            peer = self._peer(writer)
            while line := await _soon(reader.readline()):
                writer.write(orjson.dumps(await self._answer(line, peer)) + b"\n")
                await _soon(writer.drain())
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            # ValueError is asyncio's word for a line over the limit.
            log.info("local_client_dropped", reason=str(error) or type(error).__name__)
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, line: bytes, peer: Peer) -> dict[str, Any]:
        try:
            request = orjson.loads(line)
            handler = self._handler(request)
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                raise Refusal("request", "no such command", f"the daemon knows: {known}")
            return {"ok": True, "result": await handler(request, peer)}
        except orjson.JSONDecodeError as error:
            refusal = Refusal("request", f"not JSON: {error}", "send one JSON object per line")
        except Refusal as error:
            refusal = error
        return {"ok": False, "error": {"what": refusal.what, "why": refusal.why, "next": refusal.hint}}

    def _handler(self, request: object) -> Handler | None:
        command = request.get("cmd") if isinstance(request, dict) else None
        return self._handlers.get(command) if isinstance(command, str) else None

    def _peer(self, writer: asyncio.StreamWriter) -> Peer:
        who = credentials(writer.get_extra_info("socket"))
        return Peer(who.uid, is_operator(who, self._operator_group, self._accounts))


def credentials(peer: socket.socket) -> Credentials:
    """Who is on the other end of a Unix socket, by the kernel."""
    _, uid, gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    try:
        groups = array.array("I", peer.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * MAX_GROUPS))
    except OSError:  # an old kernel, or too many groups: the user database still knows them
        groups = array.array("I")
    return Credentials(uid, gid, frozenset(groups))


def is_operator(who: Credentials, operator_group: str | None, accounts: Accounts) -> bool:
    """Whether they may change things: root, the daemon's own user, and the members of the operator group."""
    if who.uid in {0, accounts.own_uid()}:
        return True
    wanted = accounts.gid_of(operator_group) if operator_group else None
    if wanted is None:
        return False
    return wanted in {who.gid, *who.groups, *accounts.groups_of(who.uid, who.gid)}


def _gid_of(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _groups_of(uid: int, gid: int) -> frozenset[int]:
    try:
        return frozenset(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        return frozenset()


SYSTEM = Accounts(os.geteuid, _gid_of, _groups_of)


async def _soon(job: Awaitable[_T]) -> _T:
    """The job's result, or TimeoutError from a client that does not go on; wait_for of 3.11 can lose a cancellation."""
    async with asyncio.timeout(IDLE_TIMEOUT_S):
        return await job
