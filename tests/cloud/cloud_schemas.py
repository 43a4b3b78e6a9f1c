"""The contract's JSON Schemas as somebody else's validator reads them."""

from functools import cache

from jsonschema import Draft202012Validator

from agent.cloud.contract import schemas

OF_STREAM = {"telemetry": "frame", "full_rate": "frame", "ack": "ack", "event": "event", "ledger": "ledger"}
OF_TOPIC = {"edge/status": "status", "edge/forecast": "forecast", "edge/evidence": "evidence"}


@cache
def validator(name):
    schema = schemas()[name]
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def message_name(message):
    """Which message of the contract this example is."""
    if "stream" in message:
        return OF_STREAM[message["stream"]]
    if "type" in message:
        return message["type"]
    if "power" in message:
        return "plan"
    if "kind" in message:
        return message["kind"]
    if "online" in message:
        return "status" if message["online"] else "will"
    if "part" in message:
        return "evidence"
    return "forecast" if "slots" in message else "watermark"


def faults(message, name=None):
    """What is wrong with a message by its schema, as `place: text`."""
    found = validator(name or message_name(message)).iter_errors(message)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]
