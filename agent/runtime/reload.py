"""The site file read anew while the agent runs: taken over whole between two ticks, or refused whole with a reason."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from agent.cloud.stamp import iso
from agent.config import ConfigError, SiteFile, load
from agent.core.decision import Condition
from agent.core.events import Event, EventState, Severity
from agent.runtime.clock import Clock
from agent.runtime.cloud_side import CloudSide
from agent.runtime.control import ControlLoop
from agent.runtime.local_socket import Handler, Peer, Refusal
from agent.runtime.poller import Polled
from agent.runtime.replan_side import ReplanOptions, ReplanSide
from agent.runtime.roles import need_operator
from agent.site_file.changes import Change, changes
from agent.site_file.device import DeviceSection

log = structlog.get_logger(__name__)

REFUSED = "site_file_refused"
RELOADED = "site_file_reloaded"
RESTART = "takes effect only with a restart: systemctl restart ems-agent"
_KEY = re.compile(r"[a-z_]+(\[\d+\]( \([^)]*\))?)?(\.[a-z_]+(\[\d+\]( \([^)]*\))?)?)*")


@dataclass(frozen=True, slots=True)
class LiveParts:
    """The running parts that go by the site file."""

    control: ControlLoop
    cloud: CloudSide
    replanning: ReplanSide | None
    polled: Mapping[str, Polled]
    sections: list[DeviceSection]
    """What the commands about devices go by."""

    async def use(self, site: SiteFile) -> None:
        """They go by this file, in which nothing differs but what `agent.site_file.changes` calls live."""
        # No pause before the last line: no tick sees half of it.
        self.control.use_rules(site.rules())
        for section in site.device:
            self.polled[section.id].period_s = section.poll
        self.sections[:] = site.device
        if self.replanning is not None:
            self.replanning.use(ReplanOptions.of(site.replan))
        await self.cloud.use(site)


class Reloading:
    """Knows the site file in force, and puts another one in its place."""

    def __init__(self, site: SiteFile, parts: LiveParts, *, tell: Callable[[Event], None], clock: Clock) -> None:
        self._path = site.path
        self._site = site
        self._parts = parts
        self._tell = tell
        self._clock = clock
        self._since_utc_s = clock.utc_s()
        self._refused: tuple[str, ...] = ()
        self._one_at_a_time = asyncio.Lock()
        self._asked_by_signal: asyncio.Task[object] | None = None

    def hung_up(self) -> None:
        """SIGHUP: as `ems reload`."""
        self._asked_by_signal = asyncio.create_task(self.reload("SIGHUP"))

    async def reload(self, who: str) -> tuple[str, ...] | None:
        """The keys that changed, or None: refused, and what is in force stays (`facts` says why)."""
        async with self._one_at_a_time:
            try:
                site = await asyncio.to_thread(load, self._path)
            except ConfigError as error:
                self._refuse(error.problems, who)
                return None
            found = (*changes(self._site, site), *_other_profiles(self._site, site))
            if not all(change.live for change in found):
                self._refuse([f"{self._path}: {c.key}: {RESTART}" for c in found if not c.live], who)
                return None
            await self._parts.use(site)
            self._site, self._refused = site, ()
            self._since_utc_s = self._clock.utc_s()
            keys = tuple(change.key for change in found)
            text = f"the site file was read anew ({who}): " + (", ".join(keys) or "nothing changed")
            self._note(Severity.INFO, RELOADED, text, {"file": str(self._path), "keys": ", ".join(keys), "who": who})
            return keys

    def conditions(self) -> tuple[Condition, ...]:
        """A site file that was refused stands until one is taken."""
        if not self._refused:
            return ()
        return (Condition(REFUSED, "site", Severity.WARNING, _words(self._refused), self._data()),)

    def facts(self) -> dict[str, Any]:
        """For `ems status`."""
        return {"path": str(self._path), "since": iso(self._since_utc_s), "refused": list(self._refused)}

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {"reload": self._asked}

    async def _asked(self, _request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        need_operator("reload", peer)
        keys = await self.reload(peer.name)
        if keys is None:
            hint = "mend the file and try again; until then the agent goes on by the file that it has"
            raise Refusal("reload", "nothing was taken over: " + "; ".join(self._refused), hint)
        return {"changed": list(keys)}

    def _refuse(self, problems: list[str] | tuple[str, ...], who: str) -> None:
        standing, self._refused = bool(self._refused), tuple(problems)
        log.warning(REFUSED, who=who, problems=self._refused)
        if standing:  # the first one is told by the condition that it raises
            self._note(Severity.WARNING, REFUSED, _words(self._refused), self._data())

    def _data(self) -> dict[str, str | float | int | None]:
        """File, key and reason of the first problem, and how many more there are."""
        reason = self._refused[0].removeprefix(f"{self._path}: ")
        key, _, rest = reason.partition(": ")
        if not rest or not _KEY.fullmatch(key):
            key, rest = "", reason
        return {"file": str(self._path), "key": key or None, "reason": rest, "more": len(self._refused) - 1}

    def _note(self, severity: Severity, code: str, text: str, data: dict[str, str | float | int | None]) -> None:
        self._tell(Event(self._clock.utc_s(), EventState.NOTED, severity, code, "site", text, data))


def _words(problems: tuple[str, ...]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"the site file is not in force: {problems[0]}{more}. The one before stays; mend it, then: ems reload"


def _other_profiles(before: SiteFile, after: SiteFile) -> list[Change]:
    """Devices whose profile reads otherwise now, though its name is the same."""
    return [
        Change(f"device[{index}] ({device.id}).profile", live=False)
        for index, device in enumerate(after.device)
        if any(device.id == one.id and device.profile == one.profile for one in before.device)
        and before.profile(device.id) != after.profile(device.id)
    ]
