"""Orders to the simulated cloud, one a line: `[@30s] [SITE:] hold 5min`. Read whole before anything begins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from agent.quantity import parse as quantity
from simulators.cloud_desk import SiteDesk
from simulators.cloud_messages import iso_utc
from simulators.cloud_misbehaviour import Misbehaviour, Misdeed
from simulators.cloud_orders import award, curtailment, outage

_HEAD = re.compile(r"(?:@(?P<at>\S+)\s+)?(?:(?P<site>[a-z0-9-]{1,64}):\s*)?(?P<rest>.*)")
LIMITS = {name: f"{name}_limit" for name in ("export", "import", "charge", "discharge")}
STREAMS = ("telemetry", "full_rate", "ack", "event", "ledger")
Act = Callable[[SiteDesk, float, Misbehaviour], None]
"""For one site, at this Unix time."""


class OrderError(Exception):
    """A line that is no order; the text says what is wanted."""


@dataclass(frozen=True, slots=True)
class Order:
    """One line, understood."""

    text: str
    after_s: float
    """Since the start."""
    site_id: str | None
    """None: every site."""
    act: Act


def parse_order(line: str) -> Order:
    """The order of a line; OrderError when it is none."""
    head = _HEAD.fullmatch(line.strip())
    words = head["rest"].split() if head else []
    if head is None or not words:
        raise OrderError(f"{line!r}: an order is wanted, for example: @30s hold 5min")
    verb, *arguments = words
    if verb not in VERBS:
        raise OrderError(f"{line!r}: {verb!r} is none of {', '.join(VERBS)}")
    wanted, made = VERBS[verb]
    try:
        after_s = quantity(head["at"], "time") if head["at"] else 0.0
        return Order(line.strip(), after_s, head["site"], made(*arguments))
    except (ValueError, TypeError, KeyError) as error:
        raise OrderError(f"{line!r}: write {verb} {wanted} ({error})") from error


class Script:
    """Carries orders out at their times."""

    def __init__(self, orders: Iterable[Order], misbehaviour: Misbehaviour, say: Callable[[str], None]) -> None:
        self._left = sorted(orders, key=lambda order: order.after_s)
        self._misbehaviour, self._say = misbehaviour, say

    def due(self, desks: list[SiteDesk], now_s: float, since_start_s: float) -> None:
        """Does what is due. An order waits for its site, or for the first one, to be there."""
        waits = []
        for order in self._left:
            chosen = [desk for desk in desks if order.site_id in {None, desk.site_id}]
            if order.after_s > since_start_s or not chosen:
                waits.append(order)
                continue
            self._say(order.text)
            for desk in chosen:
                order.act(desk, now_s, self._misbehaviour)
        self._left = waits


def _seconds(text: str) -> float:
    return quantity(text, "time")


def _kw(text: str) -> float | None:
    return None if text == "-" else float(text)


def _one_of(text: str, known: Iterable[str]) -> str:
    if text not in known:
        raise ValueError(f"{text!r} is none of {', '.join(known)}")
    return text


def _plan() -> Act:
    return lambda desk, _now, _wrong: desk.resume_planning()


def _award(product: str, kw: str, within: str, lasts: str, direction: str = "both") -> Act:
    power, begin_s, lasts_s = float(kw), _seconds(within), _seconds(lasts)
    way = _one_of(direction, ("both", "up", "down"))

    def act(desk: SiteDesk, now: float, _wrong: Misbehaviour) -> None:
        span = (now + begin_s, now + begin_s + lasts_s)
        desk.order("awards", award(desk.next_id("a"), product, power, span, way))

    return act


def _curtail(export_kw: str, import_kw: str, within: str, lasts: str) -> Act:
    limits, begin_s, lasts_s = (_kw(export_kw), _kw(import_kw)), _seconds(within), _seconds(lasts)
    if limits == (None, None):
        raise ValueError("one of the two limits is needed")

    def act(desk: SiteDesk, now: float, _wrong: Misbehaviour) -> None:
        span = (now + begin_s, now + begin_s + lasts_s)
        desk.order("curtailments", curtailment(desk.next_id("l"), *limits, span))

    return act


def _outage(device: str, within: str, lasts: str) -> Act:
    begin_s, lasts_s = _seconds(within), _seconds(lasts)

    def act(desk: SiteDesk, now: float, _wrong: Misbehaviour) -> None:
        span = (now + begin_s, now + begin_s + lasts_s)
        desk.order("outages", outage(desk.next_id("o"), None if device == "-" else device, span))

    return act


def _withdraw(kind: str) -> Act:
    found = _one_of(kind, ("awards", "curtailments", "outages"))
    return lambda desk, _now, _wrong: desk.withdraw(found)


def _command(type_: str, params: dict[str, Any], lasts_s: float = 0.0) -> Act:
    def act(desk: SiteDesk, _now: float, _wrong: Misbehaviour) -> None:
        desk.command(type_, params, lasts_s)

    return act


def _set_power(kw: str, lasts: str, target: str = "battery") -> Act:
    params = {
        "target": _one_of(target, ("battery", "grid")),
        "power": float(kw),
        "unit": "kW",
        "positive": "export",
        "duration_s": _seconds(lasts),
    }
    return _command("set_power", params, _seconds(lasts))


def _lasting(type_: str) -> Callable[[str], Act]:
    return lambda lasts: _command(type_, {"duration_s": _seconds(lasts)}, _seconds(lasts))


def _release(command_id: str | None = None) -> Act:
    return _command("release", {} if command_id is None else {"id": command_id})


def _narrow(*words: str) -> Act:
    *pairs, lasts = words
    limits = {LIMITS[name]: float(kw) for name, kw in (pair.split("=") for pair in pairs)}
    if not limits:
        raise ValueError("a limit is needed, for example export=100")
    return _command("narrow_limits", {"unit": "kW", "duration_s": _seconds(lasts), **limits}, _seconds(lasts))


def _resend(stream: str, first: str, last: str) -> Act:
    params = {"stream": _one_of(stream, STREAMS), "from_seq": int(first), "to_seq": int(last)}
    return _command("resend", params, 3600.0)


def _evidence(back: str) -> Act:
    seconds = _seconds(back)

    def act(desk: SiteDesk, now: float, _wrong: Misbehaviour) -> None:
        desk.command("fcr_evidence", {"from": iso_utc(now - seconds), "to": iso_utc(now)}, 3600.0)

    return act


def _silence(lasts: str) -> Act:
    seconds = _seconds(lasts)
    return lambda desk, _now, _wrong: desk.fall_silent(seconds)


def _misdeed(kind: Misdeed) -> Callable[[], Act]:
    return lambda: lambda desk, now, wrong: wrong.do(kind, desk, now)


VERBS: dict[str, tuple[str, Callable[..., Act]]] = {
    "plan": ("", _plan),
    "award": ("PRODUCT KW IN FOR [up|down|both]", _award),
    "curtail": ("EXPORT_KW IMPORT_KW IN FOR, - for a limit that is not touched", _curtail),
    "outage": ("DEVICE IN FOR, - for the whole site", _outage),
    "withdraw": ("awards, curtailments or outages", _withdraw),
    "set_power": ("KW FOR [battery|grid]", _set_power),
    "hold": ("FOR", _lasting("hold")),
    "neutral": ("FOR", _lasting("neutral")),
    "live": ("FOR", _lasting("live")),
    "report": ("", lambda: _command("report", {})),
    "release": ("[ID]", _release),
    "narrow": ("LIMIT=KW ... FOR; limits: export, import, charge, discharge", _narrow),
    "resend": (f"STREAM FROM TO; streams: {', '.join(STREAMS)}", _resend),
    "evidence": ("BACK", _evidence),
    "silence": ("FOR", _silence),
    **{kind.value: ("", _misdeed(kind)) for kind in Misdeed if kind is not Misdeed.SILENCE},
}
"""By verb: what follows it, and what makes the act of it."""
