"""Both brokers as real processes: MQTT 5, retained messages, wills, sessions, killed and started again."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simcloud_mqtt import DEADLINE_S, Client

from simulators.broker import Broker, BrokerError, BrokerKind, available_kinds, chosen_kind
from simulators.leash import Child


@pytest.fixture(params=list(BrokerKind))
def broker(request):
    if request.param not in available_kinds():
        pytest.skip(f"{request.param} is not installed here")
    with Broker(request.param) as started:
        yield started


@pytest.fixture
def connect(broker):
    clients = []

    def make(client_id, **more):
        clients.append(Client(broker.port, client_id, **more))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_a_late_subscriber_gets_the_retained_message(connect):
    connect("sender").publish("a/plan", b"plan 1", retain=True)
    late = connect("late")
    late.subscribe("a/#")
    message = late.next()
    assert (message.topic, message.payload, message.retain) == ("a/plan", b"plan 1", True)


def test_a_packet_of_two_megabytes_passes(connect):
    """The agent must be able to receive, and refuse, what is beyond the contract's 1 MiB."""
    receiver = connect("receiver")
    receiver.subscribe("big")
    connect("sender").publish("big", b"[" * 2_100_000)
    assert len(receiver.next().payload) == 2_100_000


def test_the_will_is_published_when_a_connection_breaks(connect):
    watcher = connect("watcher")
    watcher.subscribe("edge/status")
    connect("edge", will=("edge/status", b"offline")).drop()
    assert watcher.next().payload == b"offline"


def test_a_session_keeps_what_was_sent_while_its_client_was_away(connect):
    first = connect("edge", clean_start=False)
    first.subscribe("plan")
    first.close()
    sender = connect("sender")
    for number in range(5):
        sender.publish("plan", b"%d" % number)
    again = connect("edge", clean_start=False)
    assert again.session_present
    assert [again.next().payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_clients_come_back_after_the_broker_was_killed_and_started_again(broker, connect):
    """Whether retained messages survive differs by kind; that a cloud can publish them again does not."""
    client = connect("edge", clean_start=False)
    client.subscribe("plan")
    client.publish("plan", b"before", retain=True)
    assert client.next().payload == b"before"
    if broker.kind is BrokerKind.MOSQUITTO:
        wait_until_saved(broker, b"before")
    port = broker.port
    broker.kill()
    client.expect("down")
    assert not broker.running
    broker.start()
    assert broker.port == port
    client.expect("up")
    assert client.session_present == (broker.kind is BrokerKind.MOSQUITTO)
    client.subscribe("plan")
    client.publish("plan", b"after", retain=True)
    seen = []
    while b"after" not in seen:
        seen.append(client.next().payload)
    assert (b"before" in seen) == (broker.kind is BrokerKind.MOSQUITTO)


def wait_until_saved(broker, payload):
    """Return when mosquitto has written `payload` to its disk; it does so by its own timer and does not tell."""
    database = broker.folder / "mosquitto.db"
    deadline = time.monotonic() + DEADLINE_S
    while not (database.exists() and payload in database.read_bytes()):
        assert time.monotonic() < deadline, "mosquitto saved nothing"
        time.sleep(0.02)


def test_a_stopped_broker_leaves_no_listener_and_no_folder(broker):
    broker.stop()
    broker.stop()
    assert not broker.folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", broker.port), timeout=1.0)


def test_an_unknown_broker_is_refused_with_the_names_that_are_known(monkeypatch):
    monkeypatch.setenv("EMS_DEMO_BROKER", "rabbit")
    with pytest.raises(BrokerError, match="mosquitto, embedded"):
        chosen_kind()


def test_a_port_that_is_taken_is_an_error_with_the_brokers_own_words():
    broker = Broker(available_kinds()[0])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", broker.port))
        with pytest.raises(BrokerError, match=f"did not start on port {broker.port}"):
            broker.start()
    broker.stop()


def test_a_child_dies_when_its_parent_is_killed(tmp_path):
    """Not even SIGKILL of the parent leaves an orphan."""
    program = (
        "import pathlib, sys, time\n"
        "from simulators.leash import Child\n"
        "sleeper = 'import time; print(1, flush=True); time.sleep(600)'\n"
        f"child = Child([sys.executable, '-c', sleeper], pathlib.Path({str(tmp_path)!r}) / 'log')\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    child_pid = int(parent.stdout.readline())
    deadline = time.monotonic() + DEADLINE_S
    while not (tmp_path / "log").read_bytes():  # until then it has not passed the leash
        assert time.monotonic() < deadline, "the child did not start"
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + DEADLINE_S
    while is_alive(child_pid):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.01)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_child_says_is_in_its_log(tmp_path):
    child = Child([sys.executable, "-c", "print('hello'); raise SystemExit(3)"], tmp_path / "log")
    deadline = time.monotonic() + DEADLINE_S
    while child.exit_code is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert child.exit_code == 3
    assert (tmp_path / "log").read_text() == "hello\n"
    child.stop()
