"""The contract as documents: JSON Schemas, AsyncAPI 3, and the tables of docs/contract.md, all from the wire models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from agent.cloud.stamp import SCHEMA
from agent.cloud.wire import WatermarkMessage
from agent.cloud.wire_command import AnyCommandMessage
from agent.cloud.wire_fields import SITE_ID_PATTERN
from agent.cloud.wire_orders import AwardsMessage, CurtailmentsMessage, OutagesMessage
from agent.cloud.wire_plan import PlanMessage
from agent.cloud.wire_sent import (
    AckMessage,
    EventMessage,
    EvidenceMessage,
    ForecastMessage,
    FrameMessage,
    LedgerMessage,
    StatusMessage,
    WillMessage,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
COMMANDS: tuple[type[BaseModel], ...] = AnyCommandMessage.__args__
IN_EVERY_MESSAGE = ("schema", "site_id")
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic below `ems/v1/{site_id}/`."""

    topic: str
    retained: bool
    what: str
    messages: tuple[type[BaseModel], ...]

    @property
    def to_site(self) -> bool:
        """Whether the cloud publishes it."""
        return self.topic.startswith("cloud/")


CHANNELS = (
    Channel(
        "cloud/plan/rolling", True, "the next 48 hours; each document replaces the one before whole", (PlanMessage,)
    ),
    Channel(
        "cloud/plan/yearly",
        True,
        "the fallback for a year, used where the rolling plan says nothing",
        (PlanMessage,),
    ),
    Channel(
        "cloud/plan/awards",
        True,
        "primary reserve (FCR) that was sold; each document replaces the one before whole",
        (AwardsMessage,),
    ),
    Channel("cloud/plan/curtailments", True, "limits that the grid operator orders for a time", (CurtailmentsMessage,)),
    Channel(
        "cloud/plan/outages",
        True,
        "times in which devices, or the whole site, must stay at 0",
        (OutagesMessage,),
    ),
    Channel("cloud/command", False, "one thing to do, with its own expiry", COMMANDS),
    Channel(
        "cloud/watermark",
        True,
        "per stream, the highest sequence up to which the cloud has stored everything",
        (WatermarkMessage,),
    ),
    Channel("edge/status", True, "who decides, plans held, health; also the will", (StatusMessage, WillMessage)),
    Channel("edge/telemetry", False, "frames of measurements sealed while connected, and live ones", (FrameMessage,)),
    Channel(
        "edge/history",
        False,
        "frames of the same stream that were sealed earlier, or are sent again",
        (FrameMessage,),
    ),
    Channel("edge/ack", False, "what became of each document and command", (AckMessage,)),
    Channel("edge/event", False, "raised, cleared, noted", (EventMessage,)),
    Channel(
        "edge/ledger",
        False,
        "each finished slot: promised, delivered, and the paths that its energy took",
        (LedgerMessage,),
    ),
    Channel(
        "edge/forecast",
        True,
        "what the site will do: power and state of charge per slot, deliverability of each award",
        (ForecastMessage,),
    ),
    Channel("edge/evidence", False, "seconds of frequency response that a command asked for", (EvidenceMessage,)),
)
MODELS = tuple(dict.fromkeys(model for channel in CHANNELS for model in channel.messages))


def name_of(model: type[BaseModel]) -> str:
    """The model's name in the contract: `plan`, `set_power`, `ack`."""
    words = model.__name__.removesuffix("Message")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in words).lstrip("_")


def schemas() -> dict[str, dict[str, Any]]:
    """A JSON Schema for each message, by name, each complete in itself."""
    return {
        name_of(model): {
            "$schema": DIALECT,
            "$id": f"urn:ems-agent:contract:{SCHEMA}:{name_of(model)}",
            **model.model_json_schema(),
        }
        for model in MODELS
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document of all topics, seen from the agent: it receives `cloud/...` and sends `edge/...`."""
    _, components = models_json_schema(
        [(model, "validation") for model in MODELS], ref_template="#/components/schemas/{model}"
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ems-agent: cloud contract",
            "version": SCHEMA,
            "description": (
                "MQTT 5 (3.1.1 accepted), QoS 1. Rules for every message, reasons of refusal, signatures and the "
                "frame format are in docs/contract.md of the agent."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_key(channel): _channel(channel) for channel in CHANNELS},
        "operations": {_key(channel): _operation(channel) for channel in CHANNELS},
        "components": {
            "schemas": components["$defs"],
            "messages": {name_of(model): _message(model) for model in MODELS},
            "parameters": {
                "site_id": {"description": f"1 to 64 of a-z, 0-9 and -: {SITE_ID_PATTERN}"},
            },
        },
    }


def _key(channel: Channel) -> str:
    return channel.topic.replace("/", "_")


def _channel(channel: Channel) -> dict[str, Any]:
    return {
        "address": f"ems/v1/{{site_id}}/{channel.topic}",
        "description": channel.what,
        "parameters": {"site_id": {"$ref": "#/components/parameters/site_id"}},
        "messages": {name_of(m): {"$ref": f"#/components/messages/{name_of(m)}"} for m in channel.messages},
    }


def _operation(channel: Channel) -> dict[str, Any]:
    return {
        "action": "receive" if channel.to_site else "send",
        "channel": {"$ref": f"#/channels/{_key(channel)}"},
        "messages": [{"$ref": f"#/channels/{_key(channel)}/messages/{name_of(m)}"} for m in channel.messages],
        "bindings": {"mqtt": {"qos": 1, "retain": channel.retained, "bindingVersion": "0.2.0"}},
    }


def _message(model: type[BaseModel]) -> dict[str, Any]:
    found = {
        "name": name_of(model),
        "summary": str(model.__doc__).splitlines()[0],
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
    }
    if model is FrameMessage:
        found |= {"contentType": "application/json+zstd"}
    return found


# Tables


def tables() -> dict[str, str]:
    """The tables of docs/contract.md by name: `topics`, and the fields of each message."""
    rows = [
        f"| `{c.topic}` | {'to' if c.to_site else 'from'} the site | {'yes' if c.retained else 'no'} | {c.what} |"
        for c in CHANNELS
    ]
    topics = "\n".join(["| topic | direction | retained | what |", "|---|---|---|---|", *rows])
    return {"topics": topics} | {name: fields_table(schema) for name, schema in schemas().items()}


def fields_table(schema: Schema) -> str:
    """Every field of a message as a row but those that all have: its place, its type, what it means."""
    fields = [field for field in _fields(schema, schema, "") if field[0] not in IN_EVERY_MESSAGE]
    rows = [f"| `{place}` | {kind} | {what} |" for place, kind, what in fields]
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])


def _fields(schema: Schema, root: Schema, prefix: str) -> Iterator[tuple[str, str, str]]:
    needed = schema.get("required", ())
    for name, found in schema["properties"].items():
        kind = _words(found, root)
        if name not in needed:
            kind = f"{kind}, optional"
        yield prefix + name, kind, found.get("description", "")
        inside, mark = _inside(found, root)
        if inside is not None and "properties" in inside:
            yield from _fields(inside, root, f"{prefix}{name}{mark}.")


def _resolved(schema: Schema, root: Schema) -> Schema:
    """What a reference stands for, with the description beside it."""
    if "$ref" not in schema:
        return schema
    found: Schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}


def _inside(schema: Schema, root: Schema) -> tuple[Schema | None, str]:
    """The object that is described below this field, and how its fields are marked."""
    for option in schema.get("anyOf", (schema,)):
        found = _resolved(option, root)
        if found.get("type") == "object" and "properties" in found and found.get("title") != "Deltas":
            return found, ""
        if found.get("type") == "array":
            return _inside(found["items"], root)[0], "[]"
    return None, ""


def _words(schema: Schema, root: Schema) -> str:
    found = _resolved(schema, root)
    if "anyOf" in found:
        return " or ".join(dict.fromkeys(_words(option, root) for option in found["anyOf"]))
    if "const" in found:
        return f"`{_json_word(found['const'])}`"
    if "enum" in found:
        return " or ".join(f"`{_json_word(value)}`" for value in found["enum"])
    kind = str(found.get("type", "any"))
    if kind == "array":
        items = _words(found["items"], root)
        return f"list of ({items})" if " or " in items else f"list of {items}"
    if kind == "object" and isinstance(found.get("additionalProperties"), dict):
        return f"by name: {_words(found['additionalProperties'], root)}"
    if found.get("title") == "Deltas":
        return "deltas"
    words = {"string": "time" if found.get("format") == "date-time" else "text", "boolean": "true or false"}
    return words.get(kind, kind) + _bounds(found)


def _json_word(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _bounds(schema: Schema) -> str:
    low = next(
        (
            f"{word} {schema[key]:g}"
            for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"))
            if key in schema
        ),
        "",
    )
    high = ""
    if schema.get("maximum", 2**53) < 2**53 - 1:
        high = f"to {schema['maximum']:g}"
    return "".join(f" {part}" for part in (low, high) if part)


def with_tables(text: str) -> str:
    """The text with what stands between `<!-- table NAME -->` and `<!-- end -->` made anew."""
    made = tables()
    head, *parts = text.split("<!-- table ")
    renewed = [head]
    for part in parts:
        name, _, rest = part.partition(" -->")
        _, end, after = rest.partition("<!-- end -->")
        renewed.append(f"{name} -->\n{made[name]}\n{end}{after}")
    return "<!-- table ".join(renewed)
