"""The archive itself: the same files give the same bytes, and MANIFEST lists every one with its SHA-256."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

MANIFEST, SIGNATURE, PUBLIC_KEY = "MANIFEST", "MANIFEST.sig", "signing-key.pem"
BUILT_AT_S = 1_577_836_800
"""2020-01-01: files carry no time of their own, so that the same inputs give the same bytes."""
EXECUTABLE_SUFFIX = ".sh"


class KeyRefusedError(Exception):
    """The key file cannot sign; the text says why."""


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file without password, as `openssl genpkey -algorithm ed25519` makes it."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyRefusedError(f"{path} is not a private key in PEM without password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyRefusedError(f"{path} is not an Ed25519 key; make one with: openssl genpkey -algorithm ed25519")
    return key


def public_pem(key: Ed25519PrivateKey) -> bytes:
    """Its public half, as PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def manifest_of(files: Mapping[str, bytes | Path]) -> bytes:
    """One line per file, as `sha256sum --check` reads it."""
    return "".join(f"{_sha256(files[name])}  {name}\n" for name in sorted(files)).encode()


def write_archive(path: Path, folder: str, files: Mapping[str, bytes | Path], key: Ed25519PrivateKey | None) -> None:
    """A tar at `path` with all files under `folder`: MANIFEST and its signature first, then the rest by name.

    Whoever reads it can thus check the signature before anything else, and each file as it comes.
    """
    listed = dict(files)
    if key is not None:
        listed[PUBLIC_KEY] = public_pem(key)
    manifest = manifest_of(listed)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, f"{folder}/{MANIFEST}", manifest)
        if key is not None:
            _add(archive, f"{folder}/{SIGNATURE}", key.sign(manifest))
        for name in sorted(listed):
            _add(archive, f"{folder}/{name}", listed[name])


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime = BUILT_AT_S
    entry.mode = 0o755 if name.endswith(EXECUTABLE_SUFFIX) else 0o644
    if isinstance(content, Path):
        entry.size = content.stat().st_size
        with content.open("rb") as stream:
            archive.addfile(entry, stream)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
