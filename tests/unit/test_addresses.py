"""Where the cluster's Services have their addresses, and what counts as inside."""

import pytest

from components import addresses, cluster, cluster_security


@pytest.mark.parametrize(
    ("vpc", "peers", "services"),
    [
        ("10.10.0.0/16", [], "172.20.0.0/16"),
        ("10.100.0.0/16", ["192.168.0.0/16"], "172.20.0.0/16"),
        ("172.20.16.0/20", [], "10.100.0.0/16"),
        ("10.10.0.0/16", ["172.20.255.0/24"], "10.100.0.0/16"),
        ("192.168.0.0/16", ["172.16.0.0/12"], "10.100.0.0/16"),
    ],
)
def test_services_keep_clear_of_the_vpc_and_of_its_peer(vpc: str, peers: list[str], services: str) -> None:
    assert cluster.service_cidr(vpc, peers) == services


def test_no_vpc_alone_takes_both_networks_for_services() -> None:
    for private in addresses.PRIVATE:
        for vpc in private.subnets(new_prefix=max(16, private.prefixlen)):
            assert addresses.service_network([vpc]) is not None


def test_services_that_have_no_place_are_no_program() -> None:
    with pytest.raises(ValueError, match=r"beside 10\.100\.0\.0/16 and 172\.16\.0\.0/12"):
        cluster.service_cidr("10.100.0.0/16", ["172.16.0.0/12"])


def test_what_a_vpc_or_a_peer_may_have_is_inside() -> None:
    assert set(map(str, addresses.PRIVATE)) < set(cluster_security._INSIDE)
    rules = cluster_security.network_policies("100.64.0.0/16", None)["aws"]["egress"]
    outside = next(rule for rule in rules if rule["to"][0]["ip_block"]["cidr"] == "0.0.0.0/0")
    assert "100.64.0.0/10" in outside["to"][0]["ip_block"]["except_"]
