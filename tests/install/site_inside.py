"""The simulated site and the agent's site file on the test machine, and what can be asked of them."""

import json
from datetime import UTC, datetime

from bundles import lay_out

SITE = "test-01"
BATTERY_PORT, GATEWAY_PORT = 15020, 15021
SIMULATOR = "opt/simulator"
"""Not part of what is installed: the site goes on whatever happens to the agent."""
TRUTH = "var/log/simulator.jsonl"

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
"""50 kW of PV and 30 kW of load at all times."""

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
Environment=PYTHONPATH=/{SIMULATOR}
StandardOutput=append:/{TRUTH}
Restart=always
[Install]
WantedBy=multi-user.target
"""


def put_simulator(root, bundle):
    """Lays the simulated site into the machine's disk: what a battery site has beside its gateway."""
    lay_out(bundle, root / SIMULATOR)
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
    file = root / TRUTH
    lines = file.read_text().splitlines() if file.exists() else []
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:  # a line that is being written
        found = json.loads(lines[-2])
    return found if "battery_w" in found else None
