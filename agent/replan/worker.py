"""The solver process, one shot: a request as JSON on stdin, a proposal or {"error": ...} as JSON on stdout.

`python -m agent.replan.worker`. It bounds itself before it loads the solver: memory, time, priority, one thread.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

MAX_MEMORY_BYTES = 1024**3
"""Address space; the solver with its libraries takes about a third."""
MAX_CPU_S = 20
MAX_WALL_S = 90
"""The agent waits less. This ends a process whose agent was killed while it waited for something."""
NICENESS = 5
"""The control loop comes first; what else runs on the gateway gets three times as much, and does not starve a plan."""
FIRST_TO_GO = "1000"
"""Of /proc/PID/oom_score_adj: where memory ends the kernel takes this process, not the one that holds the battery."""


def main() -> int:
    """Answer the one request; the exit status is 0 when an answer, also an error, was written."""
    bound_itself()
    from agent.replan.problem import MAX_JSON_BYTES, MalformedError, request_from_json  # noqa: PLC0415 (bounded first)

    try:
        request = request_from_json(sys.stdin.buffer.read(MAX_JSON_BYTES + 1))
    except MalformedError as error:
        return _answer(json.dumps({"error": f"request refused: {error}"}).encode())
    from agent.core.replan_request import refusal  # noqa: PLC0415
    from agent.replan.model import UnsolvedError, solve  # noqa: PLC0415
    from agent.replan.problem import proposal_json  # noqa: PLC0415

    if (refused := refusal(request)) is not None:
        return _answer(json.dumps({"error": f"request refused: {refused}"}).encode())
    try:
        return _answer(proposal_json(solve(request)))
    except (UnsolvedError, MemoryError) as error:
        return _answer(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())


def bound_itself() -> None:
    """Memory, CPU time, time at all, no core file, low priority, one thread for linear algebra, the first to go."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    with suppress(OSError):  # no Linux
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    signal.alarm(MAX_WALL_S)


def _answer(document: bytes) -> int:
    sys.stdout.buffer.write(document)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
