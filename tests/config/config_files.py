"""The example site files, and the one that documents every key with all of its options switched on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "config"
EXAMPLES = sorted(FOLDER.glob("*.toml"))
TEXT = (FOLDER / "site.example.toml").read_text()
OPTION = re.compile(r"^# (?=[a-z_]+ = |\[)", re.MULTILINE)
FULL = OPTION.sub("", TEXT).replace("mqtt://127.0.0.1:1883", "wss://broker.example/mqtt")
"""Every key in force; the options of TLS and of the WebSocket need a broker that is reached so."""


def full():
    return tomllib.loads(FULL)
