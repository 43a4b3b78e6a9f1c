"""What answers at an endpoint: SunSpec devices, and those that a profile describes; asked gently, and never written to.

A unit id is asked for a few registers first; one that is silent then is left alone. One that answers is looked at
closely: the chain of SunSpec models, and the identity of each profile. Answers are remembered, so that no register is
read twice.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from drivers.endpoint import Endpoint, has_transactions
from drivers.errors import DeviceError, LinkDown, LinkTimeout, ModbusRefused
from drivers.link import Link
from drivers.profile.conditions import holds
from drivers.profile.model import TYPE_REGISTERS, Condition, Profile
from drivers.profile.reads import ProfileReads, Spots
from drivers.read_plan import Reads
from drivers.registers import Registers
from drivers.scan_roles import RoleFacts, role_facts
from drivers.spec import Identity
from drivers.sunspec import Chain, walk
from drivers.sunspec_points import catalogue, see
from drivers.tls import TlsFiles

USUAL_UNITS: Final = (1, 2, 3, 71, 100, 126, 200)
"""Unit ids that makers give their devices: mostly 1; 3 and 126 SMA, 71 Kostal, 100 Victron, 200 Fronius meters."""
GATEWAY_CODES: Final = frozenset({10, 11})
"""A gateway says that nobody is there."""
NARROW: Final = 0.01
"""Numbers within this share of what a register can hold are no coincidence."""
COMMON: Final = ("1.Mn", "1.Md", "1.Vr", "1.SN")


@dataclass(frozen=True, slots=True)
class Manners:
    """How gently a scan asks."""

    timeout_s: float = 0.5
    between_s: float = 0.05
    """From one request to the next at the same endpoint."""
    after_connect_s: float = 0.2
    thorough: bool = False
    """Units that are silent to the first questions are asked for what each profile knows, too."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A profile that describes what answers here."""

    profile: str
    certain: bool
    """False where only ranges of values fit, as of any meter."""


@dataclass(frozen=True, slots=True)
class Found:
    """One device."""

    unit_id: int
    identity: Identity | None
    fits: tuple[Fit, ...]
    """The profiles that fit, the best first."""
    roles: tuple[RoleFacts, ...]
    """What a site file needs to know, one per role."""
    answered: str
    """What it said where nothing is known of it."""
    also: tuple[int, ...] = ()
    """Unit ids under which the same device answers."""


class RememberedReads(Registers):
    """Reads over a link, each once; it cannot write.

    A device may be silent to registers that it does not have: that must not make it rest (`drivers.patience`), so that
    a silence is followed by a new link, or where answers name no request, by waiting until it may be asked again.
    """

    def __init__(self, open_link: Callable[[], Link], clock: Callable[[], float]) -> None:
        self._open_link = open_link
        self._clock = clock
        self._link = open_link()
        self._connections_before = 0
        self._paces: list[tuple[float, float]] = []
        self._answers: dict[tuple[int, int, int, int], tuple[int, ...] | ModbusRefused | LinkTimeout] = {}

    @property
    def name(self) -> str:
        """The endpoint for people."""
        return self._link.name

    @property
    def generation(self) -> int:
        """The number of connections made so far."""
        return self._connections_before + self._link.generation

    async def close(self) -> None:
        """End the connection."""
        await self._link.close()

    async def read_holding(self, unit_id: int, address: int, count: int) -> tuple[int, ...]:
        """The registers as they were when they were first asked for."""
        return await self._once((unit_id, 3, address, count))

    async def read_input(self, unit_id: int, address: int, count: int) -> tuple[int, ...]:
        """The same of the input registers."""
        return await self._once((unit_id, 4, address, count))

    async def write_register(self, unit_id: int, address: int, value: int, *, generation: int | None = None) -> None:
        """Asking for it is a bug."""
        raise AssertionError(f"a scan never writes: {unit_id} {address} {value} {generation}")

    async def write_registers(
        self, unit_id: int, address: int, values: Sequence[int], *, generation: int | None = None
    ) -> None:
        """Asking for it is a bug."""
        raise AssertionError(f"a scan never writes: {unit_id} {address} {values} {generation}")

    def pace(self, between_s: float, after_connect_s: float) -> None:
        """As slow as the slowest wants it."""
        self._paces.append((between_s, after_connect_s))
        self._link.pace(between_s, after_connect_s)

    async def _once(self, key: tuple[int, int, int, int]) -> tuple[int, ...]:
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = await self._asked(key)
        if isinstance(known, ModbusRefused | LinkTimeout):
            raise known
        return known

    async def _asked(self, key: tuple[int, int, int, int]) -> tuple[int, ...] | ModbusRefused | LinkTimeout:
        unit_id, table, address, count = key
        ask = self._link.read_holding if table == 3 else self._link.read_input
        try:
            return await ask(unit_id, address, count)
        except ModbusRefused as refused:
            return refused
        except LinkTimeout as silence:
            await self._after_silence(unit_id)
            return silence

    async def _after_silence(self, unit_id: int) -> None:
        if has_transactions(self._link.endpoint):
            await self._link.close()
            self._connections_before += self._link.generation
            self._link = self._open_link()
            for pace in self._paces:
                self._link.pace(*pace)
        else:
            wait_s = self._link.retry_mono_s(unit_id) - self._clock()
            await asyncio.sleep(max(0.0, wait_s))


async def scan_unit(
    endpoint: Endpoint,
    unit_id: int,
    profiles: Mapping[str, Profile],
    clock: Callable[[], float],
    manners: Manners,
    *,
    tls: TlsFiles | None = None,
) -> Found | None:
    """What answers under this unit id, None for silence; `LinkDown` when there is no connection at all.

    `tls` is needed for an endpoint inside TLS, and only there.
    """

    def open_link() -> Link:
        link = Link(endpoint, timeout_s=manners.timeout_s, clock=clock, tls=tls, read_only=True)
        link.pace(manners.between_s, manners.after_connect_s)
        return link

    reads = RememberedReads(open_link, clock)
    try:
        said = await _first_words(reads, unit_id)
        if said is None and not manners.thorough:
            return None
        chain = await _chain(reads, unit_id)
        found = await _sunspec(reads, unit_id, chain, profiles, clock) if chain is not None else None
        fits, identity = await _profiles(reads, unit_id, profiles, clock)
        if found is None and said is None and not fits:
            return None
        if found is None:
            found = Found(unit_id, identity, fits, (), said or "nothing but what its profile asks for")
        elif any(fit.certain for fit in fits):
            # Written for this very maker: better than what its models say of it.
            who = found.identity if found.identity is not None and found.identity.manufacturer else identity
            found = replace(found, identity=who, fits=tuple(fit for fit in fits if fit.certain) + found.fits)
        roles = await role_facts(reads, unit_id, [profiles[fit.profile] for fit in found.fits[:1]], clock)
        return replace(found, roles=roles)
    finally:
        await reads.close()
        await asyncio.sleep(manners.between_s)


async def _first_words(reads: Registers, unit_id: int) -> str | None:
    """What the unit says to the first questions, None when it says nothing to any."""
    said: list[str] = []
    questions = (
        (reads.read_holding, "holding", 40000),
        (reads.read_input, "input", 0),
        (reads.read_holding, "holding", 0),
    )
    for ask, table, address in questions:
        try:
            await ask(unit_id, address, 2)
        except ModbusRefused as refused:
            if refused.code in GATEWAY_CODES:
                return None
            said.append(f"exception {refused.code} at {table} {address}")
        except LinkTimeout:
            continue
        else:
            said.append(f"values at {table} {address}")
    return ", ".join(said) or None


async def _chain(reads: Registers, unit_id: int) -> Chain | None:
    try:
        return await walk(reads, unit_id)
    except LinkDown:
        raise
    except DeviceError:  # no marker, or silence: then it is none
        return None


async def _sunspec(
    reads: Registers, unit_id: int, chain: Chain, profiles: Mapping[str, Profile], clock: Callable[[], float]
) -> Found | None:
    """The device that the chain of models describes."""
    places = catalogue(chain)
    names = [name for name in COMMON if name in places]
    said = {name: seen.value for name, seen in (await see(places, names, reads, unit_id, clock)).items()}
    maker, model, firmware, serial = (None if said.get(n) is None else str(said[n]) for n in COMMON)
    ids = tuple(model.model_id for model in chain.models)
    identity = Identity(maker, model, serial, firmware, chain.base_address, ids, chain.cut_short)
    fitting = [
        (len(described.models) + (described.maker is not None), name)
        for name, profile in profiles.items()
        if (described := profile.sunspec) is not None and _describes(profile, identity)
    ]
    fits = tuple(Fit(name, True) for _, name in sorted(fitting, key=lambda one: -one[0]))
    return Found(unit_id, identity, fits, (), f"SunSpec models {', '.join(map(str, ids))}")


def _describes(profile: Profile, identity: Identity) -> bool:
    stated = profile.sunspec
    assert stated is not None
    for wanted, seen in ((stated.maker, identity.manufacturer), (stated.model, identity.model)):
        if wanted is not None and (seen is None or re.fullmatch(wanted, seen) is None):
            return False
    return all(set(group) & set(identity.models) for group in stated.models)


async def _profiles(
    reads: Registers, unit_id: int, profiles: Mapping[str, Profile], clock: Callable[[], float]
) -> tuple[tuple[Fit, ...], Identity | None]:
    """The profiles whose identity holds here, the most telling first; and who the device is by the first of them."""
    fitting: list[tuple[int, str, Identity]] = []
    for name, profile in profiles.items():
        if profile.sunspec is not None:
            continue
        try:
            weight, identity = await _identity(reads, unit_id, profile, clock)
        except LinkTimeout:
            continue
        if identity is not None:
            fitting.append((weight, name, identity))
    fitting.sort(key=lambda one: (-one[0], one[1]))
    return tuple(Fit(name, weight > 0) for weight, name, _ in fitting), fitting[0][2] if fitting else None


async def _identity(
    reads: Registers, unit_id: int, profile: Profile, clock: Callable[[], float]
) -> tuple[int, Identity | None]:
    """How telling the identity of this profile is, and who answers if it holds."""
    described = profile.identity
    told_by = (described.model, described.serial, described.firmware)
    names = list(dict.fromkeys([c.point for c in described.check] + [name for name in told_by if name is not None]))
    spots = Spots(profile, unit_id, {})
    seen: Reads = await ProfileReads(spots, names).read(reads, unit_id, clock)
    if not described.check or not all(holds(profile, condition, seen) for condition in described.check):
        return 0, None
    texts = []
    for name in told_by:
        read = seen.get(name) if name is not None else None
        value = None if read is None else read.value
        label = spots[name].codec.label(value) if name is not None else None
        texts.append(label or (None if value is None else str(value)))
    weight = sum(_telling(profile, condition) for condition in described.check)
    return weight, Identity(profile.about.maker, texts[0], texts[1], texts[2])


def _telling(profile: Profile, condition: Condition) -> int:
    """1 where a condition names what the device says, or nearly so; 0 where it only bounds it."""
    if condition.is_ is not None or condition.matches is not None or condition.bits is not None:
        return 1
    point = profile.points[condition.point]
    bits = 16 * TYPE_REGISTERS.get(point.type, 0)
    if condition.at_least is None or condition.at_most is None or point.type[:1] == "f" or point.scale != 1 or not bits:
        return 0
    return int(condition.at_most - condition.at_least < NARROW * 2.0**bits)
