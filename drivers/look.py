"""What a device of the site says now, point by point, for people: over its own connection, and without a write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.snapshot import Quality
from drivers.device import Device, DeviceSpec, open_device
from drivers.errors import IdentityMismatch, ModelMissing, NotSunSpec
from drivers.profile.model import Profile
from drivers.profile.reads import Spots
from drivers.profile.roles import ProfileBattery, ProfileMeter, ProfilePv
from drivers.profile.trial import PointRead, Trial, UnknownPoint, trial
from drivers.read_plan import Place
from drivers.registers import Registers
from drivers.session import Session
from drivers.spec import Positive
from drivers.sunspec_points import SunSpecSeen, catalogue, see
from drivers.sunspec_words import label

__all__ = ["Look", "PointRead", "UnknownPoint", "look", "sunspec_places"]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a device showed; `mismatch` tells why it is not what its profile and the site file describe."""

    points: tuple[PointRead, ...]
    mismatch: tuple[str, ...] = ()


async def look(device: Device, names: Sequence[str], clock: Callable[[], float]) -> Look:
    """The points called `names`, all when there are none; `UnknownPoint`, or `DeviceError` if it does not answer.

    Of a SunSpec device those that its role polls when there are none; called by model and point (`701.W`), or all
    points of a model by its number (`701`).
    """
    if isinstance(device, ProfileBattery | ProfilePv | ProfileMeter):
        found: Trial = await device.look(names)
        return Look(found.points, found.mismatch or await _stranger(device))
    session = device.session
    places = await sunspec_places(session)
    wanted = [one for name in names for one in _meant(places, name)] or list(await device.points())
    seen = await see(places, wanted, session.link, device.spec.unit_id, clock)
    return Look(tuple(_row(places[name], seen[name], clock()) for name in wanted))


async def _stranger(device: ProfileBattery | ProfilePv | ProfileMeter) -> tuple[str, ...]:
    """Why it is not the one that the site file states."""
    try:
        await device.session.ensure_identified()
    except IdentityMismatch as error:
        return (error.what,)
    return ()


async def tried(
    profile: Profile, unit_id: int, names: Sequence[str], link: Registers, clock: Callable[[], float]
) -> Look:
    """The points called `names` behind `link` (all when there are none), and whether it is what `profile` says.

    Of a SunSpec device those that its roles poll when there are none. `UnknownPoint`, or `DeviceError` if it does not
    answer.
    """
    if profile.sunspec is None:
        found = await trial(Spots(profile, unit_id, {}), names, link, clock)
        return Look(found.points, found.mismatch)
    points: dict[str, PointRead] = {}
    for role in profile.sunspec.roles:
        positive: Positive | None = "import" if role == "meter" else None  # nothing of it is shown
        spec = DeviceSpec("device", role, unit_id, profile=profile, positive=positive)
        try:
            looked = await look(open_device(spec, link, clock), names, clock)
        except (IdentityMismatch, ModelMissing) as error:
            return Look((), (error.what,))
        points |= {point.name: point for point in looked.points}
    return Look(tuple(points.values()))


async def sunspec_places(session: Session) -> Mapping[str, Place]:
    """Where each point of the device is, by name; errors are `DeviceError`s."""
    await session.ensure_identified()
    if session.chain is None:
        raise NotSunSpec("its models are not known yet", endpoint=session.link.name, hint="try again")
    return catalogue(session.chain)


def _meant(places: Mapping[str, Place], name: str) -> list[str]:
    """The points that a name stands for: itself, or all of a model."""
    found = [name] if name in places else [key for key in places if key.split(".", 1)[0] == name]
    if not found:
        models = ", ".join(dict.fromkeys(key.split(".", 1)[0] for key in places))
        raise UnknownPoint(f"the device has no point {name!r}; name a model, or model and point: it has {models}")
    return found


def _row(place: Place, seen: SunSpecSeen, now_mono_s: float) -> PointRead:
    point, quality = place.point, Quality.MISSING if seen.value is None else Quality.GOOD
    age_s = now_mono_s - seen.read_mono_s
    word = label(place.key, point.type, seen.value)
    return PointRead(
        place.key, seen.value, point.unit, word, seen.raw, seen.registers, age_s, quality.value, seen.refused,
        point.writable,
    )  # fmt: skip
