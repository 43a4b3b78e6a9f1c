"""What survives: plans, outcomes and events (control.db), telemetry, slot ledger and outbox (telemetry.db)."""

from agent.store.instance_lock import AlreadyRunning
from agent.store.outbox import Quota
from agent.store.store import Held, Store
from agent.store.telemetry import BuildFrame, BuildFromFrames
from agent.store.writer import Announce

__all__ = ["AlreadyRunning", "Announce", "BuildFrame", "BuildFromFrames", "Held", "Quota", "Store"]
