"""Who may do what over the local socket: reading is open to whoever gets at it, the rest needs the operator group."""

from __future__ import annotations

from agent.runtime.local_socket import Peer, Refusal


def need_operator(what: str, peer: Peer) -> None:
    """Returns for an operator as the kernel knows them (SO_PEERCRED); raises the refusal of `what` for anybody else."""
    if not peer.operator:
        why = f"{peer.name} is not an operator"
        raise Refusal(what, why, "run it as a member of the operator group (ems-operator), or with sudo")
