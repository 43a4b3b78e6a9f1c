"""What survives: plans, outcomes and events (control.db), telemetry, slot ledger and outbox (telemetry.db).

Each part is loaded when it is asked for: a command that only reads a database does without the writers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.store.held import Held
    from agent.store.instance_lock import AlreadyRunning
    from agent.store.outbox import Quota
    from agent.store.store import Store
    from agent.store.telemetry import BuildFrame, BuildFromFrames
    from agent.store.writer import Announce

__all__ = ["AlreadyRunning", "Announce", "BuildFrame", "BuildFromFrames", "Held", "Quota", "Store"]

_PLACES = {
    "AlreadyRunning": "instance_lock",
    "Announce": "writer",
    "BuildFrame": "telemetry",
    "BuildFromFrames": "telemetry",
    "Held": "held",
    "Quota": "outbox",
    "Store": "store",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
