"""Other gateways at the same work: `python -m tests.benchmarks.peers [--seconds 40]`, or `make bench PEERS=1`.

ThingsBoard Gateway from the Python index and Node-RED from the npm registry, each installed into a folder of its own under
build/peers (once). Each polls ten devices of four blocks of 50 registers each second and publishes what it reads to a real
broker, as the daemon does in `poll_cost`, whose bare script runs beside them as the measure. What cannot be installed or
does not poll is left out, with the reason. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulators.broker import Broker
from tests.benchmarks.daemon_cost import ROOT, SETTLE_S, cpu_s, resident_mb, script
from tests.benchmarks.figures import Figure, part
from tests.benchmarks.poll_cost import BARE, Devices, punctuality

HOME = ROOT / "build" / "peers"
INSTALL_WITHIN_S = 600.0
POLLS_WITHIN_S = 90.0
"""Some install more at their first start."""
BLOCKS = range(0, 400, 100)


class Unavailable(Exception):  # noqa: N818  # a finding, not a fault
    """It cannot be measured here; the text says why."""


def installed(command: list[str], what: Path) -> None:
    """Returns when `what` is there; Unavailable with the last line of what the installer said."""
    if what.exists():
        return
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if done.returncode or not what.exists():
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        why = next((line for line in said if "failed" in line or "ERR" in line or "No matching" in line), said[-1])
        raise Unavailable(f"installing it failed: {why[:200]}")


def thingsboard(folder: Path, ports: list[int], broker: str) -> tuple[list[str], dict[str, str]]:
    """How ThingsBoard Gateway is started, and its environment."""
    home = HOME / "thingsboard"
    if not home.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    gateway = home / "bin" / "thingsboard-gateway"
    # Its Modbus connector asks for this pymodbus itself, at its first start.
    installed([str(home / "bin" / "pip"), "install", "-q", "thingsboard-gateway", "pymodbus==3.9.2"], gateway)
    slaves = [
        {
            "name": f"d{at}", "host": "127.0.0.1", "port": port, "type": "tcp", "method": "socket", "timeout": 3,
            "byteOrder": "BIG", "wordOrder": "BIG", "retries": False, "retryOnEmpty": False, "retryOnInvalid": False,
            "pollPeriod": 1000, "unitId": 1, "deviceName": f"d{at}", "deviceType": "bench", "reportStrategy":
            {"type": "ON_RECEIVED"}, "connectAttemptTimeMs": 1000, "connectAttemptCount": 5,
            "waitAfterFailedAttemptsMs": 1000, "attributes": [], "attributeUpdates": [], "rpc": [],
            "timeseries": [{"tag": f"b{block}", "type": "bytes", "functionCode": 3, "objectsCount": 50,
                            "address": block} for block in BLOCKS],
        }
        for at, port in enumerate(ports)
    ]  # fmt: skip
    address = urllib.parse.urlparse(broker)
    general = {
        "thingsboard": {
            "host": address.hostname, "port": address.port, "remoteShell": False, "remoteConfiguration": False,
            "statistics": {"enable": False}, "security": {"type": "accessToken", "accessToken": "bench"},
            "checkConnectorsConfigurationInSeconds": 60,
        },
        "storage": {"type": "memory", "read_records_count": 100, "max_records_count": 100_000},
        "connectors": [{"name": "modbus", "type": "modbus", "configuration": "modbus.json"}],
    }  # fmt: skip
    (folder / "tb_gateway.json").write_text(json.dumps(general))
    (folder / "modbus.json").write_text(
        json.dumps({"name": "modbus", "logLevel": "ERROR", "master": {"slaves": slaves}})
    )
    logs = {
        "version": 1, "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler", "level": "ERROR"}},
        "root": {"level": "ERROR", "handlers": ["console"]},
    }  # fmt: skip
    (folder / "logs.json").write_text(json.dumps(logs))
    return [str(gateway)], {"TB_GW_CONFIG_DIR": f"{folder}/", "TB_GW_LOGS_PATH": str(folder)}


NODE = """
const line = new ModbusRTU();
const ask = async () => {
    try {
        if (!line.isOpen) { await line.connectTCP("127.0.0.1", {port: PORT}); line.setID(1); line.setTimeout(1000); }
        for (const at of [0, 100, 200, 300]) {
            const seen = await line.readHoldingRegisters(at, 50);
            node.send({topic: "bench", payload: {port: PORT, at: at, data: seen.data}});
        }
    } catch (error) { node.error(error.message); }
};
context.set("beat", setInterval(ask, 1000));
"""


def node_red(folder: Path, ports: list[int], broker: str) -> tuple[list[str], dict[str, str]]:
    """How Node-RED is started, and its environment: a function node on modbus-serial per device, one MQTT node."""
    if shutil.which("npm") is None:
        raise Unavailable("npm is not installed")
    home = HOME / "node-red"
    home.mkdir(parents=True, exist_ok=True)
    modules, packages = home / "node_modules", ["node-red", "modbus-serial"]
    installed(
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), *packages], modules / "modbus-serial"
    )
    address = urllib.parse.urlparse(broker)
    nodes: list[dict[str, Any]] = [
        {"id": "tab", "type": "tab", "label": "bench"},
        {"id": "broker", "type": "mqtt-broker", "broker": address.hostname, "port": str(address.port),
         "clientid": "", "autoConnect": True, "protocolVersion": "5", "keepalive": "60", "cleansession": True},
        {"id": "out", "type": "mqtt out", "z": "tab", "topic": "bench", "qos": "1", "broker": "broker", "wires": []},
    ]  # fmt: skip
    library = [{"var": "ModbusRTU", "module": "modbus-serial"}]
    nodes += [
        {"id": f"f{port}", "type": "function", "z": "tab", "func": "return msg;", "outputs": 1, "noerr": 0,
         "initialize": NODE.replace("PORT", str(port)), "finalize": "", "libs": library, "wires": [["out"]]}
        for port in ports
    ]  # fmt: skip
    (folder / "flows.json").write_text(json.dumps(nodes))
    (folder / "node_modules").symlink_to(modules)
    (folder / "package.json").write_text(json.dumps({"name": "bench", "dependencies": {"modbus-serial": "*"}}))
    (folder / "settings.js").write_text(
        "module.exports = {flowFile: 'flows.json', uiHost: '127.0.0.1', httpAdminRoot: false, httpNodeRoot: false, "
        "functionExternalModules: true, logging: {console: {level: 'error'}}};"
    )
    start = modules / "node-red" / "red.js"
    return ["node", str(start), "-u", str(folder), "-s", str(folder / "settings.js"), "-p", "0"], {}


PEERS: dict[str, Callable[[Path, list[int], str], tuple[list[str], dict[str, str]]]] = {
    "ThingsBoard Gateway": thingsboard,
    "Node-RED": node_red,
}


def family(pid: int) -> list[int]:
    """The process and all that it started."""
    found = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == pid:
                found += family(int(entry.name))
    return found


def one(name: str, folder: Path, devices: Devices, broker: str, seconds: int) -> dict[str, Any]:
    """What one peer takes; Unavailable when it cannot be had or does not poll."""
    command, own = PEERS[name](folder, devices.ports, broker)
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
    )
    try:
        devices.report()
        end_s = time.monotonic() + POLLS_WITHIN_S
        while min(map(len, devices.report())) == 0:
            if time.monotonic() > end_s or process.poll() is not None:
                said = (folder / "log").read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise Unavailable(f"it does not poll all devices: {said[-1][:200]}")
            time.sleep(3.0)
        time.sleep(SETTLE_S)
        devices.report()
        pids = family(process.pid)
        before_s, began_s = sum(map(cpu_s, pids)), time.monotonic()
        time.sleep(seconds)
        took_s, used_s = time.monotonic() - began_s, sum(map(cpu_s, pids)) - before_s
        polls = devices.report()
        return {
            "cpu_pct": round(100 * used_s / took_s, 2),
            "resident_mb": round(sum(map(resident_mb, pids)), 1),
            **punctuality(polls, took_s, list(range(len(polls)))),
        }
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def measure(seconds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """What each peer takes, or why it is missing; and the bare script."""
    found: dict[str, Any] = {}
    devices = Devices()
    try:
        for name in PEERS:
            say(f"    {name}")
            with tempfile.TemporaryDirectory() as folder, Broker() as broker:
                try:
                    found[name] = one(name, Path(folder), devices, broker.url, seconds)
                except Unavailable as why:
                    found[name] = {"missing": str(why)}
                    say(f"    {name}: left out: {why}")
        with script(BARE, *devices.ports) as bare:
            try:
                time.sleep(SETTLE_S)
                before_s, began_s = cpu_s(bare.pid), time.monotonic()
                time.sleep(seconds)
                found["bare_cpu_pct"] = round(100 * (cpu_s(bare.pid) - before_s) / (time.monotonic() - began_s), 3)
                found["bare_resident_mb"] = round(resident_mb(bare.pid), 1)
            finally:
                bare.kill()
    finally:
        devices.stop()
    return found


def measured(say: Callable[[str], None]) -> dict[str, Any]:
    """The part of `make bench`; its ratios are not of the agent, so that the gate does not look at them."""
    raw = measure(40, say)
    figures, notes, does = [], [], "a bare pymodbus script that asks the same"
    for name in PEERS:
        seen = raw[name]
        if "missing" in seen:
            notes.append(f"{name} is left out: {seen['missing']}")
            continue
        key = f"peers.{name.lower().replace(' ', '-')}"
        figures += [
            Figure(f"{key}.cpu", f"{name}, polling and publishing the same", seen["cpu_pct"], "% of a core", raw["bare_cpu_pct"], does),
            Figure(f"{key}.memory", "its memory", seen["resident_mb"], "MB", raw["bare_resident_mb"], does),
            Figure(f"{key}.deviation", "how far its period is from 1 s, p99", seen["deviation_p99_ms"], "ms"),
        ]  # fmt: skip
    return part("python -m tests.benchmarks.peers", figures, raw, notes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=40)
    options = parser.parse_args()
    print(json.dumps(measure(options.seconds, lambda text: print(text, file=sys.stderr, flush=True)), indent=2))
