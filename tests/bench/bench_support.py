from bench.candidates import Kind
from bench.paced import Paced
from bench.results import Book, Measurement, PacedRun
from bench.wrk import Load


def load(rps: float, *, p95: float = 1.0, errors: int = 0) -> Load:
    return Load(
        requests=int(rps) + errors, seconds=1.0, p50_ms=p95 / 2, p95_ms=p95, p99_ms=p95 * 2, errors=errors
    )


def add(
    book: Book, name: str, spoken: str, figures: list[float], *, kind: Kind = "ours", rows: int = 1
) -> None:
    book.kinds[name] = kind
    book.measurements += [
        Measurement(candidate=name, format=spoken, rows=rows, round=number, load=load(rps), cpu_us=10.0)
        for number, rps in enumerate(figures)
    ]


def add_paced(book: Book, name: str, *, rps: float, p95: float, core: float, errors: int = 0) -> None:
    seen = Paced(rate=3500.0, rps=rps, p50_ms=0.1, p95_ms=p95, p99_ms=p95, errors=errors, core=core)
    book.paced.append(PacedRun(candidate=name, arrivals="even", seen=seen))
