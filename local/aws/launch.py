"""`python launch.py STARTER PYTHON ARGS…`: become that program, with low priority, and end when STARTER does.

Elsewhere a training job has a machine of its own: here it must not slow down who serves requests.
"""

import contextlib
import ctypes
import os
import signal
import sys

if sys.platform == "linux":
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG, kept by exec
if os.getppid() != int(sys.argv[1]):  # it ended before the kernel was asked to tell
    sys.exit(1)
os.nice(5)
os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606
