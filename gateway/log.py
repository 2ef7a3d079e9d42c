"""Logging to stderr: one JSON object a line, or text for people.

Loggers are the standard library's; whatever a call passes in `extra` becomes a field of the line, `call_id` first of
all. Names and values may come from peers, so nothing in a line can begin another.
"""

import json
import logging
import sys
import time
from typing import Any

from gateway.config import LogConfig

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def setup(config: LogConfig) -> None:
    """Send everything from the configured level on to stderr, in the configured format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


class JsonFormatter(logging.Formatter):
    """`{"time": …, "level": …, "logger": …, "message": …, "call_id": …, …}`"""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON; what JSON does not know is shown as text."""
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = _extra(record)
        if "call_id" in fields:
            line["call_id"] = fields.pop("call_id")
        for key, value in fields.items():
            line[key if key not in line else f"{key}_"] = value
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, skipkeys=True)


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO gateway.app message call_id='…' …`"""

    def format(self, record: logging.LogRecord) -> str:
        """One line of text, and a traceback below it where there is one."""
        fields = "".join(f" {key}={value!r}" for key, value in _extra(record).items())
        message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in record.getMessage())
        line = f"{_time(record.created)} {record.levelname} {record.name} {message}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _time(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
