"""The newest sample of every device: pollers write, the control loop reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.core.rules import SiteRules
from agent.core.snapshot import BatterySample, MeterSample, PvSample
from agent.runtime.poll_record import PollRecord

Sample = BatterySample | PvSample | MeterSample


@dataclass
class DeviceHealth:
    """How one device answers; for people, not for control."""

    device_id: str
    endpoint: str
    identity: str | None = None
    polls: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    last_error: str | None = None
    latency_s: float | None = None
    read_mono_s: float | None = None
    """When it was last read without a failure."""
    stranger: str | None = None
    """Why another device answers than the site file and the profile describe; None while none does."""
    frozen: str | None = None
    """Why its values are not believed although it answers; None while they are."""
    resting: str | None = None
    """Why its unit is left alone but for single trials; None while it is not."""
    record: PollRecord = field(default_factory=PollRecord)

    @property
    def word(self) -> str:
        """`good`, `failing`, `wrong_identity` (another device answers) or `unknown` (never answered)."""
        if self.stranger is not None:
            return "wrong_identity"
        if self.failures_in_a_row:
            return "failing"
        return "good" if self.polls else "unknown"


class Board:
    """Samples by device id, in the order of the site's rules; a device not read yet has a sample full of NEVER."""

    def __init__(self, rules: SiteRules) -> None:
        self._batteries = {b.device_id: BatterySample(b.device_id) for b in rules.batteries}
        self._pvs = {device_id: PvSample(device_id) for device_id in rules.pv_ids}
        self._meter_id = rules.meter_id
        self._meter = MeterSample(rules.meter_id) if rules.meter_id else None
        self._hurry_s: float | None = None
        self.on_hurry: Callable[[], None] | None = None
        """Called when `hurry_s` becomes another."""
        self.on_meter: Callable[[], None] | None = None
        """Called with each new reading of the connection meter."""

    @property
    def hurry_s(self) -> float | None:
        """How often the connection meter must be read now for its frequency, s; None = its own period will do."""
        return self._hurry_s

    @hurry_s.setter
    def hurry_s(self, every_s: float | None) -> None:
        if every_s != self._hurry_s:
            self._hurry_s = every_s
            if self.on_hurry is not None:
                self.on_hurry()

    def post(self, sample: Sample) -> None:
        """Put a newer sample in the place of the one before."""
        if isinstance(sample, BatterySample):
            self._batteries[sample.device_id] = sample
        elif isinstance(sample, PvSample):
            self._pvs[sample.device_id] = sample
        elif sample.device_id == self._meter_id:
            self._meter = sample
            if self.on_meter is not None:
                self.on_meter()

    def may_hurry(self, device_id: str) -> bool:
        """Whether `period_s` of this device can ever be shorter than its own."""
        return device_id == self._meter_id

    def period_s(self, device_id: str, own_s: float) -> float:
        """From one reading of this device to the next, s, given its own period."""
        if self.hurry_s is None or device_id != self._meter_id:
            return own_s
        return min(own_s, self.hurry_s)

    @property
    def batteries(self) -> tuple[BatterySample, ...]:
        """The newest sample of each battery."""
        return tuple(self._batteries.values())

    @property
    def pvs(self) -> tuple[PvSample, ...]:
        """The newest sample of each PV inverter."""
        return tuple(self._pvs.values())

    @property
    def meter(self) -> MeterSample | None:
        """The newest sample of the connection meter, None on a site without one."""
        return self._meter
