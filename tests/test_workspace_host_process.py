"""`chatcluster workspace-host` as a process, with sandboxes of this machine: what a kill, a stop, a lack leave."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from agent_process import a_sleep, until_runs
from cluster_process import clean_environment
from provider_worlds import run_no_more
from workspace_rows import RowsWorld, postgres_rows

from chatcluster.ports.workspace import Workspace
from chatcluster.ports.workspaces import WorkspaceRow, WorkspaceState
from chatcluster.secrets import Keyring, new_key
from chatcluster.workspace_wire import CallRequest, CallState, Kind
from chatcluster.workspaces.directory import WorkspaceDirectory
from chatcluster.workspaces.sandbox import can_sandbox

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.cluster,
    pytest.mark.skipif(can_sandbox() is not None, reason=str(can_sandbox())),
]
SECONDS_MAX = 180.0
KEY = new_key()


class HostProcess:
    """One that is ready."""

    def __init__(self, url: str, directory: Path, **environment: str) -> None:
        reading, writing = os.pipe()
        given = {
            "CHATCLUSTER_DATABASE_URL": url,
            "CHATCLUSTER_ENCRYPTION_KEYS": KEY,
            "CHATCLUSTER_WORKSPACES_DIR": str(directory),
            "CHATCLUSTER_WORKSPACES_PORT": "0",
            "CHATCLUSTER_LEASE_TTL_SECONDS": "3",
            "CHATCLUSTER_LEASE_MARGIN_SECONDS": "0.5",
        }
        self.log = directory.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chatcluster", "workspace-host", "--ready-fd", str(writing)],
                env=clean_environment() | given | environment,
                pass_fds=(writing,),
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        os.close(writing)
        readable, _, _ = select.select([reading], [], [], SECONDS_MAX)
        told = os.read(reading, 1000) if readable else b""
        os.close(reading)
        assert told, self.log.read_text()
        said = json.loads(told.splitlines()[0])
        self.port: int = said["port"]
        self.problem: str = said["problem"]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS_MAX)


@dataclass
class Machine:
    """A machine with a host, and a replica's way to it."""

    rows: RowsWorld
    start: Callable[..., HostProcess]
    directory: WorkspaceDirectory

    async def comes_to(self, row: WorkspaceRow, *states: WorkspaceState) -> WorkspaceRow:
        with trio.fail_after(SECONDS_MAX):
            while (found := await self.rows.workspaces.workspace(row.id)).state not in states:  # noqa: ASYNC110
                await trio.sleep(0.05)
        return found

    async def running(self) -> tuple[WorkspaceRow, Workspace]:
        row = (await self.rows.create()).workspace
        found = await self.comes_to(row, WorkspaceState.RUNNING, WorkspaceState.FAILED)
        assert found.state is WorkspaceState.RUNNING, found.detail
        return found, await self.directory.workspace(row.id)


@pytest.fixture
async def machine(database_url: str, tmp_path: Path) -> AsyncIterator[Machine]:
    hosts: list[HostProcess] = []

    def start(**environment: str) -> HostProcess:
        hosts.append(HostProcess(database_url, tmp_path / "workspaces", **environment))
        return hosts[-1]

    async with postgres_rows(database_url) as rows:
        await rows.template()
        yield Machine(rows, start, WorkspaceDirectory(rows.workspaces, Keyring.parse(KEY)))
    for host in hosts:
        if host.process.poll() is None:
            host.end(signal.SIGTERM)


async def run(agent: Workspace, row: WorkspaceRow, call_id: str, command: str) -> str:
    """What a command says until it has ended."""
    request = CallRequest(
        chat_id=str(row.chat_id),
        epoch=1,
        digest=command,
        kind=Kind.EXECUTE,
        input={"command": command, "background": True},
    )
    answer = await agent.put(call_id, request)
    while not answer.state.ended:
        answer = await agent.call(call_id, wait_seconds=10)
    return answer.output.decode()


async def test_a_command_runs_in_a_workspace_and_its_files_outlive_a_stop_of_the_host(machine: Machine) -> None:
    host = machine.start()
    row, agent = await machine.running()
    assert await run(agent, row, "c1", "echo hello > kept; cat kept; id -u") == "hello\n1000\n"
    assert await trio.to_thread.run_sync(host.end, signal.SIGTERM) == 0
    stopped = await machine.rows.workspaces.workspace(row.id)
    assert (stopped.state, stopped.detail) == (WorkspaceState.STOPPED, "its host was stopped")
    machine.start()
    await machine.rows.workspaces.start(row.id)
    await machine.comes_to(row, WorkspaceState.RUNNING)
    agent = await machine.directory.workspace(row.id)
    assert await run(agent, row, "c2", "cat kept") == "hello\n"


async def test_a_host_that_is_killed_leaves_nothing_running_and_its_next_process_tells_what_was(
    machine: Machine,
) -> None:
    host = machine.start()
    row, agent = await machine.running()
    request = CallRequest(
        chat_id=str(row.chat_id),
        epoch=1,
        digest="",
        kind=Kind.EXECUTE,
        input={"command": f"echo begun; exec {a_sleep()}", "background": True},
    )
    answer = await agent.put("c1", request)
    while answer.output != b"begun\n":
        answer = await agent.call("c1", wait_seconds=5)
    await until_runs(a_sleep())
    await trio.to_thread.run_sync(host.end, signal.SIGKILL)
    await run_no_more(a_sleep())
    machine.start()
    stopped = await machine.comes_to(row, WorkspaceState.STOPPED)
    assert "started again" in stopped.detail
    await machine.rows.workspaces.start(row.id)
    await machine.comes_to(row, WorkspaceState.RUNNING)
    agent = await machine.directory.workspace(row.id)
    told = await agent.call("c1")
    assert (told.state, told.output) == (CallState.KILLED, b"begun\n")


async def test_where_bubblewrap_is_missing_one_line_says_so_and_the_host_goes_on(
    machine: Machine, tmp_path: Path
) -> None:
    host = machine.start(PATH=str(tmp_path))
    with trio.fail_after(SECONDS_MAX):
        while not (hosts := await machine.rows.hosts.hosts()):  # noqa: ASYNC110
            await trio.sleep(0.05)
    assert "bubblewrap" in hosts[0].problem == host.problem
    lines = [line for line in host.log.read_text().splitlines() if "host_cannot" in line]
    assert len(lines) == 1
    assert await trio.to_thread.run_sync(host.end, signal.SIGTERM) == 0


def test_settings_that_cannot_work_are_one_line() -> None:
    for arguments, said in (
        ([], "--database-url"),
        (["--database-url", "postgresql://x/y"], "CHATCLUSTER_ENCRYPTION_KEYS"),
        (["--workspaces-max", "0"], "workspaces-max"),
    ):
        command = [sys.executable, "-m", "chatcluster", "workspace-host", *arguments]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=SECONDS_MAX)
        assert done.returncode in (1, 2)
        assert done.stderr.startswith("Error: ")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
