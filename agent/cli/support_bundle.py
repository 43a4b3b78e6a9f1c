"""`ems support-bundle`: one file with everything that a ticket needs, and no secret in it."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, SocketOption, fail, show_json
from agent.cli.config_check import ConfigOption
from agent.cli.text import fitted

if TYPE_CHECKING:
    from agent.cli.bundle_content import Site
    from agent.core.redaction import Redactor

MAX_FILE_BYTES = 20_000_000
"""Of one file before compression; of a longer one the end is kept."""
LAST_WORDS = (
    "Blanked wherever it occurs: what was removed from the site file; the content of every password and key file that",
    "it names and of the service's credentials, as far as whoever made this may read them; values of environment",
    "variables that are named like secrets; private keys, users and passwords in addresses, authorization headers,",
    "tokens. Secrets of less than 4 characters are not looked for.",
    "Never in it: key and password files, the environment.",
    "It does hold: names of site and devices, addresses on the local network, serial numbers, powers and energies.",
)
OutOption = typer.Option(
    None, "--out", metavar="FILE", help="Where to write it; - is standard output. Default: here, by site and time.",
    show_default=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the bundle, clean."""

    name: str
    what: str
    content: bytes
    removed: int
    cut: bool


def support_bundle(
    config: Path = ConfigOption,
    out: str | None = OutOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Write a .tar.gz for a ticket: everything that helps, secrets removed, with a MANIFEST of what is in it.

    The site file (without comments and secrets), what the daemon says of itself, what ems doctor says, events,
    telemetry of the last day, log, metrics, profiles, versions. Works with the daemon down and with a broken site file;
    what could not be had is named in MANIFEST.txt. Passwords, keys, tokens and headers are blanked wherever they
    occur; run it as root, for what may not be read cannot be looked for either. Read MANIFEST.txt before you send it.

    Where the disk is full, over SSH: ssh GATEWAY sudo ems support-bundle --out - > bundle.tar.gz

    Exit codes: 0 written; 1 it could not be written.
    """
    from agent.cli.bundle_content import Site  # noqa: PLC0415 (the CLI starts fast)
    from agent.core.redaction import Redactor  # noqa: PLC0415 (as above)

    site = Site.read(config)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"ems-support-{site.name}-{stamp}"
    redactor = Redactor(site.secrets())
    entries, left_out = gathered(site, config, socket, redactor)
    from_site_file = [redactor.without_known(one)[0] for one in site.shown.removed]
    packed = _packed(name, [_manifest(name, entries, left_out, from_site_file), *entries])
    path = out or f"{name}.tar.gz"
    _write(path, packed, as_json=as_json)
    if path == "-":
        return
    if as_json:
        files = [{"name": one.name, "bytes": len(one.content), "removed": one.removed} for one in entries]
        show_json({"path": path, "files": files, "left_out": left_out, "removed": from_site_file})
        return
    removed = sum(one.removed for one in entries)
    told = f"{path}: {len(entries)} files, {len(packed) / 1e6:.1f} MB; {removed} places that may be secret were blanked"
    typer.echo("\n".join(fitted([told, f"read it first: tar -xzOf {path} {name}/MANIFEST.txt"], 2)))


def gathered(site: Site, config: Path, socket: str | None, redactor: Redactor) -> tuple[list[Entry], dict[str, str]]:
    """The files, clean, and what could not be had, by name, with the reason."""
    from agent.cli.bundle_content import pieces  # noqa: PLC0415 (as above)
    from agent.cli.doctor import daemon_socket, examine  # noqa: PLC0415 (as above)

    entries: list[Entry] = []
    left_out: dict[str, str] = {}
    path = daemon_socket(socket, site.loaded)
    for piece in pieces(site, path, lambda: list(examine(config, socket, devices=False))):
        if piece.text is None:
            left_out[piece.name] = redactor.without_known(piece.why_not)[0]
            continue
        text, removed = redactor.cleaned(piece.text)
        content = text.encode("utf-8", "replace")
        entries.append(
            Entry(piece.name, piece.what, content[-MAX_FILE_BYTES:], removed, cut=len(content) > MAX_FILE_BYTES)
        )
    return entries, left_out


def _manifest(name: str, entries: list[Entry], left_out: dict[str, str], from_site_file: list[str]) -> Entry:
    """What is in the bundle, what was removed, and what could not be had."""
    text = "\n".join(_manifest_lines(name, entries, left_out, from_site_file)) + "\n"
    return Entry("MANIFEST.txt", "", text.encode(), 0, cut=False)


def _manifest_lines(
    name: str, entries: list[Entry], left_out: dict[str, str], from_site_file: list[str]
) -> Iterator[str]:
    yield f"{name}, made by ems-agent {version('ems-agent')}"
    yield ""
    yield "In it (SHA-256, bytes, places blanked, name: what it is):"
    for one in entries:
        cut = " Only its end: it is longer." if one.cut else ""
        digest = hashlib.sha256(one.content).hexdigest()
        yield f"  {digest}  {len(one.content):>9}  {one.removed:>4}  {one.name}: {one.what}.{cut}"
    yield ""
    yield "Not in it, because it could not be had:"
    yield from [f"  {missing}: {why}" for missing, why in left_out.items()] or ["  nothing is missing"]
    yield ""
    yield "Removed from the site file:"
    yield from [f"  {one}" for one in from_site_file] or ["  nothing"]
    yield ""
    yield from LAST_WORDS


def _packed(name: str, entries: list[Entry]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for one in entries:
            header = tarfile.TarInfo(f"{name}/{one.name}")
            header.size, header.mtime, header.mode = len(one.content), int(time.time()), 0o640
            archive.addfile(header, io.BytesIO(one.content))
    return packed.getvalue()


def _write(path: str, packed: bytes, *, as_json: bool) -> None:
    """The file is there whole, for its owner only, or not at all."""
    if path == "-":
        sys.stdout.buffer.write(packed)
        sys.stdout.buffer.flush()
        return
    fresh = Path(f"{path}.part")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            _whole(stream, packed)
        fresh.rename(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        hint = "name another place with --out FILE, or send it over SSH: ems support-bundle --out - > FILE"
        fail(
            {"what": "support-bundle", "why": f"{path}: {error.strerror}", "next": hint}, EXIT_REFUSED, as_json=as_json
        )


def _whole(stream: BinaryIO, packed: bytes) -> None:
    stream.write(packed)
    stream.flush()
    os.fsync(stream.fileno())
