"""Settings that switch on everything that can be switched on together, beside prod's own."""

from typing import Any

from tests.contract.recorder import stack_config

_ID = "12345678-1234-1234-1234-123456789012"


def widest() -> dict[str, Any]:
    """Changes of prod's settings."""
    config = stack_config("prod")
    return {
        "trainserve:network": {
            **config["trainserve:network"],
            "peering": {"peerVpcId": "vpc-0a1b2c3d4e5f60718", "peerCidr": "10.99.0.0/16"},
        },
        "trainserve:cluster": {
            **config["trainserve:cluster"],
            "publicAccessCidrs": ["203.0.113.7/32"],
            "admins": ["arn:aws:iam::123456789012:role/admin"],
            "developers": ["arn:aws:iam::123456789012:role/developer"],
        },
        "trainserve:nodePools": {
            "gpu": {
                "whole": {"instanceTypes": ["g6.xlarge"]},
                "slices": {
                    "instanceTypes": ["g5.xlarge"],
                    "sharing": "time-sliced",
                    "replicas": 4,
                    "capacity": "spot",
                },
                "parts": {
                    "instanceTypes": ["p4d.24xlarge"],
                    "sharing": "mig",
                    "migProfile": "1g.5gb",
                    "maxGpus": 8,
                },
            }
        },
        "trainserve:workload": {**config["trainserve:workload"], "grpcPort": 8081},
        "trainserve:loadBalancer": {
            "scheme": "internet-facing",
            "host": "models.example.com",
            "certificateArn": f"arn:aws:acm:us-east-1:123456789012:certificate/{_ID}",
            "wafAclArn": f"arn:aws:wafv2:us-east-1:123456789012:regional/webacl/models/{_ID}",
            "accessLogs": True,
        },
        "trainserve:training": {
            **config["trainserve:training"],
            "bootstrapData": stack_config("dev")["trainserve:training"]["bootstrapData"],
            "tuning": {},
            "pipeline": True,
            "modelMonitor": {},
        },
        "trainserve:observability": {"loadBalancer": "app/k8s-serving/50dc6c495c0c9188"},
    }
