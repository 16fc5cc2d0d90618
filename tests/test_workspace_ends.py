"""How sandboxes of this machine end while others are looked at, and where their agents refuse: mere processes here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from chatcluster.ports.workspace import SandboxState
from chatcluster.workspace_errors import StaleEpoch, WorkspaceRefused
from chatcluster.workspaces import process_provider
from chatcluster.workspaces.cgroups import Group
from chatcluster.workspaces.network_proxy import NetworkProxies
from chatcluster.workspaces.process_provider import ProcessProvider, _Sandbox


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[ProcessProvider]:
    """With a sandbox ``one`` that runs."""
    async with trio.open_nursery() as nursery:
        provider = ProcessProvider(tmp_path, NetworkProxies(nursery))
        said = tmp_path / "said"
        said.touch()
        process = subprocess.Popen(["sleep", "100"])  # noqa: ASYNC220 - as a provider does
        provider._sandboxes["one"] = _Sandbox(process, said, Group(()))
        yield provider
        process.kill()
        process.wait()
        nursery.cancel_scope.cancel()


class Agent:
    """Its sandbox ends at once, or it says ``no``. ``looked``: and somebody looks at another one right then."""

    def __init__(self, provider: ProcessProvider, *, looked: bool = False, no: Exception | None = None) -> None:
        self._provider = provider
        self._looked = looked
        self._no = no

    async def stop(self) -> None:
        if self._no is not None:
            raise self._no
        process = self._provider._sandboxes["one"].process
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - it was killed
        if self._looked:
            await self._provider.status("other")


async def test_one_that_is_seen_to_have_ended_while_it_is_stopped_is_stopped(
    provider: ProcessProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_provider, "over_unix", lambda _path: Agent(provider, looked=True))
    await provider.stop("one")
    assert (await provider.status("one")).state is SandboxState.ABSENT, "it did not end by itself"


async def test_whoever_looks_right_after_its_end_may_be_quicker_than_who_stops_it(
    provider: ProcessProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = process_provider._wait

    async def wait_and_look(process: subprocess.Popen[bytes]) -> None:
        await wait(process)
        await provider.status("other")

    monkeypatch.setattr(process_provider, "over_unix", lambda _path: Agent(provider))
    monkeypatch.setattr(process_provider, "_wait", wait_and_look)
    await provider.stop("one")
    assert (await provider.status("one")).state is SandboxState.ABSENT


@pytest.mark.parametrize("no", [WorkspaceRefused("internal", "the agent failed"), StaleEpoch("no")])
async def test_an_agent_that_refuses_to_stop_is_ended_all_the_same(
    provider: ProcessProvider, monkeypatch: pytest.MonkeyPatch, no: Exception
) -> None:
    monkeypatch.setattr(process_provider, "over_unix", lambda _path: Agent(provider, no=no))
    monkeypatch.setattr(process_provider, "STOP_SECONDS", 0.05)
    process = provider._sandboxes["one"].process
    await provider.stop("one")
    assert process.poll() is not None
