"""The doctor's verdicts on the gateway: facts in, findings out."""

from dataclasses import replace

import pytest
from core_checkup import named_graded_and_with_a_next_step

from agent.core.checkup import (
    BrokerFacts,
    Certificate,
    ClockFacts,
    ConfigFacts,
    DatabaseFacts,
    DiskFacts,
    GatewayFacts,
    Grade,
    ServiceFacts,
    Step,
    gateway,
)

SERVICE = ServiceFacts(
    reachable=True, version="1.0", running_version="1.0", uptime_s=7200.0, by_systemd=True, active_state="active",
    restarts=0, no_new_privs=True, seccomp=True, capabilities=0,
)  # fmt: skip
CLOCK = ClockFacts(synced=True, max_error_s=0.01, service="chrony", offset_s=0.001, source="10.0.0.1")
DISK = DiskFacts("/state", "", 8_000_000_000, 4_000_000_000, 0.9, False, "mmcblk0", (10, 20), 1)
DATABASE = DatabaseFacts("control", "", bytes=1_000_000, last_commit_age_s=30.0, version=3, known_version=3)
BROKER = BrokerFacts(
    "mqtts://broker:8883",
    (Step("dns", Grade.OK, "10.0.0.9"), Step("round trip", Grade.OK, "answers", took_ms=30.0)),
    (Certificate("site certificate", 90.0, "renew it"),),
)
HEALTHY = GatewayFacts(
    config=ConfigFacts("/etc/site.toml", (), (), newer_than_daemon=False),
    clock=CLOCK,
    disk=DISK,
    databases=(DATABASE,),
    service=SERVICE,
    broker=BROKER,
)


def judged(**changes):
    """The findings by (area, what)."""
    return {(one.area, one.what): one for one in gateway(replace(HEALTHY, **changes))}


def test_a_healthy_gateway_has_only_good_news():
    assert {one.grade for one in gateway(HEALTHY)} == {Grade.OK}


CASES = {
    "daemon down": (
        {"service": replace(SERVICE, reachable=False, why_not="no socket", hint="start it", uptime_s=None)},
        ("service", "daemon"), Grade.FAILED, "no socket",
    ),
    "daemon deaf": (
        {"service": replace(SERVICE, reachable=False, why_not="no socket", hint="start it", holder_pid=77, uptime_s=None)},
        ("service", "daemon"), Grade.FAILED, "process 77 holds",
    ),
    "installed anew": ({"service": replace(SERVICE, version="1.1")}, ("service", "daemon"), Grade.WARNING, "installed is 1.1"),
    "no systemd": ({"service": replace(SERVICE, by_systemd=False)}, ("service", "unit"), Grade.UNCHECKED, "no unit"),
    "unit failed": ({"service": replace(SERVICE, active_state="failed")}, ("service", "unit"), Grade.FAILED, "failed"),
    "restarted": ({"service": replace(SERVICE, restarts=3)}, ("service", "unit"), Grade.WARNING, "3 times"),
    "privileges": ({"service": replace(SERVICE, no_new_privs=False)}, ("service", "sandbox"), Grade.WARNING, "NoNewPrivileges"),
    "system calls": ({"service": replace(SERVICE, seccomp=False)}, ("service", "sandbox"), Grade.WARNING, "SystemCallFilter"),
    "rights": ({"service": replace(SERVICE, capabilities=1)}, ("service", "sandbox"), Grade.WARNING, "capabilities"),
    "no sandbox": (
        {"service": replace(SERVICE, by_systemd=False, seccomp=False)}, ("service", "sandbox"), Grade.WARNING, "without",
    ),
    "broken file": (
        {"config": ConfigFacts("/etc/s.toml", ("a: no", "b: no"), (), newer_than_daemon=False)},
        ("config", "site file"), Grade.FAILED, "1 more",
    ),
    "changed file": (
        {"config": ConfigFacts("/etc/s.toml", (), (), newer_than_daemon=True)},
        ("config", "site file"), Grade.WARNING, "changed after",
    ),
    "risk": (
        {"config": ConfigFacts("/etc/s.toml", (), ("cloud.broker: in clear",), newer_than_daemon=False)},
        ("config", "risk"), Grade.WARNING, "in clear",
    ),
    "unsynced": ({"clock": replace(CLOCK, synced=False)}, ("clock", "synchronised"), Grade.FAILED, "NOT"),
    "kernel silent": ({"clock": replace(CLOCK, synced=None)}, ("clock", "synchronised"), Grade.UNCHECKED, "not tell"),
    "nobody's clock": (
        {"clock": replace(CLOCK, service="", offset_s=None)}, ("clock", "service"), Grade.WARNING, "somebody else",
    ),
    "no server": (
        {"clock": replace(CLOCK, offset_s=None, source="")}, ("clock", "service"), Grade.WARNING, "no server",
    ),
    "timesyncd": (
        {"clock": replace(CLOCK, offset_s=None, service="systemd-timesyncd")}, ("clock", "service"), Grade.OK, "timesyncd",
    ),
    "off": ({"clock": replace(CLOCK, offset_s=-0.3)}, ("clock", "service"), Grade.WARNING, "-300.0 ms"),
    "far off": ({"clock": replace(CLOCK, offset_s=-3.0)}, ("clock", "service"), Grade.FAILED, "-3000.0 ms"),
    "no directory": ({"disk": DiskFacts("/state", "gone")}, ("disk", "space"), Grade.FAILED, "gone"),
    "read-only": ({"disk": replace(DISK, read_only=True)}, ("disk", "space"), Grade.FAILED, "read-only"),
    "full": ({"disk": replace(DISK, free_bytes=50_000_000)}, ("disk", "space"), Grade.FAILED, "50 MB of"),
    "nearly full": ({"disk": replace(DISK, free_bytes=450_000_000)}, ("disk", "space"), Grade.WARNING, "450 MB of"),
    "small share": (
        {"disk": replace(DISK, total_bytes=64_000_000_000, free_bytes=3_000_000_000)},
        ("disk", "space"), Grade.WARNING, "3,000 MB",
    ),
    "no inodes": ({"disk": replace(DISK, free_inodes_share=0.0)}, ("disk", "space"), Grade.FAILED, "free"),
    "few inodes": ({"disk": replace(DISK, free_inodes_share=0.04)}, ("disk", "space"), Grade.WARNING, "inodes"),
    "worn": ({"disk": replace(DISK, life_used_pct=(10, 110))}, ("disk", "wear"), Grade.FAILED, "110 %"),
    "nearly worn": ({"disk": replace(DISK, life_used_pct=(90, 10))}, ("disk", "wear"), Grade.WARNING, "90 %"),
    "reserve used": ({"disk": replace(DISK, pre_eol=2)}, ("disk", "wear"), Grade.WARNING, "20 %"),
    "reserve gone": ({"disk": replace(DISK, pre_eol=3)}, ("disk", "wear"), Grade.FAILED, "beyond"),
    "wear not told": ({"disk": replace(DISK, life_used_pct=(), pre_eol=None)}, ("disk", "wear"), Grade.UNCHECKED, "SMART"),
    "no disk of its own": (
        {"disk": replace(DISK, life_used_pct=(), device="")}, ("disk", "wear"), Grade.UNCHECKED, "no disk",
    ),
    "unreadable": ({"databases": (DatabaseFacts("control", "denied"),)}, ("database", "control.db"), Grade.UNCHECKED, "denied"),
    "damaged": ({"databases": (replace(DATABASE, damage="page 3"),)}, ("database", "control.db"), Grade.FAILED, "page 3"),
    "newer": ({"databases": (replace(DATABASE, version=9),)}, ("database", "control.db"), Grade.OK, "newer version"),
    "stands still": (
        {"databases": (replace(DATABASE, last_commit_age_s=200.0),)}, ("database", "control.db"), Grade.FAILED, "3 min old",
    ),
    "never committed": (
        {"databases": (replace(DATABASE, last_commit_age_s=None),)}, ("database", "control.db"), Grade.FAILED, "ever",
    ),
    "just started": (
        {"databases": (replace(DATABASE, last_commit_age_s=None),), "service": replace(SERVICE, uptime_s=20.0)},
        ("database", "control.db"), Grade.OK, "sound",
    ),
    "old, and no daemon": (
        {
            "databases": (replace(DATABASE, last_commit_age_s=9e5),),
            "service": replace(SERVICE, reachable=False, uptime_s=None),
        },
        ("database", "control.db"), Grade.OK, "10 d ago",
    ),
    "large log": (
        {"databases": (replace(DATABASE, wal_bytes=70_000_000),)}, ("database", "control.db"), Grade.WARNING, "70.0 MB",
    ),
    "not read to its end": (
        {"databases": (replace(DATABASE, whole=False),)}, ("database", "control.db"), Grade.OK, "as far as",
    ),
    "put aside": (
        {"databases": (replace(DATABASE, quarantined=("control.db.damaged-1",)),)},
        ("database", "control.db earlier"), Grade.WARNING, "damaged-1",
    ),
    "no broker": ({"broker": None}, ("broker", "address"), Grade.UNCHECKED, "no broker"),
    "step failed": (
        {"broker": replace(BROKER, steps=(Step("tls", Grade.FAILED, "expired", "look"),))},
        ("broker", "tls"), Grade.FAILED, "expired",
    ),
    "slow": (
        {"broker": replace(BROKER, steps=(Step("round trip", Grade.OK, "answers", took_ms=2500.0),))},
        ("broker", "round trip"), Grade.WARNING, "2500 ms",
    ),
    "ends soon": (
        {"broker": replace(BROKER, certificates=(Certificate("site certificate", 29.0, "renew"),))},
        ("broker", "certificate"), Grade.WARNING, "29 days",
    ),
    "ends now": (
        {"broker": replace(BROKER, certificates=(Certificate("site certificate", 6.0, "renew"),))},
        ("broker", "certificate"), Grade.FAILED, "6 days",
    ),
    "ended": (
        {"broker": replace(BROKER, certificates=(Certificate("site certificate", -1.0, "renew"),))},
        ("broker", "certificate"), Grade.FAILED, "HAS ENDED",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "where", "grade", "words"), CASES.values(), ids=CASES)
def test_each_trouble_is_named_graded_and_has_a_next_step(changes, where, grade, words):
    assert named_graded_and_with_a_next_step(judged(**changes)[where], grade, words)


def test_one_trouble_does_not_colour_the_other_lines():
    for changes, where, _, _ in CASES.values():
        if "service" in changes:
            continue
        others = [one for key, one in judged(**changes).items() if key[0] != where[0]]
        assert {one.grade for one in others} == {Grade.OK}
