"""The steps of the test, in order; each gets the gateway, raises Failed, and may return what it saw."""

import time

from gateway import fail_unless
from looks import looks_and_leaves
from site_inside import SITE_FILE
from updates import UPDATES

FIRST_VERSION = "0.1.0"
WATCHDOG_S = 20.0
ZSH_COMPLETION = "usr/local/share/zsh/site-functions/_ems"
MOST_COMMANDS, MOST_S = 10, 300.0
"""From a bare Debian to a verified setpoint."""


def boots(gateway):
    gateway.machine.boot()
    gateway.machine.run("systemctl enable --now simulator")
    gateway.machine.until(lambda: gateway.battery_w() is not None, "the simulated site runs")


def installs(gateway):
    """What a technician types after the copy, on a machine without any network but its own."""
    run = gateway.machine.run
    fail_unless(run("cat /proc/net/dev").count(":") == 1, "there is a network")
    bundle = gateway.carry(gateway.bundles.of(FIRST_VERSION))
    key = gateway.carry(gateway.bundles.public_key)
    (gateway.root / "root/site.toml").write_text(SITE_FILE)
    typed = [
        f"tar xf {bundle}",
        f"sh ems-agent-{FIRST_VERSION}/systemd/install.sh --site site.toml --key {key}",
        "ems status",
        "ems explain",
    ]
    began_s = time.monotonic()
    for command in typed:
        said = run(command, MOST_S)
    gateway.in_control()
    took_s = time.monotonic() - began_s
    fail_unless("bess" in said, f"ems explain says nothing of the battery: {said}")
    fail_unless(len(typed) <= MOST_COMMANDS and took_s <= MOST_S, f"{len(typed)} commands, {took_s:.0f} s")
    return f"{len(typed)} commands typed, a setpoint verified after {took_s:.0f} s"


def installs_again(gateway):
    before = gateway.pid()
    gateway.machine.run(f"sh ems-agent-{FIRST_VERSION}/systemd/install.sh --site site.toml", MOST_S)
    fail_unless((gateway.root / "etc/ems-agent/site.toml").read_text() == SITE_FILE, "the site file is another one")
    fail_unless(gateway.pid() == before, "the agent was restarted")
    return "nothing is changed, and the agent goes on"


def completes_words(gateway):
    """Asked as bash asks at a Tab: the function that the file defines, with the words typed so far."""
    typed = (
        ". /usr/local/share/bash-completion/completions/ems; COMP_WORDS=(ems devices re); COMP_CWORD=2;"
        ' _ems_completion ems; echo "${COMPREPLY[@]}"'
    )
    said = gateway.machine.run(f"bash -c '{typed}'").split()
    fail_unless(said == ["read"], f"the Tab key completes `ems devices re` to {said}")
    first = (gateway.root / ZSH_COMPLETION).read_text().splitlines()[0]
    fail_unless(first == "#compdef ems", f"zsh would not take a file that begins with {first!r}")
    return "`ems devices re` to `ems devices read`, in bash"


def runs_in_the_sandbox(gateway):
    pid = gateway.pid()
    text = gateway.machine.run(f"cat /proc/{pid}/status")
    facts = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    user = gateway.machine.run(f"stat -c %U:%G /proc/{pid}").strip()
    fail_unless(user == "ems-agent:ems", f"it runs as {user}")
    fail_unless((facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2"), f"no sandbox: {text}")
    fail_unless(int(facts["CapBnd"], 16) == 0, f"it could gain capabilities: {facts['CapBnd']}")
    for forbidden in (
        "touch /usr/x",
        "touch /opt/ems-agent/x",
        "touch /etc/ems-agent/x",
        "ls /home/x",
        "cat /dev/kmsg",
    ):
        done = gateway.machine.try_(f"nsenter -t {pid} -m -- {forbidden}")
        fail_unless(done.returncode != 0, f"in its sandbox `{forbidden}` works")
    shown = gateway.shown("MemoryMax", "CPUQuotaPerSecUSec", "TasksMax", "WatchdogUSec", "StatusText")
    limits = {"MemoryMax": str(400 * 1024**2), "TasksMax": "64", "WatchdogUSec": "20s"}
    fail_unless(shown.items() >= limits.items(), f"limits: {shown}")
    fail_unless(shown["CPUQuotaPerSecUSec"].startswith("1.5"), f"limits: {shown}")
    fail_unless("setpoint" in shown["StatusText"], f"status line: {shown}")
    return f"as {user}, seccomp, no capabilities, file system read-only; systemd shows `{shown['StatusText']}`"


def verified_setpoint(gateway):
    gateway.ask_for(75.0)
    status = gateway.status()
    fail_unless(status["source"] == "rolling", f"decides: {status['source']}")
    gateway.connected()
    return "75 kW by a plan, read back and given; the broker is connected"


def gets_a_credential(gateway):
    """The broker asks for a password from now on; only systemd can read it, and hands it to the agent."""
    run, root = gateway.machine.run, gateway.root
    run("mosquitto_passwd -b -c /etc/mosquitto/passwords test-01 s3cret && chown mosquitto /etc/mosquitto/passwords")
    (root / "etc/mosquitto/conf.d/asks.conf").write_text(
        "listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/passwords\n"
    )
    run("systemctl restart mosquitto")
    gateway.machine.until(lambda: not gateway.status()["cloud"]["connected"], "the broker turns the agent away")
    (root / "root/broker.password").write_text("s3cret\n")
    run("chmod 0600 /root/broker.password && mkdir -p /etc/systemd/system/ems-agent.service.d")
    (root / "etc/systemd/system/ems-agent.service.d/credentials.conf").write_text(
        "[Service]\nLoadCredential=broker-password:/root/broker.password\n"
    )
    gateway.site_file(("[cloud]\n", '[cloud]\nuser = "test-01"\npassword_file = "credential:broker-password"\n'))
    run("systemctl daemon-reload && systemctl restart ems-agent")
    gateway.in_control()
    gateway.connected()
    readers = run("stat -c %a:%U /run/credentials/ems-agent.service/broker-password").strip()
    fail_unless(readers.startswith("4"), f"others may read the password: {readers}")
    return "the broker's password comes by LoadCredential"


def watchdog_ends_a_hung_loop(gateway):
    before = gateway.pid()
    gateway.machine.run("systemctl kill --kill-whom=main -s STOP ems-agent")
    began_s = time.monotonic()
    gateway.machine.until(lambda: gateway.pid() not in {0, before}, "the watchdog restarts it", WATCHDOG_S + 30)
    took_s = time.monotonic() - began_s
    gateway.in_control()
    gateway.gives(75.0)
    return f"restarted after {took_s:.0f} s, 75 kW again after {time.monotonic() - began_s:.0f} s"


def reloads_a_good_site_file(gateway):
    before, ticks = gateway.pid(), gateway.status()["counters"]
    # 20 kW go out without the battery, so it may give 40 kW more.
    gateway.site_file(('export_limit = "600 kW"', 'export_limit = "60 kW"'))
    gateway.machine.run("systemctl reload ems-agent")
    gateway.gives(40.0)
    after = gateway.status()["counters"]
    fail_unless(gateway.pid() == before, "it was restarted")
    late = after["late_ticks"] - ticks["late_ticks"]
    fail_unless(late <= 1, f"ticks were missed: {ticks} {after}")
    return f"a lower export limit is kept by the same process, {late} ticks missed"


def refuses_a_bad_site_file(gateway):
    before = gateway.site_file(('export_limit = "60 kW"', 'export_limit = "60 kWh"'))
    done = gateway.machine.try_("systemctl reload ems-agent")
    fail_unless(done.returncode != 0, "a bad site file was taken")
    fail_unless("connection_point.export_limit: 'kWh'" in gateway.journal(30), f"no reason in:\n{gateway.journal(30)}")
    codes = lambda: [found["code"] for found in gateway.status()["conditions"]]  # noqa: E731
    gateway.machine.until(lambda: "site_file_refused" in codes(), "the refusal stands as a condition")
    fail_unless(gateway.shown("ActiveState")["ActiveState"] == "active", "it does not run any more")
    gateway.gives(40.0)
    gateway.site_file(('"60 kWh"', '"600 kW"'))
    gateway.machine.run("systemctl reload ems-agent")
    gateway.gives(75.0)
    return f"systemctl reload fails and the journal says why; {before.count('[[device]]')} devices stay in control"


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
    return f"ended {took_s:.1f} s after SIGTERM with the battery at rest"


def a_crash_loop_ends_in_safe_mode(gateway):
    for _ in range(5):
        before = gateway.pid()
        gateway.machine.run("systemctl kill --kill-whom=main -s KILL ems-agent")
        gateway.machine.until(lambda before=before: gateway.pid() not in {0, before}, "systemd starts it again")
        gateway.machine.until(gateway.status, "it answers")
    gateway.gives(0.0)
    status = gateway.status()
    fail_unless(status["source"] == "safe_mode", f"decides: {status['source']}")
    shown = gateway.shown("StatusText")["StatusText"]
    fail_unless("safe_mode" in shown, f"status line: {shown}")
    gateway.machine.run('ems safe-mode end --reason "it was the test"')
    gateway.gives(75.0)
    return "five kills, then 0 kW until ems safe-mode end; systemd never gave it up"


def power_cut(gateway):
    gateway.machine.cut()
    began_s = time.monotonic()
    gateway.machine.boot()
    gateway.in_control()
    gateway.gives(75.0)
    return f"75 kW again {time.monotonic() - began_s:.1f} s after the power came back, by the plan on disk"


STEPS = (
    ("Debian boots with systemd", boots),
    ("the bundle is installed without any network", installs),
    ("it can be installed again", installs_again),
    ("the Tab key completes words", completes_words),
    ("it runs in its sandbox and within limits", runs_in_the_sandbox),
    ("a setpoint is verified", verified_setpoint),
    ("a password comes as a credential", gets_a_credential),
    ("a technician looks, and leaves with a bundle", looks_and_leaves),
    ("a hung loop is restarted by the watchdog", watchdog_ends_a_hung_loop),
    ("a changed site file is taken over", reloads_a_good_site_file),
    ("a bad site file is refused", refuses_a_bad_site_file),
    ("a stop leaves the battery at rest", stops_at_neutral),
    ("a crash loop ends in safe mode", a_crash_loop_ends_in_safe_mode),
    ("the power is cut", power_cut),
    *UPDATES,
)
