"""One re-planning from request to checked plan: `replan(request)` always answers, and never later than its time limit.

To be awaited beside the control loop, never in it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.core.replan_request import PlannedSlot, ReplanRequest, refusal
from agent.core.replan_rules import rule_plan
from agent.replan.check import check
from agent.replan.problem import MAX_JSON_BYTES, MalformedError, Proposal, proposal_from_json, request_json

WALL_LIMIT_S = 30.0
"""From the start of the process to its end; it usually takes half a second."""
MAX_COMPLAINT_BYTES = 4096
"""What is kept of the process's stderr."""
WORKER = (sys.executable, "-m", "agent.replan.worker")
_CODE = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Replanned:
    """A plan of the solver that passed the check."""

    slots: tuple[PlannedSlot, ...]
    used_milp: bool


@dataclass(frozen=True, slots=True)
class Fallback:
    """The rule-based plan, and why there is none of the solver."""

    reason: str
    slots: tuple[PlannedSlot, ...]


async def replan(
    request: ReplanRequest, *, wall_limit_s: float = WALL_LIMIT_S, worker: Sequence[str] = WORKER
) -> Replanned | Fallback:
    """The best plan that could be had within `wall_limit_s`; Fallback tells why it is only the rule-based one."""
    outcome = await _proposed(request, wall_limit_s, worker)
    if isinstance(outcome, Proposal):
        checked = check(request, outcome)
        if not isinstance(checked, str):
            return Replanned(checked, outcome.used_milp)
        outcome = f"the solver's plan failed the check: {checked}"
    return Fallback(outcome, rule_plan(request))


async def _proposed(request: ReplanRequest, wall_limit_s: float, worker: Sequence[str]) -> Proposal | str:
    """What the solver process proposes, or why it proposes nothing."""
    if (refused := refusal(request)) is not None:
        return f"request refused: {refused}"
    try:
        async with asyncio.timeout(wall_limit_s):
            said = await _run(request_json(request), worker)
    except TimeoutError:
        return f"the solver process took more than {wall_limit_s:g} s and was killed"
    except OSError as error:
        return f"the solver process cannot be started: {error}"
    if isinstance(said, str):
        return said
    try:
        return proposal_from_json(said)
    except MalformedError as error:
        return f"the solver process answered: {error}"


async def _run(document: bytes, worker: Sequence[str]) -> bytes | str:
    """What the process wrote to stdout, or what went wrong; the process is gone afterwards, whatever happens."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(
        *worker, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=_CODE, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        complaint = asyncio.create_task(_kept(process.stderr, MAX_COMPLAINT_BYTES))
        feeding = asyncio.create_task(_feed(process, document))
        try:
            answer = await _up_to(process.stdout, MAX_JSON_BYTES)
            if answer is None:
                return f"the solver process wrote more than {MAX_JSON_BYTES} bytes and was killed"
            await feeding
            status = await process.wait()
            told = (await complaint).decode(errors="replace").strip()
        finally:
            complaint.cancel()
            feeding.cancel()
    finally:
        await _gone(process)
    if status != 0:
        ended = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"the solver process {ended}" + (f": {told.splitlines()[-1][:300]}" if told else "")
    return answer


async def _feed(process: Process, document: bytes) -> None:
    assert process.stdin is not None
    # A process that ends without reading tells more by its status than by the broken pipe.
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(document)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


async def _up_to(stream: asyncio.StreamReader, most_bytes: int) -> bytes | None:
    """All that the stream gives, None when that is more than `most_bytes`."""
    taken = bytearray()
    while chunk := await stream.read(65536):
        taken += chunk
        if len(taken) > most_bytes:
            return None
    return bytes(taken)


async def _kept(stream: asyncio.StreamReader, most_bytes: int) -> bytes:
    """The last `most_bytes` of the stream; the rest is read and dropped, so that the process never waits for us."""
    tail = b""
    while chunk := await stream.read(65536):
        tail = (tail + chunk)[-most_bytes:]
    return tail


async def _gone(process: Process) -> None:
    """Kills what is left of the process and its children; returns when it has ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
