"""There is always an answer: with the real solver process, and with processes that hang, lie, shout and die."""

import asyncio
import json
import os
import sys
from dataclasses import replace

import pytest
from replan_requests import priced

from agent.core.replan_rules import rule_plan
from agent.replan.problem import MAX_JSON_BYTES
from agent.replan.runner import Fallback, Replanned, replan

ASKED = priced(1.0, 10.0)


def python(script):
    return (sys.executable, "-c", script)


async def fallback(script, wall_limit_s=10.0, asked=ASKED):
    outcome = await replan(asked, worker=python(script), wall_limit_s=wall_limit_s)
    assert isinstance(outcome, Fallback)
    assert outcome.slots == rule_plan(asked)
    return outcome.reason


async def test_the_real_process_answers_with_a_checked_plan():
    outcome = await replan(ASKED)
    assert isinstance(outcome, Replanned)
    assert [slot.battery_w for slot in outcome.slots] == pytest.approx([-50e3, 50e3])
    assert [slot.soc_end_pct for slot in outcome.slots] == pytest.approx([50.0, 0.0])
    assert not outcome.used_milp


async def test_it_works_from_any_folder(tmp_path, monkeypatch):
    """As a service does, without the source tree as its folder."""
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "__init__.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert isinstance(await replan(ASKED), Replanned)


async def test_a_process_that_hangs_is_killed(tmp_path):
    pid_file = tmp_path / "pid"
    script = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(600)"
    assert await fallback(script, wall_limit_s=1.0) == "the solver process took more than 1 s and was killed"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_a_process_that_closes_its_output_and_hangs_is_killed():
    script = "import os, time; os.close(1); os.close(2); time.sleep(600)"
    assert "took more than 1 s" in await fallback(script, wall_limit_s=1.0)


async def test_a_cancelled_run_leaves_no_process(tmp_path):
    pid_file = tmp_path / "pid"
    script = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(600)"
    task = asyncio.create_task(replan(ASKED, worker=python(script)))
    async with asyncio.timeout(10.0):
        while not pid_file.exists() or not pid_file.read_text():  # noqa: ASYNC110 (a file tells no event)
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_a_process_that_is_killed_is_named():
    assert "was killed by SIGKILL" in await fallback("import os; os.kill(os.getpid(), 9)")


async def test_a_crash_tells_its_last_line():
    reason = await fallback("import sys; print('x' * 9999, file=sys.stderr); raise ValueError('no idea')")
    assert reason == "the solver process ended with status 1: ValueError: no idea"


async def test_garbage_is_no_plan():
    assert "not JSON" in await fallback("print('hello')")
    assert "not JSON" in await fallback("pass")


async def test_an_endless_answer_is_cut_off():
    reason = await fallback("import sys\nwhile True: sys.stdout.write('1,' * 100000)")
    assert reason == f"the solver process wrote more than {MAX_JSON_BYTES} bytes and was killed"


async def test_a_lie_fails_the_check():
    answer = json.dumps({"battery_w": [900e3, 0.0], "soc_end_pct": [50.0, 50.0], "used_milp": False})
    assert "failed the check: slots[0]: 900000 W is beyond" in await fallback(f"print('''{answer}''')")


async def test_a_program_that_is_not_there_is_a_reason():
    outcome = await replan(ASKED, worker=("/no/such/program",))
    assert isinstance(outcome, Fallback)
    assert "cannot be started" in outcome.reason


async def test_a_price_that_is_not_a_number_starts_no_process():
    outcome = await replan(priced(1.0, float("nan")), worker=("/no/such/program",))
    assert isinstance(outcome, Fallback)
    assert "request refused: slots[1].price_per_kwh: is not a finite number" in outcome.reason


@pytest.mark.parametrize(
    "changes",
    [{"soc_now_pct": 6553.5}, {"soc_now_pct": float("nan")}, {"capacity_wh": -1.0}, {"soc_max_pct": -5.0}],
)
async def test_a_battery_that_cannot_be_rests(changes):
    outcome = await replan(replace(ASKED, **changes))
    assert isinstance(outcome, Fallback)
    assert next(iter(changes)) in outcome.reason
    assert [(slot.battery_w, slot.soc_end_pct) for slot in outcome.slots] == [(0.0, None), (0.0, None)]


async def worker_answer(document):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.replan.worker", stdin=-1, stdout=-1, stderr=-1
    )
    async with asyncio.timeout(20.0):
        out, complaint = await process.communicate(document)
    assert (process.returncode, complaint) == (0, b"")
    return json.loads(out)


async def test_the_process_itself_refuses_what_is_not_a_request():
    assert "request refused: not JSON" in (await worker_answer(b"{"))["error"]
    assert "at most" in (await worker_answer(b" " * (MAX_JSON_BYTES + 5)))["error"]


async def test_the_process_bounds_itself():
    script = (
        "import resource, os, signal\n"
        "from agent.replan.worker import bound_itself, MAX_MEMORY_BYTES, MAX_CPU_S, MAX_WALL_S, NICENESS\n"
        "bound_itself()\n"
        "assert resource.getrlimit(resource.RLIMIT_AS)[0] == MAX_MEMORY_BYTES\n"
        "assert resource.getrlimit(resource.RLIMIT_CPU)[0] == MAX_CPU_S\n"
        "assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0\n"
        "assert MAX_WALL_S - 5 <= signal.alarm(0) <= MAX_WALL_S\n"
        "assert open('/proc/self/oom_score_adj').read().strip() == '1000'\n"
        "assert os.nice(0) >= NICENESS and os.environ['OPENBLAS_NUM_THREADS'] == '1'\n"
        "try:\n  bytearray(2 * MAX_MEMORY_BYTES)\nexcept MemoryError:\n  print('bounded')\n"
    )
    process = await asyncio.create_subprocess_exec(*python(script), stdout=-1)
    async with asyncio.timeout(20.0):
        assert (await process.communicate())[0] == b"bounded\n"
