"""S3: buckets, their settings, objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.realisers.base import Realised, Realiser, Resource, Site
from local.realisers.convert import object_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping


def _bucket(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    site.client("s3").create_bucket(Bucket=name)
    _, outputs = site.plausible.declare(resource)
    return Realised(name, outputs)


def _versioning(site: Site, resource: Resource) -> Realised:
    bucket = resource.inputs["bucket"]
    status = resource.inputs["versioningConfiguration"]["status"]
    site.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
    return Realised(bucket, {})


def _notification(site: Site, resource: Resource) -> Realised:
    bucket = resource.inputs["bucket"]
    configuration = {"EventBridgeConfiguration": {}} if resource.inputs.get("eventbridge") else {}
    site.client("s3").put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=configuration
    )
    return Realised(bucket, {})


def _encryption(site: Site, resource: Resource) -> Realised:
    bucket = resource.inputs["bucket"]
    rules = [
        {
            "ApplyServerSideEncryptionByDefault": {
                "SSEAlgorithm": rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"],
                "KMSMasterKeyID": rule["applyServerSideEncryptionByDefault"].get("kmsMasterKeyId", ""),
            },
            "BucketKeyEnabled": bool(rule.get("bucketKeyEnabled")),
        }
        for rule in resource.inputs["rules"]
    ]
    site.client("s3").put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
    return Realised(bucket, {})


def _public_access(site: Site, resource: Resource) -> Realised:
    bucket = resource.inputs["bucket"]
    names = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    configuration = {f"{key[0].upper()}{key[1:]}": bool(resource.inputs.get(key)) for key in names}
    site.client("s3").put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=configuration)
    return Realised(bucket, {})


def _object(site: Site, resource: Resource) -> Realised:
    inputs = resource.inputs
    bucket, key = inputs["bucket"], inputs["key"]
    extra = {"ContentType": inputs["contentType"]} if inputs.get("contentType") else {}
    answer = site.client("s3").put_object(Bucket=bucket, Key=key, Body=object_bytes(inputs), **extra)
    outputs = {
        "arn": f"arn:aws:s3:::{bucket}/{key}",
        "etag": answer["ETag"].strip('"'),
        "versionId": answer.get("VersionId", ""),
    }
    return Realised(f"{bucket}/{key}", outputs)


REALISERS: Mapping[str, Realiser] = {
    "aws:s3/bucket:Bucket": _bucket,
    "aws:s3/bucketNotification:BucketNotification": _notification,
    "aws:s3/bucketObject:BucketObject": _object,
    "aws:s3/bucketObjectv2:BucketObjectv2": _object,
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _public_access,
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": _encryption,
    "aws:s3/bucketVersioning:BucketVersioning": _versioning,
}
