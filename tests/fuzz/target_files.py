"""Files that people write: the site file, and the profile of a device."""

from __future__ import annotations

import atexit
import dataclasses
import math
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from agent.config import ConfigError, SiteFile, load
from agent.core.admission import plan_limits
from agent.site_file.shown import shown
from drivers.codec import OutOfRange
from drivers.profile.load import MAX_FILE_BYTES, examine, find
from drivers.profile.reads import Spots, packs
from drivers.profile.roles import open_profile_device
from drivers.profile.values import Values
from drivers.read_plan import Read
from drivers.spec import BadSpec, DeviceSpec
from tests.fuzz.target_modbus import Silent
from tests.fuzz.targets import hold

FOLDER = Path(tempfile.mkdtemp(prefix="fz", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
FOUND = cache(find)
"""The profiles that a site file names are a target of their own, and there are a few only."""
LONGEST_LINE = 2 * MAX_FILE_BYTES
REGISTERS = (0x0000, 0xFFFF, 0x7FFF, 0x8000, 0x0001, 0x7FC0, 0x3030)


def site_file(payload: bytes) -> None:
    """A site file; one that is taken makes a site whose every number is one."""
    path = FOLDER / "site.toml"
    path.write_bytes(payload)
    _shown(payload)
    try:
        with mock.patch("drivers.profile.load.find", FOUND):
            site = load(path)
    except ConfigError as error:
        hold(error.problems, "a refusal names a problem")
        for line in error.problems:
            _line(line, str(path))
        return
    rules = site.rules()
    _numbers(rules, "rules")
    limits = plan_limits(rules)
    hold(limits.discharge_w > 0 and limits.charge_w > 0, "a battery has a rating")
    hold(rules.batteries, "a site has a battery")
    for battery in rules.batteries:
        hold(0 <= battery.soc_min_pct < battery.soc_max_pct <= 100, "a SoC band is one")
        hold(0.5 < battery.one_way_efficiency <= 1, "an efficiency is one")
        hold(1 <= battery.dead_man_s <= 60, "a dead-man ends within a minute")
    for device in site.device:
        site.spec(device)
    if site.cloud is not None:
        hold(0 < site.cloud.address.port < 65536, "a broker has a port")
        hold(site.cloud.on_this_machine in (True, False), "")
        hold(all(len(raw) == 32 for raw in site.cloud.keys().values()), "a key has 32 bytes")


def _shown(payload: bytes) -> None:
    """What a support bundle shows of it, be it good or not."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return
    if "password = " in text:
        secret = text.split("password = ", 1)[1].split("\n", 1)[0].strip(" \t\"'")
        if len(secret) > 12 and text.count(secret) == 1:
            hold(secret not in shown(text, SiteFile).text, "what is no key of the site file is not shown")
            return
    shown(text, SiteFile)


def profile(payload: bytes) -> None:
    """A profile; one without errors reads a device, and says no number that is none."""
    path = FOLDER / "one.toml"
    path.write_bytes(payload)
    found, problems = examine(path)
    for problem in problems:
        hold(problem.where, "a problem has a place")
        _line(problem.line(str(path)), str(path))
    errors = [problem for problem in problems if problem.severity == "error"]
    hold(found is not None or errors, "a profile is there, or an error")
    if found is None or errors or found.sunspec is not None:
        return
    spots = Spots(found, 1, {})
    packs(found, spots.needed(found.points))
    for name, point in found.points.items():
        codec = spots[name].codec
        for register in REGISTERS:
            raw = codec.raw((register,) * codec.count)
            for exponent in (0, None, -10, 10):
                value = codec.value(raw, exponent)
                hold(not isinstance(value, float) or math.isfinite(value), f"{name}: a value is a number")
                _ = (codec.label(value), codec.shown(value), codec.step(exponent))
                reading = Values(found, {name: Read(value, 0.0)}, "export").point(name).at(0.0)
                hold(reading.value is None or math.isfinite(reading.value), f"{name}: a reading is a number")
                if isinstance(value, int | float) and point.write is not None:
                    _encoded(codec, value, exponent)
    for role in found.roles:
        positive = "export" if role == "meter" else None
        try:
            spec = DeviceSpec("one", role, 1, positive=positive, profile=found)  # type: ignore[arg-type]
        except BadSpec:
            continue
        open_profile_device(spec, Silent(), lambda: 0.0)


def _encoded(codec: Any, value: float, exponent: int | None) -> None:
    try:
        registers = codec.encode(value, exponent)
    except OutOfRange as refused:
        hold(str(refused), "a refusal has words")
        return
    hold(len(registers) == codec.count and all(0 <= one <= 0xFFFF for one in registers), "registers are registers")
    limits = codec.point.write_range
    hold(limits is None or limits[0] <= value <= limits[1], "nothing is written that the device does not take")


def _line(line: str, path: str) -> None:
    """One line for people: the file, a place or a reason."""
    hold(line.startswith(f"{path}: ") and line[len(path) + 2 :].strip(), "a problem names its file and its reason")
    hold(len(line) <= LONGEST_LINE, "a problem is told in words that end")


def _numbers(value: Any, where: str) -> None:
    """Every number in it is one."""
    if isinstance(value, float):
        hold(math.isfinite(value), f"{where} is a number")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _numbers(getattr(value, field.name), f"{where}.{field.name}")
    elif isinstance(value, list | tuple | frozenset):
        for one in value:
            _numbers(one, where)
    elif isinstance(value, dict):
        for key, one in value.items():
            _numbers(one, f"{where}.{key}")


FUNCTIONS = {"site_file": site_file, "profile": profile}
