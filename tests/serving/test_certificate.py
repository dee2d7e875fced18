"""A pod's own certificate: usable, its own, and closed to others."""

import ssl
from pathlib import Path

import pytest

from serving import certificate
from serving.settings import SettingsError


def files(directory: Path) -> tuple[Path, Path]:
    return directory / "tls.crt", directory / "tls.key"


def test_a_server_can_use_it_and_nobody_else_can_read_its_key(tmp_path: Path) -> None:
    cert, key = files(tmp_path)
    certificate.make(cert, key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    assert key.stat().st_mode & 0o777 == 0o600
    # It is self-signed: whoever trusts exactly it can check it.
    trusting = ssl.create_default_context(cafile=str(cert))
    (known,) = trusting.get_ca_certs()
    assert known["issuer"] == known["subject"]


def test_every_start_has_another(tmp_path: Path) -> None:
    cert, key = files(tmp_path)
    certificate.make(cert, key)
    first = (cert.read_bytes(), key.read_bytes())
    certificate.make(cert, key)
    assert not set(first) & {cert.read_bytes(), key.read_bytes()}


def test_what_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = files(tmp_path)
    with pytest.raises(SettingsError, match=r"SERVING_TLS_SELF_SIGNED: .*nowhere"):
        certificate.make(cert, tmp_path / "nowhere" / "tls.key")
    with pytest.raises(SettingsError, match="SERVING_TLS_SELF_SIGNED: "):
        certificate.make(tmp_path / "nowhere" / "tls.crt", key)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="SERVING_TLS_SELF_SIGNED: openssl: No such file"):
        certificate.make(cert, key)
