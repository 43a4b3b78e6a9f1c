"""The verdicts of `ems doctor`: facts in, findings out. What is collected how is elsewhere; nothing here asks anybody.

This module judges the gateway (site file, clock, disk, databases, service, broker); `checkup_site` what the daemon
says of the site.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

MB = 1_000_000
LEAST_FREE_BYTES = 100 * MB
"""Below this the next snapshot of control.db may not fit."""
LOW_FREE_BYTES = 500 * MB
LOW_FREE_SHARE = 0.05
LOW_INODES_SHARE = 0.05
WORN_PCT, NEARLY_WORN_PCT = 100, 80
"""Of its life, by the flash's own estimate (JEDEC eMMC 5.1, DEVICE_LIFE_TIME_EST, in steps of 10 %)."""
PRE_EOL_WARNING = 2
"""PRE_EOL_INFO: 1 normal, 2 80 % of the reserved blocks are used, 3 urgent."""
LARGE_WAL_BYTES = 64 * MB
"""The writer keeps it below 16 MB; far more means that something holds a reader open or no checkpoint succeeds."""
STALE_COMMIT_S = 180.0
"""The daemon commits its time once a minute."""
FAR_OFF_S, OFF_S = 2.0, 0.25
"""Slots are kept within a second; evidence of frequency response within a quarter of one."""
EXPIRES_SOON_DAYS, EXPIRES_NOW_DAYS = 30.0, 7.0
SLOW_ROUND_TRIP_S = 2.0


class Grade(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARNING = "warning"
    """Works, and deserves a look."""
    FAILED = "failed"
    """Does not work, or will soon not."""
    UNCHECKED = "unchecked"
    """Could not be looked at; the text says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor."""

    area: str
    """`config`, `clock`, `disk`, `database`, `service`, `device`, `site`, `broker`, `plans`."""
    what: str
    grade: Grade
    text: str
    todo: str = ""
    """What to do next; for warnings and failures always."""


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """The site file."""

    path: str
    problems: tuple[str, ...]
    risks: tuple[str, ...]
    newer_than_daemon: bool
    """It was changed after the daemon read it."""


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """What the kernel and the time service say."""

    synced: bool | None
    """None where the kernel was not asked."""
    max_error_s: float | None
    """The kernel's own bound of the error."""
    service: str
    """`chrony`, `systemd-timesyncd`, or empty where none was found."""
    offset_s: float | None
    """Of this clock from its source, as the service measured last."""
    source: str
    """Where the service has its time from; empty where it has none."""


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system with the state directory, and the flash under it."""

    directory: str
    problem: str
    """Why it cannot be looked at; empty when it can."""
    total_bytes: int = 0
    free_bytes: int = 0
    free_inodes_share: float = 1.0
    read_only: bool = False
    device: str = ""
    """The disk under it, such as mmcblk0; empty where there is none of its own (a container, tmpfs)."""
    life_used_pct: tuple[int, ...] = ()
    """Upper ends of the estimates, by kind of memory; empty where the kernel does not tell."""
    pre_eol: int | None = None


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """One database of the state directory."""

    name: str
    problem: str
    """Why it cannot be read by us; empty when it can."""
    damage: str = ""
    """What quick_check found; empty when it is sound."""
    whole: bool = True
    """False when the time for quick_check was over before its end."""
    bytes: int = 0
    wal_bytes: int = 0
    last_commit_age_s: float | None = None
    version: int = 0
    known_version: int = 0
    quarantined: tuple[str, ...] = ()
    """Damaged files that were put aside."""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """The process and its unit."""

    reachable: bool
    """The daemon answers on its socket."""
    why_not: str = ""
    hint: str = ""
    """What to do when it does not."""
    holder_pid: int | None = None
    """Who holds the state directory, whether or not it answers."""
    version: str = ""
    running_version: str | None = None
    uptime_s: float | None = None
    by_systemd: bool = False
    """This machine is run by systemd, which knows a unit ems-agent."""
    active_state: str = ""
    restarts: int | None = None
    no_new_privs: bool | None = None
    """Of the running process, by the kernel; None where it is not ours to see."""
    seccomp: bool | None = None
    capabilities: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step on the way to the broker."""

    name: str
    """`files`, `dns`, `tcp`, `tls`, `login`, `round trip`."""
    grade: Grade
    text: str
    todo: str = ""
    took_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate on the way to the broker."""

    subject: str
    days_left: float
    todo: str


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """The way to the broker, step by step, as far as it came."""

    address: str
    steps: tuple[Step, ...]
    certificates: tuple[Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFacts:
    """What was collected of the gateway."""

    config: ConfigFacts
    clock: ClockFacts
    disk: DiskFacts | None
    """None where the site file does not tell the directory."""
    databases: tuple[DatabaseFacts, ...]
    service: ServiceFacts
    broker: BrokerFacts | None
    """None where the site file names no broker, or cannot be read."""


def gateway(facts: GatewayFacts) -> Iterator[Finding]:
    """The findings on the gateway, in the order in which somebody would look."""
    yield from _service(facts.service)
    yield from _config(facts.config)
    yield from _clock(facts.clock)
    if facts.disk is not None:
        yield from _disk(facts.disk)
    for database in facts.databases:
        yield from _database(database, up_s=facts.service.uptime_s)
    yield from broker(facts.broker)


def _service(facts: ServiceFacts) -> Iterator[Finding]:
    if not facts.reachable:
        held = f"; process {facts.holder_pid} holds the state directory" if facts.holder_pid is not None else ""
        yield Finding("service", "daemon", Grade.FAILED, f"{facts.why_not}{held}", facts.hint)
    elif facts.running_version != facts.version:
        text = f"runs version {facts.running_version}, installed is {facts.version}"
        yield Finding("service", "daemon", Grade.WARNING, text, "systemctl restart ems-agent (half a second)")
    else:
        yield Finding("service", "daemon", Grade.OK, f"version {facts.version}, up for {_span(facts.uptime_s)}")
    if not facts.by_systemd:
        yield Finding("service", "unit", Grade.UNCHECKED, "systemd has no unit ems-agent here")
    elif facts.active_state != "active":
        text = f"the unit is {facts.active_state or 'unknown'}"
        yield Finding("service", "unit", Grade.FAILED, text, "systemctl enable --now ems-agent")
    elif facts.restarts:
        text = f"active; systemd restarted it {facts.restarts} times"
        yield Finding("service", "unit", Grade.WARNING, text, "journalctl -u ems-agent -p warning says why it ended")
    else:
        yield Finding("service", "unit", Grade.OK, "active, never restarted by systemd")
    yield from _sandbox(facts)


def _sandbox(facts: ServiceFacts) -> Iterator[Finding]:
    if facts.no_new_privs is None:
        return
    missing = [] if facts.no_new_privs else ["NoNewPrivileges"]
    missing += [] if facts.seccomp else ["SystemCallFilter"]
    missing += ["no capabilities"] if facts.capabilities else []
    if not missing:
        yield Finding("service", "sandbox", Grade.OK, "in force: no new privileges, filtered system calls, no rights")
    elif facts.by_systemd:
        text = f"not in force at the running process: {', '.join(missing)}"
        yield Finding("service", "sandbox", Grade.WARNING, text, "compare the unit with the one that was shipped")
    else:
        text = "the daemon runs without systemd's sandbox"
        yield Finding("service", "sandbox", Grade.WARNING, text, "on a site, run it by the shipped unit")


def _config(facts: ConfigFacts) -> Iterator[Finding]:
    if facts.problems:
        more = f" (and {len(facts.problems) - 1} more)" if len(facts.problems) > 1 else ""
        todo = f"ems config check --config {facts.path}"
        yield Finding("config", "site file", Grade.FAILED, f"{facts.problems[0]}{more}", todo)
        return
    if facts.newer_than_daemon:
        text = f"{facts.path} is usable, but was changed after the daemon read it"
        todo = "ems reload brings it into force, or says what needs a restart"
        yield Finding("config", "site file", Grade.WARNING, text, todo)
    else:
        yield Finding("config", "site file", Grade.OK, f"{facts.path} is usable")
    for risk in facts.risks:
        yield Finding("config", "risk", Grade.WARNING, risk, "change it, or know why it is so (docs/operator.md)")


def _clock(facts: ClockFacts) -> Iterator[Finding]:
    start = "systemctl enable --now systemd-timesyncd, or chrony with a time server that this site reaches"
    if facts.synced is None:
        yield Finding("clock", "synchronised", Grade.UNCHECKED, "the kernel does not tell")
    elif not facts.synced:
        text = "NOT synchronised" + ("" if facts.service else ": no time service was found")
        yield Finding("clock", "synchronised", Grade.FAILED, text, start)
    else:
        by = f" by {facts.service}" if facts.service else ""
        error = "" if facts.max_error_s is None else f", within {facts.max_error_s:.3f} s by the kernel's own bound"
        yield Finding("clock", "synchronised", Grade.OK, f"yes{by}{error}")
    if not facts.service:
        if facts.synced:
            text = "neither chrony nor systemd-timesyncd was found; somebody else keeps the clock"
            yield Finding("clock", "service", Grade.WARNING, text, "find out who does, and what it does in an outage")
        return
    source = f"{facts.service}, from {facts.source or 'no server'}"
    if facts.offset_s is None:
        grade = Grade.OK if facts.source else Grade.WARNING
        todo = "" if facts.source else "name a time server that this site reaches"
        yield Finding("clock", "service", grade, source, todo)
    else:
        off_s = abs(facts.offset_s)
        grade = Grade.FAILED if off_s > FAR_OFF_S else Grade.WARNING if off_s > OFF_S else Grade.OK
        todo = "" if grade is Grade.OK else "see why it is off: chronyc tracking, or timedatectl timesync-status"
        yield Finding("clock", "service", grade, f"{source}: {1000 * facts.offset_s:+.1f} ms off", todo)


def _disk(facts: DiskFacts) -> Iterator[Finding]:
    if facts.problem:
        yield Finding("disk", "space", Grade.FAILED, f"{facts.directory}: {facts.problem}", "df, mount, dmesg")
        return
    free = f"{facts.free_bytes / MB:,.0f} MB of {facts.total_bytes / MB:,.0f} MB are free at {facts.directory}"
    todo = f"free some space: du -x -d2 / | sort -n | tail; never delete what is in {facts.directory}"
    if facts.read_only:
        todo = "dmesg says why; often a dying disk: replace it"
        yield Finding("disk", "space", Grade.FAILED, f"{facts.directory} is mounted read-only", todo)
    elif facts.free_bytes < LEAST_FREE_BYTES or not facts.free_inodes_share:
        yield Finding("disk", "space", Grade.FAILED, free, todo)
    elif facts.free_bytes < max(LOW_FREE_BYTES, LOW_FREE_SHARE * facts.total_bytes):
        yield Finding("disk", "space", Grade.WARNING, free, todo)
    elif facts.free_inodes_share < LOW_INODES_SHARE:
        text = f"{free}, but only {100 * facts.free_inodes_share:.0f} % of its inodes"
        yield Finding("disk", "space", Grade.WARNING, text, "some program leaves very many small files")
    else:
        yield Finding("disk", "space", Grade.OK, free)
    yield _wear(facts)


def _wear(facts: DiskFacts) -> Finding:
    if not facts.life_used_pct:
        if not facts.device:
            return Finding("disk", "wear", Grade.UNCHECKED, "the kernel names no disk under this directory")
        text = f"the kernel does not tell for {facts.device}, and SMART is not read here"
        return Finding("disk", "wear", Grade.UNCHECKED, text, f"smartctl -a /dev/{facts.device} where it is installed")
    worst = max(facts.life_used_pct)
    text = f"up to {worst} % of the life of {facts.device} is used"
    todo = "plan its replacement: ems-agent's state can be restored onto another one"
    if worst > WORN_PCT or (facts.pre_eol or 0) > PRE_EOL_WARNING:
        return Finding("disk", "wear", Grade.FAILED, f"{text}: it is beyond its rated life", todo)
    if worst > NEARLY_WORN_PCT or facts.pre_eol == PRE_EOL_WARNING:
        return Finding("disk", "wear", Grade.WARNING, text, todo)
    return Finding("disk", "wear", Grade.OK, text)


def _database(facts: DatabaseFacts, *, up_s: float | None) -> Iterator[Finding]:
    what = f"{facts.name}.db"
    if facts.problem:
        todo = (
            "ask as root, or as a member of the group ems; where it is not there, the first start of the agent makes it"
        )
        yield Finding("database", what, Grade.UNCHECKED, facts.problem, todo)
        return
    size = f"{facts.bytes / MB:.1f} MB, write-ahead log {facts.wal_bytes / MB:.1f} MB"
    age_s = facts.last_commit_age_s
    if facts.damage:
        todo = "systemctl restart ems-agent puts it aside and goes on with the last snapshot; then check the disk"
        yield Finding("database", what, Grade.FAILED, f"damaged: {facts.damage}", todo)
    elif facts.version > facts.known_version:
        text = f"its tables are of version {facts.version}, this program knows {facts.known_version}"
        yield Finding("database", what, Grade.OK, f"{text}: written by a newer version, usable by design")
    elif up_s is not None and up_s > STALE_COMMIT_S and (age_s is None or age_s > STALE_COMMIT_S):
        text = "nothing was ever committed" if age_s is None else f"the last commit is {_span(age_s)} old"
        todo = "the disk may be full or broken, or the clock not trusted: see the other lines, df and dmesg"
        yield Finding("database", what, Grade.FAILED, text, todo)
    elif facts.wal_bytes > LARGE_WAL_BYTES:
        todo = "a program that reads it does not end, or the disk is slow: fuser on the file, then dmesg"
        yield Finding("database", what, Grade.WARNING, size, todo)
    else:
        checked = "sound" if facts.whole else "sound as far as it was read (it is large)"
        since = "" if age_s is None else f", last commit {_span(age_s)} ago"
        yield Finding("database", what, Grade.OK, f"{checked}, {size}{since}")
    if facts.quarantined:
        text = f"damaged files were put aside: {', '.join(facts.quarantined)}"
        todo = "check the disk (dmesg); delete them when the ticket is closed"
        yield Finding("database", f"{what} earlier", Grade.WARNING, text, todo)


def broker(facts: BrokerFacts | None) -> Iterator[Finding]:
    """The findings on the way to the broker."""
    if facts is None:
        yield Finding("broker", "address", Grade.UNCHECKED, "no broker is known from the site file")
        return
    for step in facts.steps:
        took = "" if step.took_ms is None else f" ({step.took_ms:.0f} ms)"
        grade, todo = step.grade, step.todo
        if grade is Grade.OK and step.took_ms is not None and step.took_ms > 1000 * SLOW_ROUND_TRIP_S:
            grade, todo = Grade.WARNING, "the line is slow: signal strength, other traffic, the way through a VPN"
        yield Finding("broker", step.name, grade, f"{step.text}{took}", todo)
    for one in facts.certificates:
        left = f"{one.subject}: {one.days_left:.0f} days left" if one.days_left > 0 else f"{one.subject}: HAS ENDED"
        if one.days_left <= EXPIRES_NOW_DAYS:
            yield Finding("broker", "certificate", Grade.FAILED, left, one.todo)
        elif one.days_left <= EXPIRES_SOON_DAYS:
            yield Finding("broker", "certificate", Grade.WARNING, left, one.todo)
        else:
            yield Finding("broker", "certificate", Grade.OK, left)


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
