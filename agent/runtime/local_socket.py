"""The Unix socket of the `ems` command: one JSON request per line, one JSON reply per line.

Reply: `{"ok": true, "result": ...}` or `{"ok": false, "error": {"what", "why", "next"}}`. Reading is allowed to
whoever the file permissions let in; what changes the plans needs the operator group, the daemon's own user or
root.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
import structlog

log = structlog.get_logger(__name__)

MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""A yearly plan on a stick, base64 in JSON, stays below this."""
MAX_CLIENTS = 16
IDLE_TIMEOUT_S = 60.0


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


_T = TypeVar("_T")
Handler = Callable[[dict[str, Any], Peer], Awaitable[Any]]


class LocalSocket:
    """Serves `handlers` by command name; the socket file is 0660 and belongs to the read group where that exists."""

    def __init__(
        self, path: Path, handlers: dict[str, Handler], read_group: str | None, operator_group: str | None
    ) -> None:
        self._path = path
        self._handlers = handlers
        self._read_group = _gid(read_group)
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
        if self._read_group is not None and (os.geteuid() == 0 or self._read_group in os.getgroups()):
            os.chown(self._path, -1, self._read_group)
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
        raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, gid = struct.unpack("3i", raw)
        return Peer(uid, self._is_operator(uid, gid))

    def _is_operator(self, uid: int, gid: int) -> bool:
        if uid in (0, os.geteuid()):
            return True
        operator_gid = _gid(self._operator_group)
        if operator_gid is None:
            return False
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            return gid == operator_gid
        return operator_gid in os.getgrouplist(name, gid)


async def _soon(job: Awaitable[_T]) -> _T:
    """The job's result, or TimeoutError from a client that does not go on; wait_for of 3.11 can lose a cancellation."""
    async with asyncio.timeout(IDLE_TIMEOUT_S):
        return await job


def _gid(group: str | None) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid if group else None
    except KeyError:
        return None
