"""Who a request is about, as captures name it: hashed with a secret key, never as it came."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from serving.settings import SettingsError

if TYPE_CHECKING:
    from serving.settings import Settings

_SHORTEST_KEY = 16


def hashed(key: bytes, subject: bytes) -> str:
    """Return the name of a subject in captures: its HMAC-SHA256, in hexadecimal digits."""
    return hmac.digest(key, subject, "sha256").hex()


def read_key(settings: Settings) -> bytes | None:
    """Read the key, a file's text without white space around it; None if none is set or nothing captured.

    Raises `SettingsError`.
    """
    path = settings.subject_key_file
    if path is None or not settings.captures:
        return None
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"SERVING_SUBJECT_KEY_FILE: {path}: {error.strerror}") from error
    if len(key) < _SHORTEST_KEY:
        raise SettingsError(f"SERVING_SUBJECT_KEY_FILE: {path}: want a key of at least {_SHORTEST_KEY} bytes")
    return key
