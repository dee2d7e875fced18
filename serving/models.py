"""The models in service: loaded from bundle directories, at start or by request, and unloaded."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from bundle.format import BundleError
from serving import log, model, responses
from serving.batch import Batcher
from serving.errors import RequestError
from serving.metrics import Metrics, ModelMetrics
from serving.observe import Audience, Shadow, ShadowReply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from serving.batch import Reply
    from serving.model import Model
    from serving.observe import Watch
    from serving.settings import Settings


class Entry:
    """A model in service: what it is called here, where it came from, and its batcher."""

    def __init__(self, name: str, url: str, loaded: Model) -> None:
        self.name = name
        self.url = url
        self.model = loaded
        self.identity = responses.identity(loaded.name, loaded.version, loaded.digest)
        self.metrics = ModelMetrics({"name": loaded.name, "version": loaded.version, "digest": loaded.digest})
        self.batcher = Batcher(loaded, self.metrics)
        self.replies: dict[object, Reply] = {}  # of each format, for whoever makes them


class Models:
    """The models by name, and which of them answers a request that names none.

    `changed` is called after a model has come or gone: what was worked out from the names is then void.
    Each of `watches` is asked for an observer of every model that comes into service.
    `unready` is why this worker is not ready, or None; `told` is called with whether it is, and
    `others_unready` returns why the others are not.
    """

    def __init__(self, settings: Settings, metrics: Metrics, watches: Sequence[Watch] = ()) -> None:
        self.entries: dict[str, Entry] = {}
        self.changed: Callable[[], None] = lambda: None
        self.told: Callable[[bool], None] = lambda _: None
        self.others_unready: Callable[[], str | None] = lambda: None
        self.unready: str | None = "the model is being loaded"
        self._settings = settings
        self._metrics = metrics
        self._watches = watches
        self._loading: set[str] = set()
        self._names, weights = zip(*settings.split, strict=True) if settings.split else ((), ())
        self._steps = list(accumulate(weights))

    def get(self, name: str) -> Entry:
        """Return a model by its name here; raises `RequestError`."""
        entry = self.entries.get(name)
        if entry is None:
            self.check()
            raise RequestError(404, f"there is no model {name[:80]!r}")
        return entry

    def check(self) -> None:
        """Raise `RequestError` (503) unless the models that were asked for at start are there."""
        if self.unready is not None:
            raise RequestError(503, self.unready, headers=responses.RETRY)

    def check_everywhere(self) -> None:
        """Raise `RequestError` (503) unless these models, and those of the other workers, are there.

        A request may reach any worker, so the server is ready only when all are.
        """
        self.check()
        reason = self.others_unready()
        if reason is not None:
            raise RequestError(503, reason, headers=responses.RETRY)

    def default(self) -> Entry | None:
        """Return the model of requests that name none, or None if `draw` chooses; raises `RequestError`."""
        self.check()
        if self._names:
            return None
        name = self._settings.default_model
        if not name and len(self.entries) > 1:
            raise RequestError(400, "there are several models: name one in the path or the header X-Model")
        if not name and not self.entries:
            raise RequestError(404, "there are no models")
        return self.get(name or next(iter(self.entries)))

    def draw(self) -> Entry:
        """Choose a model at random, by its share; raises `RequestError`."""
        # random() * total may round up to the total.
        place = bisect_right(self._steps, random.random() * self._steps[-1])  # noqa: S311
        return self.get(self._names[min(place, len(self._steps) - 1)])

    async def load(self, name: str, directory: Path, url: str = "") -> Entry:
        """Load, verify and prove a bundle beside the event loop, then put it into service.

        Raises `NoModelError` or `BundleError` as `model.load` does, and `RequestError` when the name is
        taken or there is no room.
        """
        if name in self.entries or name in self._loading:
            raise RequestError(409, f"there is a model {name!r} already")
        if len(self.entries) + len(self._loading) >= self._settings.max_models:
            raise RequestError(507, f"there is room for {self._settings.max_models} models")
        self._loading.add(name)
        try:
            loaded = await asyncio.to_thread(
                model.load, directory, self._settings.max_rows, self._settings.predictor
            )
        finally:
            self._loading.discard(name)
        entry = Entry(name or loaded.name, url or str(directory), loaded)
        if self._watches:
            # A shadow's record has the id of the answer's, which must have been given by then.
            at_once = bool(self._settings.shadow)
            entry.batcher.audience = Audience([watch(entry) for watch in self._watches], at_once=at_once)
        self.entries[entry.name] = entry
        self._arrange()
        log.info(
            "model loaded",
            name=entry.name,
            model=loaded.name,
            version=loaded.version,
            digest=loaded.digest,
            predictor=loaded.predictor,
            because=loaded.predictor_reason or "proven equal",
        )
        return entry

    def check_names(self) -> None:
        """Raise `BundleError` if the settings name a model that is not there."""
        settings = self._settings
        names = [("SPLIT", name) for name in self._names]
        names += [("SHADOW", settings.shadow), ("DEFAULT_MODEL", settings.default_model)]
        for variable, name in names:
            if name and settings.preload and name not in self.entries:
                raise BundleError(f"SERVING_{variable}: there is no model {name!r}")

    def set_ready(self, unready: str | None = None) -> None:
        """Be ready, or not for this reason."""
        self.unready = unready
        self.told(unready is None)
        self.changed()

    def unload(self, name: str) -> Entry:
        """Take a model out of service; what waits for it is still answered. Raises `RequestError`."""
        entry = self.get(name)
        del self.entries[name]
        self._arrange()
        log.info("model unloaded", name=name)
        return entry

    def tell_observers(self) -> None:
        """Have observers told of all that has been answered, before the server ends."""
        for entry in self.entries.values():
            if entry.batcher.audience is not None:
                entry.batcher.audience.flush()

    def _arrange(self) -> None:
        """Bring up to date what depends on which models there are."""
        self._metrics.models = {name: entry.metrics for name, entry in self.entries.items()}
        challenger = self.entries.get(self._settings.shadow)
        for entry in self.entries.values():
            entry.batcher.shadow = None
            if challenger is not None and challenger is not entry:
                entry.batcher.shadow = self._shadow(challenger, entry)
        self.changed()

    def _shadow(self, challenger: Entry, of: Entry) -> Shadow | None:
        columns = [(column.name, column.type) for column in challenger.model.columns]
        if columns != [(column.name, column.type) for column in of.model.columns]:
            log.warning("no shadow", reason="the columns differ", challenger=challenger.name, model=of.name)
            return None
        metrics = challenger.metrics

        def failed() -> None:
            self._metrics.requests["shadow", 400] += 1

        reply = ShadowReply(metrics.seconds("shadow"))
        return Shadow(challenger.batcher, self._settings.shadow_fraction, reply, failed)
