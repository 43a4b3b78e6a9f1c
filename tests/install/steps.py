"""The steps of the test, in order; each gets the gateway, raises Failed, and may return what it saw."""

import time

from gateway import fail_unless, put_software

WATCHDOG_S = 20.0


def boots(gateway):
    gateway.machine.boot()
    gateway.machine.run("systemctl daemon-reload && systemctl enable --now simulator")
    gateway.machine.until(lambda: gateway.battery_w() is not None, "the simulated site runs")


def installs(gateway):
    put_software(gateway)


def runs_in_the_sandbox(gateway):
    gateway.in_control()
    pid = gateway.pid()
    status = gateway.root / f"proc/{pid}/status"
    text = gateway.machine.run(f"cat /proc/{pid}/status")
    facts = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    user = gateway.machine.run(f"stat -c %U:%G /proc/{pid}").strip()
    fail_unless(user == "ems-agent:ems", f"it runs as {user}")
    fail_unless(facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2", f"no sandbox: {text}")
    fail_unless(int(facts["CapBnd"], 16) == 0, f"it could gain capabilities: {facts['CapBnd']}")
    for forbidden in ("touch /usr/x", "touch /etc/ems-agent/x", "ls /home/x", "cat /dev/kmsg"):
        gateway_denies(gateway, pid, forbidden)
    return f"user {user}, seccomp and no capabilities, file system read-only"


def gateway_denies(gateway, pid, command):
    """What the process sees, it sees in its own mount namespace."""
    done = gateway.machine.try_(f"nsenter -t {pid} -m -- {command}")
    fail_unless(done.returncode != 0, f"in the sandbox `{command}` works")


def verified_setpoint(gateway):
    gateway.ask_for(75.0)
    status = gateway.status()
    fail_unless(status["source"] == "rolling", f"decides: {status['source']}")
    return "75 kW by a plan, read back and given"


def watchdog_ends_a_hung_loop(gateway):
    before = gateway.pid()
    gateway.machine.run(f"kill -STOP {before}")
    began_s = time.monotonic()

    def restarted():
        return gateway.pid() not in {0, before}

    gateway.machine.until(restarted, "the watchdog has restarted it", WATCHDOG_S + 20)
    took_s = time.monotonic() - began_s
    gateway.in_control()
    gateway.gives(75.0)
    return f"restarted after {took_s:.0f} s, back in control after {time.monotonic() - began_s:.0f} s"


def stops_at_neutral(gateway):
    began_s = time.monotonic()
    gateway.machine.run("systemctl stop ems-agent")
    took_s = time.monotonic() - began_s
    fail_unless(took_s <= 10.0, f"it took {took_s:.1f} s to stop")
    gateway.gives(0.0, 5.0)
    shown = gateway.shown("Result", "ExecMainStatus")
    fail_unless(shown == {"Result": "success", "ExecMainStatus": "0"}, f"it ended with {shown}")
    gateway.machine.run("systemctl start ems-agent")
    gateway.gives(75.0)
    return f"SIGTERM: ended after {took_s:.1f} s, the battery at rest"


def power_cut(gateway):
    gateway.machine.cut()
    began_s = time.monotonic()
    gateway.machine.boot()
    gateway.in_control()
    gateway.gives(75.0)
    return f"back in control {time.monotonic() - began_s:.1f} s after the power came back, by the plan on disk"


STEPS = (
    ("Debian boots with systemd", boots),
    ("the agent is installed", installs),
    ("it runs in its sandbox", runs_in_the_sandbox),
    ("a setpoint is verified", verified_setpoint),
    ("a hung loop is restarted by the watchdog", watchdog_ends_a_hung_loop),
    ("a stop leaves the battery at rest", stops_at_neutral),
    ("the power is cut", power_cut),
)
