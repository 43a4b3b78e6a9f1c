"""Every example in docs/contract.md is what the running code takes and sends."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cloud.evidence_message import evidence_message
from agent.cloud.frame import summary_frame, telemetry_frame
from agent.cloud.messages import (
    Status,
    ack_message,
    event_message,
    forecast_message,
    iso,
    ledger_message,
    local_plan_held,
    status_message,
    will_message,
)
from agent.cloud.wire import parse_document, parse_watermark
from agent.cloud.wire_command import ParsedCommand, parse_command
from agent.cloud.wire_fields import unix_time
from agent.core.admission import Accepted
from agent.core.command import CommandType
from agent.core.decision import Condition
from agent.core.deliverability import Deliverability
from agent.core.droop_products import PRODUCTS
from agent.core.energy_paths import EnergyPaths
from agent.core.events import Event, EventState, Severity
from agent.core.evidence import EvidenceRow
from agent.core.ledger import SlotRow
from agent.core.order_admission import admit_orders
from agent.core.orders import Award, Direction, OrderDocument, OrderDocuments, OrderKind
from agent.core.orders_in_force import booked
from agent.core.plan import LocalPlan, Plan, PlanKind, Plans, Slot, Target
from agent.core.records import Outcome, ParsedDocument, Sample, Stage, Stream
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from agent.core.slots_ahead import SlotAhead
from simulators.cloud_messages import column_values, read_ledger_slot, read_message

SITE = "demo-01"
T0 = 1705287600.0
BESS = BatteryRules("bess", 500e3, 500e3, 10.0, 90.0, 0.95, 60.0, 500.0)
RULES = SiteRules(SITE, 1.0, (BESS,), ("pv",), "meter", 500e3, 500e3, has_load=True, local_rule=LocalRule.IDLE)
CONTRACT = (Path(__file__).parents[2] / "docs/contract.md").read_text()
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", CONTRACT, re.DOTALL)]


def kind_of(example):
    if "power" in example:
        return "plan"
    if "stream" not in example and example.get("kind") in tuple(OrderKind):
        return "orders"
    if "stored" in example:
        return "watermark"
    if "slots" in example:
        return "forecast"
    if "expires_at" in example:
        return "command"
    if "part" in example:
        return "evidence"
    return example.get("stream") or ("status" if example["online"] else "will")


BY_KIND = {kind: [e for e in EXAMPLES if kind_of(e) == kind] for kind in map(kind_of, EXAMPLES)}


def test_each_message_in_use_has_an_example():
    assert set(BY_KIND) == {
        "plan",
        "orders",
        "command",
        "evidence",
        "watermark",
        "ack",
        "telemetry",
        "event",
        "ledger",
        "forecast",
        "status",
        "will",
    }


@pytest.mark.parametrize("example", BY_KIND["plan"])
def test_a_plan_is_taken(example):
    assert isinstance(parse_document(PlanKind(example["kind"]), json.dumps(example).encode(), SITE), ParsedDocument)


@pytest.mark.parametrize("example", BY_KIND["orders"], ids=lambda e: e["kind"])
def test_awards_curtailments_and_outages_are_taken(example):
    parsed = parse_document(OrderKind(example["kind"]), json.dumps(example).encode(), SITE)
    assert isinstance(parsed, ParsedDocument), parsed
    assert len(parsed.content.entries) == len(example[example["kind"]])
    verdict = admit_orders(parsed.content, None, RULES, unix_time(example["issued_at"]), -30e3)
    assert verdict == Accepted()


def test_each_kind_of_orders_has_an_example():
    assert {example["kind"] for example in BY_KIND["orders"]} == set(OrderKind)


def test_the_presets_that_the_contract_names_are_those_of_the_agent():
    told = CONTRACT.split("Presets:\n")[1].split(".\n")[0]
    assert set(re.findall(r"`([a-z][a-z0-9-]*)`", told)) == set(PRODUCTS)


@pytest.mark.parametrize("example", BY_KIND["watermark"])
def test_a_watermark_is_taken(example):
    stored = parse_watermark(json.dumps(example).encode(), SITE)
    assert stored == {Stream(name): seq for name, seq in example["stored"].items()}


@pytest.mark.parametrize("example", BY_KIND["ack"], ids=lambda e: e["stage"])
def test_an_ack_is_sent(example):
    outcome = Outcome(
        unix_time(example["at"]),
        example["kind"],
        example["version"],
        example["sha256"],
        Stage(example["stage"]),
        example["reason"],
        example["field"],
        example["detail"],
        example["subject"],
        example.get("id"),
    )
    assert json.loads(ack_message(SITE, example["seq"], outcome)) == example


@pytest.mark.parametrize("example", BY_KIND["command"], ids=lambda e: e["type"])
def test_a_command_is_taken(example):
    parsed = parse_command(json.dumps(example).encode(), SITE)
    assert isinstance(parsed, ParsedCommand), parsed
    assert (parsed.command.command_id, parsed.command.type) == (example["id"], example["type"])


def test_each_type_of_command_has_an_example():
    assert {example["type"] for example in BY_KIND["command"]} == set(CommandType)


@pytest.mark.parametrize("example", BY_KIND["evidence"])
def test_evidence_is_sent(example):
    columns, start = example["columns"], unix_time(example["start"])
    rows = [
        EvidenceRow(
            utc_s=start + t_s,
            award_ids=tuple(example["awards"][columns["awards"][i]]),
            **{name: column[i] for name, column in columns.items() if name != "awards"},
        )
        for i, t_s in enumerate(example["t_s"])
    ]
    span = (unix_time(example["from"]), unix_time(example["to"]))
    sent = evidence_message(SITE, example["id"], example["part"], rows, span, last=example["last"])
    assert json.loads(sent) == example


def test_a_time_without_any_award_is_one_empty_part_of_evidence():
    sent = json.loads(evidence_message(SITE, "c1", 1, [], (T0, T0 + 60), last=True))
    assert (sent["start"], sent["t_s"], sent["awards"], sent["columns"]["power_w"]) == (None, [], [], [])


@pytest.mark.parametrize("example", [e for e in BY_KIND["telemetry"] if "period_s" not in e])
def test_a_frame_is_sent(example):
    columns = {name: column_values(column) for name, column in example["columns"].items()}
    start = unix_time(example["start"])
    names = [name for name in columns if name != "source"]
    samples = [
        Sample(
            boot_id=example["boot_id"],
            at_utc_s=start + t_ms / 1000,
            source=columns["source"][i],
            points={name: columns[name][i] for name in names if "." in name},
            **{name: columns[name][i] for name in names if "." not in name},
        )
        for i, t_ms in enumerate(column_values(example["t_ms"]))
    ]
    assert read_message(telemetry_frame(SITE, example["seq"], samples), SITE) == example


@pytest.mark.parametrize("example", [e for e in BY_KIND["telemetry"] if "period_s" in e])
def test_a_frame_of_means_is_sent(example):
    start, frames = unix_time(example["start"]), []
    for seq, source in ((91, "rolling"), (92, "yearly")):
        at, low, high = start + (seq - 91) * 60, -401100 + (seq - 91) * 100, -398200 + (seq - 91) * 200
        samples = [
            Sample(example["boot_id"], at + i, grid_w, None, None, None, None, None, None, None, source)
            for i, grid_w in enumerate((low, high))
        ]
        frames.append((seq, telemetry_frame(SITE, seq, samples, Stream.FULL_RATE)))
    sent = read_message(summary_frame(SITE, example["seq"], frames, example["period_s"]), SITE)
    sent["columns"] = {name: column for name, column in sent["columns"].items() if name in example["columns"]}
    assert sent == example


@pytest.mark.parametrize("example", BY_KIND["event"])
def test_an_event_is_sent(example):
    event = Event(
        unix_time(example["at"]),
        EventState(example["state"]),
        Severity(example["severity"]),
        example["code"],
        example["subject"],
        example["text"],
        example["data"],
    )
    assert json.loads(event_message(SITE, example["seq"], event)) == example


def order_document(kind, example, *lines):
    """The document of orders that the status tells of."""
    entries = tuple(
        Award(
            line["id"],
            line["product"],
            unix_time(line["start"]),
            unix_time(line["end"]),
            line["power_w"],
            Direction(line["direction"]),
        )
        for line in lines
    )
    held = example["plans"][kind]
    return OrderDocument(kind, held["version"], held["sha256"], 0.0, entries)


def forecast(line):
    start, end = unix_time(line["start"]), unix_time(line["end"])
    return Deliverability(line["id"], start, end, line["shortfall_w"], line["shortfall_wh"], line["met"], "short")


@pytest.mark.parametrize("example", BY_KIND["status"])
def test_a_status_is_sent(example):
    held = example["plans"]["rolling"]
    end = unix_time(held["end"])
    plan = Plan(PlanKind.ROLLING, held["version"], held["sha256"], 0, end - 1800, 1800, Target.GRID, (0.0,))
    told = example["local_plan"]
    slot = Slot(end - 1800, unix_time(told["end"]), 0.0, Target.GRID)
    local = LocalPlan(unix_time(told["made_at"]), (plan.sha256, None), (slot,), told["by"] == "rules", told["why"])
    orders = OrderDocuments(
        awards=order_document(OrderKind.AWARDS, example, example["awards"][0]),
        curtailments=order_document(OrderKind.CURTAILMENTS, example),
    )
    status = Status(
        orders=orders,
        awards=booked(RULES, orders.awards.entries)[0],
        outlook=[forecast(line) for line in example["awards"]],
        at_utc_s=unix_time(example["at"]),
        source=example["source"],
        why=example["why"],
        plans=Plans(rolling=plan, local=local),
        devices=example["devices"],
        conditions=[
            Condition(c["code"], c["subject"], Severity(c["severity"]), c["text"]) for c in example["conditions"]
        ],
        clock_trusted=example["clock"]["trusted"],
        clock_why=example["clock"]["why"],
        software_version=example["software"]["version"],
        boot_id=example["software"]["boot_id"],
        override=example["override"],
        latches=example["latches"],
        commands=example["commands"],
    )
    assert json.loads(status_message(SITE, status)) == example


@pytest.mark.parametrize("example", BY_KIND["forecast"])
def test_a_forecast_is_sent(example):
    slots = [
        SlotAhead(unix_time(s["start"]), unix_time(s["end"]), s["planned_w"], s["power_w"], s["soc_end_pct"])
        for s in example["slots"]
    ]
    sent = forecast_message(SITE, unix_time(example["at"]), example["soc_pct"], slots, example["awards"])
    assert json.loads(sent) == example


def test_a_local_plan_made_from_other_plans_than_those_held_is_not_told():
    local = LocalPlan(0.0, ("other", None), (Slot(0.0, 1800.0, 0.0, Target.GRID),), by_rule=True, why="")
    assert local_plan_held(Plans(local=local)) is None
    assert local_plan_held(Plans()) is None
    assert local_plan_held(Plans(local=replace(local, basis=(None, None))))["by"] == "rules"


def test_the_will_is_sent():
    assert [json.loads(will_message(SITE))] == BY_KIND["will"]


def test_a_time_is_written_to_the_millisecond_and_reads_back():
    assert iso(1705287600.25) == "2024-01-15T03:00:00.250Z"
    assert unix_time(iso(1705287301.25)) == 1705287301.25


@pytest.mark.parametrize("example", BY_KIND["ledger"])
def test_a_finished_slot_is_told(example):
    row = SlotRow(
        start_utc_s=unix_time(example["start"]),
        end_utc_s=unix_time(example["end"]),
        target=example["target"],
        power_w=example["planned_wh"] * 2,
        source=example["source"],
        version=example["version"],
        delivered_wh=example["delivered_wh"],
        battery_wh=example["battery_wh"],
        covered_s=example["covered_s"],
        soc_end_pct=example["soc_end_pct"],
        grid_wh=example["grid_wh"],
        planned_soc_end_pct=example["planned_soc_end_pct"],
        response_wh=example["response_wh"],
        paths=EnergyPaths(**{f"{name}_wh": energy for name, energy in example["paths_wh"].items()}, split_s=1800),
    )
    assert json.loads(ledger_message(SITE, example["seq"], row)) == example
    assert read_ledger_slot(example).imbalance_wh == example["imbalance_wh"], "the cloud's reading agrees"
