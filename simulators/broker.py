"""A real MQTT 5 broker as a child process on a loopback port: mosquitto where there is one, else rumqttd."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from simulators.leash import Child

START_TIMEOUT_S = 10.0
MAX_PACKET_BYTES = 4 * 1024 * 1024
"""Above the contract's 1 MiB, so that a document that is too large reaches the agent and is refused there."""

_MOSQUITTO_CONF = """\
listener {port} 127.0.0.1
allow_anonymous true
max_packet_size {max_packet}
max_queued_messages 10000
log_dest stderr
log_type error
log_type warning
"""
_MOSQUITTO_KEEPS = """\
persistence true
persistence_location {data}/
autosave_on_changes true
autosave_interval 1
"""
# Started by root, mosquitto 2 becomes the user "mosquitto", who may not write to our folder, unless told so.
_MOSQUITTO_AS_ROOT = "user root\n"

_RUMQTTD_TOML = """\
id = 0

[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "loopback"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = {max_packet}
max_inflight_count = 200
dynamic_filters = true
"""


class BrokerKind(StrEnum):
    """MOSQUITTO keeps sessions and retained messages over a kill; EMBEDDED (rumqttd from pip) forgets them.

    Seen of rumqttd (iotcore 0.4.0): a session that subscribes again is not sent retained messages again,
    Receive Maximum and Maximum Packet Size are ignored, a session taken over ends without a reason code.
    """

    MOSQUITTO = "mosquitto"
    EMBEDDED = "embedded"


class BrokerError(Exception):
    """There is no broker to start, or it did not come up; the text says what to do."""


def find_mosquitto() -> str | None:
    """The path of the mosquitto server, or None; Debian has it in /usr/sbin, not on a user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def available_kinds() -> list[BrokerKind]:
    """The kinds that can be started on this machine, the preferred one first."""
    kinds = [BrokerKind.MOSQUITTO] if find_mosquitto() else []
    if importlib.util.find_spec("iotcore"):
        kinds.append(BrokerKind.EMBEDDED)
    return kinds


def chosen_kind() -> BrokerKind:
    """The kind that `EMS_DEMO_BROKER` names, else the preferred one; BrokerError when it is not there."""
    kinds = available_kinds()
    wanted = os.environ.get("EMS_DEMO_BROKER", "")
    if wanted and wanted not in tuple(BrokerKind):
        raise BrokerError(f"EMS_DEMO_BROKER is {wanted!r}; use one of: {', '.join(BrokerKind)}")
    if not kinds or (wanted and wanted not in kinds):
        missing = f"the broker {wanted!r} is not installed" if wanted else "no MQTT broker is installed"
        raise BrokerError(f"{missing}; run 'apt-get install mosquitto', or 'pip install iotcore' without root")
    return BrokerKind(wanted) if wanted else kinds[0]


def free_port() -> int:
    """A loopback TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Broker:
    """One broker on one loopback port, which it keeps when it is killed and started again."""

    def __init__(self, kind: BrokerKind | None = None, folder: Path | None = None, *, in_memory: bool = False) -> None:
        """Nothing runs yet; `folder` (default: a new temporary one) holds configuration, sessions and log.

        With `in_memory` mosquitto forgets all at its end, and does not write its whole state at every change.
        """
        self._in_memory = in_memory
        self.kind = chosen_kind() if kind is None else kind
        self.port = free_port()
        self._own_folder = None if folder is not None else tempfile.TemporaryDirectory(prefix="ems-broker-")
        self.folder = folder or Path(self._own_folder.name if self._own_folder else "")
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id, None when it was never started."""
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.exit_code is None

    def start(self) -> None:
        """Start it (again) and return when it accepts connections; BrokerError with its log if it does not."""
        assert not self.running, "the broker runs already"
        log = self.folder / "broker.log"
        self._child = Child(self._command(), log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _accepts(self.port):
            if self._child.exit_code is not None or time.monotonic() > deadline:
                self._child.stop()
                said = log.read_text(errors="replace")[-1000:]
                raise BrokerError(f"{self.kind} did not start on port {self.port}; it said: {said or 'nothing'}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: what a power cut at the cloud looks like."""
        assert self._child is not None, "the broker was never started"
        self._child.kill()

    def stop(self) -> None:
        """End it and remove its own temporary folder. May be called again."""
        if self._child is not None:
            self._child.stop()
        if self._own_folder is not None:
            self._own_folder.cleanup()

    def _command(self) -> list[str]:
        if self.kind is BrokerKind.MOSQUITTO:
            path = find_mosquitto()
            assert path is not None, "chosen_kind() found it"
            conf = _MOSQUITTO_CONF.format(port=self.port, max_packet=MAX_PACKET_BYTES)
            if not self._in_memory:
                conf += _MOSQUITTO_KEEPS.format(data=self.folder)
            conf_path = self.folder / "mosquitto.conf"
            conf_path.write_text(conf + (_MOSQUITTO_AS_ROOT if os.geteuid() == 0 else ""))
            return [path, "-c", str(conf_path)]
        toml_path = self.folder / "rumqttd.toml"
        toml_path.write_text(_RUMQTTD_TOML.format(port=self.port, max_packet=MAX_PACKET_BYTES))
        # rumqttd writes ERROR records for ordinary packets, hence CRITICAL.
        return [sys.executable, "-m", "iotcore", "--config", str(toml_path), "--log-level", "CRITICAL"]


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return True
    except OSError:
        return False
