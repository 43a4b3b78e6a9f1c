"""One device made from a profile, with the plant behind it, in a thread of its own; and a site file that names it."""

import asyncio
import threading
from dataclasses import replace

from integration_site import DEADLINE_S

from simulators.profile_site import HOUSE, ProfileSite

SITE_FILE = """\
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
[store]
directory = "{state}"
[api]
socket = "{folder}/ems.sock"
"""


class ProfilePlant:
    """The device; faults may be set from here at any time."""

    def __init__(self, profile):
        self._loop = asyncio.new_event_loop()
        quick = replace(HOUSE, battery=replace(HOUSE.battery, lag_s=0.02))
        self.site = ProfileSite(profile, config=quick)
        self._thread = threading.Thread(target=self._loop.run_forever, name="device")
        self._thread.start()
        self._call(self.site.__aenter__())
        self.faults = self.site.server.faults[1]
        self.battery_port = self.gateway_port = self.site.port

    @property
    def battery_w(self):
        return self.do(lambda: self.site.plant.battery_w)

    def do(self, action):
        """What `action` returns, in the device's own thread and at its present."""

        async def now():
            self.site.advance_to_now()
            return action()

        return self._call(now())

    def close(self):
        self._call(self.site.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)
