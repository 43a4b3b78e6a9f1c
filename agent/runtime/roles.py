"""Who may do what over the local socket: looking is open to whoever gets at it, the rest needs the operator group.

Whoever gets at it is a member of the read group: the socket's file lets in nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.runtime.local_socket import Handler, Peer, Refusal

READING = frozenset(
    {
        "status", "explain", "timeline", "slots", "ledger", "events", "awards", "evidence", "model_show",
        "devices", "device_read", "device_check", "device_trace", "device_trace_more", "device_trace_stop",
        "commission_status", "checkup", "broker_check",
    }
)  # fmt: skip
"""The commands that move nothing and change nothing. Any other one is for operators, also one that forgot to ask."""


def need_operator(what: str, peer: Peer) -> None:
    """Returns for an operator as the kernel knows them (SO_PEERCRED); raises the refusal of `what` for anybody else."""
    if not peer.operator:
        why = f"{peer.name} is not an operator"
        raise Refusal(what, why, "run it as a member of the operator group (ems-operator), or with sudo")


def by_role(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """The same commands, those that do more than look for operators only."""
    return {name: one if name in READING else _for_operators(name, one) for name, one in handlers.items()}


def _for_operators(name: str, handler: Handler) -> Handler:
    async def answer(request: dict[str, Any], peer: Peer) -> Any:
        need_operator(name.replace("_", " "), peer)
        return await handler(request, peer)

    return answer
