"""Log lines for machines: one JSON object a line, or key=value pairs.  Callers pass fields, never secrets or values."""

from __future__ import annotations

import json
import logging
import time
from typing import Final, TextIO

_ROOT: Final = "secagg.net"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(line, default=str)


class _Pairs(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        pairs = (f"{key}={json.dumps(value, default=str)}" for key, value in getattr(record, "fields", {}).items())
        return " ".join((clock, record.levelname.lower(), record.getMessage(), *pairs))


def configure(stream: TextIO, *, as_json: bool, level: int = logging.INFO) -> None:
    """Send the service's log lines to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonLines() if as_json else _Pairs())
    logger = logging.getLogger(_ROOT)
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
