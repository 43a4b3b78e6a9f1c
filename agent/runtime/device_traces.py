"""Frames of one device, recorded while somebody asks for them: bounded in time and number, free when nobody does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from agent.runtime.clock import Clock
from agent.runtime.local_socket import Handler, Peer, Refusal
from agent.runtime.request_fields import device_of
from drivers.device import Device
from drivers.endpoint import has_transactions
from drivers.link import Link
from drivers.trace import Direction, Frame, FrameReader
from drivers.trace_names import PointNames

WHAT = "devices trace"
LONGEST_S = 600.0
MAX_TRACES = 4
MAX_CHUNKS = 5_000
"""Of what was sent or has come, per trace, while it waits to be fetched; a few MB."""
MAX_FRAMES_AT_ONCE = 100
FRAMES_IN_ONE_GO = 5
"""Decoded before others may run: a frame of 125 SunSpec registers takes some 0.3 ms."""
FETCH_WITHIN_S = 60.0
"""A trace that is over is forgotten so long after its end."""
LEFT_ALONE_S = 5.0
"""A trace that nobody has fetched from for so long makes room: `ems devices trace` asks three times a second."""

Sink = Callable[[Direction, bytes, float], None]


class Taps:
    """Lets several see the bytes of a link that shows them to one; the link is left alone when nobody looks."""

    def __init__(self) -> None:
        self._sinks: dict[int, list[Sink]] = {}

    def open(self, link: Link, sink: Sink) -> None:
        """`sink` sees what goes over the link from now on."""
        sinks = self._sinks.setdefault(id(link), [])
        sinks.append(sink)
        link.on_frame = lambda direction, data, mono_s: _to_all(sinks, direction, data, mono_s)

    def close(self, link: Link, sink: Sink) -> None:
        """It sees no more."""
        sinks = self._sinks.get(id(link), [])
        if sink in sinks:
            sinks.remove(sink)
        if not sinks:
            link.on_frame = None
            self._sinks.pop(id(link), None)


def _to_all(sinks: list[Sink], direction: Direction, data: bytes, mono_s: float) -> None:
    for sink in sinks:
        sink(direction, data, mono_s)


@dataclass
class Trace:
    """One recording. The bytes are decoded only when they are fetched."""

    device: Device
    link: Link
    asked_mono_s: float
    """When somebody last fetched from it."""
    ends_mono_s: float
    reader: FrameReader
    waiting: deque[tuple[Direction, bytes, float]] = field(default_factory=lambda: deque(maxlen=MAX_CHUNKS))
    dropped: int = 0
    over: bool = False

    def sink(self, direction: Direction, data: bytes, mono_s: float) -> None:
        """Keeps what goes over the link."""
        self.dropped += len(self.waiting) == MAX_CHUNKS
        self.waiting.append((direction, data, mono_s))


class DeviceTraces:
    """The commands `device_trace`, `device_trace_more` and `device_trace_stop`."""

    def __init__(self, devices: Mapping[str, Device], links: Mapping[str, Link], clock: Clock) -> None:
        self._devices = devices
        self._links = links
        self._clock = clock
        self._taps = Taps()
        self._traces: dict[int, Trace] = {}
        self._last = 0

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {
            "device_trace": self._begin,
            "device_trace_more": self._more,
            "device_trace_stop": self._stop,
        }

    async def _begin(self, request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        device, seconds = device_of(WHAT, request, self._devices), request.get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_S:
            raise Refusal(WHAT, f"seconds must be a number above 0, at most {LONGEST_S:.0f}", "ask for less")
        self._forget()
        if self._running() >= MAX_TRACES:
            self._end_left_alone()
        if self._running() >= MAX_TRACES:
            raise Refusal(WHAT, f"{MAX_TRACES} traces run already", "wait until one of them is over")
        link = self._links[device.spec.device_id]
        reader = FrameReader(rtu=not has_transactions(link.endpoint))
        now_s = self._clock.mono_s()
        trace = Trace(device, link, now_s, now_s + seconds, reader)
        self._last += 1
        self._traces[self._last] = trace
        self._taps.open(link, trace.sink)
        asyncio.get_running_loop().call_later(seconds, self._end, trace)
        return {"trace": self._last, "endpoint": link.name, "unit_id": device.spec.unit_id}

    async def _more(self, request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        trace = self._trace(request)
        names = PointNames(trace.device)
        frames: list[dict[str, Any]] = []
        while trace.waiting and len(frames) < MAX_FRAMES_AT_ONCE:
            for frame in trace.reader.feed(*trace.waiting.popleft()):
                if frame.unit_id is None or frame.unit_id in names.unit_ids:
                    frames.append(self._row(frame, names))
                    if len(frames) % FRAMES_IN_ONE_GO == 0:
                        await asyncio.sleep(0)
        over = trace.over and not trace.waiting
        if over:
            self._traces = {number: one for number, one in self._traces.items() if one is not trace}
        return {"frames": frames, "over": over, "dropped": trace.dropped}

    async def _stop(self, request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        self._end(self._trace(request))
        return {}

    def _trace(self, request: dict[str, Any]) -> Trace:
        number = request.get("trace")
        trace = self._traces.get(number) if isinstance(number, int) else None
        if trace is None:
            raise Refusal(WHAT, f"there is no trace {number!r} any more", "begin anew")
        trace.asked_mono_s = self._clock.mono_s()
        return trace

    def _running(self) -> int:
        return sum(not trace.over for trace in self._traces.values())

    def _end_left_alone(self) -> None:
        """Makes room: the terminal of a technician was closed, the program that asked was killed."""
        now_s = self._clock.mono_s()
        for trace in self._traces.values():
            if not trace.over and now_s >= trace.asked_mono_s + LEFT_ALONE_S:
                self._end(trace)

    def _end(self, trace: Trace) -> None:
        trace.over = True
        trace.ends_mono_s = min(trace.ends_mono_s, self._clock.mono_s())
        self._taps.close(trace.link, trace.sink)

    def _forget(self) -> None:
        """Traces that nobody fetched in time are gone, and of those that are over all but the newest few."""
        now_s = self._clock.mono_s()
        over = [number for number, one in self._traces.items() if one.over]
        late = {number for number in over if now_s >= self._traces[number].ends_mono_s + FETCH_WITHIN_S}
        for number in late | set(over[:-MAX_TRACES]):
            del self._traces[number]

    def _row(self, frame: Frame, names: PointNames) -> dict[str, Any]:
        at_utc_s = self._clock.utc_s() - (self._clock.mono_s() - frame.mono_s)
        return {
            "at": datetime.fromtimestamp(at_utc_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "mono_s": round(frame.mono_s, 6),
            "direction": frame.direction,
            "unit_id": frame.unit_id,
            "function": frame.function,
            "address": frame.address,
            "count": frame.count,
            "exception": frame.exception,
            "words": frame.words,
            "registers": None if frame.registers is None else list(frame.registers),
            "points": [asdict(named) for named in names.of(frame)],
            "bytes": frame.data.hex(),
        }
