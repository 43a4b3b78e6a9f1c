"""A real Debian, booted: systemd as process 1 in a container without network, that can be cut off like a power cut."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,mosquitto"
"""A gateway as it comes, and a broker for the test."""
NEEDED = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "nsenter": "util-linux"}
"""Programs of this machine, and the packages that they come with."""
BOOT_S = 60.0
COMMAND_S = 120.0


class Failed(Exception):  # noqa: N818  # what a step came to
    """A step did not go as it must; the text says what was seen."""


def missing():
    """What this machine lacks for the test, one line each."""
    lacks = [
        f"{program}: apt-get install {package}" for program, package in NEEDED.items() if not shutil.which(program)
    ]
    if os.geteuid() != 0:
        lacks.append("root: containers can be booted by nobody else")
    return lacks


def base(suite, cache):
    """The folder of a fresh Debian, made once and kept; the mirror is debootstrap's own, or $MIRROR."""
    kept = cache / f"{suite}-{PACKAGES.count(',') + 1}"
    if not kept.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        making = cache / f"{kept.name}.making"
        shutil.rmtree(making, ignore_errors=True)
        mirror = [os.environ["MIRROR"]] if "MIRROR" in os.environ else []
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(making), *mirror]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise Failed(f"debootstrap: {made.stdout[-2000:]}{made.stderr[-500:]}")
        making.rename(kept)
    return kept


class Machine:
    """One gateway. `boot`, give it commands with `run`, cut its power with `cut`, boot it again."""

    def __init__(self, root, base_folder):
        self.root = Path(root)
        subprocess.run(["cp", "-a", "--reflink=auto", str(base_folder), str(self.root)], check=True)
        (self.root / "etc/hostname").write_text("gateway\n")
        (self.root / "var/log/journal").mkdir(exist_ok=True)
        self._container = None
        self._leader = None

    def boot(self):
        """Returns once systemd says that it is up."""
        command = ["systemd-nspawn", "-q", "-D", str(self.root), "--boot", "--register=no", "--keep-unit"]
        command += ["--private-network", "--machine=gateway", "--console=pipe"]
        # Also on a machine with the older cgroups: the systemd of Debian 13 knows the newer ones only.
        environment = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        with (self.root.parent / f"{self.root.name}.console").open("ab") as console:
            self._container = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=environment,
                start_new_session=True,
            )
        self.until(self._up, "systemd is up", BOOT_S)

    def _up(self):
        if self._container.poll() is not None:
            raise Failed(f"systemd-nspawn ended with {self._container.returncode}: {self.console()[-1500:]}")
        children = subprocess.run(
            ["pgrep", "-P", str(self._container.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        if not children:
            return False
        self._leader = int(children[0])
        return self.try_("systemctl is-active multi-user.target").stdout.strip() == "active"

    def console(self):
        """What the machine wrote on its console."""
        return (self.root.parent / f"{self.root.name}.console").read_text(errors="replace")

    def try_(self, command, within_s=COMMAND_S):
        """The finished process of a shell command given as root on the machine."""
        inside = ["nsenter", "-t", str(self._leader), "-a", "--", "/usr/bin/env", "-i", "LANG=C.UTF-8", "HOME=/root"]
        inside += ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "sh", "-c", f"cd /root; {command}"]
        try:
            return subprocess.run(
                inside, capture_output=True, text=True, check=False, timeout=within_s, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as expired:
            raise Failed(f"`{command}` did not end within {within_s:g} s") from expired

    def run(self, command, within_s=COMMAND_S):
        """What the command wrote on stdout; Failed with all that it said when it did not end with 0."""
        done = self.try_(command, within_s)
        if done.returncode != 0:
            raise Failed(f"`{command}` ended with {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        return done.stdout

    def begin(self, command):
        """A command that goes on by itself, as a process of this machine that nothing waits for."""
        self.run(f"systemd-run --quiet --collect -- sh -c {shlex.quote(command)}")

    def until(self, condition, what, within_s=30.0, every_s=0.2):
        """What the condition returned once it held; Failed by name when it does not in time."""
        deadline = time.monotonic() + within_s
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise Failed(f"not within {within_s:g} s: {what}")
            time.sleep(every_s)
        return found

    def cut(self):
        """The power is gone: nothing on the machine runs any more, and nobody there sees another one die."""
        namespace = Path(f"/proc/{self._leader}/ns/pid").readlink()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (entry / "ns/pid").readlink() == namespace:
                    os.kill(int(entry.name), signal.SIGSTOP)
        os.kill(self._leader, signal.SIGKILL)  # with process 1 of its namespace all others go
        self._container.kill()
        self._container.wait()
        self._leader = self._container = None

    def off(self):
        """The machine is off, whatever it did before."""
        if self._container is not None and self._container.poll() is None:
            self.cut()
