"""Errors as the Kubernetes API tells them: a `Status` object with code, reason and a sentence."""

from __future__ import annotations

from typing import Any

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    415: "UnsupportedMediaType",
    422: "Invalid",
}


class ApiError(Exception):
    """A request that is answered with a Kubernetes `Status`."""

    def __init__(
        self, code: int, message: str, *, reason: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or REASONS.get(code, "InternalError")
        self.details = details

    def status(self) -> dict[str, Any]:
        """The body of the answer."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            body["details"] = self.details
        return body


def not_found(qualified: str, name: str) -> ApiError:
    """404 for one object: `deployments.apps "x" not found`."""
    return ApiError(404, f'{qualified} "{name}" not found', details={"name": name, "kind": qualified})


def invalid(kind: str, name: str, problem: str) -> ApiError:
    """422: the object is understood but wrong."""
    return ApiError(422, f'{kind} "{name}" is invalid: {problem}', details={"name": name, "kind": kind})
