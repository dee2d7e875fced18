"""A certificate of this process's own, for a load balancer that encrypts and does not ask who answers."""

import os
import subprocess
from pathlib import Path
from typing import Final

from serving.settings import PREFIX, SettingsError

_DAYS: Final = "3650"
_SECONDS: Final = 30.0


def make(cert_file: Path, key_file: Path) -> None:
    """Write a new key, for its owner's eyes only, and its certificate; raises `SettingsError`."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-noenc",
    ]
    command += ["-subj", "/CN=model-server", "-days", _DAYS, "-keyout", str(key_file), "-out", str(cert_file)]
    try:
        # The key's file is there, and closed to others, before anything is in it.
        os.close(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    except FileNotFoundError as error:
        reason = f"{error.filename}: {os.strerror(error.errno or 0)}"
        raise SettingsError(f"{PREFIX}TLS_SELF_SIGNED: {reason}") from error
    except OSError as error:
        raise SettingsError(f"{PREFIX}TLS_KEY_FILE: {key_file}: {os.strerror(error.errno or 0)}") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else "openssl was not done in time"
        raise SettingsError(f"{PREFIX}TLS_SELF_SIGNED: {reason}") from error
