"""`python -m local …` in the background, its output as it comes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class Background:
    """A running command; `patience_s` is how long its words may take to come, `end_s` how long its end."""

    patience_s = 60.0
    end_s = 40.0

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local", *arguments],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.text += line

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + self.patience_s
        while words not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)

    def end(self, within_s: float | None = None) -> int:
        code = self.process.wait(within_s or self.end_s)
        self._reader.join(10)
        assert self.process.stdout
        self.process.stdout.close()
        return code
