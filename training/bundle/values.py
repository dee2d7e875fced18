"""What one raw value means, wherever it comes from: a CSV field, a JSON value or a cell of a Parquet file.

Standard library only. Each function raises `ValueError` with the reason when a value must be refused.
"""

import math
import re
from datetime import datetime, timedelta
from typing import Final

MISSING: Final = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"})
"""The texts that stand for no value."""

# XGBoost computes in 32-bit floats: a larger number would become infinite inside the model.
_LARGEST: Final = 3.4028234663852886e38
_TRUTH: Final = {"true": 1.0, "false": 0.0}
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - all times are UTC, without saying so
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+", re.ASCII)
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?:Z|([+-])(\d\d):?(\d\d))?)?",
    re.ASCII,
)


def number(value: object) -> float:
    """Return a finite number, or NaN for a missing value; true and false are 1 and 0."""
    if isinstance(value, str):
        text = value.strip()
        if text in MISSING:
            return math.nan
        found = _number_of_text(text)
    elif value is None:
        return math.nan
    elif isinstance(value, int | float):
        if value != value:  # noqa: PLR0124 - NaN
            return math.nan
        found = value
    else:
        raise ValueError(f"{value!r:.80} is not a number")
    if not -_LARGEST <= found <= _LARGEST:
        raise ValueError(f"{value!r:.80} is not a number that the model can hold")
    return float(found)


def category(value: object) -> str | None:
    """Return a category's text, or None for a missing value; 1 and 1.0 are both "1", True is "true"."""
    if isinstance(value, str):
        text = value.strip()
        if text in MISSING:
            return None
        if text.lower() in _TRUTH:
            return text.lower()
        whole = _WHOLE.fullmatch(text)
        return whole[1] if whole else text
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(int(value)) if value == value // 1 and abs(value) < 2**53 else repr(value)
    raise ValueError(f"{value!r:.80} is neither a text nor a number")


def timestamp(value: object) -> int | None:
    """Return an ISO 8601 time in microseconds since 1970, or None if missing; UTC where no zone is given."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        if text in MISSING:
            return None
        if (match := _TIMESTAMP.fullmatch(text)) and (found := _microseconds(match)) is not None:
            return found
    raise ValueError(f"{value!r:.80} is not an ISO 8601 timestamp")


def _number_of_text(text: str) -> float:
    if (truth := _TRUTH.get(text.lower())) is not None:
        return truth
    try:
        # float() also reads underscores and the digits of other scripts, which no CSV reader does.
        if "_" not in text and text.isascii():
            return float(text)
    except ValueError:
        pass
    raise ValueError(f"{text!r:.80} is not a number")


def _microseconds(match: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups(
        default="0"
    )
    try:
        moment = datetime(  # noqa: DTZ001 - see _EPOCH
            int(year),
            int(month),
            int(day),
            int(hour),
            int(minute),
            int(second),
            int(fraction[:6].ljust(6, "0")),
        )
    except ValueError:
        return None
    zone = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
    return (moment - _EPOCH + (zone if sign == "-" else -zone)) // timedelta(microseconds=1)
