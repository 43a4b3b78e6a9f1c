"""The service as systemd reads it: nothing misspelt, a tight sandbox, and users and folders that fit together."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[1] / "systemd"
MOST_EXPOSED = 1.5
"""`systemd-analyze security`, of 10: what the sandbox leaves open."""
UNITS = sorted(path.name for path in SYSTEMD.iterdir() if path.suffix in {".service", ".path"})
UNITS_OF_THE_MACHINE = Path("/usr/lib/systemd/system")

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (apt-get install systemd)"
)


@pytest.fixture
def gateway(tmp_path):
    """The root of a machine with the units and the programs that they start."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copytree(UNITS_OF_THE_MACHINE, tmp_path / "usr/lib/systemd/system", symlinks=True)
    for unit in UNITS:
        shutil.copy(SYSTEMD / unit, units)
        for started in re.findall(r"^Exec[A-Za-z]+=(/\S+)", (SYSTEMD / unit).read_text(), re.MULTILINE):
            program = tmp_path / started.lstrip("/")
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
    return tmp_path


def with_drop_in(root):
    drop_ins = root / "etc/systemd/system/ems-agent.service.d"
    drop_ins.mkdir()
    shutil.copy(SYSTEMD / "serial.conf", drop_ins)
    return root


def verified(root, unit="ems-agent.service"):
    said = subprocess.run(
        ["systemd-analyze", "verify", f"--root={root}", unit], capture_output=True, text=True, check=False
    )
    return said.returncode, said.stdout + said.stderr


def exposure(root):
    unit = root / "etc/systemd/system/ems-agent.service"
    said = subprocess.check_output(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=100", str(unit)], text=True
    )
    return float(re.search(r"exposure level for ems-agent.service: ([0-9.]+)", said)[1])


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_with_the_unit(gateway, unit):
    assert verified(gateway, unit) == (0, "")


def test_systemd_finds_nothing_wrong_with_the_service_on_a_site_with_serial_lines(gateway):
    assert verified(with_drop_in(gateway)) == (0, "")


def test_the_check_sees_a_misspelt_setting_and_a_program_that_is_not_there(gateway):
    unit = gateway / "etc/systemd/system/ems-agent.service"
    unit.write_text(unit.read_text().replace("PrivateIPC=", "PrivateICP="))
    assert "Unknown key" in verified(gateway)[1]
    (gateway / "opt/ems-agent/current/bin/ems").unlink()
    assert "ems is not executable" in verified(gateway)[1]


def test_the_sandbox_leaves_little_open(gateway):
    assert exposure(gateway) <= MOST_EXPOSED


def test_the_sandbox_leaves_little_open_with_serial_lines_too(gateway):
    assert exposure(with_drop_in(gateway)) <= MOST_EXPOSED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_the_users_and_folders_of_the_service_can_be_made(tmp_path):
    for name in ("sysusers", "tmpfiles"):
        folder = tmp_path / f"usr/lib/{name}.d"
        folder.mkdir(parents=True)
        shutil.copy(SYSTEMD / f"ems-agent.{name}.conf", folder / "ems-agent.conf")
    (tmp_path / "etc").mkdir()
    said = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", "ems-agent.conf"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    groups = dict(line.split(":")[::3] for line in (tmp_path / "etc/group").read_text().splitlines())
    assert groups["ems"] == "ems-agent"
    assert groups["ems-operator"] == "", "the agent itself gives no orders"
    said = subprocess.run(
        ["systemd-tmpfiles", f"--root={tmp_path}", "--create", "ems-agent.conf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "etc/ems-agent/profiles").is_dir()
    assert (tmp_path / "var/lib/ems-agent").stat().st_mode & 0o777 == 0o750
