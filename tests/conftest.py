"""For all tests: properties are judged by what they find, never by how long a busy machine takes; and a real broker.

`mosquitto()` makes a broker on a free loopback port, to be started, killed and started.
"""

import shutil
import signal
import socket
import subprocess
import time

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

DEADLINE_S = 10.0
CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {directory}/
autosave_on_changes true
autosave_interval 1
max_queued_messages 10000
user root
"""


class Mosquitto:
    """One broker: keeps its port and its disk over kill -9."""

    def __init__(self, binary, directory, config=CONFIG):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._config = directory / "mosquitto.conf"
        self._config.write_text(config.format(port=self.port, directory=directory))
        self._log = directory / "mosquitto.log"
        self._binary = binary
        self._process = None

    def start(self):
        """Returns once it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._binary, "-c", str(self._config)], stderr=log, stdout=log)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, "the broker does not answer"
                time.sleep(0.01)

    def kill(self):
        """As a power cut does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def terminate(self):
        """As a restart for maintenance does: sessions and queued messages are saved."""
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self.kill()


def _brokers(new_directory):
    """A factory of brokers, which are all gone after it."""
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    assert binary, "the tests need the broker mosquitto: sudo apt-get install mosquitto"
    brokers = []

    def make(config=CONFIG):
        brokers.append(Mosquitto(binary, new_directory("mosquitto"), config))
        return brokers[-1].start()

    yield make
    for broker in brokers:
        broker.stop()


@pytest.fixture
def mosquitto(tmp_path_factory):
    """A factory of brokers; all of them are gone after the test."""
    yield from _brokers(tmp_path_factory.mktemp)


@pytest.fixture(scope="module")
def module_mosquitto(tmp_path_factory):
    """A factory of brokers that live as long as the module's tests."""
    yield from _brokers(tmp_path_factory.mktemp)
