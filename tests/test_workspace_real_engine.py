"""What only a real container engine shows: that it keeps the limits that it is told. `scripts/engines` runs this, and
the contract of all providers, against an engine of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from agent_process import ran
from provider_worlds import ProviderWorld, open_world
from real_engine import ENGINE_SOCKET, SOCKET_VARIABLE
from sandbox_world import LIMITS, spec_of

from chatcluster.workspaces.agent_client import AgentClient
from chatcluster.workspaces.container_provider import ContainerProvider

pytestmark = pytest.mark.skipif(not ENGINE_SOCKET, reason=f"{SOCKET_VARIABLE} names no engine")


@pytest.fixture
async def world() -> AsyncIterator[ProviderWorld]:
    async with open_world("engine") as world:
        yield world


def inside(provider: object, workspace_id: str = "one") -> AgentClient:
    assert isinstance(provider, ContainerProvider)
    agent = provider.connect(workspace_id)
    assert isinstance(agent, AgentClient)
    return agent


async def test_what_takes_too_much_of_one_takes_nothing_of_another(world: ProviderWorld) -> None:
    async with world.open() as provider:
        for name in ("one", "two"):
            await provider.start(spec_of(name, owner=name))
        greedy = inside(provider)
        forked = await ran(greedy, "for i in $(seq 200); do sleep 20 & done; echo over")
        assert b"Resource temporarily unavailable" in forked.output
        full = await ran(greedy, "head -c 100M /dev/zero >file; stat -c %s file; rm file")
        assert int(full.output.split()[-1]) <= LIMITS.disk_bytes
        full = await ran(greedy, "head -c 100M /dev/zero >/tmp/file; stat -c %s /tmp/file; rm /tmp/file")
        assert int(full.output.split()[-1]) <= LIMITS.tmp_bytes
        eaten = await ran(greedy, "python3 -c \"x = b'x' * (1 << 30)\"; echo $?")
        assert eaten.output.split()[-1] == b"137"
        assert (await ran(inside(provider, "two"), "echo well")).output == b"well\n"
        assert (await ran(greedy, "echo well")).output == b"well\n"
