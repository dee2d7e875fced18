"""TLS at the server: which files it takes, which versions it speaks, and that it follows the files."""

import datetime as dt
import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serving import settings, tls
from tests.serving.serving_support import Client, Made, Served, request

POST = request("POST", "/invocations", b"1.5,200,7", "text/csv")


def write_pair(directory: Path, serial: int = 1, *, password: bytes | None = None) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 that signs itself, and its key."""
    directory.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    cert_file, key_file = directory / "tls.crt", directory / "tls.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    return cert_file, key_file


class SecureClient(Client):
    """A client that trusts the certificate in a file and nothing else."""

    def __init__(self, port: int, trusted: Path, version: ssl.TLSVersion | None = None) -> None:
        super().__init__(port)
        context = ssl.create_default_context(cafile=trusted)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if version is not None:
            context.minimum_version = context.maximum_version = version
        self.tls = context.wrap_socket(self.socket, server_hostname="localhost")
        self.socket = self.tls


@pytest.fixture
def secure(serve: Callable[..., Served], plain: Made, tmp_path: Path) -> Served:
    cert_file, key_file = write_pair(tmp_path / "tls")
    served = serve(plain.directory, tls_cert_file=cert_file, tls_key_file=key_file, max_connections=20)
    served.wait_for("ready")
    return served


def test_https(secure: Served, tmp_path: Path) -> None:
    trusted = tmp_path / "tls" / "tls.crt"
    with SecureClient(secure.port, trusted) as client:
        assert client.tls.version() == "TLSv1.3"
        assert client.tls.selected_alpn_protocol() == "http/1.1"
        for _ in range(3):
            assert client.send(POST).receive().status == 200
        client.send(POST * 500)
        assert {client.receive().status for _ in range(500)} == {200}
        assert client.ask("GET", "/ping", Connection="close").status == 200
        assert client.ended()
    with SecureClient(secure.port, trusted, ssl.TLSVersion.TLSv1_2) as client:
        assert client.tls.version() == "TLSv1.2"
        assert client.send(POST).receive().status == 200
        # A refusal that comes before the request is whole arrives too.
        answer = client.send(
            b"POST /invocations HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999\r\n\r\n"
        ).receive()
        assert answer.status == 413
    # Neither another protocol nor a client that goes halfway leaves a trace.
    with Client(secure.port) as plain_client, pytest.raises((EOFError, OSError)):
        plain_client.ask("GET", "/ping")
    with socket.create_connection(("127.0.0.1", secure.port)) as silent:
        silent.sendall(b"\x16\x03\x01\x02")
    assert secure.terminate() == 0
    events = secure.events()
    assert not [event for event in events if event["level"] == "error"]
    assert events[-1] == {**events[-1], "event": "drained", "connections_cut": 0}


def test_changed_files_are_taken(secure: Served, tmp_path: Path) -> None:
    directory = tmp_path / "tls"
    old = write_pair(tmp_path / "old")[0]
    old.write_bytes((directory / "tls.crt").read_bytes())
    with SecureClient(secure.port, old) as before:
        (directory / "tls.crt").write_bytes(b"half of a certificate")
        secure.wait_for("certificate not reloaded")
        with SecureClient(secure.port, old) as still:
            assert still.send(POST).receive().status == 200
        write_pair(directory, serial=2)
        secure.wait_for("certificate reloaded")
        with SecureClient(secure.port, directory / "tls.crt") as after:
            assert after.send(POST).receive().status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            SecureClient(secure.port, old)
        assert before.send(POST).receive().status == 200


def test_what_waited_is_known_behind_tls(serve: Callable[..., Served], plain: Made, tmp_path: Path) -> None:
    cert_file, key_file = write_pair(tmp_path / "tls")
    served = serve(plain.directory, tls_cert_file=cert_file, tls_key_file=key_file, max_queue_seconds=0.1)
    served.wait_for("ready")
    with SecureClient(served.port, cert_file) as client:
        served.process.send_signal(signal.SIGSTOP)
        client.send(POST)
        time.sleep(0.3)
        served.process.send_signal(signal.SIGCONT)
        assert client.receive().status == 503
        assert client.send(POST).receive().status == 200


def chosen(cert_file: Path, key_file: Path) -> settings.Settings:
    return settings.from_environment(
        {"SERVING_TLS_CERT_FILE": str(cert_file), "SERVING_TLS_KEY_FILE": str(key_file)}
    )


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    cert_file, key_file = write_pair(tmp_path / "one")
    other = write_pair(tmp_path / "other")[1]
    encrypted = write_pair(tmp_path / "encrypted", password=b"secret")
    garbage = tmp_path / "garbage"
    garbage.write_text("x")
    assert tls.certificate(chosen(cert_file, key_file)) is not None
    assert tls.certificate(settings.Settings()) is None
    for pair, reason in (
        ((tmp_path / "none", key_file), "^SERVING_TLS_CERT_FILE: .*none: No such file"),
        ((cert_file, tmp_path / "none"), "^SERVING_TLS_KEY_FILE: .*none: No such file"),
        ((tmp_path, key_file), "^SERVING_TLS_CERT_FILE: .*Is a directory"),
        ((cert_file, other), "^SERVING_TLS_KEY_FILE: .* is not this certificate's key"),
        ((cert_file, garbage), "^SERVING_TLS_KEY_FILE: .* not PEM"),
        (encrypted, "^SERVING_TLS_KEY_FILE: .* not PEM"),
    ):
        with pytest.raises(settings.SettingsError, match=reason):
            tls.certificate(chosen(*pair))
    with pytest.raises(settings.SettingsError, match=r"^SERVING_TLS_KEY_FILE: is missing"):
        settings.from_environment({"SERVING_TLS_CERT_FILE": str(cert_file)})
