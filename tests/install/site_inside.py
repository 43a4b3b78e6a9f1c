"""The simulated site, the broker and the agent's site file on the test machine, and what can be asked of them."""

import json
import shutil
import sysconfig
from datetime import UTC, datetime
from pathlib import Path

SITE = "test-01"
BATTERY_PORT, GATEWAY_PORT = 15020, 15021
SIMULATOR = "/opt/simulator"
"""Python with the simulators and what they need: not part of what is installed."""
TRUTH = "/var/log/simulator.jsonl"

SIMULATOR_FILE = f"""\
[battery]
capacity_wh = 1000000
[pv]
peak_w = 100000
performance_ratio = 1.0
irradiance_w_per_m2 = [500.0]
[load]
base_w = 30000
day_shape = [1.0]
noise_pct = 0.0
[modbus]
battery_port = {BATTERY_PORT}
gateway_port = {GATEWAY_PORT}
"""

SITE_FILE = f"""\
schema = 1
[site]
id = "{SITE}"
[connection_point]
meter = "grid-meter"
export_limit = "600 kW"
import_limit = "600 kW"
load = true
[[device]]
id = "bess"
role = "battery"
url = "tcp://127.0.0.1:{BATTERY_PORT}"
unit_id = 1
rated_power = "500 kW"
dead_man = "30 s"
[[device]]
id = "pv"
role = "pv"
url = "tcp://127.0.0.1:{GATEWAY_PORT}"
unit_id = 2
[[device]]
id = "grid-meter"
role = "meter"
url = "tcp://127.0.0.1:{GATEWAY_PORT}"
unit_id = 3
positive = "export"
[cloud]
broker = "mqtt://127.0.0.1:1883"
frame = "5 s"
"""

SIMULATOR_UNIT = f"""\
[Unit]
Description=Simulated battery, PV, load and meter
[Service]
ExecStart=/usr/bin/python3 -m simulators.site --config /etc/simulator.toml --truth-every 0.5
Environment=PYTHONPATH={SIMULATOR}/packages
StandardOutput=append:{TRUTH}
Restart=always
[Install]
WantedBy=multi-user.target
"""

REPOSITORY = Path(__file__).parents[2]
OURS = ("agent", "drivers", "simulators")
NOT_NEEDED = ("mypy", "mypyc", "hypothesis", "ruff", "iotcore*", "pip*", "_pytest", "pytest*", "__editable__*", "*.pth")


def put_python(root, folder):
    """Lays a Python with all our code and libraries into the machine's disk at `folder`."""
    kept = root / folder.lstrip("/") / "packages"
    skipped = shutil.ignore_patterns("__pycache__", "tests", *NOT_NEEDED)
    shutil.copytree(sysconfig.get_path("purelib"), kept, ignore=skipped)
    for name in OURS:
        shutil.copytree(REPOSITORY / name, kept / name, ignore=shutil.ignore_patterns("__pycache__"))
    return kept


def put_simulator(root):
    """Lays the simulated site into the machine's disk: what a battery site has beside its gateway."""
    put_python(root, SIMULATOR)
    (root / "etc/simulator.toml").write_text(SIMULATOR_FILE)
    (root / "etc/systemd/system/simulator.service").write_text(SIMULATOR_UNIT)


def plan(version, power_kw, at_utc_s):
    """A plan that holds the battery at one power for a day from now on."""
    content = {
        "schema": "1.0",
        "site_id": SITE,
        "kind": "rolling",
        "version": version,
        "issued_at": datetime.fromtimestamp(at_utc_s, UTC).isoformat(),
        "start": datetime.fromtimestamp(at_utc_s // 1800 * 1800, UTC).isoformat(),
        "slot_s": 1800,
        "unit": "kW",
        "positive": "export",
        "target": "battery",
        "power": [power_kw] * 48,
    }
    return json.dumps(content)


def truth(root):
    """What the simulated plant did last; None while it has done nothing."""
    file = root / TRUTH.lstrip("/")
    lines = file.read_text().splitlines() if file.exists() else []
    found = json.loads(lines[-1]) if lines else {}
    return found if "battery_w" in found else None
