"""AWS resources of a plan in Terraform's JSON, for scanners that read no Pulumi program.

pulumi-aws is made from Terraform's AWS provider: names differ by case, lists of blocks have plural names, and
single blocks are plain objects. What a resource takes from another stays a reference, so that a scanner sees
which bucket a policy belongs to. Only for reading: nothing deploys this.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

_UNNAMED_MODULES: Final = {"ec2", "cloudwatch"}
"""Modules that Terraform's names leave out."""

_OWN_NAMES: Final = {
    "aws:cloudtrail/trail:Trail": "aws_cloudtrail",
    "aws:cloudwatch/dashboard:Dashboard": "aws_cloudwatch_dashboard",
    "aws:ec2/tag:Tag": "aws_ec2_tag",
    "aws:s3/bucketObjectv2:BucketObjectv2": "aws_s3_object",
    "eks:index:Cluster": "aws_eks_cluster",
}
_MAPS: Final = {"dimensions", "hyper_parameters", "tags", "triggers", "variables"}
"""Keys whose values are maps with keys of their own, not blocks."""

_REFERENCE: Final = re.compile(r"\$\{([\w-]+)\.(\w+)\}")


def terraform_type(type_: str) -> str:
    """The name of Terraform's resource for a Pulumi type like aws:kms/key:Key."""
    if type_ in _OWN_NAMES:
        return _OWN_NAMES[type_]
    module, _, kind = type_.removeprefix("aws:").rpartition(":")[0].partition("/")
    prefix = "aws_cloudwatch" if module == "cloudwatch" else "aws"
    return f"{prefix}_{_snake(kind)}" if module in _UNNAMED_MODULES else f"{prefix}_{module}_{_snake(kind)}"


def configuration(resources: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A whole main.tf.json from the `resources` of `python -m local plan --format json`."""
    found: dict[str, dict[str, Any]] = {}
    for resource in resources:
        if resource["kind"] == "resource" and resource["type"].startswith(("aws:", "eks:")):
            inputs = (
                _cluster(resource["inputs"]) if resource["type"].startswith("eks:") else resource["inputs"]
            )
            block = {
                _snake(key): _value(_snake(key), value)
                for key, value in inputs.items()
                if key not in {"__internal", "code"}
            }
            named = _refer({_singular(key, value): value for key, value in block.items()}, _known(resource))
            found.setdefault(terraform_type(resource["type"]), {})[resource["name"]] = named
    return {"resource": found}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _singular(key: str, value: Any) -> str:
    """The name of a block for a list of blocks: rules → rule, policies → policy."""
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return key
    return f"{key[:-3]}y" if key.endswith("ies") else key.removesuffix("s")


def _value(key: str, value: Any) -> Any:
    if isinstance(value, Mapping) and key not in _MAPS:
        inner = {_snake(name): _value(_snake(name), item) for name, item in value.items()}
        return {_singular(name, item): item for name, item in inner.items()}
    return [_value(key, item) for item in value] if isinstance(value, list) else value


def _cluster(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the component eks:index:Cluster makes of the inputs that a scanner looks at."""
    return {
        "name": inputs["name"],
        "version": inputs.get("version"),
        "enabledClusterLogTypes": inputs.get("enabledClusterLogTypes", []),
        "encryptionConfig": {
            "resources": ["secrets"],
            "provider": {"keyArn": inputs.get("encryptionConfigKeyArn")},
        },
        "vpcConfig": {
            "endpointPrivateAccess": inputs.get("endpointPrivateAccess", False),
            "endpointPublicAccess": inputs.get("endpointPublicAccess", True),
            "publicAccessCidrs": inputs.get("publicAccessCidrs", ["0.0.0.0/0"]),
        },
        "tags": inputs.get("tags", {}),
    }


def _known(resource: Mapping[str, Any]) -> dict[str, str]:
    """Name → Terraform type of what the resource refers to, by its dependencies' URNs."""
    urns = [urn for found in resource["property_dependencies"].values() for urn in found]
    parts = [(urn.rpartition("::")[2], urn.split("::")[-2].rpartition("$")[2]) for urn in sorted(urns)]
    return {name: terraform_type(type_) for name, type_ in parts if type_.startswith(("aws:", "eks:"))}


def _refer(value: Any, known: Mapping[str, str]) -> Any:
    """${name.output} as ${type.name.output} where the type is known."""
    if isinstance(value, Mapping):
        return {key: _refer(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_refer(item, known) for item in value]
    if isinstance(value, str):
        return _REFERENCE.sub(
            lambda m: f"${{{known[m[1]]}.{m[1]}.{_snake(m[2])}}}" if m[1] in known else m[0], value
        )
    return value
