"""Where the MCP process connects to, and how much it takes."""

from __future__ import annotations

import pytest

from chatcluster.tools.mcp_addresses import is_forbidden

FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "100.100.100.200",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
]
ALLOWED = ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "fd00::1", "1.1.1.1", "2606:4700::1111"]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_nobody_is_sent_to_where_clouds_hand_out_credentials(address: str) -> None:
    assert is_forbidden(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_servers_of_the_own_network_and_of_the_world_are_let_through(address: str) -> None:
    assert not is_forbidden(address)
