"""What tells of single requests: the request log and traces, as the settings and the environment have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving import log, tracing
from serving.access import RequestLog
from serving.metrics import head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from serving.observe import Watch
    from serving.server import Listener
    from serving.settings import Settings
    from serving.trace_export import TraceExport


class Telemetry:
    """Who is told of requests: `watches` of predictions, `listeners` of all other answers.

    What is switched off is not there, and costs nothing.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str], writer: log.Writer) -> None:
        self.watches: list[Watch] = []
        self.listeners: list[Listener] = []
        self._counters: list[tuple[str, str, Callable[[], float]]] = [
            (
                "trainserve_log_lines_dropped_total",
                "Lines of the log that were lost because nobody read it.",
                lambda: writer.dropped,
            )
        ]
        self._export: TraceExport | None = None
        # Traces before the log, which names them.
        self._trace(settings, environment)
        self._log_requests(settings, writer)

    def lines(self) -> Iterator[str]:
        """Give the metrics of what was lost."""
        for name, text, read in self._counters:
            yield from head(name, "counter", text)
            yield f"{name} {read()}"

    def close(self, seconds: float) -> None:
        """Export the last spans, at most so long."""
        if self._export is not None:
            self._export.close(seconds)

    def _trace(self, settings: Settings, environment: Mapping[str, str]) -> None:
        try:
            sampling = tracing.from_environment(environment)
        except tracing.SettingError as error:
            log.warning("no traces", reason=str(error))
            return
        if sampling is None:
            return
        from serving.trace_export import TraceExport  # noqa: PLC0415  nothing of it is needed without traces

        export = self._export = TraceExport("http" if settings.tls_cert_file is None else "https")
        traces = tracing.Traces(sampling, export)
        self.watches.append(traces.watch)
        self.listeners.append(traces.answered)
        self._counters += [
            ("trainserve_spans_exported_total", "Spans that arrived.", lambda: export.exported),
            (
                "trainserve_spans_dropped_total",
                "Spans that were lost: the endpoint did not take them.",
                lambda: export.dropped,
            ),
        ]
        log.info("tracing", share=sampling.share, parent_based=sampling.parent_based)

    def _log_requests(self, settings: Settings, writer: log.Writer) -> None:
        if settings.log_requests == "off":
            return
        lines = RequestLog(writer, every=settings.log_requests == "on")
        self.listeners.append(lines.answered)
        if settings.log_requests == "on":
            self.watches.append(lines.watch)
        self._counters.append(
            (
                "trainserve_log_lines_suppressed_total",
                "Lines about refused requests that were left out, to not fill the log.",
                lambda: lines.suppressed,
            )
        )
