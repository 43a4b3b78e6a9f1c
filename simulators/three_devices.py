"""The part of a site file that every simulated site shares: connection point, battery, PV inverter and meter."""

from __future__ import annotations

from typing import Final

THREE_DEVICES: Final = """\
[connection_point]
meter = "grid-meter"
export_limit = "{export_kw:g} kW"
import_limit = "{import_kw:g} kW"
load = true

[[device]]
id = "bess"
role = "battery"
url = "tcp://127.0.0.1:{battery_port}"
unit_id = 1
poll = "{poll_ms} ms"
rated_power = "{rated_kw:g} kW"
soc_min = "5 %"
soc_max = "95 %"
dead_man = "{dead_man_s} s"
{battery_options}
[[device]]
id = "pv"
role = "pv"
url = "tcp://127.0.0.1:{gateway_port}"
unit_id = 2
poll = "{poll_ms} ms"
{pv_options}
[[device]]
id = "grid-meter"
role = "meter"
url = "tcp://127.0.0.1:{gateway_port}"
unit_id = 3
poll = "{poll_ms} ms"
positive = "export"
"""
"""To be formatted; options are whole lines, or ""."""
