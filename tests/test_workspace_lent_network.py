"""The network of a workspace on another machine: connections that its host lends to its agent, and nothing else.

The cluster is a fake (``fake_kubernetes.py``); the agents, their gateways and the proxy are real.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trio
from agent_process import request
from provider_worlds import HOST, IMAGE, KubernetesWorld, open_world
from sandbox_world import spec_of

from chatcluster.workspace_wire import Kind
from chatcluster.workspaces.agent.gateway import CONNECTIONS_MAX, LENT_MAX, PORT, LentConnections
from chatcluster.workspaces.container_provider import ContainerProvider, open_containers
from chatcluster.workspaces.kubernetes_engine import PodOptions, open_kubernetes
from chatcluster.workspaces.network_proxy import LEND_RETRY_SECONDS, SPARE_CONNECTIONS, NetworkProxies

LOOPBACK = (ip_network("127.0.0.0/8"),)
REAL = socket.getaddrinfo
SECONDS_MAX = 120.0
MANIFEST = Path(__file__).parent.parent / "deploy" / "kubernetes-pods.yaml"


class Outside:
    """A server that has a name, and greets whoever says something."""

    def __init__(self, port: int) -> None:
        self.place = f"allowed.example:{port}"
        self.connections = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        async with stream:
            while said := await stream.receive_some(1000):
                await stream.send_all(b"hello " + said)


@pytest.fixture
async def outside(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Outside]:
    def look_up(host: str, *rest: Any, **more: Any) -> Any:
        return REAL("127.0.0.1" if host == "allowed.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        there = Outside(listener.socket.getsockname()[1])
        nursery.start_soon(trio.serve_listeners, there.serve, [listener])
        yield there
        nursery.cancel_scope.cancel()


@pytest.fixture
async def kubernetes() -> AsyncIterator[KubernetesWorld]:
    async with open_world("kubernetes") as world:
        assert isinstance(world, KubernetesWorld)
        yield world


@asynccontextmanager
async def open_provider(world: KubernetesWorld) -> AsyncIterator[ContainerProvider]:
    async with (
        open_kubernetes(world.root, HOST, PodOptions(image=IMAGE), world.environment, world.account) as engine,
        open_containers(engine, private=LOOPBACK) as provider,
    ):
        yield provider


async def way_out(world: KubernetesWorld, name: str = "one") -> trio.SocketStream:
    """As a program in the pod takes it."""
    pod = world.cluster.of("pods", f"ws-{name}")
    assert pod is not None
    return await trio.open_tcp_stream(pod.address, PORT)


async def connected(stream: trio.SocketStream, place: str) -> bytes:
    await stream.send_all(f"CONNECT {place} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    with trio.fail_after(SECONDS_MAX):
        return bytes(await stream.receive_some(1000))


async def test_what_is_listed_is_reached_and_what_is_not_is_refused_with_the_reason(
    kubernetes: KubernetesWorld, outside: Outside
) -> None:
    async with open_provider(kubernetes) as provider:
        await provider.start(spec_of("one", allowed_hosts=(outside.place,)))
        for word in (b"one", b"two"):
            async with await way_out(kubernetes) as program:
                assert (await connected(program, outside.place)).startswith(b"HTTP/1.1 200 ")
                await program.send_all(word)
                assert await program.receive_some(100) == b"hello " + word
        async with await way_out(kubernetes) as program:
            told = await connected(program, "example.com:443")
            assert told.startswith(b"HTTP/1.1 403 ")
            assert b"its template lists what it may reach" in told


async def test_more_programs_at_once_than_connections_are_kept_ready_all_get_out(
    kubernetes: KubernetesWorld, outside: Outside
) -> None:
    many = 5 * SPARE_CONNECTIONS
    async with open_provider(kubernetes) as provider:
        await provider.start(spec_of("one", allowed_hosts=(outside.place,)))
        programs = [await way_out(kubernetes) for _ in range(many)]
        answers: list[bytes] = []
        greetings: list[bytes] = []

        async def ask(program: trio.SocketStream) -> None:
            answers.append(await connected(program, outside.place))
            await program.send_all(b"one")  # the way is there before the server has taken the connection
            greetings.append(bytes(await program.receive_some(100)))

        async with trio.open_nursery() as nursery:
            for program in programs:
                nursery.start_soon(ask, program)
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        assert greetings == [b"hello one"] * many
        assert outside.connections == many
        for program in programs:
            await program.aclose()


async def test_p10_one_that_takes_all_its_connections_still_answers_and_is_in_nobody_s_way(
    kubernetes: KubernetesWorld, outside: Outside
) -> None:
    async with open_provider(kubernetes) as provider:
        for name in ("one", "two"):
            await provider.start(spec_of(name, owner=name, allowed_hosts=(outside.place,)))
        taken = [await way_out(kubernetes) for _ in range(2 * CONNECTIONS_MAX)]
        for program in taken:
            await program.send_all(b"CONNECT ")
        assert (await provider.connect("one").status()).running == 0
        async with await way_out(kubernetes, "two") as program:
            assert (await connected(program, outside.place)).startswith(b"HTTP/1.1 200 ")
        for program in taken:
            await program.aclose()


async def test_one_without_a_list_has_no_way_out_and_takes_no_connections(kubernetes: KubernetesWorld) -> None:
    async with open_provider(kubernetes) as provider:
        await provider.start(spec_of("one"))
        with pytest.raises(OSError, match="attempts to connect"):
            await way_out(kubernetes)
        async with await provider.dial("one") as stream:
            token = dict(provider.headers("one"))["authorization"]
            await stream.send_all(f"POST /network HTTP/1.1\r\nhost: a\r\nauthorization: {token}\r\n\r\n".encode())
            assert bytes(await stream.receive_some(1000)).startswith(b"HTTP/1.1 404 ")


async def test_who_does_not_know_the_token_of_an_agent_lends_it_nothing(
    kubernetes: KubernetesWorld, outside: Outside
) -> None:
    async with open_provider(kubernetes) as provider:
        await provider.start(spec_of("one", allowed_hosts=(outside.place,)))
        async with await provider.dial("one") as stream:
            await stream.send_all(b"POST /network HTTP/1.1\r\nhost: a\r\n\r\n")
            assert bytes(await stream.receive_some(1000)).startswith(b"HTTP/1.1 401 ")


async def test_a_stop_closes_what_was_lent_and_a_start_lends_anew(
    kubernetes: KubernetesWorld, outside: Outside
) -> None:
    spec = spec_of("one", allowed_hosts=(outside.place,))
    async with open_provider(kubernetes) as provider:
        await provider.start(spec)
        program = await way_out(kubernetes)
        assert (await connected(program, outside.place)).startswith(b"HTTP/1.1 200 ")
        await provider.stop("one")
        with trio.fail_after(SECONDS_MAX):
            with suppress(trio.BrokenResourceError):
                assert await program.receive_some(1) == b""
        await program.aclose()
        await provider.start(spec)
        await provider.connect("one").put("w", request(Kind.WRITE_FILE, path="a", content="b"))
        async with await way_out(kubernetes) as again:
            assert (await connected(again, outside.place)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("said", [b"HTTP/1.1 404 Not Found\r\n\r\n", b""])
async def test_p10_an_agent_that_takes_none_is_not_asked_without_a_pause(
    autojump_clock: trio.testing.MockClock, said: bytes
) -> None:
    """One of an older image, or one that is not the one that was meant."""
    lent = 0

    async def lend() -> trio.SocketStream:
        nonlocal lent
        lent += 1
        await trio.lowlevel.checkpoint()
        ours, theirs = a_pair()
        if said:
            await theirs.send_all(said)
        theirs.socket.close()
        return ours

    async with trio.open_nursery() as nursery:
        proxies = NetworkProxies(nursery)
        proxies.lend("one", lend, ("example.org",))
        await trio.sleep(10 * LEND_RETRY_SECONDS)
        proxies.close("one")
    assert SPARE_CONNECTIONS <= lent <= 11 * SPARE_CONNECTIONS


def test_the_policy_of_pods_lets_them_connect_to_nobody() -> None:
    (policy,) = (one for one in MANIFEST.read_text().split("\n---\n") if "kind: NetworkPolicy" in one)
    assert "policyTypes: [Ingress, Egress]" in policy
    assert policy.endswith("egress: []")


# --- the agent's part -----------------------------------------------------------------------------


def a_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    one, other = trio.socket.socketpair()
    return trio.SocketStream(one), trio.SocketStream(other)


async def held(lent: LentConnections, stream: trio.SocketStream) -> None:
    """As the agent's server does."""
    async with stream:
        await lent.lend(stream)


async def test_a_connection_whose_host_is_gone_is_given_to_no_program() -> None:
    lent = LentConnections()
    async with trio.open_nursery() as nursery:
        for keeps in (False, True):
            ours, theirs = a_pair()
            nursery.start_soon(held, lent, ours)
            await trio.testing.wait_all_tasks_blocked()
            if not keeps:
                await theirs.aclose()
                await trio.testing.wait_all_tasks_blocked()
        async with lent.way_out() as out:
            await out.send_all(b"first word")
            assert await theirs.receive_some(100) == b"first word"
        await theirs.aclose()


async def test_a_program_waits_for_a_connection_but_not_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(trio.TooSlowError):
        async with LentConnections().way_out():
            pass


async def test_more_than_there_is_use_for_are_not_kept() -> None:
    lent = LentConnections()
    pairs = [a_pair() for _ in range(LENT_MAX + 1)]
    async with trio.open_nursery() as nursery:
        for ours, _ in pairs[:-1]:
            nursery.start_soon(lent.lend, ours)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(SECONDS_MAX):
            await lent.lend(pairs[-1][0])
        nursery.cancel_scope.cancel()
    for stream in (stream for pair in pairs for stream in pair):
        stream.socket.close()
