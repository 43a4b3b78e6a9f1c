"""Random faults over random sites: the seeds that once broke a rule, and the swarm itself."""

import json

import pytest

from simulators.virtual import swarm
from simulators.virtual.faults import BURST_S, CALM_S, FIRST_BURST_S, RARE, Kind, drawn
from simulators.virtual.swarm import CORPUS, Run, main, site_of

ONE_BURST_H = (FIRST_BURST_S + BURST_S + CALM_S + 1.0) / 3600.0


@pytest.mark.parametrize("entry", json.loads(CORPUS.read_text()), ids=lambda entry: f"{entry['seed']}")
def test_a_seed_that_once_broke_a_rule_does_not_any_more(entry):
    assert Run.again(entry).run().broken == []


def test_a_seed_gives_the_same_run_to_the_byte_and_another_one_another():
    first, again, other = (Run(seed, ONE_BURST_H, tick_s=5.0).run() for seed in (21, 21, 22))
    assert (first.broken, other.broken) == ([], [])
    assert first.faults
    assert first.ticks > 300
    assert first.digest == again.digest != other.digest


def test_what_the_site_keeps_to_itself_is_found(monkeypatch):
    """An agent that forgets a frame which nobody has: the watch must see the hole."""
    from agent.store.telemetry import TelemetryDb

    forget = TelemetryDb.confirm
    monkeypatch.setattr(TelemetryDb, "confirm", lambda self, stream, seq: forget(self, stream, seq + 2))
    broken = Run(1, ONE_BURST_H, tick_s=5.0, kinds=(Kind.BROKER_DOWN, Kind.LOST_AFTER_ACK)).run().broken
    assert any("never came and nobody said so" in what for what in broken), broken


def test_faults_come_in_bursts_that_end_with_time_to_be_normal_and_every_kind_comes_up():
    kinds = set()
    for seed in range(60):
        bursts = drawn(seed, 4 * 3600.0)
        assert len(bursts) == int((4 * 3600.0 - FIRST_BURST_S) // (BURST_S + CALM_S))
        for number, burst in enumerate(bursts):
            begin_s = FIRST_BURST_S + number * (BURST_S + CALM_S)
            assert all(begin_s <= fault.start_s < fault.end_s <= begin_s + BURST_S for fault in burst)
            assert sum(fault.kind in RARE for fault in burst) <= 1
            kinds |= {fault.kind for fault in burst}
    assert kinds == set(Kind)
    assert drawn(5, 3600.0) == drawn(5, 7200.0)[: len(drawn(5, 3600.0))], "a longer run begins as a shorter one"


def test_sites_differ():
    sites = [site_of(seed) for seed in range(50)]
    assert len({(site.rated_kw, site.capacity_kwh, site.export_kw, site.battery_kind) for site in sites}) > 20


def test_a_broken_seed_is_told_with_how_to_see_it_again_and_goes_to_the_corpus_once(monkeypatch, tmp_path, capsys):
    corpus = tmp_path / "corpus.json"
    corpus.write_text("[]")
    monkeypatch.setattr(swarm, "CORPUS", corpus)
    monkeypatch.setattr(
        swarm, "one", lambda seed, hours, tick_s: swarm.Result(seed, hours, "d", ["it fell"] if seed == 2 else [])
    )
    for _ in range(2):
        assert main(["--seeds", "3", "--hours", "2"]) == 1
    told = capsys.readouterr().out
    assert "again: python -m simulators.virtual.swarm --first 2 --seeds 1 --hours 2 --tick 1" in told
    assert "broken: [2]" in told
    (entry,) = json.loads(corpus.read_text())
    assert (entry["seed"], entry["hours"], entry["tick_s"], entry["found"]) == (2, 2.0, 1.0, "it fell")
    assert (Run.again(entry).site, Run.again(entry)._bursts) == (Run(2, 2.0).site, Run(2, 2.0)._bursts)
    assert main(["--seeds", "1", "--first", "3", "--twice"]) == 0
