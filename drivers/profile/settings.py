"""The settings of owners that a take-over overwrites: kept before, put back on release, after a restart too."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from drivers.profile.notes import by_device, is_number


class OwnersSettings:
    """Settings by device and point, as numbers. `keep` makes the text of all of them durable before it returns."""

    def __init__(self, keep: Callable[[str], Awaitable[None]] | None = None) -> None:
        self._keep = keep
        self._by_device: dict[str, dict[str, float]] = {}

    def restore(self, text: str | None) -> None:
        """Take over what an earlier run kept; text that cannot be read counts as nothing."""
        for device_id, settings in by_device(text).items():
            if isinstance(settings, dict):
                numbers = {name: float(value) for name, value in settings.items() if is_number(value)}
                self._by_device[device_id] = numbers | self._by_device.get(device_id, {})

    def of(self, device_id: str) -> dict[str, float]:
        """What is kept of one device, by point."""
        return dict(self._by_device.get(device_id, {}))

    async def put(self, device_id: str, settings: Mapping[str, float]) -> None:
        """These are the settings of the device from now on; none: its owner has them back."""
        if self.of(device_id) == dict(settings):
            return
        if settings:
            self._by_device[device_id] = dict(settings)
        else:
            del self._by_device[device_id]
        if self._keep is not None:
            await self._keep(json.dumps(self._by_device))
