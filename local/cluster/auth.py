"""Who asks: the local engine by its token, everyone else as EKS knows them, by a presigned STS request."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import aiohttp

from local.cluster.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

MASTERS = "system:masters"
_AUTHENTICATED = "system:authenticated"
_TOKEN_PREFIX = "k8s-aws-v1."  # noqa: S105 - a public prefix
_CLUSTER_HEADER = "x-k8s-aws-id"
_PARAMETERS = frozenset(
    {
        "action",
        "version",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)
_LONGEST_S = 900
_LIFETIME = timedelta(minutes=15)
_STS_TIMEOUT_S = 5
_ASSUMED = re.compile(r"^arn:(aws[\w-]*):sts::(\d{12}):assumed-role/(?:.*/)?([^/]+)/([^/]+)$")
_IAM = re.compile(r"^arn:(aws[\w-]*):iam::(\d{12}):(role|user)/(?:.*/)?([^/]+)$")
_ARN_IN_XML = re.compile(r"<Arn>([^<]+)</Arn>")


class TokenError(Exception):
    """A bearer token that proves nothing; says why, for the log only."""


@dataclass(frozen=True)
class User:
    """An authenticated caller."""

    name: str
    groups: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class AccessEntry:
    """EKS's link from an IAM principal to Kubernetes groups."""

    principal_arn: str
    kubernetes_groups: tuple[str, ...] = ()
    username: str = ""


@dataclass(frozen=True)
class Principal:
    """Who STS says signed the token: the ARN as told, the IAM ARN behind it without path, its session."""

    caller_arn: str
    iam_arn: str
    session: str

    @classmethod
    def from_caller(cls, arn: str) -> Principal:
        """Map `…:assumed-role/Role/session` to `…:role/Role`; other ARNs stay."""
        found = _ASSUMED.match(arn)
        if found is None:
            return cls(arn, without_path(arn), "")
        partition, account, role, session = found.groups()
        return cls(arn, f"arn:{partition}:iam::{account}:role/{role}", session)


def without_path(arn: str) -> str:
    """An IAM ARN without its path: STS does not tell the path of an assumed role."""
    return _IAM.sub(r"arn:\1:iam::\2:\3/\4", arn)


@dataclass
class Authenticator:
    """Bearer tokens to users."""

    aws_endpoint: str
    admin_token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    cluster_name: str = ""
    _entries: dict[str, AccessEntry] = field(default_factory=dict[str, AccessEntry])

    def entries(self) -> Sequence[AccessEntry]:
        """All access entries."""
        return list(self._entries.values())

    def put_entry(self, entry: AccessEntry) -> None:
        """Add an entry, or replace that of the same principal."""
        self._entries[without_path(entry.principal_arn)] = entry

    def remove_entry(self, principal_arn: str) -> bool:
        """Remove an entry; whether there was one."""
        return self._entries.pop(without_path(principal_arn), None) is not None

    async def authenticate(self, authorization: str, session: aiohttp.ClientSession) -> User:
        """The user behind an Authorization header; 401 for whom this cluster does not know."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ApiError(401, "Unauthorized")
        if secrets.compare_digest(token.encode(), self.admin_token.encode()):
            return User("system:admin", frozenset({MASTERS, _AUTHENTICATED}))
        try:
            url = presigned_url(token, self.aws_endpoint)
            principal = Principal.from_caller(await self._caller(url, session))
        except TokenError as error:
            print(f"token refused: {error}", flush=True)
            raise ApiError(401, "Unauthorized") from error
        entry = self._entries.get(principal.iam_arn)
        if entry is None:
            print(f"no access entry for {principal.iam_arn}", flush=True)
            raise ApiError(401, "Unauthorized")
        return _user(entry, principal)

    async def _caller(self, url: str, session: aiohttp.ClientSession) -> str:
        """Send the presigned request as EKS does, with the cluster's name in the signed header.

        The emulated STS checks no signature, so a token for another cluster's name passes here, not on AWS.
        """
        headers = {_CLUSTER_HEADER: self.cluster_name, "Accept": "application/json"}
        try:
            async with session.get(url, headers=headers, allow_redirects=False) as answer:
                text = await answer.text()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TokenError(f"STS at {self.aws_endpoint} does not answer: {error}") from error
        if status != 200:
            raise TokenError(f"STS answered {status}: {text[:200]}")
        return _arn(text)


def client_session() -> aiohttp.ClientSession:
    """A session for calls to STS; the caller closes it."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_STS_TIMEOUT_S))


def presigned_url(token: str, aws_endpoint: str) -> str:
    """The presigned GetCallerIdentity request in a `k8s-aws-v1.` token.

    Raises TokenError unless it is exactly that request, to `aws_endpoint`, fresh, with the cluster's header
    among the signed ones: the cluster is going to send it, so it must not be any other.
    """
    if not token.startswith(_TOKEN_PREFIX):
        raise TokenError(f"the token does not start with {_TOKEN_PREFIX}")
    encoded = token.removeprefix(_TOKEN_PREFIX)
    try:
        url = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        parts, endpoint = urlsplit(url), urlsplit(aws_endpoint)
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True)
    except (binascii.Error, ValueError) as error:
        raise TokenError("the token holds no presigned URL") from error
    if (parts.scheme, parts.netloc) != (endpoint.scheme, endpoint.netloc) or parts.path not in {"", "/"}:
        raise TokenError(f"{parts.scheme}://{parts.netloc}{parts.path} is not this cluster's STS")
    lowered = {key.lower(): values for key, values in query.items()}
    if len(lowered) != len(query) or any(len(values) != 1 for values in query.values()):
        raise TokenError("a parameter is given twice")
    if unknown := set(lowered) - _PARAMETERS:
        raise TokenError(f"unexpected parameter {min(unknown)}")
    _check({key: values[0] for key, values in lowered.items()})
    return url


def _check(query: dict[str, str]) -> None:
    if query.get("action") != "GetCallerIdentity":
        raise TokenError(f"the action is {query.get('action')!r}, not GetCallerIdentity")
    if _CLUSTER_HEADER not in query.get("x-amz-signedheaders", "").lower().split(";"):
        raise TokenError(f"{_CLUSTER_HEADER} is not signed")
    if not {"x-amz-credential", "x-amz-signature"} <= query.keys():
        raise TokenError("the request is not signed")
    expires = query.get("x-amz-expires", "")
    if not expires.isdecimal() or int(expires) > _LONGEST_S:
        raise TokenError(f"X-Amz-Expires is {expires!r}, at most {_LONGEST_S} is accepted")
    try:
        signed = datetime.strptime(query.get("x-amz-date", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise TokenError("X-Amz-Date cannot be read") from error
    # EKS accepts a token for 15 minutes, whatever shorter time the URL names for STS itself.
    if not -_LIFETIME < datetime.now(UTC) - signed < _LIFETIME:
        raise TokenError("the token has expired")


def _arn(text: str) -> str:
    try:
        answer: Any = json.loads(text)
        return str(answer["GetCallerIdentityResponse"]["GetCallerIdentityResult"]["Arn"])
    except (ValueError, KeyError, TypeError):
        found = _ARN_IN_XML.search(text)
        if found is None:
            raise TokenError(f"STS told no ARN: {text[:200]}") from None
        return found.group(1)


def _user(entry: AccessEntry, principal: Principal) -> User:
    name = entry.username.replace("{{SessionName}}", principal.session) if entry.username else ""
    return User(name or principal.caller_arn, frozenset({*entry.kubernetes_groups, _AUTHENTICATED}))
