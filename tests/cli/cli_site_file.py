"""The part of a site file in which commands are tried without a daemon: a battery alone, which nobody answers for."""

BATTERY_ALONE = """\
[connection_point]
export_limit = "500 kW"
import_limit = "500 kW"
[[device]]
id = "bess"
role = "battery"
url = "tcp://127.0.0.1:1"
unit_id = 1
rated_power = "500 kW"
dead_man = "30 s"
"""
