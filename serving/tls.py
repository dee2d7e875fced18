"""TLS at the server: its certificate and key, from files that may change while it runs."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Final

from serving import log, self_signed
from serving.settings import PREFIX, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from serving.settings import Settings

HANDSHAKE_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 1.0
# What tells one version of a file from another; a mounted secret changes by a link to another directory.
_Version = tuple[int, int, int]


class Certificate:
    """The context of new connections; `refresh` brings in files that have changed.

    Raises `SettingsError` for files that cannot be used.
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._files = (cert_file, key_file)
        self._versions = self._look()
        self.context = _context(cert_file, key_file)
        self._next_look = 0.0

    def refresh(self, now: float) -> None:
        """Take changed files for the connections to come; files that do not fit change nothing."""
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        try:
            versions = self._look()
            if versions == self._versions:
                return
            # A context that fails halfway is left without a key, so the files prove themselves on another.
            _context(*self._files)
            self.context.load_cert_chain(*self._files)
        except (SettingsError, OSError) as error:
            log.error("certificate not reloaded", reason=str(error))
            return
        self._versions = versions
        log.info("certificate reloaded", file=self._files[0])

    def _look(self) -> tuple[_Version, ...]:
        found: list[_Version] = []
        for name, path in zip(("CERT", "KEY"), self._files, strict=True):
            try:
                state = path.stat()
            except OSError as error:
                raise SettingsError(
                    f"{PREFIX}TLS_{name}_FILE: {path}: {os.strerror(error.errno or 0)}"
                ) from error
            found.append((state.st_ino, state.st_mtime_ns, state.st_size))
        return tuple(found)


def certificate(settings: Settings) -> Certificate | None:
    """Return the certificate that the settings name, if they do, made first if they say so.

    Raises `SettingsError`.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    if settings.tls_self_signed:
        self_signed.make(settings.tls_cert_file, settings.tls_key_file)
    return Certificate(settings.tls_cert_file, settings.tls_key_file)


def _context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and 1.3; raises `SettingsError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    for name, path in (("CERT", cert_file), ("KEY", key_file)):
        try:
            path.read_bytes()
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}TLS_{name}_FILE: {path}: {os.strerror(error.errno or 0)}"
            ) from error
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except ssl.SSLError as error:
        reason = (
            "is not this certificate's key"
            if error.reason == "KEY_VALUES_MISMATCH"
            else "not PEM that can be used"
        )
        raise SettingsError(
            f"{PREFIX}TLS_KEY_FILE: {key_file}: {reason} (with {PREFIX}TLS_CERT_FILE: {cert_file})"
        ) from error
    return context


def _no_password() -> str:
    """An encrypted key is refused: else OpenSSL would ask the terminal."""
    return ""
