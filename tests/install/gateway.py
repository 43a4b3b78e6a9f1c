"""The gateway under test: a booted machine with a simulated site beside it, and the questions that a step asks of it."""

import json
import shutil
import time

from machine import Failed
from site_inside import plan, truth

SITE_FILE_PATH = "etc/ems-agent/site.toml"
HOME = "opt/ems-agent"


class Gateway:
    """The machine with `ems` on it, or to be on it."""

    def __init__(self, machine, bundles):
        self.machine, self.bundles = machine, bundles
        self.root = machine.root
        self._plan_version = 0

    def carry(self, path):
        """Brings a file to the gateway, as a technician does with a stick; its path there."""
        shutil.copy(path, self.root / "root" / path.name)
        return f"/root/{path.name}"

    def ems(self, words):
        """What `ems WORDS --json` answered."""
        return json.loads(self.machine.run(f"ems {words} --json"))["result"]

    def status(self):
        """The status, None while there is no daemon that answers."""
        asked = self.machine.try_("ems status --json")
        return json.loads(asked.stdout)["result"] if asked.returncode == 0 else None

    def shown(self, *names):
        """Properties of the service, as systemctl shows them."""
        said = self.machine.run("systemctl show ems-agent " + " ".join(f"-p {name}" for name in names))
        return dict(line.split("=", 1) for line in said.splitlines())

    def pid(self):
        """The daemon's, 0 while there is none."""
        return int(self.shown("MainPID")["MainPID"])

    def journal(self, lines=200, unit="ems-agent"):
        """The newest lines of a service."""
        return self.machine.run(f"journalctl -u {unit} -o cat --no-pager -n {lines}")

    def battery_w(self):
        """What the simulated battery truly does."""
        found = truth(self.root)
        return None if found is None else found["battery_w"]

    def gives(self, power_kw, within_s=60.0):
        """Returns once the simulated battery truly gives so much."""

        def near():
            power_w = self.battery_w()
            return power_w is not None and abs(power_w - power_kw * 1e3) < 2_000

        self.machine.until(near, f"the battery gives {power_kw:g} kW", within_s)

    def ask_for(self, power_kw):
        """A technician brings a plan; returns once the battery does it."""
        self._plan_version += 1
        (self.root / "root/plan.json").write_text(plan(self._plan_version, power_kw, time.time()))
        self.machine.run("ems plan import /root/plan.json")
        self.gives(power_kw)

    def in_control(self, within_s=60.0):
        """The status once the daemon has a setpoint that the battery confirmed."""

        def verified():
            status = self.status()
            return status if status is not None and status["counters"]["writes_verified"] else None

        return self.machine.until(verified, "the daemon is in control, with a setpoint read back", within_s)

    def connected(self):
        """Returns once the broker has the agent."""
        try:
            self.machine.until(lambda: self.status()["cloud"]["connected"], "the broker has the agent")
        except Failed as failure:
            raise Failed(f"{failure}; {self.status()['cloud']}") from failure

    def site_file(self, *changes):
        """The site file with other words in it; the one before."""
        path = self.root / SITE_FILE_PATH
        before = after = path.read_text()
        for old, new in changes:
            fail_unless(old in after, f"{old} is not in the site file")
            after = after.replace(old, new, 1)
        path.write_text(after)
        return before

    def update_phase(self):
        """What the journal of an update says, None without one."""
        try:
            return json.loads((self.root / HOME / "update.json").read_text())["phase"]
        except (OSError, ValueError):
            return None

    def version(self):
        """The version in use by its link, None where there is none."""
        link = self.root / HOME / "current"
        return link.readlink().name if link.is_symlink() else None


def fail_unless(condition, text):
    """`assert` for steps: tells what was seen."""
    if not condition:
        raise Failed(text)
