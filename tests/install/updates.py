"""The steps that change the version: an update, one that does not work, and the power cut at every step of one."""

import time

from gateway import HOME, fail_unless

UPDATE_S = 400.0
BROKEN = "9.9.9"
MADE = (
    HOME, "etc/ems-agent", "var/lib/ems-agent", "usr/local/bin/ems",
    "usr/local/share/bash-completion/completions/ems", "usr/local/share/zsh/site-functions/_ems",
)  # fmt: skip
"""What is on a gateway with the agent, and on none without it."""


def updates(gateway):
    bundle = gateway.carry(gateway.bundles.of("0.2.0"))
    began_s = time.monotonic()
    gateway.machine.run(f"ems update {bundle}", UPDATE_S)
    works_as(gateway, "0.2.0")
    return f"0.2.0 in place after {time.monotonic() - began_s:.0f} s, 75 kW again"


def works_as(gateway, version):
    """This version is in use and in control."""
    status = gateway.in_control(120.0)
    fail_unless(status["version"] == version == gateway.version(), f"{status['version']} runs, not {version}")
    gateway.gives(75.0)


def refuses_a_tampered_bundle(gateway):
    before = gateway.pid()
    done = gateway.machine.try_(f"ems update {gateway.carry(gateway.bundles.tampered('0.2.1'))}", UPDATE_S)
    fail_unless(done.returncode == 1, f"it ended with {done.returncode}: {done.stdout}{done.stderr}")
    fail_unless(gateway.pid() == before, "the agent was restarted")
    works_as(gateway, "0.2.0")
    return done.stderr.strip().splitlines()[0]


def goes_back_from_a_broken_version(gateway):
    bundle = gateway.carry(gateway.bundles.of(BROKEN, broken=True))
    done = gateway.machine.try_(f"ems update {bundle}", UPDATE_S)
    fail_unless(done.returncode != 0, f"a version that moves no battery was kept: {done.stdout}")
    works_as(gateway, "0.2.0")
    return f"exit code {done.returncode}: {' '.join((done.stdout + done.stderr).split())[:160]}"


def at(phase):
    """True in this phase of an update."""
    return lambda gateway: gateway.update_phase() == phase


def while_it_is_put_in_place(version):
    """True while the new version lies there in part."""

    def half(gateway):
        home = gateway.root / HOME / "versions" / version
        return (home / "venv/lib").is_dir() and not (home / "complete").exists()

    return half


def once_it_is_in_use(version):
    """True once the link points to the new version, which has not proved itself."""
    return lambda gateway: gateway.version() == version and gateway.update_phase() == "switching"


def once_it_runs(version):
    """True once the new version answers, and is looked at."""

    def runs(gateway):
        status = gateway.status() if gateway.version() == version else None
        return status is not None and status["version"] == version

    return runs


def power_cut_in_an_update(version, when, *ends_as, broken=False):
    """The step in which the power is cut when `when` holds; afterwards one of the versions `ends_as` works."""

    def step(gateway):
        bundle = gateway.carry(gateway.bundles.of(version, broken=broken))
        gateway.machine.begin(f"ems update {bundle}")
        gateway.machine.until(lambda: when(gateway), "the update comes so far", UPDATE_S, every_s=0.01)
        gateway.machine.cut()
        began_s = time.monotonic()
        gateway.machine.boot()
        gateway.in_control(120.0)
        back_s = time.monotonic() - began_s
        gateway.machine.until(lambda: gateway.update_phase() is None, "the update is finished or undone", UPDATE_S)
        used = gateway.version()
        fail_unless(used in ends_as, f"{used} is in use, not {' or '.join(ends_as)}")
        works_as(gateway, used)
        return (
            f"in control {back_s:.0f} s after the boot; {used} works, all done after {time.monotonic() - began_s:.0f} s"
        )

    return step


def moves_to_another_gateway(gateway):
    """Backed up, taken off this gateway to the last file, and restored on one that is bare again."""
    run, root = gateway.machine.run, gateway.root
    version = gateway.version()
    run("ems backup /root/site.tar.gz")
    took_off = run("ems uninstall --purge")
    gateway.gives(0.0, 5.0)
    left = [place for place in MADE if (root / place).exists()]
    fail_unless(not left, f"after ems uninstall --purge there is still {', '.join(left)}")
    fail_unless(gateway.machine.try_("systemctl cat ems-agent").returncode != 0, "the unit is still there")
    run(f"rm -rf ems-agent-{version} && tar xf ems-agent-{version}.tar")
    run(f"sh ems-agent-{version}/systemd/install.sh --key key.pem", UPDATE_S)
    run("ems restore /root/site.tar.gz", UPDATE_S)
    works_as(gateway, version)
    gateway.connected()
    return f"{took_off.splitlines()[0]}; restored from its backup, 75 kW again by its plan"


UPDATES = (
    ("an update", updates),
    ("a tampered bundle is refused", refuses_a_tampered_bundle),
    ("an update that does not work goes back by itself", goes_back_from_a_broken_version),
    ("the power is cut while a bundle is unpacked", power_cut_in_an_update("0.3.0", at("preparing"), "0.2.0")),
    (
        "the power is cut while a version is put in place",
        power_cut_in_an_update("0.3.0", while_it_is_put_in_place("0.3.0"), "0.2.0"),
    ),
    ("the power is cut when the switch begins", power_cut_in_an_update("0.3.0", at("switching"), "0.3.0")),
    (
        "the power is cut right after the switch",
        power_cut_in_an_update("0.4.0", once_it_is_in_use("0.4.0"), "0.4.0"),
    ),
    (
        "the power is cut while the new version proves itself",
        power_cut_in_an_update("0.5.0", once_it_runs("0.5.0"), "0.5.0"),
    ),
    (
        "the power is cut on the way back from a broken version",
        power_cut_in_an_update(BROKEN, at("going_back"), "0.5.0", broken=True),
    ),
    ("the site moves to a bare gateway", moves_to_another_gateway),
)
