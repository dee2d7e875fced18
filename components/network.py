"""The VPC: public, private and intra subnets over two or three zones, the ways out, and the private ways."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from components import iam
from components import infra_settings as s
from components.base import PlatformComponent
from components.names import DISCOVERY

CLOUDWATCH: Final = "cloudwatch"


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """What a caller decides; everything else is fixed here."""

    cidr: str
    availability_zones: Sequence[str]
    nat_per_zone: bool
    region: str
    account_id: pulumi.Input[str]
    cluster_name: str
    interface_endpoints: Sequence[str]
    flow_logs: str
    peering: s.Peering | None
    key_arn: pulumi.Input[str]
    log_retention_days: int

    def __post_init__(self) -> None:
        if not 2 <= len(self.availability_zones) <= 3:
            raise ValueError(f"availability_zones: want 2 or 3, got {self.availability_zones!r}")


@dataclass(frozen=True, kw_only=True)
class Subnets:
    """How one VPC's addresses are cut.

    Every pod has an address of the VPC: three quarters are private subnets, a /18 each of a /16. The fourth
    holds small public ones for load balancers and NAT, and smaller ones for the control plane's interfaces.
    """

    private: tuple[str, str, str]
    public: tuple[str, str, str]
    intra: tuple[str, str, str]


def cut(cidr: str) -> Subnets:
    """The same cut for two zones as for three, so that a zone can be added without moving the others."""
    quarters = list(ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=2))
    small = list(quarters[3].subnets(prefixlen_diff=2))
    tiny = list(small[3].subnets(prefixlen_diff=2))
    return Subnets(private=_three(quarters), public=_three(small), intra=_three(tiny))


def _three(networks: Sequence[ipaddress.IPv4Network]) -> tuple[str, str, str]:
    first, second, third = (str(network) for network in networks[:3])
    return first, second, third


class Network(PlatformComponent):
    """A VPC: private subnets that reach out once `ready`, public ones, and intra ones that reach nothing."""

    TYPE = "trainserve:network:Network"
    vpc_id: pulumi.Output[str]
    private_subnet_ids: list[pulumi.Output[str]]
    public_subnet_ids: list[pulumi.Output[str]]
    intra_subnet_ids: list[pulumi.Output[str]]
    ways_out: list[pulumi.Resource]
    """What a private subnet reaches AWS by; nodes that lose it can no longer be drained."""
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        self.ways_out = []
        self.ready = []
        vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=args.cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={"Name": args.cluster_name},
            opts=self.child(),
        )
        self._vpc = vpc
        # A VPC's own default group allows everything among its members: emptied, so that nothing leans on it.
        aws.ec2.DefaultSecurityGroup(
            f"{name}-default", vpc_id=vpc.id, ingress=[], egress=[], opts=self.child()
        )
        cuts = cut(args.cidr)
        zones = list(args.availability_zones)
        # Load balancers find their subnets by the role, Karpenter by the discovery tag.
        public = self._subnets("public", zones, cuts.public, {"kubernetes.io/role/elb": "1"})
        own = {"kubernetes.io/role/internal-elb": "1", DISCOVERY: args.cluster_name}
        private = self._subnets("private", zones, cuts.private, own)
        intra = self._subnets("intra", zones, cuts.intra, {})
        tables, nowhere = self._routes(zones, public, private, intra)
        self._gateway_endpoints(tables)
        if args.interface_endpoints:
            self._interface_endpoints(private)
        self._flow_logs()
        if args.peering is not None:
            labels = [f"private-{zone[-1]}" for zone in zones]
            self._peer(args.peering, {**dict(zip(labels, tables, strict=True)), "intra": nowhere})
        self.vpc_id = vpc.id
        self.private_subnet_ids = [subnet.id for subnet in private]
        self.public_subnet_ids = [subnet.id for subnet in public]
        self.intra_subnet_ids = [subnet.id for subnet in intra]
        self.finish("vpc_id", "private_subnet_ids", "public_subnet_ids", "intra_subnet_ids")

    def _subnets(
        self, kind: str, zones: Sequence[str], cidrs: Sequence[str], tags: dict[str, str]
    ) -> list[aws.ec2.Subnet]:
        cluster = self._args.cluster_name
        return [
            aws.ec2.Subnet(
                f"{self._name}-{kind}-{zone[-1]}",
                vpc_id=self._vpc.id,
                cidr_block=cidr,
                availability_zone=zone,
                map_public_ip_on_launch=False,
                # The cluster's name keeps two stacks apart.
                tags={
                    "Name": f"{cluster}-{kind}-{zone[-1]}",
                    f"kubernetes.io/cluster/{cluster}": "shared",
                    **tags,
                },
                opts=self.child(),
            )
            for zone, cidr in zip(zones, cidrs, strict=False)
        ]

    def _routes(
        self,
        zones: Sequence[str],
        public: Sequence[aws.ec2.Subnet],
        private: Sequence[aws.ec2.Subnet],
        intra: Sequence[aws.ec2.Subnet],
    ) -> tuple[list[aws.ec2.RouteTable], aws.ec2.RouteTable]:
        """The private subnets' tables, and the intra subnets' one."""
        gateway = aws.ec2.InternetGateway(f"{self._name}-internet", vpc_id=self._vpc.id, opts=self.child())
        out = self._route_table("public", gateway_id=gateway.id)
        nowhere = self._route_table("intra")
        for zone, outer, inner in zip(zones, public, intra, strict=True):
            self._associate("public", zone, outer, out)
            self._associate("intra", zone, inner, nowhere)
        nats = self._nats(zones, public, gateway)
        tables: list[aws.ec2.RouteTable] = []
        for index, (zone, subnet) in enumerate(zip(zones, private, strict=True)):
            nat = nats[index if self._args.nat_per_zone else 0]
            table = self._route_table(f"private-{zone[-1]}", nat_gateway_id=nat.id)
            self._associate("private", zone, subnet, table)
            tables.append(table)
        return tables, nowhere

    def _nats(
        self, zones: Sequence[str], public: Sequence[aws.ec2.Subnet], gateway: aws.ec2.InternetGateway
    ) -> list[aws.ec2.NatGateway]:
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
        self.ways_out += [gateway, *nats]
        return nats

    def _route_table(
        self,
        label: str,
        *,
        gateway_id: pulumi.Output[str] | None = None,
        nat_gateway_id: pulumi.Output[str] | None = None,
    ) -> aws.ec2.RouteTable:
        table = aws.ec2.RouteTable(f"{self._name}-{label}", vpc_id=self._vpc.id, opts=self.child())
        if gateway_id is not None or nat_gateway_id is not None:
            route = aws.ec2.Route(
                f"{self._name}-{label}-out",
                route_table_id=table.id,
                destination_cidr_block="0.0.0.0/0",
                gateway_id=gateway_id,
                nat_gateway_id=nat_gateway_id,
                opts=self.child(),
            )
            self.ways_out.append(route)
            self.ready.append(route)
        return table

    def _associate(self, kind: str, zone: str, subnet: aws.ec2.Subnet, table: aws.ec2.RouteTable) -> None:
        association = aws.ec2.RouteTableAssociation(
            f"{self._name}-{kind}-{zone[-1]}", subnet_id=subnet.id, route_table_id=table.id, opts=self.child()
        )
        self.ways_out.append(association)
        self.ready.append(association)

    def _gateway_endpoints(self, tables: Sequence[aws.ec2.RouteTable]) -> None:
        """Free of charge, and image layers and training data come this way rather than through NAT."""
        for service in ("s3", "dynamodb"):
            endpoint = aws.ec2.VpcEndpoint(
                f"{self._name}-{service}",
                vpc_id=self._vpc.id,
                service_name=f"com.amazonaws.{self._args.region}.{service}",
                vpc_endpoint_type="Gateway",
                route_table_ids=[table.id for table in tables],
                opts=self.child(),
            )
            self.ways_out.append(endpoint)

    def _interface_endpoints(self, private: Sequence[aws.ec2.Subnet]) -> None:
        group = aws.ec2.SecurityGroup(
            f"{self._name}-endpoints",
            description="AWS services inside the VPC: HTTPS from the VPC, and nothing out",
            vpc_id=self._vpc.id,
            opts=self.child(),
        )
        rule = aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-endpoints",
            security_group_id=group.id,
            cidr_ipv4=self._args.cidr,
            description="HTTPS from the VPC",
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            opts=self.child(),
        )
        self.ways_out.append(rule)
        for service in self._args.interface_endpoints:
            endpoint = aws.ec2.VpcEndpoint(
                f"{self._name}-{service.replace('.', '-')}",
                vpc_id=self._vpc.id,
                service_name=f"com.amazonaws.{self._args.region}.{service}",
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=[subnet.id for subnet in private],
                security_group_ids=[group.id],
                opts=self.child(),
            )
            self.ways_out.append(endpoint)

    def _flow_logs(self) -> None:
        """Who talked to whom: to a log group of ours, or to a bucket that the settings name."""
        if self._args.flow_logs != CLOUDWATCH:
            aws.ec2.FlowLog(
                f"{self._name}-flows",
                vpc_id=self._vpc.id,
                traffic_type="ALL",
                log_destination_type="s3",
                log_destination=self._args.flow_logs,
                opts=self.child(),
            )
            return
        logs = aws.cloudwatch.LogGroup(
            f"{self._name}-flows",
            retention_in_days=self._args.log_retention_days,
            kms_key_id=self._args.key_arn,
            opts=self.child(),
        )
        role = aws.iam.Role(
            f"{self._name}-flows",
            assume_role_policy=iam.assume_role("vpc-flow-logs", self._args.account_id),
            opts=self.child(),
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-flows", role=role.id, policy=flow_log_policy(logs.arn), opts=self.child()
        )
        aws.ec2.FlowLog(
            f"{self._name}-flows",
            vpc_id=self._vpc.id,
            traffic_type="ALL",
            log_destination=logs.arn,
            iam_role_arn=role.arn,
            opts=self.child(depends_on=[policy]),
        )

    def _peer(self, peering: s.Peering, tables: Mapping[str, aws.ec2.RouteTable]) -> None:
        """Asks the other VPC; in the same account and region it is accepted at once.

        Pods, load balancers and, in the intra subnets, the cluster's API answer it. Whoever runs the program
        may come this way: it goes after everything that is taken down through it.
        """
        here = peering.peer_account is None and peering.peer_region is None
        connection = aws.ec2.VpcPeeringConnection(
            f"{self._name}-peer",
            vpc_id=self._vpc.id,
            peer_vpc_id=peering.peer_vpc_id,
            peer_owner_id=peering.peer_account,
            peer_region=peering.peer_region,
            auto_accept=True if here else None,
            opts=self.child(),
        )
        self.ways_out.append(connection)
        for label, table in tables.items():
            route = aws.ec2.Route(
                f"{self._name}-{label}-peer",
                route_table_id=table.id,
                destination_cidr_block=peering.peer_cidr,
                vpc_peering_connection_id=connection.id,
                opts=self.child(),
            )
            self.ways_out.append(route)


def flow_log_policy(log_group_arn: pulumi.Input[str]) -> pulumi.Output[str]:
    """Finding this one log group, and writing streams of it."""
    return iam.document(
        iam.Statement(
            sid="FindGroup",
            actions=["logs:DescribeLogGroups"],
            resources=["*"],  # a list, without a resource level
        ),
        iam.Statement(
            sid="WriteFlows",
            actions=["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            resources=[log_group_arn, pulumi.Output.concat(log_group_arn, ":*")],
        ),
    )
