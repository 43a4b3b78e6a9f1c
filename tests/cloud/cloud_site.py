"""A site's cloud side as the app wires it, for tests."""

import asyncio
import time
from functools import partial

from cloud_documents import NOW, SITE

from agent.cloud.documents import DocumentDesk
from agent.cloud.frame import telemetry_frame
from agent.cloud.messages import Status, status_message
from agent.cloud.reconnect import LinkOptions
from agent.cloud.transport import Transport
from agent.cloud.uplink import Uplink, UplinkOptions
from agent.core.admission import PlanLimits, admit
from agent.core.plan import Plans
from agent.core.records import Outcome, Sample, Stage
from agent.site_file.broker_address import BrokerAddress

QUICK = LinkOptions(first_wait_s=0.05, longest_wait_s=0.1, spread_s=0.1, taken_over_wait_s=0.1)
LIMITS = PlanLimits(500e3, 500e3, 500e3, 500e3)


class EdgeSite:
    """Store, desk and uplink of one site, as the app wires them."""

    def __init__(self, store, broker, options, keys=None, transport=None):
        self.store = store
        self.plans = Plans()
        self.now = NOW
        self.commands = []
        self._samples = 0
        self.boot_id = f"{time.monotonic_ns():x}"
        self.uplink = Uplink(
            site_id=SITE,
            transport=transport or Transport(BrokerAddress.parse(broker.url)),
            outbox=store,
            status=self._status,
            on_document=self._on_document,
            on_command=self._on_command,
            utc_s=lambda: self.now,
            keys=keys,
            options=options or UplinkOptions(link=QUICK, watermark_wait_s=0.2),
        )
        self.desk = DocumentDesk(
            store=store,
            site_id=SITE,
            held=lambda kind: self.plans.of(kind),  # noqa: PLW0108 - the plans of then, not of now
            judge=lambda plan: admit(plan, self.plans, LIMITS, self.now),
            utc_s=lambda: self.now,
            on_stored=self._on_stored,
            courtesy=self.uplink.courtesy,
            on_answered=self.uplink.notify,
        )
        self._task = None

    async def _on_document(self, kind, arrived):
        return await self.desk.receive(kind, arrived)

    async def _on_command(self, arrived):
        """Commands have tests of their own; here it counts that they come, and when."""
        self.commands.append(arrived.payload)
        return Outcome(self.now, "unknown", None, "0" * 64, Stage.REJECTED, "not_json", subject="command")

    def _on_stored(self, plan):
        self.plans = self.plans.replaced(plan)
        self.uplink.status_changed()

    def _status(self):
        plans = self.plans
        return status_message(SITE, Status(self.now, "neutral", "test", plans, {}, (), True, "", "0", self.boot_id))

    async def frame(self):
        """One more sample, sealed into a frame of its own; its sequence."""
        self._samples += 1
        at = NOW + self._samples
        await self.store.append_sample(Sample(self.boot_id, at, 1, 2, 3, None, 50, 50.01, 2, 2, "neutral"))
        seq = await self.store.seal_frame(partial(telemetry_frame, SITE))
        self.uplink.notify()
        return seq

    def begin(self):
        self._task = asyncio.create_task(self.uplink.run())
        return self

    async def end(self):
        """The uplink stops; the store stays."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
