"""What goes into a support bundle, piece by piece: each says what it is, or why it is not there."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.client import Connection
from agent.cli.doctor_machine import UNIT, output_of
from agent.config import ConfigError, SiteFile, load
from agent.site_file.shown import Shown, shown

if TYPE_CHECKING:
    from agent.core.checkup import Finding

DAY_S = 86_400.0
SAMPLE_EVERY_S = 60.0
FULL_RATE_S = 600.0
"""The last ten minutes go in second by second, the day before them once a minute."""
MOST_EVENTS = 2_000
MOST_LOG_LINES = 20_000
LOG_TIMEOUT_S = 30.0
MAX_SECRET_BYTES = 256 * 1024
ASKED: dict[str, dict[str, float]] = {
    **{cmd: {} for cmd in ("status", "explain", "devices", "awards", "model_show", "checkup")},
    "timeline": {"past": 48, "ahead": 192},
}
"""What the daemon is asked, with the parameters."""
_SECRET_NAMES = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
_NAMED_FILES = re.compile(r"[\"'](?:file:)?(/[^\"']+|credential:[A-Za-z0-9_.-]+)[\"']")
_CREDENTIALS = "CREDENTIALS_DIRECTORY"


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of the bundle."""

    name: str
    what: str
    text: str | None
    why_not: str = ""
    """Why there is no text."""


@dataclass
class Site:
    """The site file, as far as it can be read."""

    config: Path
    text: str = ""
    problems: tuple[str, ...] = ()
    loaded: SiteFile | None = None
    shown: Shown = field(default_factory=Shown)

    @classmethod
    def read(cls, config: Path) -> Site:
        """What can be known of it; a broken or missing one is no reason to give up."""
        site = cls(config)
        try:
            site.loaded = load(config)
        except ConfigError as error:
            site.problems = error.problems
        with suppress(OSError):
            site.text = config.read_text(encoding="utf-8", errors="replace")
            site.shown = shown(site.text, SiteFile)
        return site

    @property
    def name(self) -> str:
        """The site id, for the name of the bundle."""
        return self.loaded.site.id if self.loaded is not None else "unknown"

    @property
    def store(self) -> Path:
        """The state directory; the usual one where the file does not tell."""
        return Path(self.loaded.store.directory if self.loaded is not None else "/var/lib/ems-agent")

    def secrets(self) -> list[str]:
        """Every secret that can be found from here, to be looked for in all that goes into the bundle."""
        found = list(self.shown.secrets)
        found += [value for name, value in os.environ.items() if _SECRET_NAMES.search(name)]
        folders = [Path(os.environ[_CREDENTIALS])] if _CREDENTIALS in os.environ else []
        folders.append(Path("/run/credentials") / UNIT)
        paths = [path for folder in folders for path in _within(folder)]
        for name in _NAMED_FILES.findall(self.text):
            bare = name.removeprefix("credential:")
            paths += [folder / bare for folder in folders] if bare != name else [Path(name)]
        return [secret for secret in (*found, *(line for path in paths for line in _lines_of(path))) if secret]


def _within(folder: Path) -> list[Path]:
    """What is in a folder; nothing where it is not there, or not for us to see."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _lines_of(path: Path) -> list[str]:
    """What is secret in a file that may hold a password or a key; nothing in what is neither."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_SECRET_BYTES:
            return []
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return []
    lines = [line.strip("\r") for line in lines if line.strip()]
    if len(lines) == 1 or any("PRIVATE KEY" in line for line in lines):
        return [line for line in lines if not line.startswith("-----")]
    return []


def pieces(site: Site, socket: Path, findings: Callable[[], list[Finding]]) -> Iterator[Piece]:
    """All of it, in the order of the bundle. A fault in one piece costs that piece and no other."""
    collectors: tuple[tuple[str, Callable[[], Iterable[Piece]]], ...] = (
        ("site.toml", lambda: [_site_file(site)]),
        ("profiles", lambda: _profiles(site)),
        ("doctor.txt", lambda: _doctor(findings)),
        ("daemon", lambda: _daemon(socket)),
        ("events.jsonl", lambda: [_events(site, socket)]),
        ("telemetry.csv", lambda: [_telemetry(site)]),
        ("journal.log", lambda: [_log()]),
        ("ems.prom", lambda: [_metrics(site)]),
        ("versions.json", lambda: [Piece("versions.json", "this machine and its software", _json(versions()))]),
        ("schemas.json", lambda: [_schemas(site)]),
    )
    for name, collect in collectors:
        try:
            yield from collect()
        except Exception as error:  # noqa: BLE001 - the bundle is made for what nobody expected
            yield Piece(name, "", None, f"a fault while it was collected: {type(error).__name__}: {error}")


def _site_file(site: Site) -> Piece:
    what = "the site file without comments and without what may be secret"
    if not site.text:
        why = "; ".join(site.problems) or "it is empty"
        return Piece("site.toml", what, None, why)
    problems = "".join(f"# {problem}\n" for problem in site.problems)
    return Piece("site.toml", what, problems + site.shown.text)


def _profiles(site: Site) -> Iterator[Piece]:
    if site.loaded is None:
        return
    used = sorted({device.profile for device in site.loaded.device if device.profile is not None})
    folder = site.config.parent / "profiles"
    lines = [f"{name}: {'of this site' if (folder / f'{name}.toml').is_file() else 'as shipped'}" for name in used]
    yield Piece("profiles/used.txt", "profiles of the devices", "\n".join(lines or ["none: SunSpec only"]) + "\n")
    for name in used:
        path = folder / f"{name}.toml"
        if path.is_file():
            with suppress(OSError):
                yield Piece(f"profiles/{name}.toml", "a profile of this site", path.read_text(errors="replace"))


def _doctor(findings: Callable[[], list[Finding]]) -> Iterator[Piece]:
    from agent.cli.doctor import lines  # noqa: PLC0415 (the doctor needs nothing of this)

    found = findings()
    yield Piece("doctor.txt", "what ems doctor says", "\n".join(lines(found)) + "\n")
    yield Piece("doctor.json", "the same for programs", _json([asdict(one) for one in found]))


def _daemon(socket: Path) -> Iterator[Piece]:
    what = "what the daemon answers to {}"
    for cmd, params in ASKED.items():
        try:
            yield Piece(f"daemon/{cmd}.json", what.format(cmd), _json(_asked(socket, cmd, **params)))
        except (OSError, ValueError) as error:
            yield Piece(f"daemon/{cmd}.json", what.format(cmd), None, str(error))


def _asked(socket: Path, cmd: str, **params: float) -> Any:
    connection = Connection(socket)
    try:
        reply = connection.ask(cmd, **params)
    finally:
        connection.close()
    if not reply["ok"]:
        raise OSError(f"the daemon refuses it: {reply['error']['why']}")
    return reply["result"]


def _events(site: Site, socket: Path) -> Piece:
    name, what = "events.jsonl", f"the newest events, at most {MOST_EVENTS}, newest first"
    try:
        events = _asked(socket, "events", limit=MOST_EVENTS)
    except (OSError, ValueError):
        from agent.store.control_reader import newest_events  # noqa: PLC0415 (only without a daemon)

        try:
            events = newest_events(site.store, MOST_EVENTS)
        except OSError as error:
            return Piece(name, what, None, str(error))
    return Piece(name, what, "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events))


def _telemetry(site: Site) -> Piece:
    """A row a minute of the last day, every row of its last ten minutes."""
    from agent.cli.telemetry import Rows  # noqa: PLC0415 (as above)
    from agent.store.telemetry_reader import TelemetryReader, UnreadableStore  # noqa: PLC0415 (as above)

    name, what = (
        "telemetry.csv",
        "a row a minute of the last day, every row of its last ten minutes; UTC, W, + toward the grid",
    )
    now_s = time.time()
    try:
        with closing(TelemetryReader(site.store)) as reader:
            extent = reader.extent()
            end_s = min(now_s, extent[1]) + 1.0 if extent is not None else now_s
            rows = [dict(row) for row in thinned(Rows(reader, end_s - DAY_S, end_s, means=False), end_s)]
    except UnreadableStore as error:
        return Piece(name, what, None, f"{error}; {error.hint}")
    if not rows:
        return Piece(name, what, None, "nothing was recorded in the last day")
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return Piece(name, what, text.getvalue())


def thinned(rows: Any, end_utc_s: float) -> Iterator[dict[str, Any]]:
    """One row of each minute, and all of the last ten minutes."""
    from datetime import datetime  # noqa: PLC0415 (as above)

    last_minute = None
    for row in rows:
        at_utc_s = datetime.fromisoformat(row["time"]).timestamp()
        minute = at_utc_s // SAMPLE_EVERY_S
        if end_utc_s - at_utc_s <= FULL_RATE_S or minute != last_minute:
            yield row
        last_minute = minute


def _log() -> Piece:
    name, what = "journal.log", f"what the daemon logged in the last day, at most {MOST_LOG_LINES} lines"
    told = output_of(
        "journalctl", "--unit", UNIT, "--since=-24h", f"--lines={MOST_LOG_LINES}", "--no-pager", "--output=short-iso",
        timeout_s=LOG_TIMEOUT_S,
    )  # fmt: skip
    if not told:
        return Piece(name, what, None, "journalctl is not here, or does not answer")
    return Piece(name, what, told)


def _metrics(site: Site) -> Piece:
    section = site.loaded.metrics if site.loaded is not None else None
    path = Path(section.file) if section is not None and section.file else site.store / "metrics" / "ems.prom"
    try:
        return Piece("ems.prom", "the metrics as they were", path.read_text())
    except OSError as error:
        return Piece("ems.prom", "the metrics as they were", None, f"{path}: {error.strerror}")


def versions() -> dict[str, Any]:
    """What this machine is, and its software."""
    from agent.store.examination import SQLITE_VERSION  # noqa: PLC0415 (as above)

    system = platform.freedesktop_os_release() if hasattr(platform, "freedesktop_os_release") else {}
    return {
        "python": sys.version,
        "system": system.get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load": list(os.getloadavg()),
        "sqlite": SQLITE_VERSION,
        "openssl": ssl.OPENSSL_VERSION,
        "packages": dict(sorted((one.metadata["Name"], one.version) for one in distributions())),
    }


def _schemas(site: Site) -> Piece:
    from agent.cloud.stamp import SCHEMA  # noqa: PLC0415 (as above)
    from agent.store.examination import examined  # noqa: PLC0415 (as above)

    tables = {one.name: {"found": one.version, "known": one.known_version} for one in examined(site.store, time.time())}
    versions_of = {"tables": tables, "site_file": 1, "contract": SCHEMA}
    return Piece("schemas.json", "versions of tables, site file and contract", _json(versions_of))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"
