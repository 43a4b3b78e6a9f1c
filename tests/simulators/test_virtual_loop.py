"""The event loop on virtual time: its clock, its network, its processes."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from simulators.virtual.loop import StandsStillError, run
from simulators.virtual.network import in_process
from simulators.virtual.process import Process


def test_a_month_passes_at_once_and_timers_come_in_order():
    async def main(loop):
        seen = []

        async def after(seconds):
            await asyncio.sleep(seconds)
            seen.append((seconds, loop.time()))

        await asyncio.gather(after(30 * 86_400.0), after(1.5), after(0.25))
        return seen

    began = time.monotonic()
    assert run(main, start_s=0.0) == [(0.25, 0.25), (1.5, 1.5), (2_592_000.0, 2_592_000.0)]
    assert time.monotonic() - began < 20.0


def test_a_timeout_ends_what_takes_longer():
    async def main(loop):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await asyncio.sleep(6.0)
        return loop.time()

    assert run(main, start_s=10.0) == 15.0


def test_what_can_never_go_on_is_told():
    async def main(_loop):
        await asyncio.Event().wait()

    with pytest.raises(StandsStillError, match="every task waits for ever"):
        run(main)


def test_a_task_that_never_lets_time_pass_is_told():
    async def main(_loop):
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0.0)

    with pytest.raises(StandsStillError, match="rounds of the loop"):
        run(main)


def test_jobs_for_threads_are_done_here_and_those_of_the_store_take_the_disks_time_one_after_the_other():
    async def main(loop):
        loop.disk_s = lambda: 0.5
        at = []
        assert await asyncio.to_thread(lambda: at.append(loop.time()) or "done") == "done"
        with ThreadPoolExecutor() as executor:
            both = [loop.run_in_executor(executor, lambda: at.append(loop.time())) for _ in range(2)]
            await asyncio.gather(*both)
            with pytest.raises(ZeroDivisionError):
                await loop.run_in_executor(executor, lambda: 1 / 0)
        return at, loop.time(), loop.jobs

    assert run(main, start_s=0.0) == ([0.0, 0.0, 0.5], 1.5, 4)


def test_a_job_that_a_kill_comes_before_has_no_effect():
    async def main(loop):
        loop.disk_s, loop.disk_share = lambda: 1.0, lambda: 0.9
        process, done = Process("victim"), []
        with ThreadPoolExecutor() as executor:
            in_process(process, lambda: loop.run_in_executor(executor, done.append, "early"))
            in_process(process, lambda: loop.run_in_executor(executor, done.append, "late"))
            await asyncio.sleep(1.5)
            process.kill()
            await asyncio.sleep(10.0)
        return done

    assert run(main) == ["early"]


async def echo(reader, writer):
    while data := await reader.read(100):
        writer.write(data.upper())
    writer.close()


def test_bytes_arrive_in_order_after_the_latency():
    async def main(loop):
        loop.network.latency_s = 0.1
        await asyncio.start_server(echo, "anywhere", 5000)
        reader, writer = await asyncio.open_connection("anywhere", 5000)
        begun = loop.time()
        for part in (b"ab", b"cd", b"ef"):
            writer.write(part)
        answer = await reader.readexactly(6)
        took = loop.time() - begun
        writer.close()
        return answer, round(took, 6)

    assert run(main) == (b"ABCDEF", 0.2)


def test_nobody_at_a_port_refuses_and_an_unplugged_one_says_nothing():
    async def main(loop):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("anywhere", 5001)
        await asyncio.start_server(echo, "anywhere", 5001)
        loop.network.unplugged.add(5001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30.0):
                await asyncio.open_connection("anywhere", 5001)

    run(main)


def test_a_port_is_taken_once():
    async def main(_loop):
        await asyncio.start_server(echo, "anywhere", 5002)
        with pytest.raises(OSError, match="taken"):
            await asyncio.start_server(echo, "anywhere", 5002)

    run(main)


def test_a_killed_process_loses_its_connections_and_makes_no_new_ones():
    async def main(loop):
        ends = []

        async def serve(reader, _writer):
            try:
                ends.append(await reader.read(100))
            except ConnectionResetError:
                ends.append("reset")

        await asyncio.start_server(serve, "anywhere", 5003)
        process = Process("victim")

        async def live():
            _reader, writer = await asyncio.open_connection("anywhere", 5003)
            await asyncio.sleep(10.0)
            assert writer.transport.is_closing()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("anywhere", 5003)

        victim = in_process(process, lambda: asyncio.create_task(live()))
        await asyncio.sleep(5.0)
        process.kill()
        await victim
        return ends, len(loop.network.open_transports)

    ends, left = run(main)
    assert ends == ["reset"]
    assert left == 0
