"""Passwords, keys and certificates on disk: where they are, and whether others could read what only we may."""

from __future__ import annotations

import os
import stat
from pathlib import Path

CREDENTIAL = "credential:"
"""Before the name of a systemd credential (LoadCredential= of the unit)."""
MAX_BYTES = 256 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class UnusableFile(Exception):  # noqa: N818 - an expected outcome, named for what happened
    """A file cannot be used; the text says which, why, and what to do."""


def path_of(name: str) -> Path:
    """Where a file of the site file is: a path, or a credential that systemd gave this service."""
    if not name.startswith(CREDENTIAL):
        return Path(name)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        text = "systemd gave this process no credentials; add LoadCredential= to the unit, or name a file"
        raise UnusableFile(f"{name}: {text}")
    return Path(folder) / name.removeprefix(CREDENTIAL)


def content_of(name: str, *, secret: bool) -> bytes:
    """What is in the file; raises `UnusableFile`. A secret one must be readable for its owner only."""
    path = path_of(name)
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            # The group's bits of a credential are the mask of its access list: systemd lets in this user alone.
            others = stat.S_IRWXO if name.startswith(CREDENTIAL) else _OTHERS
            if secret and mode & others:
                why = f"others than its owner may use it (mode {stat.S_IMODE(mode):04o})"
                raise UnusableFile(f"{path}: {why}; run: chmod 600 {path}")
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnusableFile(
            f"{path}: cannot be read: {error.strerror}; it must be there and readable for the agent's user"
        ) from error
    if len(content) > MAX_BYTES:
        raise UnusableFile(f"{path}: is larger than {MAX_BYTES // 1024} kB: it is not the file that was meant")
    return content


def password_in(name: str) -> str:
    """The one line in the file, without its end; raises `UnusableFile`."""
    content = content_of(name, secret=True)
    try:
        password = content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        password = ""
    if not password or any(not c.isprintable() for c in password):
        raise UnusableFile(f"{path_of(name)}: one line of text is wanted: the password")
    return password
