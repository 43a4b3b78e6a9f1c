"""What coverage-guided fuzzing aims at: every parser that meets the outside, each with what must hold of its answer.

A target takes any bytes. It raises `Wrong` where an answer breaks a promise, and lets through whatever else the parser
raises: both are findings. `tests.fuzz.guided` searches with them, the tests replay what it kept in `corpus/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")


class Wrong(AssertionError):  # noqa: N818 - named for what it says
    """An answer that breaks a promise; the text says which."""


def hold(condition: object, promise: str) -> None:
    """Raises `Wrong` with the promise unless it is kept."""
    if not condition:
        raise Wrong(promise)


@dataclass(frozen=True)
class Target:
    """One parser: what it says of itself, and the words that an attacker would use."""

    module: str
    """Its function is `target(payload)` of this name in it."""
    words: tuple[bytes, ...] = ()
    longest: int = 4096
    """Bytes of an input of the search; longer ones are the business of `tests.fuzz.cloud_messages`."""


_JSON = (b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-1", b"1e999", b"NaN", b"\\ud800", b"\\u0000")
_SENT = (*_JSON, b'"schema":"1.0"', b'"site_id":"demo-01"', b'"version"', b'"issued_at"', b"2024-01-15T03:00:00Z", b'"kW"',
         b'"unit"', b'"start"', b'"end"', b'"1.7"')  # fmt: skip
_TOML = (
    b"\n[",
    b"]\n",
    b" = ",
    b"'''",
    b'"""',
    b"[[",
    b"]]",
    b"inf",
    b"nan",
    b"1e999",
    b"0x",
    b"9" * 320,
    b"1979-05-27",
)
TARGETS: dict[str, Target] = {
    "plan": Target(
        "documents",
        (*_SENT, b'"rolling"', b'"yearly"', b'"slot_s"', b'"positive"', b'"export"', b'"import"', b'"target"', b'"battery"',
         b'"grid"', b'"power"', b'"slot_start"', b'"soc_end_pct"', b'"price"', b'"imbalance_price"', b"\x1f\x8b", b"\x28\xb5\x2f\xfd"),
    ),
    "orders": Target(
        "documents",
        (*_SENT, b'"awards"', b'"curtailments"', b'"outages"', b'"id"', b'"product"', b'"fcr"', b'"direction"', b'"both"',
         b'"up"', b'"down"', b'"export_limit"', b'"import_limit"', b'"device"'),
    ),
    "command": Target(
        "documents",
        (*_SENT, b'"id"', b'"type"', b'"expires_at"', b'"params"', b'"duration_s"', b'"set_power"', b'"hold"', b'"neutral"',
         b'"release"', b'"narrow_limits"', b'"live"', b'"resend"', b'"report"', b'"fcr_evidence"', b'"from_seq"', b'"to_seq"',
         b'"stream"', b'"from"', b'"to"', b'"discharge_limit"', b'"charge_limit"'),
    ),
    "watermark": Target("documents", (*_SENT, b'"stored"', b'"telemetry"', b'"ack"', b'"event"', b'"ledger"'), 1024),
    "signed": Target("documents", (b"eyJ", b".", b"==", b"alg", b"kid", b"Ed25519", b"none", b"crit"), 1024),
    "profile": Target(
        "files",
        (*_TOML, b"[points.", b"address", b"type", b'"u16"', b'"f32"', b'"string"', b"length", b"scale", b"scale_from", b"offset",
         b"sentinels", b"plausible", b"values", b"bits", b"write", b'"stored"', b"function", b"[battery]", b"[meter]", b"[pv]",
         b"power_w", b"control", b"dead_man", b"setpoint", b"identity", b"check", b"matches", b"reads", b"blocks", b"unit_ids",
         b"word_order", b'"low_first"', b"sum", b"product", b"smallest", b"first"),
    ),
    "site_file": Target(
        "files",
        (*_TOML, b"[site]", b"[[device]]", b"[connection_point]", b"[control]", b"[cloud]", b"[[product]]", b"[replan]", b"[store]",
         b"role", b'"battery"', b'"meter"', b'"pv"', b"url", b'"tcp://', b'"serial:///dev/', b'"rtu+tcp://', b'"tls://', b"unit_id",
         b"rated_power", b'" kW"', b'" %"', b'" s"', b'"0.1 Hz"', b"derating", b"points", b"preset", b"broker", b'"mqtts://',
         b'"wss://', b"signing_key", b"timezone", b"shared_inverter", b"profile"),
    ),
    "modbus_tcp": Target("modbus", (b"\x00\x01\x00\x00", b"\x83\x02", b"\x03\x04", b"\x10", b"\xff\xff"), 300),
    "modbus_rtu": Target("modbus", (b"\x01\x83\x02", b"\x03\x04", b"\x06", b"\x10", b"\xff\xff"), 300),
    "device": Target(
        "modbus",
        (b"SunS", b"\x00\x01\x00\x42", b"\x02\xbd", b"\x02\xc9", b"\x02\xc0", b"\x00\x7c", b"\xff\xff\x00\x00", b"\x80\x00", b"\x7f\xc0\x00\x00"),
        2_600,
    ),
    "row": Target("rows", (*_JSON, b"\nt\n", b"\nb\n", b"\ni\n", b"\nr\n", b"\nn\n", b"9" * 320, b"Infinity", b"[" * 300), 2048),
    "socket": Target(
        "socket",
        (*_JSON, b'"cmd"', b'"status"', b'"timeline"', b'"past"', b'"ahead"', b'"slots"', b'"from_utc_s"', b'"to_utc_s"', b'"limit"',
         b'"override_set"', b'"power_w"', b'"duration_s"', b'"reason"', b'"device_id"', b'"bess"', b'"points"', b'"document"',
         b'"device_write"', b'"point"', b'"value"', b'"device_read"', b'"events"', b'"evidence"', b'"ledger"'),
    ),
}  # fmt: skip
"""By name; the inputs that were kept of each are in `corpus/NAME/`."""


@cache
def target(name: str) -> Callable[[bytes], object]:
    """The function of a target; its part of the agent is imported now and not before."""
    module = import_module(f"tests.fuzz.target_{TARGETS[name].module}")
    found: Callable[[bytes], object] = module.FUNCTIONS[name]
    return found


def kept(name: str) -> list[Path]:
    """The inputs that were kept of a target, in the order of their names."""
    return sorted(path for path in (CORPUS / name).iterdir() if path.is_file())
