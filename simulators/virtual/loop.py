"""An asyncio event loop on virtual time: it never waits, its clock jumps to the next timer.

With everything in memory and in one thread a run is the same each time: an executor does one job after the other, each
in `disk_s`; connections are those of `simulators.virtual.network`, signals are calls. The code that runs on it is the
agent's own, unchanged.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

from simulators.virtual.network import Listener, Network
from simulators.virtual.process import CURRENT

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")

SHORTEST_S = 1e-6
"""Asyncio runs timers a nanosecond early; here time would then stand still for who waits for exactly that instant."""
MOST_STEPS_AT_ONCE = 200_000
"""Rounds of the loop without time going on: more is a task that never waits."""


class StandsStillError(Exception):
    """Nothing can ever happen again, or time does not go on: a bug in what runs on the loop."""


class _Jump:
    """In the place of a selector: instead of waiting for sockets it moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._steps = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise StandsStillError("no timer is left and nothing is ready: every task waits for ever")
        if timeout > 0.0:
            self._loop.jump(timeout)
            self._steps = 0
        else:
            self._steps += 1
            if self._steps > MOST_STEPS_AT_ONCE:
                self._steps = 0  # so that what runs can still be ended
                raise StandsStillError(
                    f"{MOST_STEPS_AT_ONCE} rounds of the loop at {self._loop.time():.6f} s: {self._loop.ready_now()}"
                )
        return []

    def close(self) -> None:
        pass


class VirtualLoop(BaseEventLoop):
    """Runs on `time()`, which begins at `start_s`."""

    def __init__(self, start_s: float = 1_000.0) -> None:
        super().__init__()
        self._now_s = start_s
        self._selector = _Jump(self)
        self.network = Network(self)
        self.disk_s: Callable[[], float] = lambda: 0.0
        """How long an executor job takes; asked for each job."""
        self.disk_share: Callable[[], float] = lambda: 0.0
        """After which share of that time it has its effect: what is killed before never did it."""
        self.jobs = 0
        """Executor jobs so far."""
        self.on_job: Callable[[Callable[..., Any], Any], None] | None = None
        """Told of each job that was done, with its result."""
        self._busy_until_s: WeakKeyDictionary[concurrent.futures.Executor, float] = WeakKeyDictionary()

    def time(self) -> float:
        """Virtual seconds."""
        return self._now_s

    def pause(self, seconds: float) -> None:
        """Nothing runs for so long, as when the machine sleeps; what was due meanwhile is late."""
        self._now_s += seconds

    def ready_now(self) -> str:
        """What would run next, for people."""
        ready = self._ready  # type: ignore[attr-defined] # of BaseEventLoop
        return "; ".join(repr(handle)[:300] for handle in list(ready)[:3])

    def jump(self, seconds: float) -> None:
        """Time goes on to the next timer, or by `seconds` where that is sooner: asyncio never waits a whole day."""
        scheduled = self._scheduled  # type: ignore[attr-defined] # of BaseEventLoop
        due_s: float = scheduled[0]._when  # noqa: SLF001
        # Not by adding up: the sum could miss the timer by a rounding error.
        self._now_s = due_s if due_s < self._now_s + seconds + SHORTEST_S else self._now_s + seconds

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[*_Args], _T], *args: *_Args
    ) -> asyncio.Future[_T]:
        """The job is done in this thread when those before it on the same executor are over, and takes `disk_s()`.

        Without an executor, and for a process that was killed, it is done at once.
        """
        self.jobs += 1
        future: asyncio.Future[_T] = self.create_future()
        process = CURRENT.get()
        took_s = self.disk_s() if executor is not None and not process.dead else 0.0
        begin_s = max(self._now_s, self._busy_until_s.get(executor, 0.0)) if executor is not None else self._now_s

        def do() -> None:
            settle: Callable[[Any], None]
            if process.dead and took_s > 0.0:
                return
            try:
                outcome: Any = func(*args)
                settle = future.set_result
            except Exception as error:  # noqa: BLE001 (whatever it is belongs to who waits)
                outcome, settle = error, future.set_exception
            else:
                if self.on_job is not None:
                    self.on_job(func, outcome)
            self.call_at(begin_s + took_s, lambda: None if future.done() else settle(outcome))

        if executor is None or took_s == 0.0:
            begin_s = self._now_s
            do()
            return future
        self._busy_until_s[executor] = begin_s + took_s
        effect_s = begin_s + took_s * self.disk_share()
        if effect_s > self._now_s:
            self.call_at(effect_s, do)
        else:
            do()
        return future

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, **context: Any
    ) -> asyncio.TimerHandle:
        """A timer; one that is not yet due comes with its time, be it a rounding error ahead, and never before."""
        if self._now_s < when < self._now_s + SHORTEST_S:
            when = self._now_s + SHORTEST_S
        return super().call_at(when, callback, *args, **context)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str | None = None, port: int | None = None,
        **_: Any,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:  # fmt: skip
        """A connection within the loop's own network; the host does not matter."""
        del host
        assert port is not None
        return await self.network.connect(protocol_factory, port)

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any = None, port: int | None = None, **_: Any
    ) -> Listener:
        """A listener within the loop's own network."""
        del host
        return self.network.listen(protocol_factory, port or 0)

    async def create_unix_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], path: str | None = None, **_: Any
    ) -> Listener:
        """The local socket: its file is there, nobody can connect to it."""
        assert path is not None
        Path(path).touch()  # noqa: ASYNC240 (nothing else runs meanwhile, on purpose)
        return self.network.listen(protocol_factory, 0)

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        """The simulated process that asks for it will be called so."""
        CURRENT.get().signals[sig] = lambda: callback(*args)


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, _T]], start_s: float = 1_000.0) -> _T:
    """The result of `main(loop)` on a loop of its own; the loop that was current before is so again afterwards."""
    loop = VirtualLoop(start_s)

    async def whole() -> _T:
        try:
            return await main(loop)
        finally:
            for transport in list(loop.network.open_transports):
                transport.abort()
            await asyncio.sleep(0.0)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(whole())
