"""Lambda entry point: deletes a model package group's packages, for AWS deletes no group that has any."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from common.aws import Client, client, error_code

logger = Logger()


@logger.inject_lambda_context(clear_state=True)
def handle(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Empty the `group` if the infrastructure program is about to delete it, as `tf.action` says."""
    group, action = event.get("group"), (event.get("tf") or {}).get("action")
    if not isinstance(group, str) or not group:
        raise ValueError("want group, a model package group's name")
    if action != "delete":
        return {"group": group, "deleted": 0}
    deleted = _empty(group)
    logger.info("emptied", extra={"group": group, "packages": deleted})
    return {"group": group, "deleted": deleted}


def _empty(group: str) -> int:
    sagemaker, deleted = client("sagemaker"), 0
    # From the beginning each time: a page's token is of little use once what it listed is gone.
    while packages := _some(sagemaker, group):
        for package in packages:
            sagemaker.delete_model_package(ModelPackageName=package["ModelPackageArn"])
        deleted += len(packages)
    return deleted


def _some(sagemaker: Client, group: str) -> list[dict[str, Any]]:
    try:
        found = sagemaker.list_model_packages(ModelPackageGroupName=group, MaxResults=100)
    except sagemaker.exceptions.ClientError as error:
        if error_code(error) == "ValidationException" and "does not exist" in str(error):
            return []
        raise
    return found["ModelPackageSummaryList"]
