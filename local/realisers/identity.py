"""IAM roles and policies, KMS keys: they exist and can be read; the emulator does not enforce them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from local.realisers.base import Realised, Realiser, Resource, Site

if TYPE_CHECKING:
    from collections.abc import Mapping


def _role(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    trust = resource.inputs["assumeRolePolicy"]
    iam = site.client("iam")
    role = iam.create_role(
        RoleName=name,
        Path=resource.inputs.get("path") or "/",
        AssumeRolePolicyDocument=trust if isinstance(trust, str) else json.dumps(trust),
    )["Role"]
    for policy in resource.inputs.get("managedPolicyArns") or []:
        iam.attach_role_policy(RoleName=name, PolicyArn=policy)
    return Realised(name, {"arn": role["Arn"], "name": name, "uniqueId": role["RoleId"]})


def _role_policy(site: Site, resource: Resource) -> Realised:
    name, role = site.name(resource), resource.inputs["role"]
    site.client("iam").put_role_policy(
        RoleName=role, PolicyName=name, PolicyDocument=resource.inputs["policy"]
    )
    return Realised(f"{role}:{name}", {"name": name})


def _policy(site: Site, resource: Resource) -> Realised:
    policy = site.client("iam").create_policy(
        PolicyName=site.name(resource), PolicyDocument=resource.inputs["policy"]
    )["Policy"]
    return Realised(policy["Arn"], {"arn": policy["Arn"], "name": policy["PolicyName"]})


def _attachment(site: Site, resource: Resource) -> Realised:
    role, policy = resource.inputs["role"], resource.inputs["policyArn"]
    if not policy.startswith("arn:aws:iam::aws:"):  # AWS's own policies are not there
        site.client("iam").attach_role_policy(RoleName=role, PolicyArn=policy)
    return Realised(f"{role}-{policy.rpartition('/')[2]}", {})


def _key(site: Site, resource: Resource) -> Realised:
    kms = site.client("kms")
    policy = resource.inputs.get("policy")
    extra = {"Policy": policy} if isinstance(policy, str) else {}
    key = kms.create_key(Description=resource.inputs.get("description") or "", **extra)["KeyMetadata"]
    if resource.inputs.get("enableKeyRotation"):
        kms.enable_key_rotation(KeyId=key["KeyId"])
    return Realised(key["KeyId"], {"arn": key["Arn"], "keyId": key["KeyId"]})


def _alias(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    name = name if name.startswith("alias/") else f"alias/{name}"
    target = resource.inputs["targetKeyId"]
    site.client("kms").create_alias(AliasName=name, TargetKeyId=target)
    return Realised(name, {"name": name, "arn": site.plausible.arn(resource, name), "targetKeyId": target})


REALISERS: Mapping[str, Realiser] = {
    "aws:iam/policy:Policy": _policy,
    "aws:iam/role:Role": _role,
    "aws:iam/rolePolicy:RolePolicy": _role_policy,
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": _attachment,
    "aws:kms/alias:Alias": _alias,
    "aws:kms/key:Key": _key,
}
