"""What every provider of workspaces keeps, whatever it makes them of. The engines of Docker and Kubernetes are fakes,
whose containers are real agents: see ``fake_docker.py`` and ``fake_kubernetes.py``. A real one has its turn where the
environment names it (``real_engine.py``)."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
from _pytest.mark import ParameterSet
from agent_process import a_sleep, execute, ran, request, runs
from provider_worlds import WORLDS, Provider, ProviderWorld, comes_to, open_world
from sandbox_world import LIMITS, needs_sandboxes, spec_of

from chatcluster.ports.workspace import SandboxState
from chatcluster.workspace_errors import SandboxFailed, WorkspaceUnreachable
from chatcluster.workspace_wire import CallState, Kind
from chatcluster.workspaces.agent_client import AgentClient


def worlds(*names: str) -> list[ParameterSet]:
    return [pytest.param(name, marks=needs_sandboxes if name == "process" else ()) for name in names if name in WORLDS]


@pytest.fixture(params=worlds(*WORLDS))
async def world(request: pytest.FixtureRequest) -> AsyncIterator[ProviderWorld]:
    async with open_world(request.param) as world:
        yield world


@pytest.fixture
async def provider(world: ProviderWorld) -> AsyncIterator[Provider]:
    async with world.open() as provider:
        yield provider


@pytest.fixture(params=worlds("process", "engine"))
async def wall(request: pytest.FixtureRequest) -> AsyncIterator[ProviderWorld]:
    """One with a wall around what runs there, which no fake has."""
    async with open_world(request.param) as world:
        yield world


def inside(provider: Provider, workspace_id: str = "one") -> AgentClient:
    agent = provider.connect(workspace_id)
    assert isinstance(agent, AgentClient)
    return agent


async def test_each_deed_may_be_repeated(provider: Provider) -> None:
    spec = spec_of("one")
    assert (await provider.status("one")).state is SandboxState.ABSENT
    for _ in range(2):
        await provider.create(spec)
    assert (await provider.status("one")).state is SandboxState.STOPPED
    for _ in range(2):
        await provider.start(spec)
    await inside(provider).put("w", request(Kind.WRITE_FILE, path="a", content="kept"))
    assert (await provider.status("one")).state is SandboxState.RUNNING
    for _ in range(2):
        await provider.stop("one")
    assert (await provider.status("one")).state is SandboxState.STOPPED
    await provider.start(spec)
    assert (await inside(provider).read_file("a", offset=0, limit=10)).content == b"kept"
    for _ in range(2):
        await provider.delete("one")
    await comes_to(provider, SandboxState.ABSENT)


async def test_many_who_start_one_start_it_once(world: ProviderWorld, provider: Provider) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(provider.start, spec_of("one"))
    assert (await inside(provider).status()).running == 0
    assert world.runs() <= 1


async def test_what_ran_in_one_that_died_is_told_when_it_runs_again(world: ProviderWorld, provider: Provider) -> None:
    await provider.start(spec_of("one"))
    await inside(provider).put("a", execute(f"echo begun; exec {a_sleep()}"))
    assert (await inside(provider).call("a", wait_seconds=30)).output == b"begun\n"
    world.end(provider, "one")
    assert await comes_to(provider, SandboxState.FAILED)
    with pytest.raises(WorkspaceUnreachable):
        await inside(provider).status()
    await provider.start(spec_of("one"))
    told = await inside(provider).call("a")
    assert (told.state, told.output) == (CallState.KILLED, b"begun\n")
    assert not runs(a_sleep())


async def test_a_stop_ends_what_runs_and_says_so_in_the_ledger(provider: Provider) -> None:
    await provider.start(spec_of("one"))
    await inside(provider).put("a", execute(f"exec {a_sleep()}"))
    await provider.stop("one")
    assert not runs(a_sleep())
    with pytest.raises(WorkspaceUnreachable):
        await inside(provider).status()
    await provider.start(spec_of("one"))
    told = await inside(provider).call("a")
    assert (told.state, told.error) == (CallState.KILLED, "the workspace was stopped")


async def test_an_end_in_order_leaves_nothing_running_and_the_next_process_goes_on(world: ProviderWorld) -> None:
    async with world.open() as provider:
        await provider.start(spec_of("one"))
        await inside(provider).put("w", request(Kind.WRITE_FILE, path="a", content="kept"))
        await inside(provider).put("a", execute(f"exec {a_sleep()}"))
    assert not runs(a_sleep())
    assert world.runs() == 0
    async with world.open() as provider:
        assert (await provider.status("one")).state is SandboxState.STOPPED
        await provider.start(spec_of("one"))
        assert (await inside(provider).read_file("a", offset=0, limit=10)).content == b"kept"


async def test_workspaces_have_files_of_their_own(provider: Provider) -> None:
    for name in ("one", "two"):
        await provider.start(spec_of(name, owner=name))
        await inside(provider, name).put("w", request(Kind.WRITE_FILE, path="a", content=name))
    for name in ("one", "two"):
        assert (await inside(provider, name).read_file("a", offset=0, limit=10)).content == name.encode()
    await provider.delete("one")
    assert (await inside(provider, "two").read_file("a", offset=0, limit=10)).content == b"two"


async def test_limits_and_values_of_parameters_reach_what_runs_there(provider: Provider) -> None:
    spec = spec_of("one")
    await provider.start(type(spec)(workspace_id="one", owner_id="o", limits=LIMITS, environment={"WORKSPACE_A": "b"}))
    assert (await ran(inside(provider), "echo $WORKSPACE_A $HOME $LANG")).output.startswith(b"b ")
    answer = await ran(inside(provider), "head -c 3000000 /dev/zero")
    assert (answer.output_bytes, answer.kept_bytes) == (3_000_000, LIMITS.output_bytes_max)
    told = await ran(inside(provider), "ulimit -n; ulimit -f")
    assert told.output.split() == [str(LIMITS.open_files_max).encode(), str(LIMITS.disk_bytes // 1024).encode()]


async def test_an_id_that_is_none_is_refused_and_leads_nowhere(provider: Provider) -> None:
    for name in ("..", "", "a/b", "-a", ".", "x" * 101, "a\0b", "a b"):
        for deed in (partial(provider.create, spec_of(name)), partial(provider.start, spec_of(name))):
            with pytest.raises(SandboxFailed):
                await deed()


async def test_one_that_does_not_run_is_not_reached(provider: Provider) -> None:
    await provider.create(spec_of("one"))
    with pytest.raises(WorkspaceUnreachable):
        await inside(provider).status()


OUTSIDE = """
for path in {paths}; do cat "$path" 2>/dev/null && echo "read $path"; done
kill -0 {pid} 2>/dev/null && echo "found {pid}"
for place in 127.0.0.1/{port} 169.254.169.254/80; do
    timeout 2 bash -c "echo >/dev/tcp/$place" 2>/dev/null && echo "reached $place"
done
for path in /usr/x /etc/x /x /run/x/y; do touch "$path" 2>/dev/null && echo "wrote $path"; done
[ "$(id -u)" = 0 ] && echo "is root"
grep -E '^(CapEff|CapPrm|NoNewPrivs):' /proc/self/status | tr -s '[:space:]' ' '
"""


async def test_what_runs_in_one_finds_nothing_of_what_is_outside(wall: ProviderWorld, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret of the host")
    async with wall.open() as provider, trio.open_nursery() as nursery:
        for name in ("one", "two"):
            await provider.start(spec_of(name, owner=name))
        await inside(provider, "two").put("w", request(Kind.WRITE_FILE, path="a", content="two's"))
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, trio.aclose_forcefully, [listener])
        others = [tmp_path / "secret", *wall.root.rglob("two/**/work/a"), Path(f"/proc/{os.getpid()}/environ")]
        paths = shlex.join(map(str, others))
        script = OUTSIDE.format(paths=paths, pid=os.getpid(), port=listener.socket.getsockname()[1])
        answer = await ran(inside(provider), script)
        assert answer.output == b"CapPrm: 0000000000000000 CapEff: 0000000000000000 NoNewPrivs: 1 "
        nursery.cancel_scope.cancel()
