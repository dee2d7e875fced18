"""A pod's own certificate: usable, its own, and closed to others."""

import ssl
from pathlib import Path

import pytest

from serving import self_signed, settings, tls
from serving.settings import SettingsError


def files(directory: Path) -> tuple[Path, Path]:
    return directory / "tls.crt", directory / "tls.key"


def test_a_server_can_use_it_and_nobody_else_can_read_its_key(tmp_path: Path) -> None:
    cert, key = files(tmp_path)
    self_signed.make(cert, key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    assert key.stat().st_mode & 0o777 == 0o600
    # It is self-signed: whoever trusts exactly it can check it.
    trusting = ssl.create_default_context(cafile=str(cert))
    (known,) = trusting.get_ca_certs()
    assert known["issuer"] == known["subject"]


def test_every_start_has_another(tmp_path: Path) -> None:
    cert, key = files(tmp_path)
    self_signed.make(cert, key)
    first = (cert.read_bytes(), key.read_bytes())
    self_signed.make(cert, key)
    assert not set(first) & {cert.read_bytes(), key.read_bytes()}


def test_what_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = files(tmp_path)
    with pytest.raises(SettingsError, match=r"SERVING_TLS_SELF_SIGNED: .*nowhere"):
        self_signed.make(cert, tmp_path / "nowhere" / "tls.key")
    with pytest.raises(SettingsError, match="SERVING_TLS_SELF_SIGNED: "):
        self_signed.make(tmp_path / "nowhere" / "tls.crt", key)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="SERVING_TLS_SELF_SIGNED: openssl: No such file"):
        self_signed.make(cert, key)


def variables(directory: Path, **more: str) -> dict[str, str]:
    cert, key = files(directory)
    return {"SERVING_TLS_CERT_FILE": str(cert), "SERVING_TLS_KEY_FILE": str(key), **more}


def test_it_is_made_where_the_settings_ask_for_it(tmp_path: Path) -> None:
    asked = settings.from_environment(variables(tmp_path, SERVING_TLS_SELF_SIGNED="on"))
    assert tls.certificate(asked) is not None
    assert {path.name for path in tmp_path.iterdir()} == {"tls.crt", "tls.key"}


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    self_signed.make(*files(tmp_path))
    before = [path.read_bytes() for path in files(tmp_path)]
    assert tls.certificate(settings.from_environment(variables(tmp_path))) is not None
    assert [path.read_bytes() for path in files(tmp_path)] == before


def test_it_needs_to_know_where() -> None:
    with pytest.raises(SettingsError, match="SERVING_TLS_SELF_SIGNED: needs SERVING_TLS_CERT_FILE"):
        settings.from_environment({"SERVING_TLS_SELF_SIGNED": "on"})
