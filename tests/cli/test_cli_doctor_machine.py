"""What the doctor reads of a machine, from a machine that was made up for it."""

import os
from pathlib import Path

import pytest

from agent.cli.doctor_machine import clock_facts, disk_facts, holder_pid, output_of, process_facts, unit_facts

TRACKING = "C0A80001,192.168.0.1,3,1700000000.1,-0.000213,0.0001,0.0002,1.5,0.001,0.02,0.003,0.001,64.2,Normal\n"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Programs of the machine: name -> a shell script; nothing else is on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def program(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return program


def test_the_kernel_says_whether_the_clock_is_synchronised():
    facts = clock_facts(Path("/nowhere"))
    assert facts.synced in {True, False}
    assert facts.max_error_s >= 0


def test_chrony_tells_its_source_and_how_far_the_clock_is_off(programs, tmp_path):
    programs("chronyc", f'[ "$*" = "-c tracking" ] && printf %s "{TRACKING}"')
    facts = clock_facts(tmp_path)
    assert (facts.service, facts.source, facts.offset_s) == ("chrony", "192.168.0.1", -0.000213)


def test_timesyncd_tells_its_server(programs, tmp_path):
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    programs("chronyc", "echo 506 Cannot talk to daemon; exit 1")
    programs("timedatectl", "echo pool.example")
    facts = clock_facts(tmp_path)
    assert (facts.service, facts.source, facts.offset_s) == ("systemd-timesyncd", "pool.example", None)


def test_without_any_time_service_none_is_named(programs, tmp_path):
    facts = clock_facts(tmp_path)
    assert (facts.service, facts.source, facts.offset_s) == ("", "", None)


def disk_of(directory, root, *, partition=True, life="0x02 0x09\n", pre_eol="0x01\n"):
    """A made-up sysfs in which `directory` lies on an eMMC."""
    number = directory.stat().st_dev
    card = root / "sys/devices/mmc0/mmcblk0"
    part = card / "mmcblk0p2" if partition else card
    part.mkdir(parents=True)
    if partition:
        (part / "partition").write_text("2\n")
    (card / "device").mkdir()
    (card / "device/life_time").write_text(life)
    (card / "device/pre_eol_info").write_text(pre_eol)
    link = root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(part)
    return link


@pytest.mark.parametrize("partition", [True, False])
def test_flash_tells_its_wear(tmp_path, partition):
    disk_of(tmp_path, tmp_path, partition=partition)
    facts = disk_facts(str(tmp_path), tmp_path)
    assert (facts.device, facts.life_used_pct, facts.pre_eol) == ("mmcblk0", (20, 90), 1)
    assert 0 < facts.free_bytes <= facts.total_bytes
    assert not facts.read_only


def test_flash_under_an_encrypted_volume_is_found(tmp_path):
    link = disk_of(tmp_path, tmp_path)
    volume = tmp_path / "sys/devices/virtual/dm-0"
    (volume / "slaves").mkdir(parents=True)
    (volume / "slaves/mmcblk0p2").symlink_to(link.resolve())
    link.unlink()
    link.symlink_to(volume)
    assert disk_facts(str(tmp_path), tmp_path).life_used_pct == (20, 90)


def test_a_disk_that_does_not_tell_its_wear_is_named(tmp_path):
    disk_of(tmp_path, tmp_path, life="garbage\n", pre_eol="\n")
    facts = disk_facts(str(tmp_path), tmp_path)
    assert (facts.device, facts.life_used_pct, facts.pre_eol) == ("mmcblk0", (), None)


def test_a_file_system_without_a_disk_names_none(tmp_path):
    facts = disk_facts(str(tmp_path), tmp_path)
    assert (facts.device, facts.life_used_pct) == ("", ())


def test_a_directory_that_is_gone_is_told():
    assert "No such file" in disk_facts("/nowhere/at/all").problem


def test_the_unit_is_asked_of_systemd(programs):
    assert unit_facts() == {}
    programs("systemctl", "printf 'LoadState=loaded\\nActiveState=active\\nNRestarts=2\\n'")
    assert unit_facts() == {"LoadState": "loaded", "ActiveState": "active", "NRestarts": "2"}
    programs("systemctl", "printf 'LoadState=not-found\\nActiveState=inactive\\n'")
    assert unit_facts() == {}


def test_the_kernel_tells_the_sandbox_of_a_process(tmp_path):
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/status").write_text("Name:\tems\nCapEff:\t0000000000000400\nNoNewPrivs:\t1\nSeccomp:\t2\n")
    assert process_facts(7, tmp_path) == {"NoNewPrivs": 1, "Seccomp": 2, "CapEff": 0x400}
    assert process_facts(8, tmp_path) == {}


def test_who_holds_the_directory_is_read_from_the_kernels_list_without_touching_the_lock(tmp_path):
    lock = tmp_path / "agent.lock"
    lock.write_text("77\n")
    inode = lock.stat().st_ino
    (tmp_path / "proc").mkdir()
    locks = tmp_path / "proc/locks"
    locks.write_text(
        f"1: POSIX  ADVISORY  WRITE 77 fe:00:{inode} 0 EOF\n2: FLOCK  ADVISORY  WRITE 77 fe:00:{inode} 0 EOF\n"
    )
    assert holder_pid(lock, tmp_path) == 77
    locks.write_text(f"2: FLOCK  ADVISORY  WRITE 78 fe:00:{inode} 0 EOF\n3: FLOCK ADVISORY WRITE 77 fe:00:1 0 EOF\n")
    assert holder_pid(lock, tmp_path) is None
    locks.write_text(f"1: POSIX  ADVISORY  WRITE 77 fe:00:{inode} 0 EOF\n")
    assert holder_pid(lock, tmp_path) is None
    assert holder_pid(tmp_path / "none", tmp_path) is None


def test_a_program_that_hangs_fails_or_is_not_there_says_nothing(programs):
    programs("hangs", "while :; do :; done")
    programs("fails", "echo half; exit 1")
    assert [output_of(name, timeout_s=0.05) for name in ("hangs", "missing")] == [None, None]
    assert output_of("fails") is None
