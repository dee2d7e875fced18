"""What goes wrong with a request."""

import orjson

from serving.responses import RETRY


class RequestError(Exception):
    """A request that is refused: the HTTP status, the reason, and where in the request it is.

    `row` counts from 1, in CSV and in JSON alike.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        *,
        row: int | None = None,
        column: str | None = None,
        headers: bytes = b"",
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.row = row
        self.column = column
        self.headers = headers

    @property
    def message(self) -> str:
        """The whole reason in one sentence, with row and column."""
        where = [f"row {self.row}"] if self.row is not None else []
        if self.column is not None:
            where.append(f"column {self.column!r}")
        return f"{', '.join(where)}: {self.reason}" if where else self.reason

    def body(self) -> bytes:
        """Return the JSON answer: the whole reason in `error`, its parts beside it."""
        answer: dict[str, object] = {"error": self.message}
        if self.row is not None:
            answer["row"] = self.row
        if self.column is not None:
            answer["column"] = self.column
        return orjson.dumps(answer)


class TurnedAwayError(RequestError):
    """A request that is well but met a limit; `cause`, one of `metrics.CAUSES`, says which."""

    def __init__(self, cause: str, reason: str) -> None:
        super().__init__(503, reason, headers=RETRY)
        self.cause = cause
