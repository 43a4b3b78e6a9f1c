"""A gateway in a folder: real files, a service that is a variable, a clock that only `sleep` moves, a power switch."""

import json
from pathlib import Path

from agent.core.update_health import Look
from agent.update.house import MARK, House
from agent.update.not_done import NotDone
from bundle.archive import write_archive

SCHEMA = {"control": 3, "telemetry": 4}


class Killed(BaseException):
    """The process is gone, as by kill -9: nothing of it goes on."""


def release(version, schema=SCHEMA, number=1):
    return json.dumps({"format": number, "version": version, "schema": schema}).encode()


def bundle(folder, version, key=None, **more):
    """A bundle whose software is one file."""
    path = folder / f"ems-agent-{version}.tar"
    files = {"release.json": release(version, **more), "wheels/agent.whl": version.encode()}
    write_archive(path, f"ems-agent-{version}", files, key)
    return path


class World:
    """What outlives a killed process: the folders, and what runs. Methods are those of `Gateway`."""

    def __init__(self, folder: Path, *, works=("1.0", "1.1")):
        self.house = House(folder / "opt")
        self.works = set(works)
        self.site_refuses: dict[str, str] = {}
        self.running: str | None = None
        self.boots = 0
        self.now_s = 0.0
        self.since_s = 0.0
        self.restarts: list[str] = []
        self.copies = 0
        self.deaths = -1
        """The call before or after which the process is killed; -1: never."""
        self.calls = 0
        self.put("1.0")
        self._use("1.0")
        self.boot()

    def put(self, version, *, complete=True):
        home = self.house.home(version)
        home.mkdir(parents=True, exist_ok=True)
        (home / "release.json").write_bytes(release(version))
        if complete:
            (home / MARK).touch()

    def _use(self, version):
        fresh = self.house.root / "current.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(f"versions/{version}")
        fresh.replace(self.house.root / "current")

    def boot(self):
        """The machine starts, and the service with it."""
        self.running = self.house.current()
        self.boots += 1
        self.since_s = self.now_s

    # Gateway

    def build(self, unpacked):
        version = json.loads((unpacked / "release.json").read_bytes())["version"]
        self.put(version, complete=False)
        self._may_die()
        self.put(version)

    def site_refusal(self, version):
        return self.site_refuses.get(version)

    def keep_a_copy(self):
        self.copies += 1

    def switch(self, version):
        if not self.house.complete(version):
            raise NotDone("update", f"{version} is not whole", "-")
        self._use(version)

    def restart(self):
        self.boot()
        self.restarts.append(self.running)

    def look(self):
        if self.running not in self.works:
            return None
        return Look(self.now_s, self.running, f"boot {self.boots}", int(self.now_s - self.since_s), frozenset({"bess"}))

    def mono_s(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds

    # Death

    def _may_die(self):
        self.calls += 1
        if self.calls == self.deaths:
            raise Killed


class Mortal:
    """Passes every call on, and is killed just before or just after one of them."""

    def __init__(self, inner, world):
        self._inner, self._world = inner, world

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        if not callable(found) or name in {"alone", "mono_s", "sleep", "home"}:
            return found

        def called(*args, **more):
            self._world._may_die()
            result = found(*args, **more)
            self._world._may_die()
            return result

        return called
