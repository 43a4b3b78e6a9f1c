"""The bundles that are installed: of this tree, in several versions, and one whose agent starts and moves no battery."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from machine import Failed

REPOSITORY = Path(__file__).parents[2]
TARGETS = {"bookworm": "debian12-x86-64", "trixie": "debian13-x86-64"}
TREE = ("agent", "drivers", "simulators", "bundle", "config", "docs", "systemd")
FILES = ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "requirements.lock")
HARM = (
    "agent/runtime/control.py",
    "outcome = await self.batteries[write.device_id].write_setpoint(write.power_w)",
    "return",
)
"""It starts, answers and ticks, and writes no setpoint."""
HEAVY = ("scipy-", "numpy-", "pip-")
"""Wheels that the simulated site does without."""


class Bundles:
    """Signed bundles for one Debian, built where they are first asked for."""

    def __init__(self, folder, suite):
        self._folder, self._target = folder, TARGETS[suite]
        self._key = folder / "signing-key.pem"
        self.public_key = folder / "key.pem"
        key = Ed25519PrivateKey.generate()
        encoding = serialization.Encoding.PEM
        self._key.write_bytes(
            key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        self.public_key.write_bytes(
            key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def of(self, version, *, broken=False):
        """The path of the archive."""
        path = self._folder / f"ems-agent-{version}.tar"
        if not path.exists():
            self._build(self._harmed() if broken else REPOSITORY, version)
        return path

    def tampered(self, version):
        """A bundle in which one byte of a wheel is another one."""
        whole = bytearray(self.of(version).read_bytes())
        whole[len(whole) // 2] ^= 1
        path = self._folder / f"tampered-{version}.tar"
        path.write_bytes(whole)
        return path

    def _build(self, tree, version):
        command = [sys.executable, "-m", "bundle.build", "--key", str(self._key), "--version", version]
        command += ["--target", self._target, "--out", str(self._folder), "--work", str(REPOSITORY / "build/wheels")]
        built = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
        if built.returncode != 0:
            raise Failed(f"make bundle: {built.stdout}{built.stderr}")

    def _harmed(self):
        tree = self._folder / "harmed"
        if not tree.exists():
            for name in TREE:
                shutil.copytree(REPOSITORY / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            for name in FILES:
                shutil.copy(REPOSITORY / name, tree / name)
            name, old, new = HARM
            text = (tree / name).read_text()
            if text.count(old) != 1:
                raise Failed(f"{name} reads otherwise now: mend HARM in {__file__}")
            (tree / name).write_text(text.replace(old, new))
        return tree


def lay_out(bundle, folder):
    """Puts the code and the libraries of a bundle into a folder, as they are imported from; nothing is installed."""
    with tarfile.open(bundle) as archive:
        for entry in archive:
            name = Path(entry.name).name
            if entry.name.endswith(".whl") and not name.startswith(HEAVY):
                with zipfile.ZipFile(BytesIO(archive.extractfile(entry).read())) as wheel:
                    wheel.extractall(folder)
