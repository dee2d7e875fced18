"""Measures the model server against what could be had at all and against other servers."""

import sys
from pathlib import Path

# The package `bundle` lies beside the training script, whose archive has it at its root.
_TRAINING = str(Path(__file__).resolve().parents[1] / "training")
if _TRAINING not in sys.path:
    sys.path.append(_TRAINING)
