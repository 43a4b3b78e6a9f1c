"""Tells systemd that the daemon is ready, alive and stopping (sd_notify protocol); nothing without systemd."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

STATUS_EVERY_S = 5.0
"""The line that `systemctl status` shows is renewed at most this often."""


class Notifier:
    """A non-blocking datagram to `$NOTIFY_SOCKET`; a full or missing socket is ignored, control goes first."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self._status = ""
        self._next_status_mono_s = float("-inf")

    def alive(self, status: Callable[[], str], mono_s: float) -> None:
        """A whole tick ended: feeds the watchdog, and now and then tells what the site does."""
        message = "WATCHDOG=1"
        if self._socket is not None and mono_s >= self._next_status_mono_s:
            self._next_status_mono_s = mono_s + STATUS_EVERY_S
            if (text := status()) != self._status:
                self._status = text
                message += f"\nSTATUS={text}"
        self.send(message)

    def send(self, message: str) -> None:
        """Sends e.g. `READY=1`, `WATCHDOG=1`, `STATUS=...`."""
        if self._socket is None:
            return
        # A leading @ names a socket in the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(message.encode(), address)
        except OSError:
            return
