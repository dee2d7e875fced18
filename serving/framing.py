"""What must hold of a request's head before its body is read: version, length, framing, host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from serving.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS: Final = frozenset(("1.0", "1.1"))
# Letters, digits and marks of a name or an address, and a port; or nothing at all.
_HOST: Final = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")


def check(version: str, headers: Mapping[bytes, bytes], most: int) -> None:
    """Raise `RequestError` unless a request with this head may send its body, of at most so many bytes."""
    if version not in VERSIONS:
        raise RequestError(400, f"HTTP version {version} is not supported")
    if version == "1.1" and b"host" not in headers:
        raise RequestError(400, "the Host header is missing")
    if not _HOST.fullmatch(headers.get(b"host", b"")):
        raise RequestError(400, "the Host header is not a host")
    coding = headers.get(b"transfer-encoding")
    # Whoever stands between may see the end of such a request elsewhere, and a second request in its body.
    if coding is not None and (coding.lower() != b"chunked" or version == "1.0"):
        raise RequestError(400, "Transfer-Encoding: only chunked is understood, and in HTTP/1.1 only")
    # The parser has seen that it is a number below 2**64; without its zeros Python reads it in any length.
    if int(headers.get(b"content-length", b"0").lstrip(b"0") or b"0") > most:
        raise too_large(most)


def too_large(most: int) -> RequestError:
    """Return the refusal of a body that is larger than allowed."""
    return RequestError(413, f"the body is larger than {most} bytes")
