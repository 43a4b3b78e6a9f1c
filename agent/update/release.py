"""A bundle, read with distrust: nothing in it is used before the signature and its own hash were seen to hold."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from agent.update.not_done import NotDone

MANIFEST, SIGNATURE, RELEASE = "MANIFEST", "MANIFEST.sig", "release.json"
MAX_MANIFEST_BYTES = 1_000_000
MAX_FILES = 5_000
CHUNK_BYTES = 1 << 20
FORMAT = 1
"""Of the archive; a bundle of a later one says how to get there."""
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9._+-]+(?:/[A-Za-z0-9._+-]+)*)")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
_NEXT = "what is installed goes on; copy the bundle again and compare its sha256sum with the one at its source"


@dataclass(frozen=True, slots=True)
class Release:
    """What release.json says."""

    version: str
    schema: Mapping[str, int]


def unpack(path: Path, keys: Path, folder: Path, *, unsigned: bool) -> Release:
    """The bundle at `path` lies in `folder`, every byte as its maker signed it; raises `NotDone`, and `folder` is junk.

    `keys` is a file of public keys in PEM, one of which must have signed; `unsigned` takes a bundle that nobody signed.
    """
    try:
        with _opened(path) as archive:
            return _unpack(archive, path, keys, folder, unsigned=unsigned)
    except tarfile.TarError as error:
        raise _damaged(path, f"it is not a bundle, or was cut off: {error}") from error
    except OSError as error:
        why = f"{path.name} cannot be unpacked into {folder}: {error.strerror}"
        raise NotDone("update", why, f"what is installed goes on; look at df -h {folder.parent}") from error


def _unpack(archive: tarfile.TarFile, path: Path, keys: Path, folder: Path, *, unsigned: bool) -> Release:
    entries = iter(archive)
    first = next(entries, None)
    if first is None or PurePosixPath(first.name).name != MANIFEST or first.size > MAX_MANIFEST_BYTES:
        raise _damaged(path, "it does not begin with a MANIFEST")
    root = first.name.removesuffix(MANIFEST)
    manifest = _stream(archive, first, path).read()
    waiting = _listed(manifest, path)
    entry = next(entries, None)
    signature = None
    if entry is not None and entry.name == root + SIGNATURE:
        signature = _stream(archive, entry, path).read(64)
        entry = next(entries, None)
    check_signature(path, manifest, signature, keys, unsigned=unsigned)
    _write(folder / MANIFEST, manifest)
    while entry is not None:
        name = entry.name.removeprefix(root)
        wanted = waiting.pop(name, None)
        if wanted is None:
            raise _damaged(path, f"{entry.name} is not in its MANIFEST")
        if _copy(_stream(archive, entry, path), folder / name) != wanted:
            raise _damaged(path, f"{name} is not what its MANIFEST says")
        entry = next(entries, None)
    if waiting:
        raise _damaged(path, f"it is cut off: {min(waiting)} is missing")
    return read_release(folder, path)


def check_signature(path: Path, manifest: bytes, signature: bytes | None, keys: Path, *, unsigned: bool) -> None:
    """Returns when one of the keys signed the manifest, or nobody did and that is allowed; else raises `NotDone`."""
    if signature is None:
        if unsigned:
            return
        raise NotDone("update", f"nobody signed {path.name}", "get a signed bundle, or take this one with --unsigned")
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - 6 MB, only where something is signed

    known = public_keys(keys)
    for key in known:
        try:
            key.verify(signature, manifest)
        except InvalidSignature:
            continue
        return
    why = f"{path.name} is signed by none of the {len(known)} keys in {keys}"
    raise NotDone("update", why, f"if its maker changed the key, add the new one (PEM) to {keys}; else do not use it")


def public_keys(path: Path) -> list[Any]:
    """The Ed25519 keys in a PEM file; raises `NotDone` when there is none."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - as above

    try:
        found = [load_pem_public_key(block) for block in _PEM.findall(path.read_bytes())]
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        why = f"the keys that may sign updates cannot be read from {path}: {error}"
        raise NotDone("update", why, "put the public key of the bundle's maker there, as PEM") from error
    keys = [key for key in found if isinstance(key, Ed25519PublicKey)]
    if not keys:
        raise NotDone(
            "update", f"{path} holds no Ed25519 public key", "put the one of the bundle's maker there, as PEM"
        )
    return keys


def read_release(folder: Path, path: Path) -> Release:
    """What release.json in `folder` says; raises `NotDone` when this agent cannot read it."""
    try:
        told = json.loads((folder / RELEASE).read_bytes())
        version, schema, number = told["version"], dict(told["schema"]), told["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"its {RELEASE} cannot be read: {error}") from error
    if number != FORMAT:
        why = f"{path.name} is of format {number}; this version reads format {FORMAT}"
        raise NotDone("update", why, "its install notes name the version to update to first")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise _damaged(path, f"its version {version!r} is not a version")
    return Release(version, schema)


def main() -> None:
    """Of install.sh: exit code 0 when the key file signed the MANIFEST of an unpacked bundle; says whose it was."""
    folder, keys = map(Path, sys.argv[1:])
    manifest, signature = (folder / MANIFEST).read_bytes(), (folder / SIGNATURE).read_bytes()
    try:
        check_signature(folder, manifest, signature, keys, unsigned=False)
    except NotDone as said:
        sys.exit(f"install: {said}\n         next: {said.then}")
    print(f"install: signed by the key with SHA-256 {hashlib.sha256(keys.read_bytes()).hexdigest()} ({keys})")


def _listed(manifest: bytes, path: Path) -> dict[str, str]:
    listed: dict[str, str] = {}
    for line in manifest.decode("ascii", "replace").splitlines():
        found = _LINE.fullmatch(line)
        if found is None or ".." in PurePosixPath(found[2]).parts or len(listed) >= MAX_FILES:
            raise _damaged(path, f"its MANIFEST cannot be read: {line[:80]!r}")
        listed[found[2]] = found[1]
    return listed


def _stream(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> IO[bytes]:
    stream = archive.extractfile(entry) if entry.isreg() else None
    if stream is None:
        raise _damaged(path, f"{entry.name} is not a file")
    return stream


def _copy(stream: IO[bytes], target: Path) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as copy:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        archive = tarfile.open(path, "r:")  # noqa: SIM115 - closed below; only opening it is tried here
    except OSError as error:
        raise NotDone("update", f"{path} cannot be read: {error.strerror}", "check its name") from error
    with archive:
        yield archive


def _damaged(path: Path, why: str) -> NotDone:
    return NotDone("update", f"{path.name} is damaged or was tampered with: {why}", _NEXT)


if __name__ == "__main__":
    main()
