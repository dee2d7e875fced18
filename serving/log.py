"""The log: one JSON object a line on standard error."""

import logging
import time
from typing import Any

import orjson

_logger = logging.getLogger("serving")


class _JsonLines(logging.Formatter):
    """Formats a record as one line: time, level, event, and whatever the event carries."""

    def __init__(self, always: dict[str, object]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        seconds, milliseconds = divmod(int(record.created * 1000), 1000)
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **self._always,
        }
        line.update(getattr(record, "detail", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(level: str, **always: object) -> None:
    """Send everything, other libraries' records included, to standard error as JSON lines.

    `always` is what every line says besides.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines(always))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def debug(event: str, **detail: object) -> None:
    """Log what helps to find a mistake; costs little when it is not wanted."""
    if _logger.isEnabledFor(logging.DEBUG):
        _logger.debug(event, extra={"detail": detail})


def info(event: str, **detail: object) -> None:
    """Log something an operator wants to know."""
    _logger.info(event, extra={"detail": detail})


def warning(event: str, **detail: object) -> None:
    """Log something that is probably a mistake."""
    _logger.warning(event, extra={"detail": detail})


def error(event: str, exception: BaseException | None = None, **detail: object) -> None:
    """Log a failure, with the traceback of `exception` when it is given."""
    _logger.error(event, exc_info=exception, extra={"detail": detail})
