"""The droop tables of the markets, by name; a site's own table goes beside them (`agent.core.droop`).

What is in `unsure` was not read in the market's own rules: it is a starting point, to be checked against the contract
and overridden in the site file where it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from agent.core.droop import DroopTable

_MINUTE_S = 60.0

EPRX_ONLINE_50HZ = DroopTable(
    name="eprx-primary-online-50hz",
    nominal_hz=50.0,
    points=((0.010, 0.0), (0.2, 1.0)),
    full_by_s=10.0,
    sustain_s=5 * _MINUTE_S,
    source="EPRX primary reserve (FCR), Japan, 50 Hz areas; the dead band is the widest that is allowed",
    unsure=("points[0]", "gate_hz"),
)
_EPRX_60HZ = replace(
    EPRX_ONLINE_50HZ,
    name="eprx-primary-online-60hz",
    nominal_hz=60.0,
    points=((0.012, 0.0), (0.2, 1.0)),
    source="EPRX primary reserve (FCR), Japan, 60 Hz areas; the dead band is the widest that is allowed",
)
_EPRX_HOKKAIDO = replace(
    EPRX_ONLINE_50HZ,
    name="eprx-primary-online-hokkaido",
    points=((0.010, 0.0), (0.3, 1.0)),
    source="EPRX primary reserve (FCR), Japan, Hokkaido (50 Hz, full at 0.3 Hz)",
)
_EPRX_ONLINE = (EPRX_ONLINE_50HZ, _EPRX_60HZ, _EPRX_HOKKAIDO)
_EPRX_OFFLINE = tuple(
    replace(
        table,
        name=table.name.replace("online", "offline"),
        full_by_s=30.0,
        source=table.source.replace("(FCR)", "(FCR), offline quota"),
    )
    for table in _EPRX_ONLINE
)

CE_FCR_OFFSET = DroopTable(
    name="ce-fcr-offset",
    nominal_hz=50.0,
    points=((0.010, 0.0), (0.200, 1.0)),
    full_by_s=30.0,
    half_by_s=15.0,
    sustain_s=30 * _MINUTE_S,
    restore_within_s=120 * _MINUTE_S,
    source="FCR of Continental Europe, dead band as an offset; sustain is 15 to 30 min by area, the longer taken",
)
CE_FCR_GATE = replace(
    CE_FCR_OFFSET,
    name="ce-fcr-gate",
    points=((0.0, 0.0), (0.200, 1.0)),
    gate_hz=0.010,
    source="FCR of Continental Europe, dead band as a gate; sustain is 15 to 30 min by area, the longer taken",
)
FCR_N = DroopTable(
    name="fcr-n",
    nominal_hz=50.0,
    points=((0.0, 0.0), (0.1, 1.0)),
    full_by_s=3 * _MINUTE_S,
    sustain_s=60 * _MINUTE_S,
    power_headroom=1.34,
    source="Nordic FCR for normal operation",
    unsure=("full_by_s",),
)
FCR_D = DroopTable(
    name="fcr-d",
    nominal_hz=50.0,
    points=((0.1, 0.0), (0.5, 1.0)),
    full_by_s=7.5,
    sustain_s=20 * _MINUTE_S,
    opposite_headroom=0.2,
    source="Nordic FCR for disturbances, upward or downward by the award's direction",
    unsure=("full_by_s",),
)
GB_DC = DroopTable(
    name="gb-dc",
    nominal_hz=50.0,
    points=((0.015, 0.0), (0.2, 0.05), (0.5, 1.0)),
    full_by_s=1.0,
    start_within_s=0.5,
    sustain_s=15 * _MINUTE_S,
    source="Great Britain, Dynamic Containment, low or high by the award's direction",
)
GB_DM = DroopTable(
    name="gb-dm",
    nominal_hz=50.0,
    points=((0.015, 0.0), (0.1, 0.05), (0.2, 1.0)),
    full_by_s=1.0,
    sustain_s=30 * _MINUTE_S,
    source="Great Britain, Dynamic Moderation",
    unsure=("points", "full_by_s", "sustain_s"),
)
GB_DR = DroopTable(
    name="gb-dr",
    nominal_hz=50.0,
    points=((0.015, 0.0), (0.2, 1.0)),
    full_by_s=10.0,
    start_within_s=2.0,
    sustain_s=60 * _MINUTE_S,
    source="Great Britain, Dynamic Regulation",
    unsure=("points", "full_by_s", "start_within_s", "sustain_s"),
)
_AEMO_1S = DroopTable(
    name="aemo-contingency-1s",
    nominal_hz=50.0,
    points=((0.15, 0.0), (0.5, 1.0)),
    full_by_s=1.0,
    sustain_s=5 * _MINUTE_S,
    least_droop=0.017,
    # One response is sold in up to three markets at the same time, not three responses.
    counted_with="aemo-contingency",
    source="AEMO contingency FCAS by droop, raise or lower by the award's direction; 5 min until delayed takes over",
    unsure=("points", "full_by_s", "least_droop", "sustain_s"),
)
_AEMO = (
    _AEMO_1S,
    replace(_AEMO_1S, name="aemo-contingency-6s", full_by_s=6.0),
    replace(_AEMO_1S, name="aemo-contingency-60s", full_by_s=60.0),
)

PRODUCTS: Mapping[str, DroopTable] = MappingProxyType(
    {
        table.name: table
        for table in (
            *_EPRX_ONLINE,
            *_EPRX_OFFLINE,
            CE_FCR_OFFSET,
            CE_FCR_GATE,
            FCR_N,
            FCR_D,
            GB_DC,
            GB_DM,
            GB_DR,
            *_AEMO,
        )
    }
)
"""Every preset by its name, which is what `Award.product` says."""
