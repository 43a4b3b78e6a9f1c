"""One file with all that makes a gateway this site, and that file onto another gateway."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import tomllib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from agent.core.records import StorageFailed
from agent.store.copies import DATABASES, copy_database
from agent.store.restored import go_on_elsewhere
from agent.update.not_done import NotDone

PAPERS = "backup.json"
FORMAT = 1
OTHERS_MAY_READ = 0o004
UNREADABLE = (OSError, EOFError, zlib.error, tarfile.TarError)
"""What an archive that was damaged or cut off raises."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a site lives on a gateway; in the archive each has its name."""

    etc: Path = Path("/etc/ems-agent")
    state: Path = Path("/var/lib/ems-agent")
    drop_ins: Path = Path("/etc/systemd/system/ems-agent.service.d")

    @classmethod
    def of(cls, site_file: Path) -> Places:
        """The places of this gateway; the state lies where the site file says, if it says so."""
        try:
            directory = tomllib.loads(site_file.read_text())["store"]["directory"]
        except (OSError, ValueError, KeyError, TypeError):
            return cls(site_file.parent)
        return cls(site_file.parent, Path(directory))

    def found(self, name: str) -> Path | None:
        """Where a file of the archive belongs; None for one that belongs nowhere."""
        parts = PurePosixPath(name).parts
        folder = {"etc": self.etc, "state": self.state, "drop_ins": self.drop_ins}.get(parts[0]) if parts else None
        if folder is None or len(parts) < 2 or ".." in parts:
            return None
        return folder.joinpath(*parts[1:])


@dataclass(frozen=True, slots=True)
class Papers:
    """What a backup says of itself."""

    format: int
    site: str
    version: str
    host: str
    made_utc_s: float
    files: dict[str, str]
    """SHA-256 by name in the archive."""
    left_out: tuple[str, ...] = ()
    """Files of keys and passwords that were not taken along."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who makes the backup."""

    site: str
    version: str
    host: str
    made_utc_s: float


def back_up(target: Path, places: Places, origin: Origin, *, keys: bool, telemetry: bool) -> Papers:
    """What `target` holds now: settings, drop-ins, and sound copies of the databases; the daemon goes on meanwhile.

    Without `keys`, files that not everybody may read stay behind. Raises `NotDone`; then `target` is as it was.
    """
    unfinished = target.with_name(f".{target.name}.part")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".ems-backup-") as scratch:
            files = dict(_settings(places))
            left_out = [] if keys else [n for n, path in files.items() if not path.stat().st_mode & OTHERS_MAY_READ]
            for name in left_out:
                del files[name]
            for database in DATABASES if telemetry else DATABASES[:1]:
                source = places.state / f"{database}.db"
                if source.exists():
                    files[f"state/{database}.db"] = Path(scratch) / source.name
                    copy_database(source, files[f"state/{database}.db"])
            hashes = {name: _sha256(path) for name, path in files.items()}
            papers = Papers(FORMAT, **asdict(origin), files=hashes, left_out=tuple(left_out))
            _write(unfinished, papers, files)
        unfinished.replace(target)
    except (OSError, StorageFailed) as error:
        unfinished.unlink(missing_ok=True)
        raise NotDone("backup", f"{target} cannot be written: {error}", "look at df -h; name another folder") from error
    return papers


def read_papers(path: Path) -> Papers:
    """What the backup says of itself; raises `NotDone` when it is none that this version reads."""
    try:
        with tarfile.open(path, "r:*") as archive:
            entry = archive.next()
            stream = archive.extractfile(entry) if entry is not None and entry.name == PAPERS else None
            told: dict[str, Any] = json.loads(stream.read()) if stream is not None else {}
        if told.get("format") != FORMAT:
            raise ValueError(f"format {told.get('format')}, not {FORMAT}")
        return Papers(**told | {"left_out": tuple(told["left_out"])})
    except (*UNREADABLE, ValueError, TypeError, KeyError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        why = f"{path} is not a backup that this version reads: {what}"
        raise NotDone("restore", why, "use the file that ems backup wrote, whole") from error


def restore(path: Path, places: Places, owner: tuple[int, int], now_utc_s: float, host: str) -> None:
    """The site of the backup is on this gateway; the daemon must not run. Raises `NotDone`, and nothing was changed.

    `owner` is the user and group that the state belongs to.
    """
    papers = read_papers(path)
    with tempfile.TemporaryDirectory(dir=places.state.parent, prefix=".ems-restore-") as scratch:
        try:
            unpacked = dict(_unpacked(path, papers, places, Path(scratch)))
            state = Path(scratch) / "state"
            if (state / "control.db").exists():
                text = f"this site was restored on the gateway {host} from a backup of {papers.host}"
                go_on_elsewhere(state, now_utc_s, papers.made_utc_s, text)
        except (*UNREADABLE, StorageFailed) as error:
            raise NotDone(
                "restore", f"{path} cannot be used: {error}", "nothing was changed; use another copy"
            ) from error
        places.state.mkdir(parents=True, exist_ok=True)
        for old in places.state.glob("*.db*"):  # with their logs, or those would be taken for the new files'
            old.unlink()
        for name, entry in unpacked.items():
            target = places.found(name)
            assert target is not None, "looked at when it was unpacked"
            _put(Path(scratch) / name, target, entry, owner if name.startswith("state/") else None)


def _settings(places: Places) -> Iterator[tuple[str, Path]]:
    for name, folder in (("etc", places.etc), ("drop_ins", places.drop_ins)):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.is_file():
                yield f"{name}/{path.relative_to(folder).as_posix()}", path


def _write(target: Path, papers: Papers, files: dict[str, Path]) -> None:
    """For root alone from its first byte, for there may be keys in it."""
    target.unlink(missing_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
            text = json.dumps(asdict(papers), indent=1).encode()
            entry = tarfile.TarInfo(PAPERS)
            entry.size, entry.mtime = len(text), int(papers.made_utc_s)
            archive.addfile(entry, io.BytesIO(text))
            for name, path in files.items():
                archive.add(path, name, recursive=False)
        stream.flush()
        os.fsync(stream.fileno())


def _unpacked(path: Path, papers: Papers, places: Places, folder: Path) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Every file of the backup in `folder`, each with its hash as the papers say."""
    waiting = dict(papers.files)
    with tarfile.open(path, "r:*") as archive:
        for entry in archive:
            if entry.name == PAPERS:
                continue
            stream = archive.extractfile(entry) if entry.isreg() else None
            wanted = waiting.pop(entry.name, None)
            if stream is None or wanted is None or places.found(entry.name) is None:
                raise tarfile.TarError(f"{entry.name} does not belong in it")
            target = folder / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
            if _sha256(target) != wanted:
                raise tarfile.TarError(f"{entry.name} is not what was backed up")
            yield entry.name, entry
    if waiting:
        raise tarfile.TarError(f"{min(waiting)} is missing")


def _put(source: Path, target: Path, entry: tarfile.TarInfo, owner: tuple[int, int] | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    shutil.copyfile(source, fresh)
    fresh.chmod(entry.mode & 0o777)
    if owner is not None:
        os.chown(fresh, *owner)
    else:
        # By name: the numbers of another gateway mean others here.
        with suppress(LookupError):
            shutil.chown(fresh, entry.uname, entry.gname)
    fresh.replace(target)


def missing_here(papers: Papers, places: Places) -> Sequence[Path]:
    """Files of keys and passwords that the backup left out and that are not on this gateway."""
    found = [places.found(name) for name in papers.left_out]
    return [path for path in found if path is not None and not path.exists()]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
