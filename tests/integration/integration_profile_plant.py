"""One device made from a profile, with the plant behind it, in a thread of its own; and a site file that names it."""

from dataclasses import replace

from integration_site import TAIL

from simulators.profile_site import HOUSE, ProfileSite
from tests.in_thread import SiteInThread

SITE_FILE = (
    """\
schema = 1
[site]
id = "{site}"
[control]
tick = "200 ms"
[connection_point]
export_limit = "10 kW"
import_limit = "10 kW"
[[device]]
id = "bess"
role = "battery"
profile = "{profile}"
url = "tcp://127.0.0.1:{battery_port}"
poll = "200 ms"
timeout = "1 s"
rated_power = "5 kW"
dead_man = "{dead_man}"
"""
    + TAIL
)


class ProfilePlant(SiteInThread):
    """The device; faults may be set from here at any time."""

    def __init__(self, profile):
        super().__init__(ProfileSite(profile, config=replace(HOUSE, battery=replace(HOUSE.battery, lag_s=0.02))))
        self.faults = self.site.server.faults[1]
        self.battery_port = self.gateway_port = self.site.port

    @property
    def battery_w(self):
        return self.do(lambda: self.site.plant.battery_w)
