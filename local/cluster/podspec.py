"""What this runtime reads from a pod template, checked and with Kubernetes' defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# How a server is told to speak TLS. Whoever asks a pod here speaks HTTP, on this machine only.
_TLS = "SERVING_TLS_"
_WITHOUT_TLS = "TLS to the pod is left out: connections stay on this machine"
# Which file has the key that hashes data subjects; no driver here mounts secrets.
_SUBJECT_KEY = "SERVING_SUBJECT_KEY_FILE"
_WITHOUT_KEY = "the subjects' key is left out, for no secret is mounted: captures name no subject"
_SLEEP = re.compile(r"^\s*(?:/bin/)?sleep\s+(\d+(?:\.\d+)?)s?\s*$")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A check of a container: HTTP GET of `path`, or a TCP connection if `path` is None."""

    port: int | str
    path: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    initial_delay_s: float = 0
    period_s: float = 10
    timeout_s: float = 1
    failures: int = 3
    successes: int = 1


@dataclass(frozen=True, kw_only=True)
class PodSpec:
    """One container and how its pod lives."""

    container: str
    image: str
    service_account: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    field_refs: tuple[tuple[str, str], ...]
    """Variables taken from the pod's own fields: (variable, field path)."""
    ports: tuple[tuple[str, int], ...]
    """(name, containerPort); the first is the one that the server is told."""
    startup: Probe | None
    readiness: Probe | None
    liveness: Probe | None
    pre_stop_s: float
    grace_s: float
    log_tail_on_error: bool
    notes: tuple[str, ...]
    """What the template asks for and this runtime does not do."""


def parse(template: Mapping[str, Any]) -> PodSpec:
    """Read a pod template; ValueError says what is missing."""
    spec: Mapping[str, Any] = template.get("spec") or {}
    containers: list[Mapping[str, Any]] = spec.get("containers") or []
    if not containers:
        raise ValueError("spec.template.spec.containers: Required value")
    container = containers[0]
    for field in ("name", "image"):
        if not container.get(field):
            raise ValueError(f"spec.template.spec.containers[0].{field}: Required value")
    notes: list[str] = []
    if len(containers) > 1 or spec.get("initContainers"):
        notes.append("only the first container runs")
    plain, references = _environment(container, notes)
    return PodSpec(
        container=container["name"],
        image=container["image"],
        service_account=spec.get("serviceAccountName") or "default",
        command=tuple(container.get("command") or ()),
        args=tuple(container.get("args") or ()),
        environment=plain,
        field_refs=references,
        ports=tuple((port.get("name", ""), port["containerPort"]) for port in container.get("ports") or ()),
        startup=_probe(container, "startupProbe", notes),
        readiness=_probe(container, "readinessProbe", notes),
        liveness=_probe(container, "livenessProbe", notes),
        pre_stop_s=_pre_stop((container.get("lifecycle") or {}).get("preStop") or {}, notes),
        grace_s=float(spec.get("terminationGracePeriodSeconds", 30)),
        log_tail_on_error=container.get("terminationMessagePolicy") == "FallbackToLogsOnError",
        notes=tuple(notes),
    )


Pairs = tuple[tuple[str, str], ...]


def _environment(container: Mapping[str, Any], notes: list[str]) -> tuple[Pairs, Pairs]:
    plain: list[tuple[str, str]] = []
    references: list[tuple[str, str]] = []
    for item in container.get("env") or ():
        source = item.get("valueFrom")
        if item["name"].startswith(_TLS):
            if _WITHOUT_TLS not in notes:
                notes.append(_WITHOUT_TLS)
        elif item["name"] == _SUBJECT_KEY:
            notes.append(_WITHOUT_KEY)
        elif source is None:
            plain.append((item["name"], str(item.get("value", ""))))
        elif "fieldRef" in source:
            references.append((item["name"], source["fieldRef"]["fieldPath"]))
        else:
            notes.append(
                f"variable {item['name']} is not set: {next(iter(source), 'its source')} is not read"
            )
    if container.get("envFrom"):
        notes.append("envFrom is not read")
    return tuple(plain), tuple(references)


def _probe(container: Mapping[str, Any], field: str, notes: list[str]) -> Probe | None:
    probe: Mapping[str, Any] | None = container.get(field)
    if not probe:
        return None
    http = probe.get("httpGet")
    check = http or probe.get("tcpSocket")
    if not check:
        notes.append(f"{field} is neither httpGet nor tcpSocket: taken as passed")
        return None
    return Probe(
        port=check["port"],
        path=http.get("path", "/") if http else None,
        headers=tuple((h["name"], h["value"]) for h in check.get("httpHeaders") or ()),
        initial_delay_s=float(probe.get("initialDelaySeconds", 0)),
        period_s=float(probe.get("periodSeconds", 10)),
        timeout_s=float(probe.get("timeoutSeconds", 1)),
        failures=int(probe.get("failureThreshold", 3)),
        successes=int(probe.get("successThreshold", 1)),
    )


def _pre_stop(hook: Mapping[str, Any], notes: list[str]) -> float:
    """Seconds that the hook sleeps: the `sleep` action, `sleep n`, or `sh -c "sleep n"`."""
    if "sleep" in hook:
        return float(hook["sleep"]["seconds"])
    command: list[str] = (hook.get("exec") or {}).get("command") or []
    text = command[2] if len(command) == 3 and command[1] == "-c" else " ".join(command)
    if found := _SLEEP.match(text):
        return float(found.group(1))
    if hook:
        notes.append("the preStop hook is not a sleep: skipped")
    return 0
