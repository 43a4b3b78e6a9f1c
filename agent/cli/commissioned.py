"""What commissioning measured, in the words of the status and of the limits in force."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.cli.config_limits import LimitLine


def status_lines(facts: dict[str, Any]) -> list[str]:
    """The commissioning that runs, and what each battery was found to do."""
    shown = []
    now = facts["running"]
    if now is not None:
        waits = ", waits for a word" if now["stage"] == "waiting" else ""
        shown.append(f"proving  {now['who']} commissions: {now['title']} ({now['done'] + 1} of {now['steps']}){waits}")
    for device_id, found in facts["measured"].items():
        told = ", ".join(f"{name} {value}" for name, value in _measured(found))
        shown.append(f"proven   {device_id} {told} (commissioned {_day(found)})")
    return shown


def commissioned_limits(socket: Path, site_id: str) -> tuple[LimitLine, ...]:
    """What the daemon of this site measured; nothing where none runs, or one of another site."""
    from agent.cli.client import Connection  # noqa: PLC0415 (as below)
    from agent.cli.config_limits import LimitLine  # noqa: PLC0415 (pydantic only where it is needed)

    try:
        connection = Connection(socket)
        reply = connection.ask("status")
        connection.close()
    except OSError:
        return ()
    facts = reply.get("result")
    if not isinstance(facts, dict) or facts.get("site") != site_id:
        return ()
    return tuple(
        LimitLine(f"{device_id} (battery)", f"measured {name}", value, f"commissioned {_day(found)}")
        for device_id, found in facts.get("commissioning", {}).get("measured", {}).items()
        for name, value in _measured(found)
    )


def _measured(found: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [(name, found[f"{name}_s"]) for name in ("lag", "settling", "dead_man")]
    told = [(name, f"{value:.1f} s") for name, value in pairs if value is not None]
    return [*told, ("dead_man", "NONE")] if found["has_dead_man"] is False else told


def _day(found: dict[str, Any]) -> str:
    return f"{datetime.fromisoformat(found['at']).astimezone():%Y-%m-%d}"
