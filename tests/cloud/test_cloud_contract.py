"""The contract as documents: schemas and AsyncAPI that other programs can read, tables that tell the truth."""

import hashlib
import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from cloud_schemas import faults, message_name, validator
from jsonschema import Draft7Validator, Draft202012Validator
from typer.testing import CliRunner

from agent.cli.main import app
from agent.cloud.contract import CHANNELS, MODELS, asyncapi, name_of, schemas, tables, with_tables
from agent.cloud.topics import Topics
from agent.cloud.wire import parse_document, parse_watermark
from agent.cloud.wire_fields import OUR_MAJOR, OUR_MINOR
from agent.core.admission import Refused
from agent.core.records import DOCUMENT_KINDS, ParsedDocument, Stream

HERE = Path(__file__).parent
CONTRACT = HERE.parents[1] / "docs/contract.md"
LAST_RELEASE = sorted((HERE / "examples/1.0").glob("*.json"))
FROZEN = "c8414837e20181e0fefbc71f40eb11fd14c70dbfcd693fbf9ca5bf8d13410a0d"
SITE = "demo-01"
DOCUMENTS = {kind.value: kind for kind in DOCUMENT_KINDS}


def example(path):
    return json.loads(path.read_text())


class TestSchemas:
    @pytest.mark.parametrize("name", sorted(schemas()))
    def test_each_is_a_schema_that_a_third_party_takes(self, name):
        Draft202012Validator.check_schema(schemas()[name])

    def test_every_field_that_the_site_sends_or_that_a_document_has_says_what_it_means(self):
        bare = [
            (name, line.split("`")[1])
            for name, table in tables().items()
            for line in table.splitlines()
            if line.endswith("|  |") and schemas()[name]["properties"].get("type") is None
        ]
        assert bare == []

    @pytest.mark.parametrize(
        "change", [{"version": 0}, {"version": None}, {"powr": []}, {"schema": "2.0"}, {"slot_s": 0.5}]
    )
    def test_a_wrong_plan_does_not_pass(self, change):
        plan = example(HERE / "examples/1.0/plan_rolling.json")
        assert faults(plan) == []
        assert faults(plan | change)


class TestLastRelease:
    """What was valid at the last release stays valid: these files are never edited."""

    def test_there_is_one_for_each_kind_of_message_of_then(self):
        assert {path.stem for path in LAST_RELEASE} == {
            "plan_rolling", "awards", "curtailments", "outages", "watermark", "ack_stored", "ack_rejected",
            "telemetry_plain", "ledger", "event", "status", "will",
        }  # fmt: skip

    def test_none_of_them_was_edited(self):
        together = b"".join(path.read_bytes() for path in LAST_RELEASE)
        assert hashlib.sha256(together).hexdigest() == FROZEN, "a changed contract gets new files, in a new folder"

    @pytest.mark.parametrize("path", LAST_RELEASE, ids=lambda p: p.stem)
    def test_it_is_valid_by_the_schema_of_now(self, path):
        assert faults(example(path)) == []

    @pytest.mark.parametrize(
        "path",
        [p for p in LAST_RELEASE if example(p).get("kind") in DOCUMENTS and "stage" not in example(p)],
        ids=lambda p: p.stem,
    )
    def test_a_document_of_then_is_taken(self, path):
        assert isinstance(parse_document(DOCUMENTS[example(path)["kind"]], path.read_bytes(), SITE), ParsedDocument)

    def test_a_watermark_of_then_is_taken(self):
        assert not isinstance(parse_watermark((HERE / "examples/1.0/watermark.json").read_bytes(), SITE), Refused)


class TestVersions:
    def plan(self, **changes):
        content = example(HERE / "examples/1.0/plan_rolling.json") | changes
        return parse_document(DOCUMENTS["rolling"], json.dumps(content).encode(), SITE)

    def test_fields_of_a_later_minor_version_are_ignored(self):
        later = f"{OUR_MAJOR}.{OUR_MINOR + 1}"
        assert isinstance(self.plan(schema=later, colour="blue"), ParsedDocument)

    @pytest.mark.parametrize("name", ["awards", "curtailments", "outages"])
    def test_they_are_ignored_in_the_entries_of_a_document_too(self, name):
        later = example(HERE / f"examples/1.0/{name}.json") | {"schema": f"{OUR_MAJOR}.{OUR_MINOR + 1}", "colour": 1}
        later[name][0] |= {"colour": "blue"}
        parsed = parse_document(DOCUMENTS[name], json.dumps(later).encode(), SITE)
        assert isinstance(parsed, ParsedDocument)
        assert parse_document(DOCUMENTS[name], json.dumps(later | {"schema": "1.0"}).encode(), SITE).refused

    def test_a_watermark_may_name_streams_of_a_later_minor_version(self):
        later = {"schema": f"{OUR_MAJOR}.{OUR_MINOR + 1}", "site_id": SITE, "stored": {"ack": 7, "weather": 3}}
        assert parse_watermark(json.dumps(later).encode(), SITE) == {Stream.ACK: 7}

    def test_an_unknown_major_version_is_refused(self):
        assert self.plan(schema=f"{OUR_MAJOR + 1}.0").refused.reason == "schema_unsupported"

    def test_what_the_site_sends_may_have_more_fields_later_and_the_schema_lets_them_pass(self):
        event = example(HERE / "examples/1.0/event.json")
        assert faults(event | {"schema": "1.7", "weather": "fair"}) == []
        assert faults(event | {"schema": "2.0"})


class TestAsyncApi:
    schema = json.loads((HERE / "asyncapi/3.0.0.json").read_text())

    def faults(self, document):
        return [
            f"{error.json_path}: {error.message[:200]}" for error in Draft7Validator(self.schema).iter_errors(document)
        ]

    def test_it_is_valid_by_the_schema_of_the_asyncapi_initiative(self):
        assert self.faults(asyncapi()) == []

    def test_that_schema_notices_what_is_wrong(self):
        for break_it in (
            lambda d: d.pop("info"),
            lambda d: d["operations"]["edge_ack"].update(action="shout"),
            lambda d: d["channels"]["edge_ack"].update(adress="x"),
            lambda d: d.update(asyncapi="2.6.0"),
        ):
            document = deepcopy(asyncapi())
            break_it(document)
            assert self.faults(document)

    def test_every_reference_in_it_leads_somewhere(self):
        document = asyncapi()

        def references(part):
            if isinstance(part, dict):
                yield from ([part["$ref"]] if isinstance(part.get("$ref"), str) else [])
                part = list(part.values())
            for inner in part if isinstance(part, list) else []:
                yield from references(inner)

        found = list(references(document))
        assert len(found) > 50
        for reference in found:
            at = document
            for step in reference.removeprefix("#/").split("/"):
                at = at[step]

    def test_it_has_every_topic_that_the_agent_uses(self):
        topics = Topics(SITE)
        addresses = {channel["address"].replace("{site_id}", SITE) for channel in asyncapi()["channels"].values()}
        assert set(topics.subscribed) == {address for address in addresses if "/cloud/" in address}
        told = {topics.edge(c.topic.removeprefix("edge/")) for c in CHANNELS if not c.to_site}
        assert told == {address for address in addresses if "/edge/" in address}

    def test_the_agent_receives_what_the_cloud_sends_and_sends_the_rest(self):
        operations = asyncapi()["operations"]
        assert operations["cloud_plan_rolling"]["action"] == "receive"
        assert operations["edge_status"]["action"] == "send"
        assert operations["edge_status"]["bindings"]["mqtt"] == {"qos": 1, "retain": True, "bindingVersion": "0.2.0"}


class TestDocs:
    def test_the_tables_of_the_contract_are_those_of_the_models(self):
        text = CONTRACT.read_text()
        assert with_tables(text) == text, "run: ems contract tables docs/contract.md"

    def test_every_message_but_the_commands_and_the_will_has_its_table(self):
        commands = {name_of(m) for m in MODELS if "type" in m.model_fields}
        text = CONTRACT.read_text()
        missing = {name for name in tables() if f"<!-- table {name} -->" not in text}
        assert missing <= commands | {"will", "evidence"}

    def test_a_changed_table_is_noticed_and_mended(self):
        text = "before\n<!-- table watermark -->\nold\n<!-- end -->\nafter\n"
        mended = with_tables(text)
        assert mended.startswith("before\n<!-- table watermark -->\n| field |")
        assert mended.endswith("\n<!-- end -->\nafter\n")
        assert with_tables(mended) == mended

    def test_types_are_told_in_words(self):
        plan = tables()["plan"]
        assert "| `power` | list of (number or null) | one number per slot" in plan
        assert "| `slot_s` | integer from 1 to 3600 |" in plan
        assert "| `start` | time |" in plan
        assert "| `price` | list of (number or null) or null, optional |" in plan
        assert "| `awards[].power` | number above 0 |" in tables()["awards"]


class TestCommand:
    def test_export_writes_a_schema_for_each_message_and_the_asyncapi_document(self, tmp_path):
        done = CliRunner().invoke(app, ["contract", "export", str(tmp_path / "out"), "--json"])
        assert done.exit_code == 0, done.output
        files = json.loads(done.output)["result"]["files"]
        assert set(files) == {f"schemas/{name}.json" for name in schemas()} | {"asyncapi.json"}
        assert json.loads((tmp_path / "out/asyncapi.json").read_text()) == asyncapi()
        assert json.loads((tmp_path / "out/schemas/plan.json").read_text()) == schemas()["plan"]

    def test_export_to_a_place_that_cannot_be_written_says_so(self, tmp_path):
        (tmp_path / "file").write_text("")
        done = CliRunner().invoke(app, ["contract", "export", str(tmp_path / "file")])
        assert done.exit_code == 1
        assert "next: name a directory" in done.stderr

    def test_tables_mends_a_file_and_names_a_strange_table(self, tmp_path):
        file = tmp_path / "a.md"
        file.write_text("<!-- table watermark -->\n<!-- end -->\n")
        assert CliRunner().invoke(app, ["contract", "tables", str(file)]).exit_code == 0
        assert "`stored.telemetry`" in file.read_text()
        file.write_text("<!-- table weather -->\n<!-- end -->\n")
        done = CliRunner().invoke(app, ["contract", "tables", str(file)])
        assert (done.exit_code, "there is no table 'weather'" in done.stderr) == (1, True)

    def test_the_command_line_does_not_load_the_models_before_they_are_wanted(self):
        code = "import sys, agent.cli.main; assert 'agent.cloud.contract' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_the_examples_of_the_contract_are_valid_by_its_schemas():
    blocks = CONTRACT.read_text().split("```json\n")[1:]
    examples = [json.loads(block.split("```")[0]) for block in blocks]
    assert {message_name(e) for e in examples} >= {"plan", "frame", "ack", "event", "ledger", "status", "watermark"}
    assert {message_name(e): faults(e) for e in examples if faults(e)} == {}
    assert validator("plan")
