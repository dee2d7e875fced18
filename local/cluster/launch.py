"""Started before a pod's process: sees to it that the process cannot outlive the runtime.

`python launch.py <parent's process id> <program> <arguments…>`, standard library only, and run by file name,
so that it costs some milliseconds. On Linux the kernel is asked, and this process becomes the program;
elsewhere it stays, watches the parent, and passes signals on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.5


def main(parent: int, command: list[str]) -> int:
    """Become `command`, or watch over it; 127 if it cannot be started."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return 1  # it ended before the kernel knew
        try:
            os.execvp(command[0], command)  # noqa: S606
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            return 127
    return _watch(parent, command)


def _watch(parent: int, command: list[str]) -> int:
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: process.send_signal(received))
    while (code := process.poll()) is None:
        if os.getppid() != parent:
            process.kill()
        time.sleep(_POLL_S)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
