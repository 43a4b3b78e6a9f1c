"""A store that a test may close and open again."""

import pytest
from store_values import open_store


@pytest.fixture
async def reopen(tmp_path):
    opened = []

    async def again():
        if opened:
            await opened.pop().close()
        opened.append(await open_store(tmp_path))
        return opened[-1]

    yield again
    await opened.pop().close()
