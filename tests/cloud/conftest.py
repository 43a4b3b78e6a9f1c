"""A site's cloud side on a real store and a real broker."""

import asyncio
from functools import partial

import pytest
from cloud_documents import NOW, SITE
from cloud_double import Cloud
from cloud_site import EdgeSite

from agent.cloud.messages import ack_message, event_message, ledger_message
from agent.store import Announce, Store


@pytest.fixture
async def store(tmp_path):
    announce = Announce(
        ack=partial(ack_message, SITE), event=partial(event_message, SITE), ledger=partial(ledger_message, SITE)
    )
    store = await Store.open(tmp_path / "state", announce, lambda: NOW)
    yield store
    await store.close()


@pytest.fixture
async def edge(store):
    """A factory of cloud sides on the same store, one after another."""
    sites = []

    def make(broker, options=None, **more):
        sites.append(EdgeSite(store, broker, options, **more))
        return sites[-1]

    yield make
    for site in sites:
        await site.end()


@pytest.fixture
async def cloud():
    """A factory of clouds."""
    clouds = []

    async def make(broker, **options):
        clouds.append(Cloud(broker, **options))
        await asyncio.wait_for(clouds[-1].ready.wait(), 10)
        return clouds[-1]

    yield make
    for each in clouds:
        each.close()
    assert [fault for each in clouds for fault in each.invalid] == [], "what the site sends is as the contract has it"
