"""The metrics file: whole at any moment, gone after a clean stop, never in the way."""

import asyncio
import stat

import pytest

from agent.core import exposition
from agent.runtime import metrics
from agent.runtime.clock import SystemClock
from agent.runtime.local_socket import Refusal
from agent.runtime.metrics import MetricsFile

DEADLINE_S = 20.0


@pytest.fixture(autouse=True)
def one_metric(monkeypatch):
    monkeypatch.setattr(metrics, "exposition", lambda status: f"ems_ticks_total {status['ticks']}\n")
    assert callable(exposition.exposition)


async def until(condition):
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.005)


class Site:
    """A status that counts how often it was asked."""

    def __init__(self):
        self.ticks = 0
        self.refuses = False

    def __call__(self):
        if self.refuses:
            raise Refusal("status", "only just started", "wait")
        self.ticks += 1
        return {"ticks": self.ticks}


async def test_the_file_is_replaced_again_and_again_readable_for_all_and_goes_at_a_clean_stop(tmp_path):
    path = tmp_path / "metrics" / "ems.prom"
    task = asyncio.create_task(MetricsFile(path, 0.01, Site(), SystemClock()).run())
    await until(path.exists)
    first = path.stat().st_ino
    await until(lambda: path.read_text() == "ems_ticks_total 3\n" or path.stat().st_ino != first)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.read_text().startswith("ems_ticks_total ")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not path.exists()


async def test_while_nothing_was_decided_there_is_no_file(tmp_path):
    site, path = Site(), tmp_path / "ems.prom"
    site.refuses = True
    file = MetricsFile(path, 0.01, site, SystemClock())
    await file._write()
    assert not path.exists()
    site.refuses = False
    await file._write()
    assert path.read_text() == "ems_ticks_total 1\n"


async def test_a_disk_that_refuses_is_told_once_and_tried_again(tmp_path, capsys):
    folder = tmp_path / "metrics"
    folder.write_text("in the way")
    file = MetricsFile(folder / "ems.prom", 0.01, Site(), SystemClock())
    for _ in range(3):
        await file._write()
    assert capsys.readouterr().out.count("metrics_not_written") == 1
    folder.unlink()
    await file._write()
    assert (folder / "ems.prom").read_text() == "ems_ticks_total 4\n"
    assert [path.name for path in folder.iterdir()] == ["ems.prom"]
