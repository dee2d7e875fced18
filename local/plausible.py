"""What a provider would have computed, made up: the same for the same program, and shaped as the real thing.

For resources that exist only in the declaration, and for the look-ups (invokes) of a program.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from local import wire
from local.emulators import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local.engine import Resource

_AUTO_NAME_MAX: Final = 55

# Types whose name argument is not `name`.
_NAME_KEYS: Final[dict[str, str]] = {
    "aws:s3/bucket:Bucket": "bucket",
    "aws:sagemaker/trainingJob:TrainingJob": "trainingJobName",
    "aws:sagemaker/modelPackageGroup:ModelPackageGroup": "modelPackageGroupName",
    "aws:sagemaker/pipeline:Pipeline": "pipelineName",
    "aws:dynamodb/table:Table": "name",
}

# The noun in an ARN where it is not the type's own name.
_ARN_NOUNS: Final[dict[str, str]] = {
    "aws:s3/bucket:Bucket": "",
    "aws:sqs/queue:Queue": "",
    "aws:sns/topic:Topic": "",
    "aws:kms/alias:Alias": "",
    "aws:cloudwatch/eventRule:EventRule": "rule/",
    "aws:cloudwatch/metricAlarm:MetricAlarm": "alarm:",
    "aws:cloudwatch/logGroup:LogGroup": "log-group:",
    "aws:lambda/function:Function": "function:",
    "aws:sfn/stateMachine:StateMachine": "stateMachine:",
    "aws:ecr/repository:Repository": "repository/",
    "aws:codebuild/project:Project": "project/",
    "aws:iam/instanceProfile:InstanceProfile": "instance-profile/",
}
_ARN_SERVICES: Final[dict[str, str]] = {
    "aws:cloudwatch/eventRule:EventRule": "events",
    "aws:cloudwatch/logGroup:LogGroup": "logs",
    "aws:sfn/stateMachine:StateMachine": "states",
}
_GLOBAL_SERVICES: Final = {"iam", "s3", "cloudfront", "route53"}
_ACCOUNTLESS: Final = {"s3"}


class Plausible:
    """Made-up ids, names, ARNs and look-ups for one region."""

    def __init__(self, *, region: str) -> None:
        self.region = region

    def physical_name(self, resource: Resource) -> str:
        """The name in the inputs, or one as Pulumi would make it."""
        given = resource.inputs.get(_NAME_KEYS.get(resource.type, "name"))
        if isinstance(given, str) and given:
            return given
        base = resource.inputs.get("namePrefix") or f"{resource.name}-"
        name = f"{str(base)[:_AUTO_NAME_MAX]}{_digest(resource.urn, 7)}"
        if resource.type == "aws:s3/bucket:Bucket":
            return re.sub(r"[^a-z0-9.-]", "-", name.lower())
        return f"{name}.fifo" if resource.inputs.get("fifoQueue") else name

    def arn(self, resource: Resource, name: str) -> str:
        """An ARN in the form of the type's service, as far as it can be told from the type."""
        _, module, kind = resource.type.split(":")
        service = _ARN_SERVICES.get(resource.type, module.split("/")[0])
        noun = _ARN_NOUNS.get(resource.type, f"{kind[0].lower()}{kind[1:]}/")
        region = "" if service in _GLOBAL_SERVICES else self.region
        account = "" if service in _ACCOUNTLESS else ACCOUNT
        return f"arn:aws:{service}:{region}:{account}:{noun}{name}"

    def declare(self, resource: Resource) -> tuple[str, dict[str, Any]]:
        """Id and outputs of a resource that is declared only."""
        if resource.type.startswith("kubernetes:"):
            return self._kubernetes(resource)
        if special := _DECLARED.get(resource.type):
            return special(self, resource)
        name = self.physical_name(resource)
        short = _digest(resource.urn, 17)
        if not resource.type.startswith("aws:"):
            return f"{resource.name}-{short[:8]}", {}
        prefix = _ID_PREFIXES.get(resource.type)
        resource_id = f"{prefix}-{short}" if prefix else name
        outputs: dict[str, Any] = {"arn": self.arn(resource, resource_id), "name": name}
        if key := _NAME_KEYS.get(resource.type):
            outputs[key] = name
        return resource_id, outputs

    def _kubernetes(self, resource: Resource) -> tuple[str, dict[str, Any]]:
        metadata: dict[str, Any] = dict(resource.inputs.get("metadata") or {})
        metadata.setdefault("name", f"{resource.name}-{_digest(resource.urn, 8)}")
        namespace = metadata.get("namespace")
        prefix = f"{namespace}/" if namespace else ""
        outputs: dict[str, Any] = {"metadata": metadata}
        if resource.type == "kubernetes:helm.sh/v3:Release":
            outputs = {"status": {"name": metadata["name"], "namespace": namespace or "default"}}
        return f"{prefix}{metadata['name']}", outputs

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer to a look-up; None if this token is not known here."""
        answer = _INVOKES.get(token)
        return None if answer is None else answer(self, arguments)


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def eks_outputs(resource: Resource, *, endpoint: str, ca_data: str) -> dict[str, Any]:
    """The outputs of pulumi-eks' Cluster; `eksCluster` is a reference that the monitor resolves."""
    name = cluster_name(resource)
    issuer = f"oidc.eks.us-east-1.amazonaws.com/id/{_digest(resource.urn, 32).upper()}"
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": endpoint, "certificate-authority-data": ca_data}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "users": [{"name": name, "user": {}}],
    }
    return {
        "kubeconfig": kubeconfig,
        "kubeconfigJson": wire.dumps(kubeconfig),
        "eksCluster": wire.reference(eks_child_urn(resource), name),
        "oidcProviderArn": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer}",
        "oidcProviderUrl": f"https://{issuer}",
        "oidcIssuer": issuer,
        "clusterSecurityGroupId": f"sg-{_digest(resource.urn + 'cluster', 17)}",
        "nodeSecurityGroupId": f"sg-{_digest(resource.urn + 'node', 17)}",
        "clusterIngressRuleId": f"sgrule-{_digest(resource.urn, 10)}",
        "core": {"endpoint": endpoint, "kubeconfig": kubeconfig},
    }


def cluster_name(resource: Resource) -> str:
    """The name of the EKS cluster that pulumi-eks makes for this component."""
    given = resource.inputs.get("name")
    return given if isinstance(given, str) else f"{resource.name}-eksCluster-{_digest(resource.urn, 7)}"


def eks_child_urn(resource: Resource) -> str:
    """The URN of the aws.eks.Cluster inside pulumi-eks' component, which makes it out of our sight."""
    head, _, name = resource.urn.rpartition("::")
    return f"{head}$aws:eks/cluster:Cluster::{name}-eksCluster"


def eks_child_state(resource: Resource, *, endpoint: str, ca_data: str, region: str) -> dict[str, Any]:
    """The state of that inner aws.eks.Cluster."""
    name = cluster_name(resource)
    outputs = eks_outputs(resource, endpoint=endpoint, ca_data=ca_data)
    return {
        "name": name,
        "arn": f"arn:aws:eks:{region}:{ACCOUNT}:cluster/{name}",
        "endpoint": endpoint,
        "version": str(resource.inputs.get("version") or ""),
        "certificateAuthority": {"data": ca_data},
        "certificateAuthorities": [{"data": ca_data}],
        "identities": [{"oidcs": [{"issuer": outputs["oidcProviderUrl"]}]}],
        "vpcConfig": {"clusterSecurityGroupId": outputs["clusterSecurityGroupId"], "subnetIds": []},
        "status": "ACTIVE",
    }


def _eip(_plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    octet = int(_digest(resource.urn, 2), 16)
    allocation = f"eipalloc-{_digest(resource.urn, 17)}"
    return allocation, {"allocationId": allocation, "publicIp": f"198.51.100.{octet}"}


def _eks_cluster(plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    endpoint = f"https://{_digest(resource.urn, 32).upper()}.gr7.{plausible.region}.eks.amazonaws.com"
    return "", eks_outputs(resource, endpoint=endpoint, ca_data="LS0tLS1CRUdJTg==")


def _queue(plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    name = plausible.physical_name(resource)
    url = f"https://sqs.{plausible.region}.amazonaws.com/{ACCOUNT}/{name}"
    return url, {"url": url, "arn": plausible.arn(resource, name), "name": name}


def _bucket(plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    name = plausible.physical_name(resource)
    return name, {
        "arn": f"arn:aws:s3:::{name}",
        "bucket": name,
        "region": plausible.region,
        "bucketRegion": plausible.region,
        "bucketDomainName": f"{name}.s3.amazonaws.com",
        "bucketRegionalDomainName": f"{name}.s3.{plausible.region}.amazonaws.com",
    }


def _object(_plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    return str(resource.inputs.get("key", resource.name)), {
        "versionId": _digest(resource.urn + "version", 32),
        "etag": _digest(resource.urn, 32),
    }


def _repository(plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    name = plausible.physical_name(resource)
    host = f"{ACCOUNT}.dkr.ecr.{plausible.region}.amazonaws.com"
    return name, {
        "arn": plausible.arn(resource, name),
        "name": name,
        "registryId": ACCOUNT,
        "repositoryUrl": f"{host}/{name}",
    }


def _vpc(plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    short = _digest(resource.urn, 17)
    return f"vpc-{short}", {
        "arn": f"arn:aws:ec2:{plausible.region}:{ACCOUNT}:vpc/vpc-{short}",
        "defaultSecurityGroupId": f"sg-{short}",
        "mainRouteTableId": f"rtb-{short}",
        "defaultRouteTableId": f"rtb-{short}",
        "defaultNetworkAclId": f"acl-{short}",
    }


def _role(plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    name = plausible.physical_name(resource)
    path = str(resource.inputs.get("path") or "/")
    unique = f"AROA{_digest(resource.urn, 17).upper()}"
    arn = f"arn:aws:iam::{ACCOUNT}:role{path}{name}"
    return name, {"arn": arn, "name": name, "uniqueId": unique}


def _policy(plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    name = plausible.physical_name(resource)
    arn = f"arn:aws:iam::{ACCOUNT}:policy/{name}"
    return arn, {"arn": arn, "name": name}


def _key(plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    h = _digest(resource.urn, 32)
    key_id = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
    return key_id, {"arn": f"arn:aws:kms:{plausible.region}:{ACCOUNT}:key/{key_id}", "keyId": key_id}


def _function(plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    name = plausible.physical_name(resource)
    arn = plausible.arn(resource, name)
    invoke = f"arn:aws:apigateway:{plausible.region}:lambda:path/2015-03-31/functions/{arn}/invocations"
    return name, {"arn": arn, "name": name, "qualifiedArn": f"{arn}:$LATEST", "invokeArn": invoke}


def _invocation(_plausible: Plausible, resource: Resource) -> tuple[str, dict[str, Any]]:
    return f"{resource.inputs.get('functionName', '')}-{_digest(resource.urn, 12)}", {"result": "null"}


_DECLARED: Final[dict[str, Callable[[Plausible, Resource], tuple[str, dict[str, Any]]]]] = {
    "aws:ec2/eip:Eip": _eip,
    "aws:ec2/vpc:Vpc": _vpc,
    "aws:ecr/repository:Repository": _repository,
    "aws:iam/policy:Policy": _policy,
    "aws:iam/role:Role": _role,
    "aws:kms/key:Key": _key,
    "aws:lambda/function:Function": _function,
    "aws:lambda/invocation:Invocation": _invocation,
    "aws:s3/bucket:Bucket": _bucket,
    "aws:s3/bucketObject:BucketObject": _object,
    "aws:s3/bucketObjectv2:BucketObjectv2": _object,
    "aws:sqs/queue:Queue": _queue,
    "eks:index:Cluster": _eks_cluster,
}

_ID_PREFIXES: Final[dict[str, str]] = {
    "aws:ec2/flowLog:FlowLog": "fl",
    "aws:ec2/internetGateway:InternetGateway": "igw",
    "aws:ec2/launchTemplate:LaunchTemplate": "lt",
    "aws:ec2/natGateway:NatGateway": "nat",
    "aws:ec2/route:Route": "r",
    "aws:ec2/routeTable:RouteTable": "rtb",
    "aws:ec2/routeTableAssociation:RouteTableAssociation": "rtbassoc",
    "aws:ec2/securityGroup:SecurityGroup": "sg",
    "aws:ec2/securityGroupRule:SecurityGroupRule": "sgrule",
    "aws:ec2/subnet:Subnet": "subnet",
    "aws:ec2/vpcEndpoint:VpcEndpoint": "vpce",
    "aws:ec2/vpcPeeringConnection:VpcPeeringConnection": "pcx",
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": "sgr",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": "sgr",
}


def _zones(plausible: Plausible, _arguments: Mapping[str, Any]) -> dict[str, Any]:
    letters = "abc"
    return {
        "id": plausible.region,
        "names": [f"{plausible.region}{letter}" for letter in letters],
        "zoneIds": [f"use1-az{number}" for number in range(1, len(letters) + 1)],
        "groupNames": [plausible.region],
    }


def _identity(_plausible: Plausible, _arguments: Mapping[str, Any]) -> dict[str, Any]:
    arn = f"arn:aws:iam::{ACCOUNT}:user/local"
    return {"id": ACCOUNT, "accountId": ACCOUNT, "arn": arn, "userId": "AIDALOCAL"}


def _region(plausible: Plausible, _arguments: Mapping[str, Any]) -> dict[str, Any]:
    region = plausible.region
    return {
        "id": region,
        "name": region,
        "region": region,
        "description": region,
        "endpoint": f"ec2.{region}.amazonaws.com",
    }


def _partition(_plausible: Plausible, _arguments: Mapping[str, Any]) -> dict[str, Any]:
    suffix = "amazonaws.com"
    return {"id": "aws", "partition": "aws", "dnsSuffix": suffix, "reverseDnsPrefix": "com.amazonaws"}


def _prebuilt_image(plausible: Plausible, arguments: Mapping[str, Any]) -> dict[str, Any]:
    region = str(arguments.get("region") or plausible.region)
    repository, tag = arguments["repositoryName"], arguments.get("imageTag") or "1"
    # The account that holds the built-in algorithms' images differs by region; this is us-east-1's.
    path = f"683313688378.dkr.ecr.{region}.amazonaws.com/{repository}:{tag}"
    return {"id": path, "registryId": "683313688378", "registryPath": path, "repositoryName": repository}


_INVOKES: Final[dict[str, Callable[[Plausible, Mapping[str, Any]], dict[str, Any]]]] = {
    "aws:index/getAvailabilityZones:getAvailabilityZones": _zones,
    "aws:index/getCallerIdentity:getCallerIdentity": _identity,
    "aws:index/getPartition:getPartition": _partition,
    "aws:index/getRegion:getRegion": _region,
    "aws:sagemaker/getPrebuiltEcrImage:getPrebuiltEcrImage": _prebuilt_image,
}
