"""Orders to the simulated cloud, what they make it send, and what of it the agent's own reading thinks."""

import json
import re
from pathlib import Path

import pytest

from agent.cloud.signatures import KeyRing
from agent.cloud.wire import parse_document
from agent.cloud.wire_command import ParsedCommand, parse_command
from agent.core.orders import OrderKind
from agent.core.plan import PlanKind
from agent.site_file.cloud_keys import raw_key
from simulators.cloud_desk import DeskOptions, SiteDesk
from simulators.cloud_misbehaviour import COPIES, FLOOD, Misbehaviour, Misdeed
from simulators.cloud_planner import Planner, SiteModel
from simulators.cloud_script import VERBS, OrderError, Script, parse_order
from simulators.cloud_signer import BadKeyError, content_of, new_signer, read_signer
from simulators.market import MarketClock, half_hours, load_jepx
from simulators.optimiser import BatteryModel, Connection

NOW = 1_705_287_600.0
SITE = "demo-01"
PRICES = load_jepx()
TYPICAL = {}


class World:
    """A desk whose messages are kept, on a clock that is moved by hand."""

    def __init__(self, signer=None):
        self.now, self.up, self.sent, self.raw = NOW, True, [], []
        site = SiteModel(SITE, BatteryModel(2000.0, 500.0, 500.0), Connection(500.0, 500.0))
        planner = Planner(site, PRICES, MarketClock(int(NOW), int(NOW), 1800), int(NOW), typical_days=TYPICAL)
        options = DeskOptions(yearly=False, signer=signer, now=lambda: self.now)
        self.desk = SiteDesk(planner, lambda *message: self.sent.append(message), lambda: self.up, options)
        self.wrong = Misbehaviour([], lambda *message: self.raw.append(message), 10.0, seed=1)

    def order(self, line):
        parse_order(line).act(self.desk, self.now, self.wrong)
        return self.sent[-1] if self.sent else None

    def rests(self):
        return [topic.removeprefix(f"ems/v1/{SITE}/") for topic, _, _ in self.sent]

    def answer(self, seq, stage, *, version=None, kind="rolling", **more):
        message = {"schema": "1.0", "site_id": SITE, "stream": "ack", "seq": seq, "stage": stage, "version": version,
                   "kind": kind, "reason": None, "field": None, **more}  # fmt: skip
        self.desk.take("edge/ack", json.dumps(message).encode())


def read(kind, payload):
    """As the site reads it."""
    return parse_document(kind, payload, SITE).content


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize(
    ("line", "kind", "entries"),
    [
        ("award fcr-n 200 10min 1h up", OrderKind.AWARDS, 1),
        ("award fcr-n 200 0s 1h", OrderKind.AWARDS, 1),
        ("curtail 100 - 10min 1h", OrderKind.CURTAILMENTS, 1),
        ("outage bess 10min 1h", OrderKind.OUTAGES, 1),
        ("outage - 10min 1h", OrderKind.OUTAGES, 1),
        ("withdraw outages", OrderKind.OUTAGES, 0),
    ],
)
def test_orders_are_documents_that_a_site_takes_retained(world, line, kind, entries):
    topic, payload, retained = world.order(line)
    assert (topic, retained) == (f"ems/v1/{SITE}/cloud/plan/{kind.value}", True)
    assert len(read(kind, payload).entries) == entries


@pytest.mark.parametrize(
    "line",
    [
        "set_power -20.5 10min", "set_power 20 5s grid", "hold 5s", "neutral 1h", "live 30s", "report", "release",
        "release c-1", "narrow export=100 charge=0 5min", "resend ack 1 20", "evidence 2h",
    ],
)  # fmt: skip
def test_commands_are_commands_that_a_site_takes_and_are_not_retained(world, line):
    topic, payload, retained = world.order(line)
    assert (topic, retained) == (f"ems/v1/{SITE}/cloud/command", False)
    assert isinstance(parse_command(payload, SITE), ParsedCommand)
    assert world.desk.commands.sent == 1


@pytest.mark.parametrize(
    "line",
    ["", "  ", "@5s", "jump", "hold", "hold 5", "hold 5s 6s", "@soon hold 5s", "award fcr-n many 0s 1h", "curtail - - 0s 1h",
     "award fcr-n 1 0s 1h sideways", "narrow 5min", "narrow heat=1 5min", "resend all 1 2", "withdraw plans"],
)  # fmt: skip
def test_what_is_no_order_is_told_with_what_is_wanted(line):
    with pytest.raises(OrderError, match=re.escape(repr(line))):
        parse_order(line)


def test_an_order_waits_for_its_time_and_its_site(world):
    said = []
    script = Script([parse_order("@10s hold 5s"), parse_order("else: report")], world.wrong, said.append)
    script.due([], NOW, 20.0)
    script.due([world.desk], NOW, 9.9)
    assert said == []
    script.due([world.desk], NOW, 10.0)
    script.due([world.desk], NOW, 11.0)
    assert (said, world.desk.commands.sent) == (["@10s hold 5s"], 1)


def test_the_page_names_every_order():
    page = (Path(__file__).parents[2] / "docs" / "simulated-cloud.md").read_text()
    rows = page.split("<!-- table orders -->")[1].split("<!-- end -->")[0]
    named = {
        words.split()[0] for words in re.findall(r"`([^`]+)`", "\n".join(r.split(" | ")[0] for r in rows.splitlines()))
    }
    assert named == set(VERBS)


def test_an_order_that_has_ended_is_not_named_again_and_versions_only_rise(world):
    world.order("curtail 100 - 0s 1min")
    first = read(OrderKind.CURTAILMENTS, world.sent[-1][1])
    world.now += 61.0
    world.order("curtail 50 - 0s 1min")
    second = read(OrderKind.CURTAILMENTS, world.sent[-1][1])
    assert [entry.export_limit_w for entry in second.entries] == [50e3]
    assert second.version > first.version


class TestTheDesk:
    def test_a_silent_cloud_tells_nothing_and_then_what_it_wanted_to_tell(self, world):
        world.desk.fall_silent(10.0)
        world.order("curtail 100 - 0s 1h")
        world.desk.work()
        assert world.sent == []
        world.now += 10.0
        world.desk.work()
        assert "cloud/plan/curtailments" in world.rests()

    def test_a_command_that_cannot_be_told_is_not_sent_and_no_outcome_is_missed(self, world):
        world.desk.fall_silent(10.0)
        assert world.desk.command("report", {}) is None
        world.now, world.up = world.now + 10.0, False
        assert world.desk.command("report", {}) is None
        world.up = True
        assert world.desk.command("report", {}) is not None
        assert (world.desk.commands.sent, len(world.sent)) == (1, 1)

    def test_the_watermark_goes_on_from_what_an_earlier_run_stored(self, world):
        world.desk.pause_planning()
        world.desk.settle()
        own = json.dumps({"schema": "1.0", "site_id": SITE, "stored": {"ack": 41}}).encode()
        world.desk.take("cloud/watermark", own)
        world.desk.work()
        assert world.sent == [], "nothing is told before all that was stored is heard"
        world.answer(43, "stored", version=1)
        world.now += 1.0
        world.desk.work()
        assert json.loads(world.sent[-1][1])["stored"]["ack"] == 41
        world.answer(42, "stored", version=1)
        world.desk.work()
        assert json.loads(world.sent[-1][1])["stored"]["ack"] == 43
        assert (world.desk.counts().other_gaps, world.desk.counts().malformed) == (0, 0)

    def test_once_it_has_told_its_own_watermark_no_other_counts(self, world):
        world.desk.pause_planning()
        world.desk.work()
        assert world.rests() == ["cloud/watermark"]
        other = json.dumps({"schema": "1.0", "site_id": SITE, "stored": {"ack": 99}}).encode()
        world.desk.take("cloud/watermark", other)
        world.answer(1, "stored", version=1)
        assert world.desk.counts().other_gaps == 0
        world.desk.work()
        assert json.loads(world.sent[-1][1])["stored"]["ack"] == 1

    def test_the_time_from_a_plan_to_its_storage_is_measured_once(self, world):
        world.desk.start(int(NOW))
        version = world.desk.counts().versions["rolling"]
        world.now += 2.0
        world.answer(None, "stored", version=version)
        world.answer(1, "stored", version=version)
        assert world.desk.delays["plan"].facts() == {
            "count": 1,
            "p50_s": 2.0,
            "p90_s": 2.0,
            "p99_s": 2.0,
            "worst_s": 2.0,
        }

    def test_a_plan_that_comes_again_and_is_answered_again_is_not_measured_again(self, world):
        world.order("withdraw awards")
        (version,) = world.desk.counts().versions.values()
        for seq, after_s in ((1, 1.0), (2, 600.0)):
            world.now += after_s
            world.answer(seq, "stored", version=version, kind="awards")
        assert (world.desk.delays["plan"].count, world.desk.delays["plan"].worst_s) == (1, 1.0)

    def test_a_document_that_was_stored_and_never_sent_was_forged(self, world):
        world.desk.start(int(NOW))
        version = world.desk.counts().versions["rolling"]
        world.answer(1, "stored", version=version)
        assert world.desk.believed_documents == 0
        world.answer(2, "stored", version=version + 1)
        assert world.desk.believed_documents == 1

    def test_refusals_are_counted_by_reason_and_a_repetition_is_not(self, world):
        world.answer(1, "rejected", reason="version_old", version=3)
        world.answer(None, "rejected", reason="version_old", version=3)
        assert world.desk.refusals() == {"version_old": 1}

    def test_nothing_that_a_site_sends_ends_it(self, world):
        for payload in (b"", b"[", b"[]", b"{}", b"\x1f\x8b", b'{"schema": "1.0", "site_id": "demo-01"}'):
            world.desk.take("edge/ack", payload)
            world.desk.take("cloud/watermark", payload)
        assert world.desk.counts().malformed == 12


class TestSignatures:
    def test_plans_and_commands_are_believed_by_a_site_that_knows_the_key(self):
        world = World(new_signer("vpp"))
        ring = KeyRing({"vpp": raw_key(world.desk.options.signer.public_key)})
        world.desk.start(int(NOW))
        world.order("hold 5s")
        (_, plan, _), (_, command, _) = world.sent
        assert read(PlanKind.ROLLING, ring.opened(plan)).version == int(NOW)
        assert isinstance(parse_command(ring.opened(command), SITE), ParsedCommand)

    @pytest.mark.parametrize(
        "text", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"AAAA"]
    )
    def test_a_file_without_a_key_is_told(self, tmp_path, text):
        path = tmp_path / "key"
        path.write_bytes(text)
        with pytest.raises(BadKeyError, match="openssl genpkey"):
            read_signer(path, "x")

    def test_the_vector_of_the_contract_is_signed_as_it_stands_there(self, tmp_path):
        page = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()
        field = lambda name: re.search(rf"^{name}\s+(\S+)", page, re.MULTILINE)[1]  # noqa: E731
        (tmp_path / "key").write_text(field(r"private key \(seed\)") + "\n")
        signer = read_signer(tmp_path / "key", "example-2024")
        assert signer.public_key == field("public key")
        payload = re.search(r"^payload\s+((?:\S+\n?\s*){3})", page, re.MULTILINE)[1]
        assert signer.signed(field("content").encode()).decode() == "".join(payload.split()[:3])
        assert [content_of(one) for one in (signer.signed(b"{}"), b"{}", b"e.x")] == [b"{}", b"{}", b"e.x"]


class TestMisbehaviour:
    def test_what_is_forged_is_refused_by_a_site_with_the_key_and_named_forbidden(self):
        world = World(new_signer("vpp"))
        ring = KeyRing({"vpp": raw_key(world.desk.options.signer.public_key)})
        world.desk.start(int(NOW))
        world.wrong.do(Misdeed.FORGED, world.desk, world.now)
        opened = [ring.opened(payload) for _, payload, _ in world.raw]
        assert [getattr(one, "reason", None) for one in opened] == [
            None, "unsigned", "bad_signature", "unknown_key", "bad_signature",
            "unsigned", "bad_signature", "unknown_key", "bad_signature",
        ]  # fmt: skip
        assert parse_command(opened[0], SITE).refused.reason == "wrong_site"
        assert len(world.desk.commands._forbidden) == 2

    def test_without_a_key_nothing_is_forged_that_a_site_would_believe(self, world):
        world.wrong.do(Misdeed.FORGED, world.desk, world.now)
        assert [parse_command(payload, SITE).refused.reason for _, payload, _ in world.raw] == ["wrong_site"]

    def test_old_versions_are_older_than_what_is_in_force(self, world):
        world.desk.start(int(NOW))
        world.wrong.do(Misdeed.OLD_VERSIONS, world.desk, world.now)
        topics = [topic.rpartition("/")[2] for topic, _, _ in world.raw]
        assert topics == ["rolling", "watermark", "command"]
        assert json.loads(world.raw[1][1])["stored"] == {"telemetry": 0}, "never more than is stored"
        assert read(PlanKind.ROLLING, world.raw[0][1]).version == world.desk.counts().versions["rolling"] - 1
        late = parse_command(world.raw[2][1], SITE).command
        assert late.expires_utc_s < NOW
        world.answer(1, "accepted", subject="command", id=late.command_id)
        assert world.desk.commands.believed == 1

    def test_duplicates_are_byte_for_byte_what_was_sent(self, world):
        world.order("curtail 100 - 0s 1h")
        world.order("hold 5s")
        world.wrong.do(Misdeed.DUPLICATES, world.desk, world.now)
        assert [(topic, payload) for topic, payload, _ in world.raw] == [m[:2] for m in world.sent] * COPIES

    def test_a_flood_is_large_and_silence_is_silent(self, world):
        world.wrong.do(Misdeed.FLOODS, world.desk, world.now)
        assert (len(world.raw), {qos for _, _, qos in world.raw}) == (FLOOD, {0})
        world.wrong.do(Misdeed.SILENCE, world.desk, world.now)
        world.order("report")
        assert world.sent == []

    def test_it_begins_after_a_pause_and_does_all_that_is_asked_for_each_time(self, world):
        wrong = Misbehaviour(["duplicates", "silence"], lambda *_: None, 10.0, seed=1)
        world.order("hold 5s")
        for second in range(31):
            wrong.due([world.desk], NOW + second)
        assert wrong.done == {"duplicates": 3 * COPIES, "silence": 3}


def test_prices_of_other_slots_become_those_of_half_hours():
    assert half_hours(0, 900, [1.0, 3.0, 5.0, 7.0, 9.0]).per_kwh == (2.0, 6.0)
    assert half_hours(0, 3600, [1.0, 3.0]).per_kwh == (1.0, 1.0, 3.0, 3.0)
    assert half_hours(0, 1800, [1.0, 3.0]).per_kwh == (1.0, 3.0)
