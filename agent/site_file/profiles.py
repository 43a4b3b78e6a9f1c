"""The profiles that a site's devices are described by, and each device as the drivers want it stated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.site_file.device import DeviceSection
from drivers.profile.model import Profile
from drivers.profile.problem import BadProfile
from drivers.spec import BadSpec, DeviceSpec


def device_profiles(devices: Sequence[DeviceSection], site_folder: Path) -> tuple[dict[str, Profile], list[str]]:
    """The profiles by the devices' ids, and every problem as `key: reason`; own profiles lie in `profiles`."""
    found: dict[str, Profile] = {}
    loaded: dict[str, Profile] = {}
    problems: list[str] = []
    for index, device in enumerate(devices):
        where = f"device[{index}] ({device.id})"
        if device.profile is None:
            if device.unit_ids:
                problems.append(f"{where}.unit_ids: is for devices with a profile")
            continue
        # Sites of SunSpec devices do without: half of what it takes to read a site file.
        from drivers.profile.load import SITE_FOLDER, find  # noqa: PLC0415

        try:
            if device.profile not in loaded:  # many devices of one kind share it
                loaded[device.profile] = find(device.profile, site_folder / SITE_FOLDER)
            found[device.id] = loaded[device.profile]
            device_spec(device, found[device.id])
        except BadProfile as bad:
            problems += [f"{where}.profile: {line}" for line in bad.problems]
        except BadSpec as bad:
            problems.append(f"{where}: {str(bad).removeprefix(f'{device.id}: ')}")
    return found, problems


def device_spec(section: DeviceSection, profile: Profile | None) -> DeviceSpec:
    """The device as the drivers want it stated; `BadSpec` when it does not fit its profile."""
    spec = DeviceSpec(
        device_id=section.id,
        role=section.role,
        unit_id=section.unit_id,
        base_address=section.base_address,
        reversion_s=int(section.dead_man),
        rated_w=section.rated_power,
        capacity_wh=section.capacity,
        positive=section.positive,
        expected_model=section.expected_model,
        expected_serial=section.expected_serial,
        profile=profile,
        unit_ids=section.unit_ids,
    )
    control = getattr(getattr(profile, section.role, None), "control", None)
    written_to = section.role == "battery" or section.can_be_limited
    if profile is not None and control is not None and written_to:
        from drivers.profile.reads import Spots  # noqa: PLC0415 (as above)
        from drivers.profile.writing import dead_man_misfit  # noqa: PLC0415 (as above)

        misfit = dead_man_misfit(Spots(profile, section.unit_id, section.unit_ids), control, section.dead_man)
        if misfit:
            raise BadSpec(f"{section.id}: {misfit}")
    return spec


def frequency_resolution_hz(meter: DeviceSection, profiles: Mapping[str, Profile]) -> float | None:
    """The step of a meter's frequency: what the site file states, else its profile; None where neither does."""
    if meter.frequency_resolution is not None or meter.id not in profiles:
        return meter.frequency_resolution
    return profiles[meter.id].frequency_resolution_hz
