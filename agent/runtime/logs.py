"""Log lines as JSON on stderr; under journald each line carries its priority."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

JOURNAL_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog severities, as journald reads them from a leading `<N>`."""


def configure() -> None:
    """Sends structlog and the libraries' standard logging to stderr in one form."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, _line],
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[_without_record, _text_line], foreign_pre_chain=shared)
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    prefix = b"<%d>" % JOURNAL_PRIORITY.get(event.get("level", "info"), 6) if "JOURNAL_STREAM" in os.environ else b""
    return prefix + orjson.dumps(event, default=str)


def _text_line(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    return _line(logger, method, event).decode()


def _without_record(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event
