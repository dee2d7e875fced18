"""`python launch.py PYTHON ARGS…`: become that program, with low priority, and end when the starter does.

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
os.nice(5)
os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606
