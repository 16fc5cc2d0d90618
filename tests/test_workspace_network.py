"""The network of a workspace: it reaches what its template lists, and nothing else, whatever is tried in it."""

from __future__ import annotations

import shlex
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from agent_process import ran
from sandbox_world import needs_sandboxes, spec_of

from chatcluster.errors import ConfigError
from chatcluster.workspaces import network_proxy, reach
from chatcluster.workspaces.agent_client import AgentClient, over_unix
from chatcluster.workspaces.network_proxy import CONNECTIONS_MAX
from chatcluster.workspaces.process_provider import ProcessProvider, open_process_provider
from chatcluster.workspaces.reach import Reach, networks

pytest_plugins = ["sandbox_fixtures"]

LOOPBACK = (ip_network("127.0.0.0/8"),)
REAL = socket.getaddrinfo

ASK = """
import socket, sys
asked = socket.create_connection(("127.0.0.1", 3128), timeout=10)
asked.sendall(sys.argv[1].encode().decode("unicode_escape").encode("latin-1"))
answer = b""
while piece := asked.recv(4096):
    answer += piece
print(answer.decode("latin-1"))
"""


# --- what may be reached --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "is_named"),
    [
        ("pypi.org", 443, True),
        ("PyPI.org.", 80, True),
        ("pypi.org", 22, False),
        ("files.pypi.org", 443, False),
        ("pypi.org.evil.org", 443, False),
        ("evilpypi.org", 443, False),
        ("a.b.example.org", 443, True),
        ("example.org", 443, False),
        ("evilexample.org", 443, False),
        ("git.example.net", 9418, True),
        ("git.example.net", 443, False),
        ("", 443, False),
        ("a/../pypi.org", 443, False),
        ("pypi.org\0.evil.org", 443, False),
        ("169.254.169.254", 80, False),
    ],
)
def test_names_are_those_of_the_list(host: str, port: int, is_named: bool) -> None:
    assert Reach(["pypi.org", "*.example.org", "Git.example.net:9418"]).names(host, port) is is_named


ADDRESSES = ((socket.AF_INET6, "2606:2800:21f:cb07:6820:80da:af6b:8b2c"), (socket.AF_INET, "93.184.215.14"))
INWARD = (
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "0.0.0.0"),
    *("::1", "fd00:ec2::254", "fe80::1%eth0", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1"),
    *("2002:7f00:1::", "224.0.0.1", "255.255.255.255", "168.63.129.16", "::ffff:168.63.129.16", "not an address"),
)


def test_addresses_are_public_but_for_networks_that_are_let_in() -> None:
    assert Reach([]).leads_to("93.184.215.14")
    assert Reach([]).leads_to("2606:2800:21f:cb07:6820:80da:af6b:8b2c")
    assert [one for one in INWARD if Reach([]).leads_to(one)] == []
    let_in = Reach([], networks("10.0.0.0/8, 169.254.0.0/16,127.0.0.0/8"))
    assert [one for one in INWARD if let_in.leads_to(one)] == ["127.0.0.1", "10.0.0.1", "::ffff:127.0.0.1"]
    with pytest.raises(ConfigError, match="commas"):
        networks("10.0.0.1/8")


async def test_an_address_that_is_silent_leaves_time_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """As where a name has one of IPv6, and nothing of that comes through."""
    outside = object()

    async def connect(family: int, *_: object) -> Any:
        if family == socket.AF_INET6:
            await trio.sleep_forever()
        return outside

    found = [(family, socket.SOCK_STREAM, 6, "", (address, 443)) for family, address in ADDRESSES]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(network_proxy, "_connect", connect)
    proxy = network_proxy._Proxy("one", Reach(["two.example"]))
    began_at = trio.current_time()  # no deadline: the clock would jump to it while the name is looked up
    assert await proxy._connected(network_proxy._Target("two.example", 443, b""), "two.example:443") is outside
    assert trio.current_time() - began_at < network_proxy.DIAL_SECONDS


async def test_what_is_on_the_list_and_no_name_of_a_host_is_refused_in_words() -> None:
    """And not a crash of ours, told with its traceback each time that a program asks."""
    proxy = network_proxy._Proxy("one", Reach(["*.example.org"]))
    for host in ("a..example.org", f"{'a' * 64}.example.org"):
        with pytest.raises(network_proxy._No, match="no name of a host") as refused:
            await proxy._dialled(network_proxy._Target(host, 443, b""))
        assert refused.value.status == 502


async def test_a_public_address_of_this_machine_is_reached_only_where_it_is_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outside = object()

    async def connect(*_: object) -> Any:
        return outside

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(reach, "is_public", lambda _address: True)
    monkeypatch.setattr(network_proxy, "_connect", connect)
    target = network_proxy._Target("own.example", 443, b"")
    proxy = network_proxy._Proxy("one", Reach(["own.example"]))
    with pytest.raises(network_proxy._No, match="no public address"):
        await proxy._connected(target, "own.example:443")
    proxy = network_proxy._Proxy("one", Reach(["own.example"], LOOPBACK))
    assert await proxy._connected(target, "own.example:443") is outside


def test_an_address_of_a_family_that_this_machine_does_not_have_is_none_of_its_own() -> None:
    """As of IPv6, where its kernel has none: the other addresses of the name are tried all the same."""
    assert not network_proxy._is_own(255, ("::1", 443))


# --- a sandbox that has one -----------------------------------------------------------------------


class Outside:
    """Something that listens on this machine, what it heard, and the names that lead to it, or elsewhere."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard: list[bytes] = []
        self.names = {"allowed.example": "127.0.0.1", "metadata.example": "169.254.169.254", "lan.example": "10.0.0.1"}

    async def serve(self, stream: trio.SocketStream) -> None:
        data = bytes(await stream.receive_some(1 << 16))
        self.heard.append(data)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
        await stream.aclose()

    def look_up(self, host: str, port: int, *rest: Any, **more: Any) -> Any:
        return REAL(self.names.get(host, host), port, *rest, **more) if host in self.names else REAL(host, port, *rest)


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Outside]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        there = Outside(listener.socket.getsockname()[1])
        nursery.start_soon(trio.serve_listeners, there.serve, [listener])
        monkeypatch.setattr(socket, "getaddrinfo", there.look_up)
        yield there
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_inside(outside: Path, there: Outside, private: Any = LOOPBACK) -> AsyncIterator[AgentClient]:
    """A workspace whose template lists ``allowed.example``, and names that lead inward."""
    hosts = tuple(f"{name}:{there.port}" for name in (*there.names, "localhost", "127.0.0.1"))
    async with open_process_provider(outside / "workspaces", private=private) as provider:
        await provider.start(spec_of("one", allowed_hosts=hosts))
        yield client(provider, "one")


def client(provider: ProcessProvider, name: str) -> AgentClient:
    return over_unix(provider.socket_path(name))


async def said(inside: AgentClient, command: str) -> str:
    return (await ran(inside, f"({command}) 2>&1")).output.decode("utf-8", "replace")


async def asked(inside: AgentClient, request: str) -> str:
    return await said(inside, f"/usr/bin/python3 -c {shlex.quote(ASK)} {shlex.quote(request)}")


@needs_sandboxes
async def test_what_is_listed_is_reached_as_programs_do_it_and_by_connect(outside: Path, there: Outside) -> None:
    async with open_inside(outside, there) as inside:
        url = f"http://allowed.example:{there.port}/a?b=c"
        program = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=10).read())"
        assert await said(inside, f"/usr/bin/python3 -c {shlex.quote(program)}") == "b'hello'\n"
        head = there.heard[0].decode()
        assert head.startswith("GET /a?b=c HTTP/1.1\r\n")
        assert f"host: allowed.example:{there.port}\r\n" in head.lower()
        for end, target in (("?next=/a", "/?next=/a"), ("", "/"), ("//a", "//a"), ("/a/?b=/c?d#e", "/a/?b=/c?d")):
            await asked(inside, rf"GET http://allowed.example:{there.port}{end} HTTP/1.1\r\nHost: a\r\n\r\n")
            assert there.heard.pop().startswith(f"GET {target} HTTP/1.1\r\n".encode())
        place = f"allowed.example:{there.port}"
        answer = await asked(inside, rf"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\nGET / HTTP/1.0\r\n\r\n")
        assert answer.startswith("HTTP/1.1 200 Connection established")
        assert answer.endswith("hello\n")
        assert there.heard[1] == b"GET / HTTP/1.0\r\n\r\n"


@needs_sandboxes
async def test_what_is_not_listed_or_leads_inward_is_refused_whatever_is_tried(outside: Path, there: Outside) -> None:
    port = there.port
    refused = [
        *("evil.example:443", f"evil.example:{port}", "allowed.example:443", f"allowed.example.evil.example:{port}"),
        *(f"metadata.example:{port}", f"lan.example:{port}", "169.254.169.254:80", f"[::1]:{port}"),
        *(f"2130706433:{port}", f"0x7f000001:{port}", "allowed.example:0", f"allowed.example:{port}@evil.example:80"),
    ]
    urls = ["http://169.254.169.254/latest", f"http://allowed.example:{port}@evil.example/", "ftp://allowed.example/"]
    async with open_inside(outside, there) as inside:
        for place in refused:
            answer = await asked(inside, rf"CONNECT {place} HTTP/1.1\r\nHost: allowed.example:{port}\r\n\r\n")
            assert answer.startswith(("HTTP/1.1 403", "HTTP/1.1 400")), (place, answer)
        for url in urls:
            answer = await asked(inside, rf"GET {url} HTTP/1.1\r\nHost: allowed.example:{port}\r\n\r\n")
            assert answer.startswith(("HTTP/1.1 403", "HTTP/1.1 400")), (url, answer)
        for garbage in (r"\x16\x03\x01\x02\x00hello\r\n\r\n", r"GET / HTTP/1.1\r\nHost: allowed.example\r\n\r\n"):
            assert (await asked(inside, garbage)).startswith("HTTP/1.1 400"), garbage
        direct = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=3)"
        assert "refused" in await said(inside, f"/usr/bin/python3 -c {shlex.quote(direct)}")
        assert "Network is unreachable" in await said(inside, f"/usr/bin/python3 -c {shlex.quote(PUBLIC)}")
        assert (await ran(inside, "rm /run/network/proxy.sock")).exit_code != 0
    assert there.heard == []


PUBLIC = "import socket; socket.create_connection(('1.1.1.1', 443), timeout=3)"


@needs_sandboxes
async def test_this_machine_is_not_reached_though_a_template_lists_it(outside: Path, there: Outside) -> None:
    async with open_inside(outside, there, private=()) as inside:
        for name in ("allowed.example", "localhost", "127.0.0.1"):
            answer = await asked(inside, rf"CONNECT {name}:{there.port} HTTP/1.1\r\nHost: a\r\n\r\n")
            assert "no public address" in answer, name
    assert there.heard == []


@needs_sandboxes
async def test_one_without_a_list_has_no_way_out_and_no_way_to_another_s(provider: ProcessProvider) -> None:
    await provider.start(spec_of("one"))
    await provider.start(spec_of("two", owner="another", allowed_hosts=("example.org",)))
    inside = client(provider, "one")
    assert "proxy" not in (await said(inside, "env; ls /run")).lower()
    assert "ConnectionRefusedError" in await asked(inside, r"CONNECT example.org:443 HTTP/1.1\r\n\r\n")
    assert "proxy" in await said(client(provider, "two"), "env; ls /run/network")


@needs_sandboxes
async def test_p10_one_that_takes_all_its_connections_is_in_nobody_s_way(outside: Path, there: Outside) -> None:
    hosts = (f"allowed.example:{there.port}",)
    async with open_process_provider(outside / "workspaces", private=LOOPBACK) as provider:
        for name in ("greedy", "other"):
            await provider.start(spec_of(name, owner=name, allowed_hosts=hosts))
        hold = (
            "import socket, time\n"
            f"held = [socket.create_connection(('127.0.0.1', 3128)) for _ in range({3 * CONNECTIONS_MAX})]\n"
            "print('held', flush=True); time.sleep(100)"
        )
        await said(client(provider, "greedy"), f"/usr/bin/python3 -c {shlex.quote(hold)} >held & sleep 2; cat held")
        request = rf"GET http://allowed.example:{there.port}/ HTTP/1.1\r\nHost: a\r\n\r\n"
        with trio.fail_after(60):
            assert "hello" in await asked(client(provider, "other"), request)
            assert (await client(provider, "greedy").status()).version
