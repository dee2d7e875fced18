"""XGBoost through its C interface, without its Python package.

`import xgboost` brings SciPy and more, takes most of a second and 25 MiB, and its `inplace_predict` spends
half of a one-row call on finding out what it was given. The library's documented C functions, which that
package calls too, load in milliseconds. The same library computes, so the predictions are the same bits.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import weakref
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from bundle.format import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOOSTERS: Final = ("gbtree", "dart")
"""What is served; `gblinear` has no prediction in place, and nothing here trains it."""

_NAMES: Final = {"win32": "xgboost.dll", "darwin": "libxgboost.dylib"}
_CONFIG: Final = (
    b'{"type":0,"training":false,"iteration_begin":0,"iteration_end":%d,'
    b'"missing":NaN,"strict_shape":false,"cache_id":0}'
)
_MATRIX: Final = (
    b'{"data":[%d,true],"shape":[%d,%d],"strides":null,"typestr":"'
    + np.dtype(np.float32).str.encode()
    + b'","version":3}'
)


class XGBoostError(Exception):
    """XGBoost refuses; the message is its own, without the stack."""


@cache
def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("xgboost")
    if spec is None or spec.origin is None:
        raise ImportError("XGBoost is not installed", name="xgboost")
    path = Path(spec.origin).parent / "lib" / _NAMES.get(sys.platform, "libxgboost.so")
    library = ctypes.CDLL(str(path))
    library.XGBGetLastError.restype = c_char_p
    library.XGBoosterPredictFromDense.argtypes = (
        c_void_p, c_char_p, c_char_p, c_void_p,
        POINTER(POINTER(c_uint64)), POINTER(c_uint64), POINTER(POINTER(c_float)),
    )  # fmt: skip
    library.XGBSetGlobalConfig(b'{"verbosity":0}')
    return library


def version() -> str:
    """Return the library's version."""
    parts = c_int(), c_int(), c_int()
    _library().XGBoostVersion(*map(byref, parts))
    return ".".join(str(part.value) for part in parts)


class Booster:
    """A model in XGBoost's memory, for one thread of computation a call; safe to use from several threads.

    `iterations` is how many rounds of boosting count: of a model that stopped early, those up to the best.
    """

    def __init__(self, path: Path | None = None, handle: c_void_p | None = None) -> None:
        self._library = _library()
        self._handle = handle or c_void_p()
        if handle is None:
            self._call("XGBoosterCreate", None, c_uint64(0), byref(self._handle))
        self._end = weakref.finalize(self, self._library.XGBoosterFree, self._handle)
        self._call("XGBoosterSetParam", self._handle, b"nthread", b"1")
        if path is not None:
            self._call("XGBoosterLoadModel", self._handle, str(path).encode())
        width, rounds = c_uint64(), c_int()
        self._call("XGBoosterGetNumFeature", self._handle, byref(width))
        self._call("XGBoosterBoostedRounds", self._handle, byref(rounds))
        best = self._attribute(b"best_iteration")
        self.width = width.value
        self.rounds = rounds.value
        self.iterations = rounds.value if best is None else min(int(best) + 1, rounds.value)
        # 0: all of them.
        self._config = _CONFIG % (self.iterations if self.iterations < self.rounds else 0)

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the predictions, (rows,) or (rows, classes), of a C-contiguous matrix; NaN is missing."""
        shape, dimensions, found = POINTER(c_uint64)(), c_uint64(), POINTER(c_float)()
        self._call(
            "XGBoosterPredictFromDense", self._handle, _MATRIX % (matrix.ctypes.data, *matrix.shape),
            self._config, None, byref(shape), byref(dimensions), byref(found),
        )  # fmt: skip
        size = tuple(shape[: dimensions.value])
        # XGBoost overwrites its result at the next call.
        return np.ctypeslib.as_array(found, shape=size).copy()

    def config(self) -> bytes:
        """Return what XGBoost says of the model's kind, as JSON."""
        length, text = c_uint64(), c_char_p()
        self._call("XGBoosterSaveJsonConfig", self._handle, byref(length), byref(text))
        return text.value or b""

    def sliced(self, step: int = 1) -> Booster:
        """Return a model of the iterations that count, or of every `step`th of them."""
        handle = c_void_p()
        self._call("XGBoosterSlice", self._handle, 0, self.iterations, step, byref(handle))
        return Booster(handle=handle)

    def save(self, form: str) -> bytes:
        """Return the model as `json` or `ubj`."""
        length, data = c_uint64(), c_void_p()
        config = b'{"format":"%b"}' % form.encode()
        self._call("XGBoosterSaveModelToBuffer", self._handle, config, byref(length), byref(data))
        return ctypes.string_at(data, length.value)

    def _attribute(self, name: bytes) -> str | None:
        value, there = c_char_p(), c_int()
        self._call("XGBoosterGetAttr", self._handle, name, byref(value), byref(there))
        return (value.value or b"").decode() if there.value else None

    def _call(self, function: str, *arguments: Any) -> None:  # noqa: ANN401  whatever the C function takes
        if getattr(self._library, function)(*arguments) != 0:
            message = (self._library.XGBGetLastError() or b"").decode(errors="replace").strip()
            raise XGBoostError(message.partition("\n")[0])


def load(path: Path, width: int) -> Booster:
    """Load a bundle's model, which takes `width` features; raises `BundleError`."""
    try:
        booster = Booster(path)
    except XGBoostError as error:
        raise BundleError(f"{path.name}: cannot be loaded: {error}") from error
    kind = orjson.loads(booster.config())["learner"]["gradient_booster"]["name"]
    if kind not in BOOSTERS:
        raise BundleError(f"{path.name}: the booster is {kind}; want {' or '.join(BOOSTERS)}")
    if booster.width != width:
        raise BundleError(f"{path.name}: has {booster.width} features, but bundle.json has {width}")
    return booster
