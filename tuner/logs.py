"""Log lines of the daemons: for people, or as JSON with the ids of what they are about."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_CHATTY = ("alembic", "httpcore", "httpx", "uvicorn")
# What every line has; the rest was given as `extra`.
_USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

_ids: ContextVar[Mapping[str, str]] = ContextVar("log_ids", default=MappingProxyType({}))


def configure(level: str, log_format: Format) -> None:
    """Write log lines to standard error.

    Parameters
    ----------
    level : str
        Least level, such as ``INFO``.
    log_format : str
        ``text`` for people, ``json`` for one object a line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level, handlers=[handler])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def identify(**ids: str | None) -> None:
    """Put ids on the JSON lines that follow in this context; None takes one off."""
    merged = {**_ids.get(), **ids}
    _ids.set(MappingProxyType({name: value for name, value in merged.items() if value is not None}))


@contextmanager
def identified(**ids: str | None) -> Iterator[None]:
    """Put ids on the JSON lines within."""
    token = _ids.set(_ids.get())
    try:
        identify(**ids)
        yield
    finally:
        _ids.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, ids, and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_ids.get(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
