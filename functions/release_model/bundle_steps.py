"""Steps that look at the bundle: verification, and the gate between challenger and champion."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle import format as bundle_format
from common import names
from common.aws import split_uri
from common.errors import Permanent
from release_model.record import Done, Record

# model.tar.gz is never larger than what it may contain.
ARCHIVE_BYTES = sum(bundle_format.LIMITS.values())


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The gate's judgement; `stale` where the challenger was not compared with the model in service."""

    accepted: bool
    reason: str
    stale: bool = False


def fetch(record: Record, folder: Path, version: str | None) -> tuple[bundle_format.Manifest, str | None]:
    """Download and unpack the release's bundle into `folder`; return its manifest and object version.

    Raises BundleError or Permanent where it must not be used.
    """
    uri = record.data["source"].get("uri")
    if not uri:
        raise Permanent("the job left no model")
    if split_uri(uri)[0] != record.services.environment.artifact_bucket:
        raise Permanent(f"{uri}: not in this stack's artifact bucket")
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "model.tar.gz"
        found = record.services.documents.download(uri, version, ARCHIVE_BYTES, archive)
        return bundle_format.unpack(archive, folder), found


def verify(record: Record) -> Done:
    """Check the bundle and that it is what its job should have made."""
    source = record.data["source"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        try:
            manifest, version = fetch(record, folder, source.get("object_version"))
            bundle_format.check_xgboost(manifest, bundle_format.XGBOOST_VERSION)
            digest = bundle_format.digest(folder)
        except (bundle_format.BundleError, Permanent) as error:
            return Done("finish", {"refused": str(error)[:1000]})
        problem = _lineage(manifest, digest, record.model, source)
    if problem:
        return Done("finish", {"refused": problem})
    changes = {"bundle": _summary(manifest, digest, version)}
    return Done("gate" if record.handle.kind == "job" else "image", changes)


def gate(record: Record) -> Done:
    """Let the challenger pass unless it is worse than the model in service."""
    bundle = record.data["bundle"]
    champion = record.load(names.CHAMPION).data
    verdict = judge(bundle, champion.get("digest"), record.config.margin)
    changes = {
        "verdict": {"accepted": verdict.accepted, "reason": verdict.reason, "stale": verdict.stale},
        "champion_before": {key: champion.get(key) for key in ("version", "digest", "release", "image")}
        if champion
        else None,
    }
    return Done("image" if verdict.accepted else "register", changes)


def judge(bundle: Mapping[str, Any], champion_digest: str | None, margin: float) -> Verdict:
    """Compare the challenger's primary metric with the champion's, on the rows that both were given.

    `champion_digest` is the bundle in service (None: none), `margin` how much worse is tolerated.
    """
    metric, better = bundle["primary_metric"]["name"], bundle["primary_metric"]["greater_is_better"]
    challenger = bundle["metrics"]["challenger"].get(metric)
    if not _finite(challenger):
        return Verdict(accepted=False, reason=f"{metric} of the challenger is {challenger}")
    if champion_digest is None:
        return Verdict(accepted=True, reason=f"{metric} {challenger:.6g}; no model was in service")
    compared = (bundle.get("champion") or {}).get("digest")
    if compared != champion_digest:
        seen = f"compared with {compared}" if compared else "not compared with any model"
        return Verdict(accepted=False, reason=f"{seen}, but {champion_digest} is in service", stale=True)
    champion = (bundle["metrics"].get("champion") or {}).get(metric)
    if not _finite(champion):
        return Verdict(accepted=False, reason=f"{metric} of the champion on the same rows is {champion}")
    loss = (champion - challenger) if better else (challenger - champion)
    both = f"{metric} {challenger:.6g} against the champion's {champion:.6g}"
    if loss > margin + 1e-12:
        return Verdict(
            accepted=False, reason=f"{both}: worse by {loss:.6g}, more than the margin of {margin:g}"
        )
    return Verdict(accepted=True, reason=f"{both}, margin {margin:g}")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _lineage(
    manifest: bundle_format.Manifest, digest: str, model: str, source: Mapping[str, Any]
) -> str | None:
    """Return what shows that this is another model, job or data set than was meant."""
    expected = [
        ("name", manifest.name, model),
        ("version", manifest.version, source["version"]),
        ("training.job", manifest.training.job, source["version"]),
        ("training.dataset_hash", manifest.training.dataset_hash, source.get("dataset_hash")),
        ("digest", digest, source.get("digest")),
    ]
    for field, found, wanted in expected:
        if wanted is not None and found != wanted:
            return f"bundle.json: {field}: want {wanted!r}, got {found!r}"
    return None


def _summary(manifest: bundle_format.Manifest, digest: str, version: str | None) -> dict[str, Any]:
    champion = manifest.champion
    return {
        "digest": digest,
        "version": manifest.version,
        "object_version": version,
        "task": manifest.task,
        "primary_metric": {
            "name": manifest.primary_metric.name,
            "greater_is_better": manifest.primary_metric.greater_is_better,
        },
        "metrics": {
            "challenger": dict(manifest.metrics.challenger),
            "champion": dict(manifest.metrics.champion) if manifest.metrics.champion is not None else None,
        },
        "champion": {"version": champion.version, "digest": champion.digest} if champion else None,
        "rows": manifest.training.rows,
        "holdout_rows": manifest.training.holdout_rows,
    }
