"""The gateway under test: a booted machine with a simulated site beside it, and the questions that a step asks of it."""

import json
import shutil
import time

from machine import Failed, Machine
from site_inside import REPOSITORY, SITE_FILE, plan, put_python, put_simulator, truth

SITE_PATH = "etc/ems-agent/site.toml"


class Gateway:
    """The machine with `ems` on it."""

    def __init__(self, machine: Machine):
        self.machine = machine
        self.root = machine.root
        self._version = 0

    def ems(self, words):
        """What `ems WORDS --json` answered."""
        return json.loads(self.machine.run(f"/opt/ems-agent/current/bin/ems {words} --json"))

    def status(self):
        """The status, None while there is no daemon that answers."""
        asked = self.machine.try_("/opt/ems-agent/current/bin/ems status --json")
        return json.loads(asked.stdout)["result"] if asked.returncode == 0 else None

    def shown(self, *names, unit="ems-agent"):
        """Properties of a unit, as systemctl shows them."""
        said = self.machine.run(f"systemctl show {unit} " + " ".join(f"-p {name}" for name in names))
        return dict(line.split("=", 1) for line in said.splitlines())

    def pid(self):
        return int(self.shown("MainPID")["MainPID"])

    def journal(self, since="-200"):
        """The newest lines that the agent logged."""
        return self.machine.run(f"journalctl -u ems-agent -o cat --no-pager -n {since.lstrip('-')}")

    def battery_w(self):
        """What the simulated battery truly does."""
        found = truth(self.root)
        return None if found is None else found["battery_w"]

    def gives(self, power_kw, within_s=30.0):
        """Returns once the simulated battery truly gives so much."""
        what = f"the battery gives {power_kw:g} kW"
        self.machine.until(lambda: self.near(power_kw), what, within_s)

    def near(self, power_kw):
        power_w = self.battery_w()
        return power_w is not None and abs(power_w - power_kw * 1e3) < 2_000

    def ask_for(self, power_kw):
        """A technician brings a plan; returns once the battery does it and the write is confirmed."""
        self._version += 1
        (self.root / "root/plan.json").write_text(plan(self._version, power_kw, time.time()))
        self.machine.run("/opt/ems-agent/current/bin/ems plan import /root/plan.json")
        self.gives(power_kw)

    def in_control(self):
        """The status once the daemon runs and has a confirmed setpoint."""

        def verified():
            status = self.status()
            return status if status is not None and status["counters"]["writes_verified"] else None

        return self.machine.until(verified, "the daemon is in control, with a setpoint read back")

    def write_site(self, text):
        (self.root / SITE_PATH).write_text(text)


def fail_unless(condition, text):
    """`assert` that tells what was seen."""
    if not condition:
        raise Failed(text)


def put_software(gateway):
    """Lays the agent into the machine without an installer."""
    root, run = gateway.root, gateway.machine.run
    kept = put_python(root, "/opt/ems-agent/current")
    program = kept.parent / "bin/ems"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nPYTHONPATH=/opt/ems-agent/current/packages exec /usr/bin/python3 -m agent.cli.main "$@"\n'
    )
    program.chmod(0o755)
    for name, folder in (("sysusers", "usr/lib/sysusers.d"), ("tmpfiles", "usr/lib/tmpfiles.d")):
        shutil.copy(REPOSITORY / f"systemd/ems-agent.{name}.conf", root / folder / "ems-agent.conf")
    shutil.copy(REPOSITORY / "systemd/ems-agent.service", root / "etc/systemd/system")
    run("systemd-sysusers ems-agent.conf && systemd-tmpfiles --create ems-agent.conf")
    gateway.write_site(SITE_FILE)
    run("systemctl daemon-reload && systemctl enable --now ems-agent")


__all__ = ["Failed", "Gateway", "fail_unless", "put_simulator", "put_software"]
