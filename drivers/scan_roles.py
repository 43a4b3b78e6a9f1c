"""What a site file must state about a device that was found, role by role, as the device itself tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.core.snapshot import BatterySample
from drivers.device import open_device
from drivers.errors import DeviceError
from drivers.profile.model import Profile
from drivers.profile.reads import Spots
from drivers.profile.writing import dead_man_misfit
from drivers.registers import Registers
from drivers.spec import BadSpec, DeviceSpec, Role

LONGEST_DEAD_MAN_S = 60.0


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """One role of a device."""

    role: Role
    rated_w: float | None = None
    """A battery's nameplate as it states it; None where it does not."""
    states_capacity: bool = True
    dead_man_s: float | None = None
    """Where the default does not suit the device."""
    asks_for_sign: bool = False
    """Only the site knows what a positive power means."""
    trouble: str = ""
    """Why it cannot be used in this role as it is."""


async def role_facts(
    link: Registers, unit_id: int, profiles: Sequence[Profile], clock: Callable[[], float]
) -> tuple[RoleFacts, ...]:
    """The facts of each role of these profiles; the device is read, and nothing else."""
    return tuple(
        [await _facts(link, unit_id, profile, role, clock) for profile in profiles for role in _roles(profile)]
    )


def _roles(profile: Profile) -> list[Role]:
    return [role for role in ("battery", "pv", "meter") if role in profile.roles]


async def _facts(link: Registers, unit_id: int, profile: Profile, role: Role, clock: Callable[[], float]) -> RoleFacts:
    bare = DeviceSpec("found", role, unit_id, positive="export" if role == "meter" else None, profile=profile)
    facts = RoleFacts(role, asks_for_sign=role == "meter" and bare.asks_for_sign, dead_man_s=_dead_man_s(bare))
    try:
        device = open_device(bare, link, clock)
        sample = await device.read()
    except (DeviceError, BadSpec) as error:
        return RoleFacts(role, None, asks_for_sign=facts.asks_for_sign, trouble=str(error))
    if not isinstance(sample, BatterySample):
        return facts
    states = sample.capacity_wh.value is not None
    return RoleFacts(role, sample.rated_discharge_w.value, states, facts.dead_man_s, facts.asks_for_sign)


def _dead_man_s(spec: DeviceSpec) -> float | None:
    """The dead-man time that a site file must state, None where the default suits."""
    profile = spec.profile
    control = getattr(getattr(profile, spec.role), "control", None) if profile is not None else None
    if profile is None or profile.sunspec is not None or control is None or control.dead_man.fixed is None:
        return None
    misfit = dead_man_misfit(Spots(profile, spec.unit_id, {}), control, LONGEST_DEAD_MAN_S)
    return float(control.dead_man.fixed) if misfit else None
