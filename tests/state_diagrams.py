"""The state diagrams of docs/architecture.md, found by driving the real pure code: `python -m tests.state_diagrams`.

Each machine is started, given every input in every state it reaches, and what it says of itself before and after is an
edge. Nothing is drawn that the code does not do; a test holds the page to it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agent.core.command import Command, CommandType, SetPower
from agent.core.command_book import CommandBook, Ended, InForce, decided, ended, taken
from agent.core.plan import Target
from agent.core.rules import BatteryRules
from agent.core.snapshot import Reading, WriteOutcome
from agent.core.update_steps import Came, End, Journal, Phase, after
from agent.core.writes import WriteState, due, refused, sent, settled, watched
from drivers.patience import Patience

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
DEPTH = 14
"""Inputs in a row: more than any of these machines counts to."""

State = Any


@dataclass(frozen=True)
class Machine:
    """One machine of the code, as it can be driven from outside."""

    name: str
    begin: State
    inputs: Mapping[str, Callable[[State], State]]
    """What can happen to it; an input gives None where it cannot happen."""
    label: Callable[[State], str]
    key: Callable[[State], Hashable]
    """States with the same key go on alike."""
    final: frozenset[str] = frozenset()


def edges(machine: Machine) -> list[tuple[str, str, str]]:
    """(from, input, to) of every change of the label, in the order in which they are met."""
    seen = {machine.key(machine.begin)}
    found: dict[tuple[str, str, str], None] = {}
    waiting = deque([(machine.begin, 0)])
    while waiting:
        state, depth = waiting.popleft()
        before = machine.label(state)
        if before in machine.final or depth >= DEPTH:
            continue
        for name, happens in machine.inputs.items():
            next_state = happens(state)
            if next_state is None:
                continue
            after_label = machine.label(next_state)
            if after_label != before:
                found[before, name, after_label] = None
            key = machine.key(next_state)
            if key not in seen:
                seen.add(key)
                waiting.append((next_state, depth + 1))
    return list(found)


def mermaid(machine: Machine) -> str:
    """The diagram, as Mermaid draws it; inputs that lead the same way share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for before, name, then in edges(machine):
        arrows.setdefault((before, then), []).append(name)
    names = {label: label.replace(" ", "_").replace("-", "_") for pair in arrows for label in pair}
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{label}" as {name}' for label, name in names.items() if label != name]
    lines.append(f"    [*] --> {names[machine.label(machine.begin)]}")
    lines += [f"    {names[a]} --> {names[b]} : {', '.join(inputs)}" for (a, b), inputs in arrows.items()]
    lines += [f"    {names[label]} --> [*]" for label in names if label in machine.final]
    return "\n".join(lines)


# ---- a unit on a Modbus line -------------------------------------------------------------------------------------


def _unit(name: str, of: Patience) -> Patience | None:
    now_s = 1e6
    may = of.may_ask(now_s)
    match name:
        case "asked":
            return of.asked() if may and of.resting else None
        case "answer":
            return of.answered(0.01) if of.probing or not of.resting else None
        case "no answer":
            return of.failed(0.0, 0.3, shared=False) if of.probing or not of.resting else None
    return of.let_go() if of.probing else None


UNIT = Machine(
    "a unit on a line",
    Patience(),
    {name: partial(_unit, name) for name in ("answer", "no answer", "asked", "line lost")},
    Patience.word,
    lambda of: (min(of.failures, 4), of.probing, of.ever),
)

# ---- the setpoint of a battery -----------------------------------------------------------------------------------

_RULES = BatteryRules("bess", 500e3, 500e3, 5.0, 95.0, 0.95, 60.0, 500.0)
_NOW_S = 1e6


def _setpoint_label(line: tuple[WriteState, float]) -> str:
    state, _ = line
    if state.in_flight:
        return "writing"
    if refused(state):
        return "refusing"
    if state.failures:
        return "failed"
    return "not owned" if state.owned_w is None else "owned"


def _setpoint(name: str, line: tuple[WriteState, float]) -> tuple[WriteState, float] | None:
    state, target_w = line
    held = Reading(state.owned_w, _NOW_S)
    match name:
        case "confirmed" | "no answer or refused":
            if not state.in_flight:
                return None
            ok = name == "confirmed"
            outcome = WriteOutcome("bess", target_w, target_w if ok else None, ok, "" if ok else "refused", 0.0)
            return settled(state, outcome), target_w
        case "target moves":
            # The bounded set of targets keeps the search finite.
            target_w = 100e3 if target_w != 100e3 else 50e3
            now_s = 1.0
        case "a third of the dead-man":
            if state.owned_w is None:
                return None
            now_s = _NOW_S
        case "device holds something else":
            if state.owned_w is None:
                return None
            held, now_s = Reading(7e3, 2.0), 2.0
            state = watched(state, held, Reading(None, 2.0), _RULES, 2.0)
        case _:
            if state.owned_w is not None:
                return None
            now_s = _NOW_S
    if name == "target moves" and state.owned_w is None:
        return None
    why = due(state, target_w, held if name != "target moves" else Reading(state.owned_w, 0.0), _RULES, now_s)
    return (sent(state, target_w, 0.0), target_w) if why is not None else None


_SETPOINT_INPUTS = (
    "a target and fresh readings",
    "confirmed",
    "no answer or refused",
    "target moves",
    "a third of the dead-man",
    "device holds something else",
)
SETPOINT = Machine(
    "the setpoint of a battery",
    (WriteState("bess"), 50e3),
    {name: partial(_setpoint, name) for name in _SETPOINT_INPUTS},
    _setpoint_label,
    lambda line: (line[0].owned_w, line[0].in_flight, min(line[0].failures, 4), min(line[0].reasserts, 4), line[1]),
)

# ---- a command of the cloud --------------------------------------------------------------------------------------

_FOR_S = 600.0
_UTC_S = 1.7e9


@dataclass(frozen=True)
class _Sent:
    book: CommandBook
    stage: str = "received"


def _command(command_id: str) -> Command:
    params = SetPower(Target.BATTERY, 1e3, _FOR_S)
    return Command(command_id, CommandType.SET_POWER, "", _UTC_S, _UTC_S + 60.0, params)


def _ours(book: CommandBook, ends: tuple[Ended, ...] | list[Ended]) -> _Sent:
    stage = next((end.stage.value for end in ends if end.command.command_id == "c1"), None)
    return _Sent(book, stage or ("had effect" if _had(book) else "accepted"))


def _had(book: CommandBook) -> bool:
    one: InForce | None = book.of("c1")
    return one is not None and one.had_effect


def _of_command(name: str, of: _Sent) -> _Sent | None:
    if of.stage == "received":
        if name == "refused (any reason)":
            return _Sent(of.book, "rejected")
        return _ours(*taken(of.book, _command("c1"), _UTC_S, 0.0)) if name == "durable on disk" else None
    match name:
        case "decides a tick":
            return _ours(decided(of.book, "c1"), ())
        case "its time is over":
            return _ours(*ended(of.book, _UTC_S + _FOR_S, _FOR_S, clock_trusted=True))
        case "another command takes its place":
            return _ours(*taken(of.book, _command("c2"), _UTC_S, 0.0))
    return None


_COMMAND_INPUTS = (
    "refused (any reason)",
    "durable on disk",
    "decides a tick",
    "its time is over",
    "another command takes its place",
)
COMMAND = Machine(
    "a command that moves power",
    _Sent(CommandBook()),
    {name: partial(_of_command, name) for name in _COMMAND_INPUTS},
    lambda of: of.stage,
    lambda of: of.stage,
    frozenset({"rejected", "done", "expired"}),
)

# ---- an update of the agent --------------------------------------------------------------------------------------

UPDATE = Machine(
    "an update of the agent",
    Journal(Phase.PREPARING, "1.0", "1.1"),
    {came.value: partial(after, came=came, why="why") for came in Came},
    lambda of: (of.value if isinstance(of, End) else of.phase.value).replace("_", " "),
    lambda of: (of.value,) if isinstance(of, End) else (of.phase, min(of.tries, 4)),
    frozenset(end.value.replace("_", " ") for end in End),
)

MACHINES = (UNIT, SETPOINT, COMMAND, UPDATE)


def drawn(text: str) -> str:
    """The page with every diagram between its markers drawn anew."""
    for machine in MACHINES:
        begin, end = f"<!-- diagram: {machine.name} -->\n", "<!-- end -->"
        head, found, rest = text.partition(begin)
        if not found:
            raise SystemExit(f"{PAGE.name} has no line {begin.strip()}")
        text = head + begin + f"```mermaid\n{mermaid(machine)}\n```\n" + end + rest.partition(end)[2]
    return text


def reached(machine: Machine) -> Iterator[str]:
    """Every state that the machine can come to."""
    yield machine.label(machine.begin)
    for _, _, then in edges(machine):
        yield then


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE.name}: {len(MACHINES)} diagrams", file=sys.stderr)
