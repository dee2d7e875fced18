"""The API server: Kubernetes' REST paths over TLS, and a few administrative ones under /_local/."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml
from aiohttp import web

from local.cluster import NOT_ENFORCED, rbac, routes, selectors
from local.cluster.auth import MASTERS, AccessEntry, User, client_session
from local.cluster.deployment import DEPLOYMENTS, with_defaults
from local.cluster.errors import ApiError, not_found
from local.cluster.patching import merge, strategic_merge
from local.cluster.podview import render
from local.cluster.routes import KINDS, Resource, Target

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.typedefs import Handler

    from local.cluster.cluster import Cluster
    from local.cluster.pod import Pod
    from local.cluster.store import Object

_USER = web.RequestKey("user", User)
_MERGE_PATCH = "application/merge-patch+json"
_STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"
_BUILT_IN_GROUPS = frozenset({"", "apps", "autoscaling", "batch", "policy"})
_MAX_BODY_BYTES = 3 << 20


class Api:
    """The handlers. All run on the main loop."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = cluster.store
        self._sts: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """The web application, to be served by the caller."""
        app = web.Application(middlewares=[self._guard], client_max_size=_MAX_BODY_BYTES)
        app.router.add_get("/_local/state", self._state)
        app.router.add_route("*", "/_local/access-entries", self._access_entries)
        app.router.add_put("/_local/cluster", self._name)
        app.router.add_put("/_local/pod-identities", self._pod_identity)
        app.router.add_route("*", "/{path:apis?/.*}", self._object)
        app.on_startup.append(self._open)
        app.on_cleanup.append(self._close)
        return app

    async def _open(self, _app: web.Application) -> None:
        self._sts = client_session()

    async def _close(self, _app: web.Application) -> None:
        if self._sts is not None:
            await self._sts.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Authenticate, and put errors into Kubernetes' words."""
        try:
            request[_USER] = await self._authenticated(request)
            return await handler(request)
        except ApiError as error:
            return web.json_response(error.status(), status=error.code)
        except web.HTTPException as error:
            return web.json_response(ApiError(error.status, error.reason).status(), status=error.status)

    async def _authenticated(self, request: web.Request) -> User:
        if self._sts is None:
            raise ApiError(401, "Unauthorized")
        user = await self._cluster.auth.authenticate(request.headers.get("Authorization", ""), self._sts)
        if request.path.startswith("/_local/") and MASTERS not in user.groups:
            raise ApiError(403, f'User "{user.name}" cannot use {request.path}')
        return user

    async def _object(self, request: web.Request) -> web.Response:
        target = routes.parse(request.path)
        verb = _verb(request.method, target)
        rbac.authorise(self._store, request[_USER], verb, target)
        for unsupported in ("watch", "dryRun", "fieldSelector"):
            if request.query.get(unsupported, "false") != "false":
                raise ApiError(400, f"this API does not know the parameter {unsupported}")
        if target.subresource not in {None, "status"}:
            raise ApiError(404, "the server could not find the requested resource")
        if target.subresource and verb not in {"get", "list"}:
            raise ApiError(405, "the status is written by this server's controllers only")
        if target.resource == Resource("", "v1", "pods"):
            return web.json_response(self._pods(verb, target, request))
        status, body = await self._act(verb, target, request)
        if verb not in {"get", "list"}:
            self._cluster.events.record(
                verb, object=f"{target.resource.plural}/{body['metadata']['name']}", user=request[_USER].name
            )
        return web.json_response(body, status=status)

    async def _act(self, verb: str, target: Target, request: web.Request) -> tuple[int, Object]:
        match verb:
            case "get":
                return 200, self._store.get(target)
            case "list":
                return 200, self._listing(target, request)
            case "create":
                return 201, self._store.create(target, _checked(target, await _body(request, target)))
            case "update":
                return 200, self._store.replace(target, _checked(target, await _body(request, target)))
            case "patch":
                return await self._patch(target, request)
            case _:
                return 200, self._store.delete(target)

    def _listing(self, target: Target, request: web.Request) -> Object:
        fits = selectors.parse(request.query.get("labelSelector", ""))
        items = [
            item
            for item in self._store.list(target.resource, target.namespace)
            if fits(item["metadata"].get("labels") or {})
        ]
        return _list_of(target.resource, items)

    async def _patch(self, target: Target, request: web.Request) -> tuple[int, Object]:
        patch = await _body(request, target)
        existing = self._store.find(target)
        if request.content_type == _APPLY_PATCH:
            if existing is None:
                return 201, self._store.create(target, _checked(target, patch))
            combine = strategic_merge
        elif request.content_type == _STRATEGIC_PATCH and _is_built_in(target.resource):
            combine = strategic_merge
        elif request.content_type == _MERGE_PATCH:
            combine = merge
        else:
            raise ApiError(
                415,
                "the body of the request was in an unknown format - accepted media types include: "
                f"{_MERGE_PATCH}, {_STRATEGIC_PATCH}, {_APPLY_PATCH}",
            )
        if existing is None:
            raise not_found(target.resource.qualified, target.name or "")
        based_on = (patch.get("metadata") or {}).get("resourceVersion")
        patched: Object = combine(existing, patch)
        if based_on is None:
            patched["metadata"].pop("resourceVersion", None)
        return 200, self._store.replace(target, _checked(target, patched))

    def _pods(self, verb: str, target: Target, request: web.Request) -> Object:
        pods = [pod for pod in self._cluster.controller.pods() if target.namespace in {None, pod.namespace}]
        if verb == "list":
            fits = selectors.parse(request.query.get("labelSelector", ""))
            return _list_of(target.resource, [render(pod) for pod in pods if fits(pod.labels)])
        pod = _named(pods, target)
        if verb == "delete":
            pod.terminate()
        elif verb != "get":
            raise ApiError(405, "pods are made by Deployments only")
        return render(pod)

    async def _state(self, _request: web.Request) -> web.Response:
        return web.json_response({**self._cluster.state(), "not_enforced": NOT_ENFORCED})

    async def _name(self, request: web.Request) -> web.Response:
        body = await _json(request)
        self._cluster.auth.cluster_name = _text(body, "name")
        return web.json_response({"name": self._cluster.auth.cluster_name})

    async def _pod_identity(self, request: web.Request) -> web.Response:
        body = await _json(request)
        names = ("access_key_id", "secret_access_key", "session_token", "region")
        self._cluster.put_identity(
            _text(body, "namespace"),
            _text(body, "service_account"),
            {f"AWS_{name.upper()}": _text(body, name) for name in names},
        )
        return web.json_response({})

    async def _access_entries(self, request: web.Request) -> web.Response:
        auth = self._cluster.auth
        if request.method in {"POST", "PUT"}:
            body = await _json(request)
            groups: list[str] = body.get("kubernetes_groups") or []
            auth.put_entry(
                AccessEntry(
                    principal_arn=_text(body, "principal_arn"),
                    kubernetes_groups=tuple(groups),
                    username=str(body.get("username") or ""),
                )
            )
            if body.get("cluster_name"):
                auth.cluster_name = _text(body, "cluster_name")
        elif request.method == "DELETE":
            arn = _text(await _json(request), "principal_arn")
            if not auth.remove_entry(arn):
                raise ApiError(404, f"no access entry for {arn}")
        return web.json_response(
            [
                {
                    "principal_arn": entry.principal_arn,
                    "kubernetes_groups": list(entry.kubernetes_groups),
                    "username": entry.username,
                }
                for entry in auth.entries()
            ]
        )


def _verb(method: str, target: Target) -> str:
    """RBAC's word for a request."""
    of_one = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    verbs = {"GET": "list", "POST": "create"} if target.name is None else of_one
    if method not in verbs:
        raise ApiError(405, "the server does not allow this method on the requested resource")
    return verbs[method]


def _checked(target: Target, body: Object) -> Object:
    return with_defaults(body) if target.resource == DEPLOYMENTS else body


def _is_built_in(resource: Resource) -> bool:
    return resource.group in _BUILT_IN_GROUPS or resource.group.endswith(".k8s.io")


def _list_of(resource: Resource, items: list[Object]) -> Object:
    kind: str = items[0]["kind"] if items else KINDS.get(resource.plural, resource.plural)
    return {
        "kind": f"{kind}List",
        "apiVersion": resource.api_version,
        "metadata": {"resourceVersion": ""},
        "items": items,
    }


def _named(pods: list[Pod], target: Target) -> Pod:
    for pod in pods:
        if pod.name == target.name:
            return pod
    raise not_found(target.resource.qualified, target.name or "")


async def _json(request: web.Request) -> Object:
    try:
        text = await request.text()
        body: Any = yaml.safe_load(text) if request.content_type.endswith("yaml") else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ApiError(400, f"the body cannot be read: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "the body is not an object")
    return body


async def _body(request: web.Request, target: Target) -> Object:
    """An object's JSON, checked against the path where it says where it belongs."""
    body = await _json(request)
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict) or not isinstance(body.get("spec") or {}, dict):
        raise ApiError(400, "metadata and spec must be objects")
    for field, wanted in (("namespace", target.namespace), ("name", target.name)):
        given = metadata.get(field)
        if given and wanted and given != wanted:
            raise ApiError(
                400,
                f"the {field} of the provided object does not match the {field} sent on the request",
            )
    api_version = body.get("apiVersion")
    if api_version and api_version != target.resource.api_version:
        raise ApiError(
            400,
            f"the API version in the data ({api_version}) does not match the expected one "
            f"({target.resource.api_version})",
        )
    return body


def _text(body: Object, field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise ApiError(400, f"{field}: want a text")
    return value
