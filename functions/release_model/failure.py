"""What a training job's failure reason says about the uploads. Pure."""

import json
import re
from typing import Any

_MARK = "REFUSED="
_STRING = r'"((?:[^"\\]|\\.)*)"'
_PAIR = re.compile(rf"{_STRING}\s*:\s*{_STRING}")
# The last pair of a text that was cut off: its path is whole, its reason may not be.
_CUT = re.compile(rf'{_STRING}\s*:\s*"((?:[^"\\]|\\.)*)\\?$')


def refusals(reason: str) -> dict[str, str]:
    """Return path → reason from `REFUSED={…}` in a failure reason, which may wrap it or cut it off."""
    found: dict[str, str] = {}
    for part in reason.split(_MARK)[1:]:
        # Some wrappers print the message as a quoted string.
        text = re.sub(r'\\(["\\])', r"\1", part) if part.startswith('{\\"') else part
        found.update(_object(text) or _pairs(text))
    return found


def _object(text: str) -> dict[str, str] | None:
    try:
        document: Any = json.JSONDecoder().raw_decode(text)[0]
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    return {str(path): str(why) for path, why in document.items()}


def _pairs(text: str) -> dict[str, str]:
    if not text.startswith("{"):
        return {}
    pairs = [(match[1], match[2]) for match in _PAIR.finditer(text)]
    cut = _CUT.search(text)
    if cut:
        pairs.append((cut[1], cut[2] + "…"))
    return {_unescape(path): _unescape(why) for path, why in pairs if path}


def _unescape(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text
