"""Cuts the power of a store at any point of its recorded life, and looks at what is left: `power_cut.py --cuts 3000`.

A child lives with the store; `tests/disk_shim.c` records each change of its files and each fsync that returned. From that record
the files are put together as a power cut would leave them, opened, and held against what had been promised by then:
plans, events, commands and frames that a call said are durable, sequences whose content was shown.

The model, harsher than the file systems in use: what a file holds is certain up to its last fsync. Of each later write every
512-byte sector is on disk or not, by chance and in any order; in room that was never synchronised it may be garbage. Names (made,
removed, replaced) are certain up to the last fsync of the directory and else come in order up to any point. The -shm file is memory.

`--damage 500` besides: so many times some bytes of the files at rest are spoilt. What is damaged must not be used, and what is gone
must be told; damage in the log alone may look like a power cut, for so SQLite reads it.

Prints {"cuts", "by_class", "lives", "lost", "torn", "repeated", "broken", ...}; exit code 0 only if nothing went wrong.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from store_values import BUILD_FRAME, NOW, event, open_store, plan, sample, slot  # noqa: E402 - the paths come first

from agent.core.plan import PlanKind  # noqa: E402
from agent.core.records import CommandRecord, Stage, Stream  # noqa: E402
from tests.disk_shim import Disk, records  # noqa: E402

SECTOR = 512
PROMISES = "promises"
CHECKPOINT_PAGES = 40
"""The write-ahead logs are folded in this early, so that a short life has many checkpoints."""
YEARLY = 1
DAMAGE_AT = 15
"""Files at rest are those of the life after so many plans."""


def command(number):
    return CommandRecord(f"c{number}", "a" * 64, "hold", NOW, NOW + 6e4, Stage.ACCEPTED, b"{}", NOW + 6e4, NOW)


class Life:
    """What a child does with its store, saying what it was promised as soon as it was."""

    def __init__(self, directory):
        self.directory = directory
        self._promises = os.open(directory / PROMISES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.version = 0

    def promise(self, **what):
        os.write(self._promises, json.dumps(what).encode() + b"\n")

    async def open(self):
        store = await open_store(self.directory)
        for database in (store._writer.control.database, store._writer._telemetry.database):
            await store._run(database.connection().execute, f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        return store

    async def live(self, rounds):
        """Some rounds of everything that is kept, then a clean end."""
        store = await self.open()
        if self.version == 0:
            await store.save_document(*plan(YEARLY, PlanKind.YEARLY, size=300))  # makes a snapshot too
            self.promise(yearly=YEARLY)
        for _ in range(rounds):
            self.version += 1
            await self.one_round(store, self.version)
        await store.close()

    async def one_round(self, store, version):
        await store.save_document(*plan(version, size=300))
        self.promise(version=version)
        await store.append_event(event(f"e{version}"))
        self.promise(event=f"e{version}")
        if await store.take_command(command(version)) is None:
            self.promise(command=f"c{version}")
        await store.announce_acks()
        for i in range(3):
            await store.append_sample(sample(NOW + version * 10 + i))
        frame = await store.seal_frame(BUILD_FRAME)
        self.promise(frame=frame)
        await store.save_slot(slot(NOW + version * 1800))
        await store.keep_override(json.dumps(version))
        self.promise(override=version)
        for stream in Stream:
            for seq, payload in await store.pending(stream, await store.last_seq(stream) - 2, 2):
                self.promise(stream=stream.value, seq=seq, sha256=hashlib.sha256(payload).hexdigest())
        if version % 5 == 0:
            confirmed = frame - 2
            self.promise(confirmed=confirmed)  # before the call: what it forgets need not be there any more
            await store.confirm(Stream.TELEMETRY, confirmed)

    async def damaged(self):
        """The file of the plans is spoilt while nobody has it open; the next start restores what it can."""
        store = await self.open()
        await store.set_last_utc(NOW)  # makes a snapshot, and promises nothing of what comes after it
        await store.close()
        self.promise(damaged=True)
        descriptor = os.open(self.directory / "control.db", os.O_WRONLY)
        os.write(descriptor, b"\xff" * 8192)
        os.fsync(descriptor)
        os.close(descriptor)


async def live(directory):
    life = Life(directory)
    await life.live(12)
    await life.live(6)
    await life.damaged()
    await life.live(6)


# --- What a power cut leaves ---


class File:
    """One file: what is certainly on disk, and what may be."""

    def __init__(self):
        self.certain = bytearray()
        self.later = []

    def synced(self):
        self.certain = self.all()
        self.later = []

    def all(self):
        """As it is when every write is there: so the kernel leaves it after kill -9."""
        image = bytearray(self.certain)
        for change in self.later:
            apply(image, *change)
        return image

    def some(self, chance):
        """As a power cut may leave it."""
        image = bytearray(self.certain)
        for what, offset, data in self.later:
            if what == "T":
                if chance.random() < 0.5:
                    apply(image, what, offset, data)
                continue
            for at in range(0, len(data), SECTOR):
                sector = data[at : at + SECTOR]
                if chance.random() < 0.5:
                    apply(image, what, offset + at, sector)
                elif offset + at >= len(self.certain) and chance.random() < 0.2:
                    apply(image, what, offset + at, chance.randbytes(len(sector)))
        return image


def apply(image, what, offset, data):
    if what == "T":
        del image[offset:]
        image.extend(bytes(offset - len(image)))
        return
    image.extend(bytes(max(0, offset - len(image))))
    image[offset : offset + len(data)] = data


class Files:
    """The files of the directory as the record of their changes goes on."""

    def __init__(self):
        self.now = {}
        self._certain = {}
        self._later = []

    def change(self, what, name, offset, data):
        if what == "S" and name == ".":
            self._certain, self._later = dict(self.now), []
        elif what == "S":
            self.now[name].synced()
        elif what in "WT":
            self.now[name].later.append((what, offset, data))
        elif what == "C":
            self._rename(what, name, File())
        elif what == "U":
            self._rename(what, name, None)
        elif what == "R":
            self._rename("U", name, moved := self.now[name])
            self._rename("C", data.decode(), moved)

    def _rename(self, what, name, file):
        self._later.append((what, name, file))
        rename(self.now, what, name, file)

    def after_kill(self):
        return {name: file.all() for name, file in self.now.items()}

    def after_cut(self, chance):
        names = dict(self._certain)
        for one in self._later[: chance.randint(0, len(self._later))]:
            rename(names, *one)
        return {name: file.some(chance) for name, file in names.items()}


def rename(names, what, name, file):
    if what == "C":
        names[name] = file
    else:
        names.pop(name, None)


def class_of(what, name, offset):
    """Which bytes this change touches, for the count."""
    kinds = {"-wal": "log", "snapshot": "snapshot", "restoring": "restoring", "-journal": "journal"}
    kind = next((kind for part, kind in kinds.items() if part in name), "file")
    if what != "W":
        done = {"C": "made", "U": "removed", "R": "renamed", "T": "cut", "S": "fsync"}
        return f"{kind}: {done[what]}"
    if kind == "log":
        return "log: header" if offset < 32 else "log: frame header" if (offset - 32) % 4120 == 0 else "log: page"
    return f"{kind}: first page" if offset < 4096 else f"{kind}: other page"


# --- The judge ---


class Promised:
    """All that was promised up to a point of the record."""

    def __init__(self):
        self.version = self.yearly = self.override = self.confirmed = 0
        self.events, self.commands, self.frames, self.content = [], [], set(), {}
        self.damaged = False

    def hear(self, line):
        said = json.loads(line)
        if said.get("damaged"):
            # What came after the snapshot may be gone with the file; what was shown to the cloud keeps its numbers.
            self.version, self.override, self.events, self.commands, self.damaged = 0, 0, [], [], True
        for name in ("version", "yearly", "override", "confirmed"):
            setattr(self, name, said.get(name, getattr(self, name)))
        self.events += [said["event"]] if "event" in said else []
        self.commands += [said["command"]] if "command" in said else []
        self.frames |= {said["frame"]} if "frame" in said else set()
        if "stream" in said:
            self.content[said["stream"], said["seq"]] = said["sha256"]


async def judge(directory, promised):
    """What is wrong, by kind; empty when all that was promised is there."""
    store = await open_store(directory)
    try:
        wrong = Counter()
        held = await store.load()
        codes = [one.code for one in await store.events(10_000)]
        if "database_damaged" in codes and not promised.damaged:
            wrong["told as damaged"] += 1
        wrong["told as damaged"] += "document_damaged" in codes
        whole = all(
            document.document == plan(document.version, PlanKind(document.kind), size=300)[1]
            for document in held.documents
        )
        wrong["torn"] += not whole
        versions = {kind: [d.version for d in held.documents if d.kind == kind] for kind in ("rolling", "yearly")}
        wrong["lost plan"] += promised.version > max(versions["rolling"], default=0)
        wrong["lost plan"] += promised.yearly > max(versions["yearly"], default=0)
        wrong["lost event"] += len(set(promised.events) - set(codes))
        known = {record.command_id for record in held.commands}
        wrong["lost command"] += len(set(promised.commands) - known)
        wrong["lost override"] += promised.override > int(held.override or 0)
        wrong["command taken twice"] += (
            promised.damaged and "database_damaged" in codes and not held.commands_since_utc_s
        )
        wrong["broken chain"] += await store.verify_chain() is not None
        frames = {seq for seq, _ in await store.kept(Stream.TELEMETRY, 0, 2**62, 10_000)}
        wrong["lost frame"] += len({f for f in promised.frames if f > promised.confirmed} - frames)
        await go_on(store, promised, wrong)
        return +wrong
    finally:
        await store.close()


async def go_on(store, promised, wrong):
    """Life goes on: no number comes twice with other content."""
    await store.append_event(event("afterwards"))
    await store.save_document(*plan(10_000, size=300))
    await store.append_sample(sample(NOW + 1e6))
    while await store.seal_frame(BUILD_FRAME) is not None:
        pass
    for stream in Stream:
        for seq, payload in await store.kept(stream, 0, 2**62, 10_000):
            shown = promised.content.get((stream.value, seq))
            wrong["repeated"] += shown is not None and shown != hashlib.sha256(payload).hexdigest()


def recorded(place):
    """One whole life, as the disk saw it."""
    directory = place / "life"
    directory.mkdir(mode=0o750)
    disk = Disk(place, trace=True)
    environment = {**os.environ, **disk.environment(directory)}
    subprocess.run([sys.executable, __file__, "--live", str(directory)], env=environment, check=True, timeout=120)
    found = [one for one in records(disk.trace) if not one[1].endswith(("-shm", "agent.lock"))]
    shutil.rmtree(directory)
    return found


def cut(place, image, promised):
    directory = place / "cut"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, data in image.items():
        (directory / name).write_bytes(data)
    return asyncio.run(judge(directory, promised))


def chosen_moments(life, cuts, chance):
    """Half of them anywhere, half shared out among the classes of bytes, so that the rare ones are met often."""
    by_class = {}
    for index, (what, name, offset, _) in enumerate(life):
        if name != PROMISES:
            by_class.setdefault(class_of(what, name, offset), []).append(index)
    moments = [index for found in by_class.values() for index in found]
    rare = [chance.choice(by_class[chance.choice(sorted(by_class))]) for _ in range(cuts // 2)]
    return rare + chance.choices(moments, k=cuts - len(rare))


def campaign(place, life, cuts, chance):
    """(cuts by class of bytes, what went wrong by kind, the first few cases in words)."""
    chosen = Counter(chosen_moments(life, cuts, chance))
    files, promised = Files(), Promised()
    by_class, wrong, cases = Counter(), Counter(), []
    for index, (what, name, offset, data) in enumerate(life):
        if name == PROMISES:
            if what == "W":
                promised.hear(data)
            continue
        if what != "S":
            files.change(what, name, offset, data)
        for number in range(chosen[index]):
            image = files.after_kill() if chance.random() < 0.1 else files.after_cut(chance)
            found = cut(place, image, promised)
            by_class[class_of(what, name, offset)] += 1
            wrong += found
            if found and len(cases) < 5:
                cases.append(f"change {index} ({what} {name} at {offset}), try {number}: {dict(found)}")
        if what == "S":
            files.change(what, name, offset, data)
    return by_class, wrong, cases


def spoil(image, chance):
    """Some bytes of one file are changed; the words say which."""
    name = chance.choice(sorted(image))
    data = image[name]
    at, way = chance.randrange(len(data)), chance.choice(["a bit", "a sector", "a page of zeros", "the rest"])
    if chance.random() < 0.3:
        at = chance.randrange(min(len(data), 200))  # the headers
    if way == "a bit":
        data[at] ^= 1 << chance.randrange(8)
    elif way == "a sector":
        data[at : at + SECTOR] = chance.randbytes(min(SECTOR, len(data) - at))
    elif way == "a page of zeros":
        data[at : at + 4096] = bytes(min(4096, len(data) - at))
    else:
        del data[at:]
    return f"{way} of {name} at {at}", name


def damage(place, life, times, chance):
    """(times by way and file, what went wrong by kind, the first few cases in words)."""
    files, promised = Files(), Promised()
    for what, name, offset, data in life:
        if name == PROMISES:
            promised.hear(data) if what == "W" else None
        else:
            files.change(what, name, offset, data)
        if promised.version == DAMAGE_AT and len(files.now) > 4:
            break  # amid a round, with both logs there
    by_way, wrong, cases = Counter(), Counter(), []
    for _ in range(times):
        image = files.after_kill()
        words, name = spoil(image, chance)
        found = cut(place, image, promised)
        by_way[f"{words.split(' of ')[0]}: {name}"] += 1
        told = found.pop("told as damaged", 0) or name != "control.db"
        for kind in found:
            if kind in {"torn", "command taken twice", "broken"} or not told:
                wrong[f"{kind}, not told"] += 1
                cases = [*cases, f"{words}: {dict(found)}"][:5]
    return by_way, wrong, cases


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cuts", type=int, default=3000)
    options.add_argument("--damage", type=int, default=0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--live", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.live:
        asyncio.run(live(asked.live))
        return 0
    chance = random.Random(asked.seed)
    memory = Path("/dev/shm")  # the disk is worked out, no other one is wanted
    place = Path(tempfile.mkdtemp(prefix="power_cut_", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        life = recorded(place)
        by_class, wrong, cases = campaign(place, life, asked.cuts, chance)
        by_way, unnoticed, more = damage(place, life, asked.damage, chance)
    finally:
        shutil.rmtree(place)
    wrong, cases = wrong + unnoticed, cases + more
    told = {"cuts": sum(by_class.values()), "changes": len(life), "by_class": by_class, "damaged": by_way}
    print(json.dumps(told | {"wrong": wrong, "cases": cases}))
    return int(sum(wrong.values()) > 0)


if __name__ == "__main__":
    sys.exit(main())
