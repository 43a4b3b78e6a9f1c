"""Certificates renewed on disk count without a restart; what cannot be used is told before it is needed."""

import asyncio
import hashlib
import time

import pytest
from cloud_documents import NOW, SITE, document
from cloud_double import until
from own_ca import Authority
from secure_broker import SecureBroker

from agent.cloud.certificates import EVENT_CODE
from agent.cloud.renewal import RENEWED, UNUSABLE, Renewal
from agent.cloud.uplink import FLAPS_AFTER
from agent.core.events import EventState, Severity

SHA256 = hashlib.sha256(document()).hexdigest()


class Watched:
    """A site behind TLS whose files are looked after."""

    def __init__(self, secure, site, transport):
        self.secure, self.site = secure, site
        self.events = []
        self.trusted = True
        self.renewal = Renewal(
            transport,
            site.uplink,
            tell=self._tell,
            utc_s=time.time,
            trusted=lambda: self.trusted,
            look_every_s=0.05,
        )
        self._task = None

    async def _tell(self, event):
        self.events.append(event)

    def begin(self):
        self._task = asyncio.create_task(self.renewal.run())
        return self

    async def end(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def told(self, code):
        return [(event.state, event.severity) for event in self.events if event.code == code]


@pytest.fixture
async def watched(mosquitto, tmp_path, edge):
    """A connected site, watched."""
    made = []

    async def make(*, trusted=True, **issue):
        secure = SecureBroker(mosquitto, tmp_path)
        way = secure.transport(secure.sites_ca.issue(SITE, **issue)[:2])
        site = edge(None, transport=way).begin()
        await until(lambda: site.uplink.connected, "the connection")
        made.append(Watched(secure, site, way))
        made[-1].trusted = trusted
        return made[-1].begin()

    yield make
    for each in made:
        await each.end()


async def renewed_connection(watched, action):
    """Runs the action; returns once another connection stands."""
    before = watched.site.uplink._connection
    action()
    await until(
        lambda: watched.site.uplink._connection not in {None, before},
        f"a new connection; trouble: {watched.site.uplink.last_trouble}, events: {watched.events}",
    )
    assert before.lost.result().wanted


async def test_a_renewed_certificate_is_used_at_once_and_the_old_one_no_more(watched):
    each = await watched(days=10.0)
    await until(lambda: each.told(EVENT_CODE), "the alarm")
    assert each.told(EVENT_CODE) == [(EventState.RAISED, Severity.WARNING)]
    await renewed_connection(each, lambda: each.secure.sites_ca.issue(SITE, days=90.0))
    await until(lambda: (EventState.CLEARED, Severity.INFO) in each.told(EVENT_CODE), "the end of the alarm")
    left = {one["certificate"]: one["days_left"] for one in each.renewal.facts()}
    assert left["site certificate"] == pytest.approx(90, abs=0.1)
    assert each.told(RENEWED) == [(EventState.NOTED, Severity.INFO)]


async def test_the_session_is_kept_over_it(watched):
    each = await watched()
    cloud = each.secure.client("the-cloud", each.secure.cloud_pair, port=each.secure.cloud_port)
    await renewed_connection(each, lambda: each.secure.sites_ca.issue(SITE))
    cloud.publish(f"ems/v1/{SITE}/cloud/plan/rolling", document(), qos=1).wait_for_publish(10)
    await until(lambda: each.site.plans.rolling, "the plan")
    cloud.disconnect()
    cloud.loop_stop()
    codes = {event.code for event in await each.site.store.events(100)}
    assert "connection_flaps" not in codes


async def test_it_can_be_asked_for_without_any_change_and_often_without_an_alarm(watched):
    each = await watched()
    for _ in range(FLAPS_AFTER + 1):
        await renewed_connection(each, each.renewal.hurry)
    assert "connection_flaps" not in {event.code for event in await each.site.store.events(100)}


async def test_files_that_cannot_be_used_are_an_alarm_and_the_connection_stands(watched):
    each = await watched()
    key = each.secure.folder / f"{SITE}.key"
    good = key.read_bytes()
    before = each.site.uplink._connection
    key.write_bytes(b"damaged")
    await until(lambda: each.told(UNUSABLE), "the alarm")
    assert each.told(UNUSABLE) == [(EventState.RAISED, Severity.ALARM)]
    each.renewal.hurry()
    key.chmod(0o644)
    await until(lambda: len(each.told(UNUSABLE)) == 2, "the other reason")
    assert each.site.uplink._connection is before
    key.write_bytes(good)
    key.chmod(0o600)
    await until(lambda: each.told(UNUSABLE)[-1] == (EventState.CLEARED, Severity.INFO), "the end")


async def test_all_three_certificates_are_watched(watched):
    each = await watched()
    await until(lambda: len(each.renewal.facts()) == 3, "the facts")
    left = {one["certificate"]: one["days_left"] for one in each.renewal.facts()}
    assert left == {
        "site certificate": pytest.approx(365, abs=0.1),
        "CA certificate": pytest.approx(3650, abs=0.1),
        "broker's certificate": pytest.approx(365, abs=0.1),
    }


async def test_while_the_clock_is_not_trusted_nothing_is_said_to_end(watched):
    each = await watched(trusted=False, days=3.0)
    await until(lambda: len(each.renewal.facts()) == 3, "a look")
    assert [one["days_left"] for one in each.renewal.facts()] == [None, None, None]
    assert each.told(EVENT_CODE) == []
    each.trusted = True
    await until(lambda: each.told(EVENT_CODE), "the alarm")
    assert each.told(EVENT_CODE) == [(EventState.RAISED, Severity.ALARM)]


async def test_once_the_clock_is_right_again_what_it_made_refuse_comes_again(watched):
    each = await watched()
    each.trusted, each.site.now = False, NOW - 1e8
    cloud = each.secure.client("the-cloud", each.secure.cloud_pair, port=each.secure.cloud_port)
    topic = f"ems/v1/{SITE}/cloud/plan/rolling"
    cloud.publish(topic, document(), qos=1, retain=True).wait_for_publish(10)
    cloud.disconnect()
    cloud.loop_stop()

    async def refused():
        return [e.reason for e in await each.site.store.outcomes("rolling", 17, SHA256)]

    async with asyncio.timeout(20):
        while "from_the_future" not in await refused():  # noqa: ASYNC110 - the disk has no event to wait for
            await asyncio.sleep(0.01)
    await until(lambda: not each.renewal._was_trusted, "the look at the clock")
    each.site.now = NOW
    each.trusted = True
    await until(lambda: each.site.plans.rolling, "the plan, sent again by the broker")


async def test_the_chain_of_the_broker_counts_with_its_ca(mosquitto, tmp_path, edge):
    """A CA that ends before the broker's own certificate: the chain is no better than its first to end."""
    secure = SecureBroker(mosquitto, tmp_path)
    soon = Authority(tmp_path, "soon", days=5)
    secure.own = soon.issue("broker", server=True, file="broker")
    secure.mosquitto.terminate()
    secure.mosquitto.start()
    site = edge(None, transport=secure.transport(ca=soon.path)).begin()
    await until(lambda: site.uplink.connected, f"the connection; trouble: {site.uplink.last_trouble}")
    each = Watched(secure, site, secure.transport(ca=soon.path)).begin()
    await until(lambda: len(each.renewal.facts()) == 3, "the facts")
    left = {one["certificate"]: one["days_left"] for one in each.renewal.facts()}
    assert left["broker's certificate"] == pytest.approx(5, abs=0.1)
    await each.end()
