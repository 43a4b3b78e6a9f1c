"""Who a device is that a profile describes, and its polling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drivers.errors import IdentityMismatch, ModbusRefused
from drivers.known import KnownDevice, Learnt
from drivers.profile.conditions import holds, told
from drivers.profile.model import Profile
from drivers.profile.reads import ProfileReads, Spots
from drivers.read_plan import Reads
from drivers.registers import Registers
from drivers.spec import DeviceSpec, Identity


class ProfileSession(KnownDevice):
    """The identity and the polling of one device; `polled` are the names of the points that its role needs."""

    def __init__(
        self,
        spec: DeviceSpec,
        link: Registers,
        clock: Callable[[], float],
        spots: Spots,
        polled: Sequence[str],
    ) -> None:
        super().__init__(spec, link, clock)
        self._spots = spots
        self._profile: Profile = spots.profile
        self._polled = list(dict.fromkeys(polled))
        identity = self._profile.identity
        told_by = (identity.model, identity.serial, identity.firmware)
        names = [condition.point for condition in identity.check] + [name for name in told_by if name is not None]
        self._who = list(dict.fromkeys(names))

    @property
    def refused(self) -> dict[str, str]:
        """The points that the device does not offer now, by name, with its answer."""
        return {name: str(why) for name, why in self.refusals.items()}

    @property
    def refusals(self) -> dict[str, ModbusRefused]:
        """The same as the device answered."""
        plan = self._known.plan if self._known is not None else None
        return dict(plan.refused) if isinstance(plan, ProfileReads) else {}

    async def _look(self) -> Learnt:
        who = ProfileReads(self._spots, self._who)
        reads = await who.read(self._link, self.spec.unit_id, self._clock)
        polls = ProfileReads(self._spots, self._polled, must_answer=True)
        return Learnt(who.generation, self._checked(reads), polls)

    async def _glance(self, known: Identity) -> Identity:  # noqa: ARG002 - a profile's identity is read whole
        reads = await ProfileReads(self._spots, self._who).read(self._link, self.spec.unit_id, self._clock)
        return self._checked(reads)

    def _checked(self, reads: Reads) -> Identity:
        """The identity, if it is one that the profile is for."""
        for condition in self._profile.identity.check:
            if not holds(self._profile, condition, reads):
                read = reads.get(condition.point)
                answer = "it says nothing" if read is None or read.value is None else f"it says {read.value!r}"
                raise IdentityMismatch(
                    f"{self.spec.device_id} is not what its profile describes "
                    f"({self._profile.about.maker}): {told(self._profile, condition)} is expected, {answer}",
                    endpoint=self._link.name,
                    unit_id=self.spec.unit_id,
                    hint="check url, unit_id and profile in the site file; nothing is written to it",
                )
        identity = self._profile.identity
        model, serial, firmware = (
            self._text(reads, name) for name in (identity.model, identity.serial, identity.firmware)
        )
        found = Identity(self._profile.about.maker, model, serial, firmware)
        self.compare(found)
        return found

    def _text(self, reads: Reads, name: str | None) -> str | None:
        read = reads.get(name) if name is not None else None
        if name is None or read is None or read.value is None:
            return None
        return self._spots[name].codec.label(read.value) or str(read.value)
