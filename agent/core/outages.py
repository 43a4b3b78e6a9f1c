"""Which devices must stay at 0 now because work is going on, ordered by the cloud or the site's owner."""

from __future__ import annotations

from agent.core.orders import Outage


def out_of_service(outages: tuple[Outage, ...], utc_s: float, device_id: str) -> str | None:
    """The id of the outage that keeps `device_id` at 0 at `utc_s`, or None when it may work."""
    for outage in outages:
        if outage.device_id in (None, device_id) and outage.start_utc_s <= utc_s < outage.end_utc_s:
            return outage.outage_id
    return None
