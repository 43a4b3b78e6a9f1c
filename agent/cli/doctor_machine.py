"""What `ems doctor` asks of the machine: clock, disk, flash, service. The verdicts are in `agent.core.checkup`."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from agent.core.checkup import ClockFacts, DiskFacts

COMMAND_TIMEOUT_S = 3.0
UNIT = "ems-agent.service"
ROOT = Path("/")
TIME_ERROR, STA_UNSYNC = 5, 0x40
"""Of adjtimex(2): the clock is not synchronised."""
CHRONY_NAME, CHRONY_OFFSET, CHRONY_COLUMNS = 1, 4, 14
"""Columns of `chronyc -c tracking`."""
LIFE_STEP_PCT = 10
"""DEVICE_LIFE_TIME_EST counts in tenths: 0x01 is 0 to 10 % used, 0x0b is beyond the rated life."""
RDONLY = 1
"""ST_RDONLY of statvfs."""


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2), as far as it is read, with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def clock_facts(root: Path = ROOT) -> ClockFacts:
    """What the kernel and the time service say of the clock."""
    synced, max_error_s = _kernel_clock()
    service, offset_s, source = _chrony() or _timesyncd(root) or ("", None, "")
    return ClockFacts(synced, max_error_s, service, offset_s, source)


def _kernel_clock() -> tuple[bool | None, float | None]:
    found = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(found))
    except (OSError, AttributeError):
        return None, None
    if state < 0:
        return None, None
    return state != TIME_ERROR and not found.status & STA_UNSYNC, found.maxerror / 1e6


def _chrony() -> tuple[str, float | None, str] | None:
    told = output_of("chronyc", "-c", "tracking")
    columns = (told or "").strip().split(",")
    if len(columns) < CHRONY_COLUMNS:
        return None
    with suppress(ValueError):
        return "chrony", float(columns[CHRONY_OFFSET]), columns[CHRONY_NAME]
    return None


def _timesyncd(root: Path) -> tuple[str, float | None, str] | None:
    if not (root / "run/systemd/timesync").is_dir():
        return None
    told = output_of("timedatectl", "show-timesync", "--property=ServerName", "--value")
    return "systemd-timesyncd", None, (told or "").strip()


def disk_facts(directory: str, root: Path = ROOT) -> DiskFacts:
    """The file system of the state directory, and the flash under it."""
    try:
        found, device_id = os.statvfs(directory), Path(directory).stat().st_dev
    except OSError as error:
        return DiskFacts(directory, error.strerror or str(error))
    disk = _disk_of(device_id, root)
    return DiskFacts(
        directory,
        "",
        found.f_frsize * found.f_blocks,
        found.f_frsize * found.f_bavail,
        found.f_favail / found.f_files if found.f_files else 1.0,
        bool(found.f_flag & RDONLY),
        disk.name if disk is not None else "",
        _life_used_pct(disk),
        _hexadecimal(disk / "device/pre_eol_info") if disk is not None else None,
    )


def _disk_of(device_id: int, root: Path) -> Path | None:
    """The whole disk under a file system, as sysfs has it; None where the file system has none of its own."""
    found = root / f"sys/dev/block/{os.major(device_id)}:{os.minor(device_id)}"
    if not found.exists():
        return None
    found = found.resolve()
    while slaves := sorted((found / "slaves").glob("*")):  # LVM, encryption
        found = slaves[0].resolve()
    return found.parent if (found / "partition").exists() else found


def _life_used_pct(disk: Path | None) -> tuple[int, ...]:
    if disk is None:
        return ()
    try:
        words = (disk / "device/life_time").read_text().split()
        return tuple(LIFE_STEP_PCT * step for word in words if (step := int(word, 16)))
    except (OSError, ValueError):
        return ()


def _hexadecimal(path: Path) -> int | None:
    try:
        return int(path.read_text(), 16)
    except (OSError, ValueError):
        return None


def unit_facts() -> dict[str, str]:
    """What systemd says of our unit, by property; empty where systemd does not run or knows no such unit."""
    told = output_of("systemctl", "show", UNIT, "--property=LoadState,ActiveState,NRestarts")
    found = dict(line.split("=", 1) for line in (told or "").splitlines() if "=" in line)
    return found if found.get("LoadState") == "loaded" else {}


def process_facts(pid: int, root: Path = ROOT) -> dict[str, int]:
    """`NoNewPrivs`, `Seccomp`, `CapEff` of a process, as the kernel tells them; empty when it is gone."""
    try:
        lines = (root / f"proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    words = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {key: int(words[key], 10) for key in ("NoNewPrivs", "Seccomp") if key in words}
    return found | ({"CapEff": int(words["CapEff"], 16)} if "CapEff" in words else {})


def holder_pid(lock: Path, root: Path = ROOT) -> int | None:
    """The process that holds the state directory, by the kernel's list of locks: the lock itself is not touched."""
    try:
        inode, text = lock.stat().st_ino, lock.read_text().strip()
        held = [line.split() for line in (root / "proc/locks").read_text().splitlines()]
    except OSError:
        return None
    # N: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF
    pids = {row[4] for row in held if row[1] == "FLOCK" and row[5].rsplit(":", 1)[-1] == str(inode)}
    return int(text) if text in pids else None


def output_of(*command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str | None:
    """What a program of the machine says; None where there is none, or it fails, or takes too long."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - our own words, nothing from outside
            [program, *command[1:]], capture_output=True, text=True, errors="replace", timeout=timeout_s, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
