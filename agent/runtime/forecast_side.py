"""Tells the cloud what the site will do: made once a minute and when what is held changes, sent when it says more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.cloud.messages import award_lines, forecast_message
from agent.core.slots_ahead import SlotAhead, tells_more
from agent.runtime.control import ControlLoop

AHEAD_S = 48 * 3600.0
SHORTEST_S = 10.0
"""From one forecast to the next, whatever happens in between."""


class ForecastSide:
    """Makes `edge/forecast` beside the control loop: after a tick, never within one."""

    def __init__(self, site_id: str, control: ControlLoop, publish: Callable[[bytes], None]) -> None:
        self._site_id = site_id
        self._control = control
        self._publish = publish
        self._due = True
        self._looked_mono_s = float("-inf")
        self._slots: Sequence[SlotAhead] = ()
        self._awards: object = None

    def may_differ(self) -> None:
        """Something that a forecast is made of has changed, or a minute has passed."""
        self._due = True

    def after_tick(self) -> None:
        """Publishes the forecast, if one is due and says something that the one before does not."""
        control, now_mono_s = self._control, self._control.clock.mono_s()
        if not self._due or now_mono_s - self._looked_mono_s < SHORTEST_S:
            return
        self._due, self._looked_mono_s = False, now_mono_s
        decision = control.decisions[-1]
        slots = control.slots_ahead(AHEAD_S)
        lines = award_lines(control.in_force.awards, control.outlook)
        awards = [(line["id"], line["met"], line["start"], line["end"]) for line in lines]
        if awards == self._awards and not tells_more(self._slots, slots, decision.utc_s):
            return
        self._slots, self._awards = slots, awards
        self._publish(
            forecast_message(
                self._site_id,
                decision.utc_s,
                decision.soc_pct,
                slots,
                lines,
            )
        )
