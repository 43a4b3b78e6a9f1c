"""The daemon as a process: what feeds its watchdog, where it can be reached, what others may read of it."""

import os
import re
import signal
import socket
import stat
import time
from pathlib import Path

import pytest
from integration_site import document, near, until
from integration_ticks import Ticks

SECRET = "canary-7f3a-broker-password"
OTHERS = stat.S_IRWXO


@pytest.fixture
def ticks():
    heard = Ticks()
    yield heard
    heard.close()


def test_a_process_that_stands_still_feeds_no_watchdog_and_a_whole_tick_does(parts, ticks):
    plant = parts.plant()
    agent = parts.agent(plant)
    agent.environment = ticks.environment
    agent.start()
    heard = len(until(lambda: ticks.utc_s, "the watchdog is fed"))
    until(lambda: len(ticks.utc_s) > heard + 3, "with each tick")
    agent.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: state(agent.process.pid) == "T", "it stands still")
    time_passes = until(lambda: len(ticks.utc_s), "what was sent is heard")
    until(lambda: time.monotonic() - stopped > 1.5, "more than seven ticks")
    assert len(ticks.utc_s) <= time_passes + 1, "no thread of its own feeds it"
    agent.process.send_signal(signal.SIGCONT)
    until(lambda: len(ticks.utc_s) > time_passes + 3, "it goes on")


def state(pid):
    """The kernel's letter for what a process does."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def site_at_work(parts, mosquitto):
    """A site whose agent does all that it does: polls, publishes, answers on its socket."""
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker).start()
    cloud.send(document(1, [40.0] * 600))
    cloud.ack(1, "active")
    until(lambda: near(plant.battery_w, 40_000.0), "it is at work")
    return agent


def listening(pid):
    """The sockets of this process that wait for connections or datagrams from a network, as the kernel lists them."""
    mine = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    inodes = {found[1] for link in mine if (found := re.fullmatch(r"socket:\[(\d+)\]", link))}
    found = []
    for kind, waits in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"), ("raw", "07"), ("raw6", "07")):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == waits and fields[9] in inodes:
                found.append((kind, fields[1]))
    return found


def test_the_daemon_listens_on_no_network_port(parts, mosquitto):
    agent = site_at_work(parts, mosquitto)
    assert listening(agent.process.pid) == []


def test_a_port_that_is_listened_on_would_be_found():
    with socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        assert {kind for kind, _ in listening(os.getpid())} == {"tcp", "udp"}


def test_nothing_it_keeps_is_for_others(parts, mosquitto):
    agent = site_at_work(parts, mosquitto)
    store = agent.folder / "store"
    meant_for_others = {store / "metrics", store / "metrics" / "ems.prom"}  # of a monitoring agent
    kept = {store, *store.rglob("*")} - meant_for_others
    assert [path.name for path in kept if path.lstat().st_mode & OTHERS] == []
    assert {path.name for path in store.iterdir()} >= {"control.db", "telemetry.db", "agent.lock"}
    assert not agent.socket.stat().st_mode & OTHERS


def test_a_secret_of_the_site_is_neither_in_the_log_nor_in_arguments_nor_in_the_environment(parts, mosquitto):
    broker, plant = mosquitto(), parts.plant()
    agent = parts.agent(plant, broker)
    secret = agent.folder / "password"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    text = agent.file.read_text()
    agent.file.write_text(text.replace("[cloud]", f'[cloud]\nuser = "site"\npassword_file = "{secret}"'))
    agent.start()
    until(lambda: agent.status()["cloud"]["connected"], "it uses the password")
    broker.kill()
    until(lambda: not agent.status()["cloud"]["connected"], "and meets an error")
    told = agent.ask("status"), agent.ask("events", limit=500), agent.ask("explain")
    pid = agent.process.pid
    seen = {name: Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")}
    agent.terminate()
    seen |= {"log": agent.log.read_bytes(), "socket": repr(told).encode()}
    seen |= {path.name: path.read_bytes() for path in (agent.folder / "store").rglob("*") if path.is_file()}
    assert [name for name, data in seen.items() if SECRET.encode() in data] == []
    assert b"started" in seen["log"], "there was a log to look at"
