"""A whole site on this machine for end-to-end tests: plant in a thread, agent as a process, a counting cloud.

Everything waits on conditions with a deadline; `until` is the one place that polls.
"""

import base64
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from simulators.battery import BatteryConfig
from simulators.cloud_messages import column_values, read_message
from simulators.plant import GridConfig, LoadConfig, PvConfig
from simulators.site import SimulatedSite
from simulators.site_config import SiteConfig
from tests.in_thread import SiteInThread

SITE = "test-01"
PREFIX = f"ems/v1/{SITE}/"
DEADLINE_S = 20.0
TICK_S = 0.2
STILL = SiteConfig(
    battery=BatteryConfig(capacity_wh=100_000.0, lag_s=0.02),
    pv=PvConfig(peak_w=100_000.0, performance_ratio=1.0, irradiance_w_per_m2=(500.0,)),
    load=LoadConfig(base_w=30_000.0, day_shape=(1.0,), noise_pct=0.0),
    grid=GridConfig(noise_hz=0.0),
)
"""50 kW of PV and 30 kW of load at all times, so that every number is known beforehand."""

HEAD = """\
schema = 1
[site]
id = "{site}"
[control]
tick = "200 ms"
[connection_point]
meter = "grid-meter"
export_limit = "600 kW"
import_limit = "600 kW"
"""
BATTERY = """\
[[device]]
id = "bess"
role = "battery"
url = "tcp://127.0.0.1:{battery_port}"
unit_id = 1
poll = "200 ms"
timeout = "{timeout}"
rated_power = "500 kW"
dead_man = "{dead_man}"
"""
METER = """\
[[device]]
id = "grid-meter"
role = "meter"
url = "tcp://127.0.0.1:{gateway_port}"
unit_id = 3
poll = "200 ms"
timeout = "{timeout}"
positive = "export"
"""
EASTRON = """\
[[device]]
id = "grid-meter"
role = "meter"
profile = "eastron-sdm630"
url = "{meter_url}"
unit_id = {meter_unit}
poll = "500 ms"
timeout = "1 s"
positive = "import"
"""
TAIL = """\
[store]
directory = "{state}"
[api]
socket = "{folder}/ems.sock"
"""
PV = """\
[[device]]
id = "pv"
role = "pv"
url = "tcp://127.0.0.1:{pv_port}"
unit_id = 2
poll = "200 ms"
timeout = "{timeout}"
"""
CLOUD = """\
[cloud]
broker = "{broker}"
confirm = "{confirm}"
frame = "1 s"
reconnect_max = "1 s"
resend_after = "2 s"
"""
PLANNING_SITE_FILE = HEAD + "load = true\n" + BATTERY + PV + METER + CLOUD + TAIL
"""Plans anew by itself, as every site does, once a plan has not been kept for a minute."""
SITE_FILE = PLANNING_SITE_FILE + "[replan]\nenabled = false\n"
"""Goes by what it is sent however long a test keeps it from its plan: on a busy machine that may be a minute."""


def until(condition, what, deadline_s=DEADLINE_S):
    """What the condition returned once it held; fails by name when it does not in time."""
    deadline = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.01)
    return found


def near(value, wanted, tolerance=2_000.0):
    return value is not None and abs(value - wanted) <= tolerance


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def iso(utc_s):
    return datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix(text):
    return datetime.fromisoformat(text).timestamp()


def slot_now(slot_s=1):
    return time.time() // slot_s * slot_s


def edge_ahead(slot_s=1, by_s=1.0):
    """The first slot edge that is at least `by_s` away: time enough for a plan to arrive."""
    return math.ceil((time.time() + by_s) / slot_s) * slot_s


def document(version, power_kw, *, start=None, slot_s=1, without=(), **changes):
    """A plan of this site, from the slot that runs now on if not told otherwise."""
    content = {
        "schema": "1.0",
        "site_id": SITE,
        "kind": "rolling",
        "version": version,
        "issued_at": iso(time.time()),
        "start": iso(slot_now(slot_s) if start is None else start),
        "slot_s": slot_s,
        "unit": "kW",
        "positive": "export",
        "target": "battery",
        "power": list(power_kw),
    }
    return json.dumps({key: value for key, value in (content | changes).items() if key not in without}).encode()


def award(award_id, power_kw, start, end, *, product="ce-fcr-offset", direction="both"):
    """One award of a document."""
    times = {"start": iso(start), "end": iso(end)}
    return {"id": award_id, "product": product, "power": power_kw, "direction": direction, **times}


def orders(kind, version, entries, **changes):
    """A document of awards, curtailments or outages of this site."""
    content = {"schema": "1.0", "site_id": SITE, "kind": kind, "version": version, "issued_at": iso(time.time())}
    unit = {} if kind == "outages" else {"unit": "kW"}
    return json.dumps({**content, **unit, kind: entries, **changes}).encode()


def command(type_, command_id, *, valid_s=60.0, without=(), issued=None, **params):
    """One command of this site; powers are kW toward the grid."""
    issued = time.time() if issued is None else issued
    if type_ == "set_power":
        params = {"target": "battery", "unit": "kW", "positive": "export"} | params
    if type_ == "narrow_limits":
        params = {"unit": "kW"} | params
    content = {"schema": "1.0", "site_id": SITE, "id": command_id, "type": type_, "issued_at": iso(issued)}
    content |= {"expires_at": iso(issued + valid_s), "params": params}
    return json.dumps({key: value for key, value in content.items() if key not in without}).encode()


class SitePlant(SiteInThread):
    """The simulated site in a thread of its own; faults may be set from here at any time."""

    def __init__(self, config=STILL):
        self.truths = {}
        """What was so at each whole second, by Unix time."""
        super().__init__(SimulatedSite(config, truth_every_s=1.0, on_truth=self._note))
        self.faults = self.site.faults
        self.battery_port, self.gateway_port = self.site.battery_port, self.site.gateway_port

    def truth(self):
        return self.do(self.site.truth)

    def _note(self, truth):
        self.truths[round(truth.utc_s)] = truth

    def net_wh(self, from_utc_s, to_utc_s):
        """Energy that truly went to the grid between two whole seconds."""
        begin, end = self.truths[from_utc_s], self.truths[to_utc_s]
        return end.export_wh - begin.export_wh - (end.import_wh - begin.import_wh)

    @property
    def battery_w(self):
        return self.truth().battery_w

    def shift_frequency(self, by_hz):
        """The grid's frequency is this far from nominal from now on."""
        self.do(lambda: setattr(self.site.plant, "frequency_shift_hz", by_hz))

    def raise_alarm(self, bits):
        """The battery's inverter tells these alarms (701.Alrm) from now on."""
        self.do(lambda: setattr(self.site.battery, "alarm_bits", bits))

    def reboot_battery(self):
        self.do(self.site.battery.reboot)

    def another_controller_writes(self, power_w):
        def write():
            self.site.battery.control.write({"WSet": power_w}, self.site.plant.utc_s)
            self.site.battery.apply_setpoint()

        self.do(write)

    @property
    def requests(self):
        """Modbus requests that the battery has had."""
        return self.site._battery_server.requests

    @property
    def control(self):
        """What clients have written to the battery."""
        return self.site.battery.control


class Agent:
    """The daemon as a process of its own, started and killed any number of times on one directory."""

    def __init__(self, folder, plant, *, broker="mqtt://127.0.0.1:1", text=SITE_FILE, **changes):
        values = {
            "site": SITE,
            "state": folder / "store",
            "folder": folder,
            "battery_port": plant.battery_port,
            "gateway_port": plant.gateway_port,
            "pv_port": plant.gateway_port,
            "broker": broker,
            "confirm": "watermark",
            "dead_man": "30 s",
            "timeout": "300 ms",
        }
        self.folder = folder
        self.file = folder / "site.toml"
        self.file.write_text(text.format(**(values | changes)))
        self.socket = folder / "ems.sock"
        self.log = folder / "agent.log"
        self.environment = {}
        """What the process has beside the environment of the tests."""
        self.program = [sys.executable, "-m", "agent.cli.main"]
        self.process = None

    def start(self):
        """Returns once it has decided something."""
        self.spawn()
        until(self._decides, "the agent decides")
        return self

    def spawn(self):
        """Returns at once."""
        with self.log.open("ab") as log:
            command = [*self.program, "run", "--config", str(self.file)]
            environment = {**os.environ, **self.environment}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def _decides(self):
        assert self.process.poll() is None, self.log.read_text()
        with suppress(OSError):
            return self.ask("status")["ok"]

    def ask(self, cmd, **params):
        """The daemon's whole reply to one request on its socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(DEADLINE_S)
            line.connect(str(self.socket))
            line.sendall(json.dumps({"cmd": cmd, **params}).encode() + b"\n")
            with line.makefile("rb") as replies:
                reply = replies.readline()
        if not reply:
            raise ConnectionResetError
        return json.loads(reply)

    def status(self):
        return self.ask("status")["result"]

    def device(self, device_id):
        return next(device for device in self.status()["devices"] if device["device_id"] == device_id)

    def conditions(self):
        return {(found["code"], found["subject"]) for found in self.status()["conditions"]}

    def events(self, code):
        """Events of this code, oldest first."""
        return [event for event in reversed(self.ask("events", limit=500)["result"]) if event["code"] == code]

    def told(self, code, subject, state="raised"):
        """Waits for the event."""

        def found():
            return [event for event in self.events(code) if (event["subject"], event["state"]) == (subject, state)]

        return until(found, f"{code} of {subject} is {state}")[0]

    def listed(self, device_id):
        """A device as `ems devices list` shows it."""
        return next(one for one in self.ask("devices")["result"] if one["device_id"] == device_id)

    def slots(self):
        """The ledger of the last minutes by start of slot."""
        rows = self.ask("slots", from_utc_s=time.time() - 300, to_utc_s=time.time())["result"]
        return {row["start_utc_s"]: row for row in rows}

    def awards(self):
        return self.ask("awards")["result"]

    def evidence(self, from_utc_s, to_utc_s):
        """The seconds of frequency response, by Unix time."""
        rows = self.ask("evidence", from_utc_s=from_utc_s, to_utc_s=to_utc_s)["result"]
        return {round(unix(row["time"])): row for row in rows}

    def import_plan(self, payload):
        """A technician brings a plan; it must be taken."""
        reply = self.ask("plan_import", document=base64.b64encode(payload).decode())
        assert reply["ok"], reply

    def kill(self):
        """As a power cut does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self, within_s=10.0):
        """The exit code after SIGTERM."""
        self.process.terminate()
        return self.process.wait(within_s)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()


class CountingCloud:
    """Hears everything the site says, counts it by (stream, sequence), says how far it has it, sends plans."""

    def __init__(self, broker, *, watermarks=True):
        self._watermarks = watermarks
        self.statuses, self.acks, self.events = [], [], []
        self.live, self.evidence, self.forecasts = [], [], []
        self.contents, self.conflicts = {}, []
        self._stored = {}
        self.times_seen = Counter()
        self._ready = threading.Event()
        self.paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "the-cloud", protocol=mqtt.MQTTv5)
        self.paho.reconnect_delay_set(0.1, 0.2)
        self.paho.on_connect = lambda client, *_: client.subscribe(PREFIX + "edge/#", qos=1)
        self.paho.on_subscribe = lambda *_: self._ready.set()
        self.paho.on_message = lambda _client, _data, message: self._arrived(message)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self.paho.connect("127.0.0.1", broker.port, keepalive=10, clean_start=False, properties=properties)
        self.paho.loop_start()
        assert self._ready.wait(DEADLINE_S)

    def _arrived(self, message):
        content = read_message(message.payload, SITE)
        kept = {"status": self.statuses, "ack": self.acks, "event": self.events, "evidence": self.evidence}
        kept["forecast"] = self.forecasts
        if content.get("seq") is None:
            kept["telemetry"] = self.live
        name = message.topic.removeprefix(PREFIX + "edge/")
        if content.get("seq") is not None:
            key = (content["stream"], content["seq"])
            self.times_seen[key] += 1
            if self.contents.setdefault(key, message.payload) != message.payload:
                self.conflicts.append(key)
            if self.times_seen[key] > 1:
                return
            if self._watermarks:
                self._say_stored(content["stream"])
        if name in kept:
            kept[name].append(content)

    def _say_stored(self, stream):
        highest = self._stored.get(stream, 0)
        while (stream, highest + 1) in self.contents:
            highest += 1
        self._stored[stream] = highest
        body = {"schema": "1.0", "site_id": SITE, "stored": self._stored}
        self.paho.publish(PREFIX + "cloud/watermark", json.dumps(body), qos=1, retain=True)

    def send(self, payload, kind="rolling"):
        """Publishes a plan; returns once the broker has it."""
        sent = self.paho.publish(PREFIX + f"cloud/plan/{kind}", payload, qos=1, retain=True)
        sent.wait_for_publish(DEADLINE_S)
        assert sent.is_published()

    def ack(self, version, stage, kind="rolling"):
        """Waits for the acknowledgement of this stage."""

        def found():
            wanted = (version, stage, kind)
            return next((a for a in list(self.acks) if (a["version"], a["stage"], a["kind"]) == wanted), None)

        return until(found, f"{kind} plan {version} is {stage}")

    def command(self, type_, command_id, *, valid_s=60.0, without=(), payload=None, **params):
        """Publishes a command; returns the instant at which that began."""
        body = payload or command(type_, command_id, valid_s=valid_s, without=without, **params)
        begun = time.monotonic()
        self.paho.publish(PREFIX + "cloud/command", body, qos=1)
        return begun

    def command_acks(self, command_id):
        """What the site said of a command, without courtesies, in order of sequence."""
        found = [a for a in list(self.acks) if a.get("id") == command_id and a["seq"] is not None]
        return sorted(found, key=lambda ack: ack["seq"])

    def command_ack(self, command_id, stage):
        """Waits for this stage of a command."""
        wanted = lambda: next((a for a in self.command_acks(command_id) if a["stage"] == stage), None)  # noqa: E731
        return until(wanted, f"command {command_id} is {stage}")

    @property
    def status(self):
        """The newest status."""
        return until(lambda: self.statuses, "a status")[-1]

    def seqs(self, stream):
        return sorted(seq for name, seq in list(self.contents) if name == stream)

    def complete_to(self, stream):
        have = set(self.seqs(stream))
        highest = 0
        while highest + 1 in have:
            highest += 1
        return highest

    def sample_times(self):
        """The instants of all samples, in order of the sequence that brought them."""
        frames = [
            read_message(self.contents[key], SITE)
            for key in sorted(key for key in list(self.contents) if key[0] == "telemetry")
        ]
        return [unix(f["start"]) + t / 1000 for f in frames for t in column_values(f["t_ms"])]

    def assert_complete(self):
        """No sequence missing on any stream, none with two contents, no instant twice, time only forward."""
        for stream in ("telemetry", "ack", "event", "ledger"):
            seqs = self.seqs(stream)
            assert seqs == list(range(1, len(seqs) + 1)), f"{stream} has gaps: {seqs}"
        assert self.conflicts == []
        times = self.sample_times()
        assert times == sorted(set(times))

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


def ems(*arguments, socket_path=None, timeout_s=30):
    """The `ems` command, its output into pipes."""
    environment = {**os.environ, "EMS_SOCKET": str(socket_path)} if socket_path else dict(os.environ)
    return subprocess.run(
        [sys.executable, "-m", "agent.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment,
        check=False,
    )
