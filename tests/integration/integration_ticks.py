"""When each whole control tick of a daemon ended, as its watchdog would hear it: measured from outside, no seam in it."""

import socket
import threading
import time


class Ticks:
    """Stands in for systemd: `address` goes into $NOTIFY_SOCKET, `utc_s` has the arrival of each WATCHDOG=1."""

    def __init__(self):
        self.utc_s = []
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind("")  # the kernel gives a free name in the abstract namespace
        self._line.settimeout(0.1)
        self.environment = {"NOTIFY_SOCKET": "@" + self._line.getsockname()[1:].decode()}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="ticks")
        self._thread.start()

    def _listen(self):
        while not self._ending.is_set():
            try:
                said = self._line.recv(256)
            except TimeoutError:
                continue
            if b"WATCHDOG=1" in said:
                self.utc_s.append(time.time())

    def since(self, utc_s):
        return [at for at in list(self.utc_s) if at >= utc_s]

    def deviation_s(self, from_utc_s, to_utc_s, tick_s):
        """(p99, worst) distance of the ticks of a time from the beat they belong to, s."""
        ticks = [at for at in list(self.utc_s) if from_utc_s <= at < to_utc_s]
        off = sorted(abs(at - round(at / tick_s) * tick_s) for at in ticks)
        return (off[int(0.99 * (len(off) - 1))], off[-1]) if off else (float("inf"), float("inf"))

    def close(self):
        self._ending.set()
        self._thread.join()
        self._line.close()
