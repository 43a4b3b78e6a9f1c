"""What a start begins with, read with mistrust: nothing that a disk garbles keeps the agent from starting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.admission import replayable_before_utc_s
from agent.core.ledger import SlotRow
from agent.core.records import CommandRecord, HeldDocument, Sample
from agent.store.cells import time_kept
from agent.store.commands import LAST_UTC
from agent.store.control import COMMANDS_SINCE
from agent.store.writer import Writer

REPLANNING = "replanning"
SETTINGS = "owners_settings"
STORED_WRITES = "stored_writes"
OVERRIDE = "override"
LATCHES = "latches"
STARTS = "starts"
COMMISSIONING = "commissioning"


@dataclass(frozen=True, slots=True)
class Held:
    """What a start begins with."""

    documents: tuple[HeldDocument, ...]
    """Newest version first within each kind; the first of a kind that still parses is the one in force."""
    last_trusted_utc_s: float | None
    replanning: str | None
    """What the re-planner kept, as `agent.replan.kept` writes it."""
    last_sample: Sample | None
    open_slot: SlotRow | None
    models: Mapping[str, str] = field(default_factory=dict)
    """What is kept of each learned battery model, by device."""
    settings: str | None = None
    """The owners' settings that devices were taken over from, as `drivers.profile.settings` writes them."""
    commands: tuple[CommandRecord, ...] = ()
    """Those without a terminal outcome, oldest first."""
    commands_since_utc_s: float = 0.0
    """Ids of commands issued before this are not remembered: the file was lost."""
    override: str | None = None
    """The technician's override, as `agent.core.override` writes it."""
    latches: str | None = None
    """The safety latches that fell, as `agent.core.latch` writes them."""
    stored_writes: str | None = None
    """When registers that wear out were written, as `drivers.profile.wear` writes it."""
    starts: str | None = None
    """The last starts, as `agent.core.crash_loop` writes them."""
    commissioning: str | None = None
    """The last commissioning and what it measured, as `agent.core.commissioning_record` writes it."""


def load(writer: Writer) -> Held:
    """All of it; a telemetry.db that cannot be read counts as empty. Raises `StorageFailed` for control.db alone."""
    mark = writer.control.mark
    documents = tuple(writer.documents())
    sample, slot = writer.unfinished()
    since = mark(COMMANDS_SINCE)
    return Held(
        documents=documents,
        last_trusted_utc_s=time_kept(mark(LAST_UTC)),
        replanning=mark(REPLANNING),
        last_sample=sample,
        open_slot=slot,
        models=writer.control.models(),
        settings=mark(SETTINGS),
        commands=tuple(writer.control.open_commands()),
        commands_since_utc_s=0.0 if since is None else _since(since, writer.utc_s()),
        override=mark(OVERRIDE),
        latches=mark(LATCHES),
        stored_writes=mark(STORED_WRITES),
        starts=mark(STARTS),
        commissioning=mark(COMMISSIONING),
    )


def _since(text: str, now_utc_s: float) -> float:
    """From when on ids are remembered; where the disk garbled that, from now on."""
    found = time_kept(text)
    return replayable_before_utc_s(now_utc_s) if found is None else found
