"""The VPC: public and private subnets over two or three zones, and the ways out."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.base import PlatformComponent


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """What a caller decides; everything else is fixed here."""

    cidr: str
    availability_zones: Sequence[str]
    nat_per_zone: bool
    region: str
    cluster_name: str

    def __post_init__(self) -> None:
        if not 2 <= len(self.availability_zones) <= 3:
            raise ValueError(f"availability_zones: want 2 or 3, got {self.availability_zones!r}")


@dataclass(frozen=True, kw_only=True)
class Subnets:
    """How one VPC's addresses are cut: large private subnets (an address for each pod), small public ones."""

    private: tuple[str, str, str]
    public: tuple[str, str, str]


def cut(cidr: str) -> Subnets:
    """The same cut for two zones as for three, so that a zone can be added without moving the others."""
    quarters = list(ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=2))
    small = list(quarters[3].subnets(prefixlen_diff=2))
    first, second, third = (str(network) for network in quarters[:3])
    public = (str(small[0]), str(small[1]), str(small[2]))
    return Subnets(private=(first, second, third), public=public)


class Network(PlatformComponent):
    """A VPC: private subnets that reach out through NAT once `ready`, public ones for what is reached."""

    TYPE = "trainserve:network:Network"
    vpc_id: pulumi.Output[str]
    private_subnet_ids: list[pulumi.Output[str]]
    public_subnet_ids: list[pulumi.Output[str]]
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        self.ready = []
        vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=args.cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            opts=self.child(),
        )
        # A VPC's own default group allows everything among its members: emptied, so that nothing leans on it.
        aws.ec2.DefaultSecurityGroup(
            f"{name}-default", vpc_id=vpc.id, ingress=[], egress=[], opts=self.child()
        )
        gateway = aws.ec2.InternetGateway(f"{name}-internet", vpc_id=vpc.id, opts=self.child())
        cuts = cut(args.cidr)
        zones = list(args.availability_zones)
        public = self._subnets(vpc, "public", zones, cuts.public, "kubernetes.io/role/elb")
        private = self._subnets(vpc, "private", zones, cuts.private, "kubernetes.io/role/internal-elb")
        out = self._route_table(vpc, "public", "gateway_id", gateway.id)
        for zone, subnet in zip(zones, public, strict=True):
            self._associate("public", zone, subnet, out)
        tables = self._private_routes(vpc, zones, public, private, gateway)
        aws.ec2.VpcEndpoint(
            f"{name}-s3",
            vpc_id=vpc.id,
            service_name=f"com.amazonaws.{args.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id for table in tables],
            opts=self.child(),
        )
        self.vpc_id = vpc.id
        self.private_subnet_ids = [subnet.id for subnet in private]
        self.public_subnet_ids = [subnet.id for subnet in public]
        self.finish("vpc_id", "private_subnet_ids", "public_subnet_ids")

    def _subnets(
        self, vpc: aws.ec2.Vpc, kind: str, zones: Sequence[str], cidrs: Sequence[str], role: str
    ) -> list[aws.ec2.Subnet]:
        return [
            aws.ec2.Subnet(
                f"{self._name}-{kind}-{zone[-1]}",
                vpc_id=vpc.id,
                cidr_block=cidr,
                availability_zone=zone,
                map_public_ip_on_launch=False,
                # Load balancers find their subnets by the role; the cluster's name keeps two stacks apart.
                tags={
                    "Name": f"{self._args.cluster_name}-{kind}-{zone[-1]}",
                    role: "1",
                    f"kubernetes.io/cluster/{self._args.cluster_name}": "shared",
                },
                opts=self.child(),
            )
            for zone, cidr in zip(zones, cidrs, strict=False)
        ]

    def _private_routes(
        self,
        vpc: aws.ec2.Vpc,
        zones: Sequence[str],
        public: Sequence[aws.ec2.Subnet],
        private: Sequence[aws.ec2.Subnet],
        gateway: aws.ec2.InternetGateway,
    ) -> list[aws.ec2.RouteTable]:
        nats: list[aws.ec2.NatGateway] = []
        for zone, subnet in zip(zones, public, strict=True):
            if nats and not self._args.nat_per_zone:
                break
            address = aws.ec2.Eip(
                f"{self._name}-nat-{zone[-1]}", domain="vpc", opts=self.child(depends_on=[gateway])
            )
            nats.append(
                aws.ec2.NatGateway(
                    f"{self._name}-nat-{zone[-1]}",
                    allocation_id=address.id,
                    subnet_id=subnet.id,
                    opts=self.child(depends_on=[gateway]),
                )
            )
        tables: list[aws.ec2.RouteTable] = []
        for index, (zone, subnet) in enumerate(zip(zones, private, strict=True)):
            nat = nats[index if self._args.nat_per_zone else 0]
            table = self._route_table(vpc, f"private-{zone[-1]}", "nat_gateway_id", nat.id)
            self._associate("private", zone, subnet, table)
            tables.append(table)
        return tables

    def _route_table(
        self, vpc: aws.ec2.Vpc, label: str, target: str, target_id: pulumi.Output[str]
    ) -> aws.ec2.RouteTable:
        table = aws.ec2.RouteTable(f"{self._name}-{label}", vpc_id=vpc.id, opts=self.child())
        route = aws.ec2.Route(
            f"{self._name}-{label}-out",
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=target_id if target == "gateway_id" else None,
            nat_gateway_id=target_id if target == "nat_gateway_id" else None,
            opts=self.child(),
        )
        self.ready.append(route)
        return table

    def _associate(self, kind: str, zone: str, subnet: aws.ec2.Subnet, table: aws.ec2.RouteTable) -> None:
        association = aws.ec2.RouteTableAssociation(
            f"{self._name}-{kind}-{zone[-1]}", subnet_id=subnet.id, route_table_id=table.id, opts=self.child()
        )
        self.ready.append(association)
