"""What a day came to, from what was kept of it: means of each minute, energies, who decided, how the slots landed.

Powers are W and energies Wh, toward the grid positive; times Unix seconds. What was not measured is not filled in: a
sample counts until the next one, and nothing counts across a hole.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from agent.core.evidence import EvidenceRow
from agent.core.frequency import Trouble
from agent.core.ledger import SlotRow

MINUTE_S = 60.0
LONGEST_TICK_S = 15.0
"""Samples further apart than this have a hole between them; the slowest tick that a site may have is 10 s."""
MEASURED = ("grid_w", "battery_w", "pv_w", "load_w", "setpoint_w", "soc_pct", "frequency_hz")

Sample = Mapping[str, float | str | None]
"""A sample by column: `utc_s`, `source` and those of `MEASURED`."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Energy through one place, Wh >= 0 either way."""

    out_wh: float
    """Toward the grid: export, discharge, PV's yield."""
    in_wh: float
    """From the grid: import, charge, load."""


@dataclass(frozen=True, slots=True)
class Landed:
    """How the finished slots with a plan landed."""

    slots: int
    planned_wh: float
    imbalance_wh: float
    worst_wh: float
    """The largest imbalance of one slot, either way."""
    mean_error_wh: float
    """Mean of the imbalances without their sign."""


@dataclass(frozen=True, slots=True)
class Response:
    """What the evidence of awards shows."""

    seconds: int
    measured: int
    """Seconds in which frequency and power were known."""
    mean_error_pct: float | None
    """Mean distance of the power from baseline and response asked for, in % of the award."""
    troubles: Mapping[str, int]
    """Seconds by what was wrong with the frequency."""


@dataclass(frozen=True, slots=True)
class DaySummary:
    """A day, or the part of it that has been."""

    samples: int
    covered_s: float
    """Time that samples speak for."""
    flows: Mapping[str, Flow]
    """By column of a power."""
    sources_s: Mapping[str, float]
    """Time by who decided."""
    soc_pct: tuple[float, float, float, float] | None
    """First, last, lowest, highest."""
    minutes: Sequence[Mapping[str, float | None]]
    """Means of each minute from the first one on, with `hour` since the day's begin; None where there are none."""


@dataclass(slots=True)
class _Minute:
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURED})


def summed_up(samples: Iterable[Sample], begin_utc_s: float) -> DaySummary:
    """The summary of samples in rising time, of the day that began at `begin_utc_s`."""
    minutes: dict[int, _Minute] = {}
    out_wh: defaultdict[str, float] = defaultdict(float)
    in_wh: defaultdict[str, float] = defaultdict(float)
    sources_s: defaultdict[str, float] = defaultdict(float)
    socs_pct: list[float] = []
    count, covered_s = 0, 0.0
    before: Sample | None = None
    for sample in samples:
        count += 1
        minute = minutes.setdefault(int((_time(sample) - begin_utc_s) // MINUTE_S), _Minute())
        for name in MEASURED:
            value = sample.get(name)
            if isinstance(value, int | float):
                minute.values[name].append(value)
        if isinstance(soc := sample.get("soc_pct"), int | float):
            socs_pct.append(soc)
        if before is not None and 0.0 < (dt_s := _time(sample) - _time(before)) <= LONGEST_TICK_S:
            covered_s += dt_s
            sources_s[str(before["source"])] += dt_s
            for name in ("grid_w", "battery_w", "pv_w", "load_w"):
                if isinstance(power_w := before.get(name), int | float):
                    out_wh[name] += max(power_w, 0.0) * dt_s / 3600.0
                    in_wh[name] += max(-power_w, 0.0) * dt_s / 3600.0
        before = sample
    return DaySummary(
        samples=count,
        covered_s=covered_s,
        flows={name: Flow(out_wh[name], in_wh[name]) for name in out_wh},
        sources_s=dict(sorted(sources_s.items(), key=lambda one: -one[1])),
        soc_pct=(socs_pct[0], socs_pct[-1], min(socs_pct), max(socs_pct)) if socs_pct else None,
        minutes=[_mean(n, minutes.get(n)) for n in range(min(minutes), max(minutes) + 1)] if minutes else [],
    )


def _time(sample: Sample) -> float:
    at = sample["utc_s"]
    assert isinstance(at, int | float), "every sample has its time"
    return at


def _mean(number: int, minute: _Minute | None) -> dict[str, float | None]:
    means: dict[str, float | None] = dict.fromkeys(MEASURED)
    if minute is not None:
        means |= {name: fmean(values) for name, values in minute.values.items() if values}
    return {"hour": number * MINUTE_S / 3600.0, **means}


def landed(slots: Iterable[SlotRow]) -> Landed | None:
    """How the finished slots with a plan landed; None where there is none."""
    done = [slot for slot in slots if slot.closed and slot.planned_wh is not None and slot.imbalance_wh is not None]
    if not done:
        return None
    off_wh = [slot.imbalance_wh or 0.0 for slot in done]
    return Landed(
        slots=len(done),
        planned_wh=sum(slot.planned_wh or 0.0 for slot in done),
        imbalance_wh=sum(off_wh),
        worst_wh=max(off_wh, key=abs),
        mean_error_wh=fmean(map(abs, off_wh)),
    )


def responded(rows: Sequence[EvidenceRow]) -> Response | None:
    """What the evidence shows; None where nothing was sold. Seconds in which commissioning played an award are none."""
    rows = [row for row in rows if row.trouble is not Trouble.TEST]
    if not rows:
        return None
    errors_pct = [
        100.0 * abs(row.power_w - row.baseline_w - row.response_w) / max(row.award_up_w, row.award_down_w)
        for row in rows
        if row.power_w is not None
        and row.baseline_w is not None
        and row.response_w is not None
        and max(row.award_up_w, row.award_down_w) > 0.0
    ]
    return Response(
        seconds=len(rows),
        measured=sum(row.power_w is not None and row.frequency_hz is not None for row in rows),
        mean_error_pct=fmean(errors_pct) if errors_pct else None,
        troubles=dict(Counter(row.trouble.value for row in rows if row.trouble is not None)),
    )
