"""A workspace host on a clock that jumps: what it does to workspaces, what it leaves alone, and what it tells."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast
from uuid import UUID, uuid4

import pytest
import trio
from chat_states import assistant
from contract_worlds import OWNER
from scripted_workspaces import ScriptedAgent, ScriptedProvider
from workspace_rows import RowsWorld, memory_rows

from chatcluster.chat import Archive, CommitStep, Edit, FinishTurn, Interrupt, OpenCall
from chatcluster.config import Settings
from chatcluster.errors import ConfigError, StoreLocked, StoreUnavailable
from chatcluster.memory import Link, MemoryDatabase
from chatcluster.memory.workspace_hosts import MemoryWorkspaceHosts
from chatcluster.ports.registry import Heartbeat
from chatcluster.ports.workspaces import (
    LOG_LINES_MAX,
    HostLease,
    Startup,
    WorkspaceHosts,
    WorkspaceRow,
    WorkspaceState,
)
from chatcluster.workspace_errors import StaleEpoch
from chatcluster.workspace_watch import WorkspaceWatch
from chatcluster.workspace_wire import CallRequest, CallUnderWay, Kind
from chatcluster.workspaces.host.identity import INCARNATION_FILE, Incarnations
from chatcluster.workspaces.host.machine import Identity, Machine
from chatcluster.workspaces.host.reports import Reports
from chatcluster.workspaces.host.running import RunningWorkspaces
from chatcluster.workspaces.host.settings import HostSettings
from chatcluster.workspaces.host.watch import CALLS_MAX


class CutLink(Link):
    """A way to Postgres that a test cuts. ``unanswered``: operations that take effect, and whose answers are lost."""

    def __init__(self) -> None:
        self.is_cut = False
        self.unanswered: set[str] = set()

    @asynccontextmanager
    async def crossing(self, operation: str) -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        if self.is_cut:
            raise StoreUnavailable("the way is cut")
        yield
        if operation in self.unanswered:
            raise StoreUnavailable("the answer is lost")


@dataclass
class HostWorld:
    rows: RowsWorld
    database: MemoryDatabase
    nursery: trio.Nursery
    directory: Path
    provider: ScriptedProvider = field(default_factory=ScriptedProvider)
    running: RunningWorkspaces = field(default_factory=RunningWorkspaces)
    link: CutLink = field(default_factory=CutLink)
    host_id: UUID = field(default_factory=uuid4)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def start(self, *, problem: str = "", **options: float) -> None:
        """A process of the host, with nothing left of the one before."""
        scope = self.scope = trio.CancelScope()
        self.running = RunningWorkspaces()
        registered = Identity(
            id=self.host_id,
            name="host",
            address="127.0.0.1:8300",
            version="0",
            provider="process",
            sealed=b"sealed",
            problem=problem,
        )
        machine = Machine(
            registered,
            MemoryWorkspaceHosts(self.database, self.link),
            None if problem else self.provider,
            self.running,
            Settings(),
            HostSettings(**options),  # type: ignore[arg-type]
            Incarnations(self.directory),
        )

        async def run() -> None:
            with scope:
                await machine.run()

        self.nursery.start_soon(run)

    async def stop(self) -> None:
        self.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()

    async def create(self, **fields: object) -> WorkspaceRow:
        await self.until(lambda: any(row.host.alive for row in self.database.kept.workspaces.hosts.values()))
        return (await self.rows.create(**fields)).workspace  # type: ignore[arg-type]

    async def running_one(self) -> WorkspaceRow:
        row = await self.create()
        return await self.comes_to(row, WorkspaceState.RUNNING)

    async def comes_to(self, row: WorkspaceRow, state: WorkspaceState, *, seconds: float = 30) -> WorkspaceRow:
        with trio.fail_after(seconds):
            while (found := await self.rows.workspaces.workspace(row.id)).state is not state:  # noqa: ASYNC110
                await trio.sleep(0.05)
        return found

    async def until(self, holds: Callable[[], bool], *, seconds: float = 30) -> None:
        with trio.fail_after(seconds):
            while not holds():  # noqa: ASYNC110 - of a row, which nobody tells of
                await trio.sleep(0.05)

    def agent(self, row: WorkspaceRow) -> ScriptedAgent:
        return self.provider.agents[str(row.id)]

    async def run_call(self, row: WorkspaceRow, chat_id: UUID, call_id: str, *, background: bool = False) -> None:
        """A call that a replica has put through this host."""
        request = CallRequest(
            chat_id=str(chat_id),
            epoch=1,
            digest="",
            kind=Kind.EXECUTE,
            input={"command": "sleep", "background": background},
        )
        await self.agent(row).put(call_id, request)
        running = self.running.find(row.id)
        assert running is not None
        running.puts += 1


@asynccontextmanager
async def open_host() -> AsyncIterator[HostWorld]:
    database = MemoryDatabase()
    with TemporaryDirectory() as directory:
        async with memory_rows(database) as rows, trio.open_nursery() as nursery:
            await rows.template()
            yield HostWorld(rows, database, nursery, Path(directory))
            nursery.cancel_scope.cancel()


async def test_a_workspace_is_built_started_and_told_running() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        assert world.provider.deeds == [("remove_orphans", ""), ("create", str(row.id)), ("start", str(row.id))]
        assert [line.source for line in await world.rows.workspaces.log(row.id)] == ["build", "start"]
        assert world.running.find(row.id) is not None


async def test_the_values_of_parameters_are_in_the_environment_and_limits_are_the_template_s() -> None:
    from chatcluster.workspace_templates import TemplateLimits, TemplateParameter

    async with open_host() as world:
        await world.rows.template(
            parameters=(TemplateParameter(name="branch"),),
            limits=TemplateLimits(memory_bytes_max=64 << 20, processes_max=9),
            network=("pypi.org",),
        )
        world.start()
        row = await world.create(parameters={"branch": "next"})
        await world.comes_to(row, WorkspaceState.RUNNING)
        spec = world.provider.specs[str(row.id)]
        assert spec.environment == {"WORKSPACE_BRANCH": "next"}
        assert (spec.limits.memory_bytes, spec.limits.processes_max) == (64 << 20, 9)
        assert spec.allowed_hosts == ("pypi.org",)


async def test_p10_one_that_is_slow_delays_no_other_and_fails_after_its_time() -> None:
    async with open_host() as world:
        world.start(workspace_start_seconds_max=20.0)
        slow = await world.create()
        world.provider.slow[str(slow.id)] = 1000
        began = trio.current_time()
        for _ in range(5):
            await world.running_one()
        assert trio.current_time() - began < 5
        failed = await world.comes_to(slow, WorkspaceState.FAILED)
        assert "20 s" in failed.detail


async def test_p10_many_starts_take_turns_and_one_owner_s_keep_no_other_waiting() -> None:
    async with open_host() as world:
        world.provider.takes_seconds = 1.0
        world.start(workspace_start_seconds_max=20.0)
        many = [await world.create() for _ in range(40)]
        other = await world.create(owner_id=UUID(int=7))
        began = trio.current_time()
        await world.comes_to(other, WorkspaceState.RUNNING)
        assert trio.current_time() - began < 3
        for row in many:
            await world.comes_to(row, WorkspaceState.RUNNING)
        assert world.provider.starting_max <= 4


async def test_p10_starts_that_hang_give_their_places_back() -> None:
    async with open_host() as world:
        world.start()
        hanging = [await world.create() for _ in range(10)]
        world.provider.slow |= {str(row.id): 1000.0 for row in hanging}
        row = await world.create()
        await world.comes_to(row, WorkspaceState.RUNNING, seconds=20)


async def test_one_that_cannot_be_built_says_why_and_can_be_started_again() -> None:
    async with open_host() as world:
        world.start()
        world.provider.broken["create"] = "no such base"
        row = await world.create()
        failed = await world.comes_to(row, WorkspaceState.FAILED)
        assert failed.detail == "no such base"
        world.provider.broken.clear()
        await world.rows.workspaces.start(row.id)
        await world.comes_to(row, WorkspaceState.RUNNING)


async def test_a_machine_that_lacks_a_package_of_the_template_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lacking(names: Sequence[str]) -> list[str]:
        return [name for name in names if name == "cobol"]

    monkeypatch.setattr("chatcluster.workspaces.host.lives.missing_packages", lacking)
    monkeypatch.setattr("chatcluster.workspaces.host.packages.shutil.which", lambda name: f"/usr/bin/{name}")
    async with open_host() as world:
        world.start()
        await world.rows.template(packages=("git", "cobol"))
        failed = await world.comes_to(await world.create(), WorkspaceState.FAILED)
        assert failed.detail.endswith("installs nothing: apt-get install cobol")
        assert world.provider.deeds == [("remove_orphans", ""), ("stop", str(failed.id))], "nothing was made of it"


async def test_a_machine_that_lacks_what_a_screen_is_made_of_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chatcluster.workspaces.host.lives.missing_for_desktop", lambda: ["xvfb", "scrot"])
    monkeypatch.setattr("chatcluster.workspaces.host.packages.shutil.which", lambda name: f"/usr/bin/{name}")
    async with open_host() as world:
        world.start()
        await world.rows.template(desktop=True)
        failed = await world.comes_to(await world.create(), WorkspaceState.FAILED)
        assert failed.detail == "a desktop needs more on this host: apt-get install xvfb scrot"


async def test_stop_ends_what_runs_and_a_start_brings_it_back() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        await world.rows.workspaces.stop(row.id)
        await world.comes_to(row, WorkspaceState.STOPPED)
        assert world.provider.running == set()
        assert world.running.find(row.id) is None, "nothing is forwarded to it"
        await world.rows.workspaces.start(row.id)
        await world.comes_to(row, WorkspaceState.RUNNING)
        assert [deed for deed, _ in world.provider.deeds] == ["remove_orphans", "create", "start", "stop", "start"]


async def test_who_stops_it_while_it_starts_is_obeyed_at_once() -> None:
    async with open_host() as world:
        world.start()
        row = await world.create()
        world.provider.slow[str(row.id)] = 100
        await world.comes_to(row, WorkspaceState.STARTING)
        await world.rows.workspaces.stop(row.id)
        await world.comes_to(row, WorkspaceState.STOPPED, seconds=5)


async def test_a_deleted_workspace_is_gone_with_its_files() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        await world.rows.workspaces.delete(row.id)
        await world.until(lambda: row.id not in world.database.kept.workspaces.rows)
        assert ("delete", str(row.id)) in world.provider.deeds


async def test_what_cannot_be_stopped_or_deleted_is_tried_again() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        world.provider.broken |= {"stop": "busy", "delete": "busy"}
        await world.rows.workspaces.stop(row.id)
        await trio.sleep(5)
        assert await world.rows.state(row) is WorkspaceState.STOPPING
        del world.provider.broken["stop"]
        await world.comes_to(row, WorkspaceState.STOPPED)
        await world.rows.workspaces.delete(row.id)
        await trio.sleep(5)
        assert row.id in world.database.kept.workspaces.rows
        world.provider.broken.clear()
        await world.until(lambda: row.id not in world.database.kept.workspaces.rows)


async def test_one_whose_start_was_told_and_the_answer_lost_is_looked_after_like_others() -> None:
    async with open_host() as world:
        await world.rows.template(startup="exit 0")
        world.start()
        row = await world.create()
        world.provider.slow[str(row.id)] = 1.0
        await world.comes_to(row, WorkspaceState.STARTING)
        world.link.unanswered.add("report")
        await world.comes_to(row, WorkspaceState.RUNNING)
        world.link.unanswered.clear()
        await trio.sleep(5)
        assert (await world.rows.workspaces.workspace(row.id)).startup is Startup.SUCCEEDED
        world.provider.die(str(row.id), "out of memory")
        ended = await world.comes_to(row, WorkspaceState.STOPPED)
        assert ended.detail == "out of memory"


async def test_p10_an_agent_that_says_what_none_says_ends_nothing_but_itself() -> None:
    async def stale() -> Sequence[CallUnderWay]:
        raise StaleEpoch("said by what took the agent's place")

    async with open_host() as world:
        world.start()
        other, row = await world.running_one(), await world.running_one()
        world.agent(row).under_way = stale  # type: ignore[method-assign]
        await world.run_call(row, row.chat_id, "c1")
        await trio.sleep(5)
        assert world.running.find(other.id) is not None
        await world.rows.workspaces.stop(row.id)
        await world.comes_to(row, WorkspaceState.STOPPED)


async def test_p10_an_end_that_fails_as_nobody_foresaw_ends_no_other_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def crash(_workspace_id: str) -> None:
        raise KeyError("nobody foresaw")

    async with open_host() as world:
        world.start()
        other, row = await world.running_one(), await world.running_one()
        with monkeypatch.context() as patched:
            patched.setattr(world.provider, "stop", crash)
            await world.rows.workspaces.stop(row.id)
            await trio.sleep(5)
        assert await world.rows.state(row) is WorkspaceState.STOPPING
        await world.comes_to(row, WorkspaceState.STOPPED)
        assert world.running.find(other.id) is not None


async def test_one_in_which_nobody_works_is_stopped_and_work_keeps_it_running() -> None:
    async with open_host() as world:
        world.start()
        used, idle = await world.running_one(), await world.running_one()
        for _ in range(80):
            await trio.sleep(60)
            await world.rows.workspaces.bump(used.id)
        assert await world.rows.state(used) is WorkspaceState.RUNNING
        stopped = await world.rows.workspaces.workspace(idle.id)
        assert (stopped.state, stopped.detail) == (WorkspaceState.STOPPED, "nobody worked in it")


@pytest.mark.parametrize("seconds", [86_400, -86_400])
async def test_p10_a_step_of_the_database_s_clock_neither_stops_one_that_is_in_use_nor_keeps_one_running(
    seconds: int,
) -> None:
    async with open_host() as world:
        world.start()
        used, idle = await world.running_one(), await world.running_one()
        for minute in range(80):
            if minute == 5:
                step_clock(world.database, seconds)
            await trio.sleep(60)
            await world.rows.workspaces.bump(used.id)
            assert await world.rows.state(used) is WorkspaceState.RUNNING
            if minute < 55:
                assert await world.rows.state(idle) is WorkspaceState.RUNNING
        assert await world.rows.state(idle) is WorkspaceState.STOPPED
        await trio.sleep(3700)
        assert await world.rows.state(used) is WorkspaceState.STOPPED


def step_clock(database: MemoryDatabase, seconds: float) -> None:
    tell = database.clock
    database.clock = lambda: tell() + seconds


async def test_a_sandbox_that_ends_by_itself_is_told_and_can_be_started() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        world.provider.die(str(row.id), "out of memory")
        ended = await world.comes_to(row, WorkspaceState.STOPPED)
        assert ended.detail == "out of memory"
        await world.rows.workspaces.start(row.id)
        await world.comes_to(row, WorkspaceState.RUNNING)


# --- start-up scripts -------------------------------------------------------------------------


async def test_the_start_up_script_runs_beside_and_its_end_is_told() -> None:
    async with open_host() as world:
        world.start()
        for script, ended, said in (("exit 0", Startup.SUCCEEDED, "finished"), ("exit 3", Startup.FAILED, "code 3")):
            await world.rows.template(startup=script)
            row = await world.running_one()
            await trio.sleep(1)
            assert (await world.rows.workspaces.workspace(row.id)).startup is ended
            lines = [line.text for line in await world.rows.workspaces.log(row.id) if line.source == "startup"]
            assert lines[:2] == ["one", "two"]
            assert said in lines[2]


async def test_of_what_is_said_at_once_as_much_is_kept_as_a_log_has() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        reports = Reports(world.rows.hosts, HostLease(world.host_id, uuid4()))
        await reports.log(row, "startup", *map(str, range(2 * LOG_LINES_MAX)))
        kept = await world.rows.workspaces.log(row.id, limit=2 * LOG_LINES_MAX)
        assert [line.text for line in kept] == [str(number) for number in range(LOG_LINES_MAX, 2 * LOG_LINES_MAX)]


async def test_p10_output_of_a_start_up_script_that_is_not_given_is_asked_for_at_leisure() -> None:
    async with open_host() as world:
        world.start()
        await world.rows.template(startup="exit 0")
        row = await world.create()
        world.agent(row).loses_output = True
        await world.comes_to(row, WorkspaceState.RUNNING)
        await trio.sleep(5)
        assert (await world.rows.workspaces.workspace(row.id)).startup is Startup.SUCCEEDED


async def test_a_start_up_script_is_no_call_of_a_chat_s_and_runs_once_in_each_start() -> None:
    async with open_host() as world:
        await world.rows.template(startup="sleep 1000")
        world.start()
        row = await world.running_one()
        await trio.sleep(30)
        assert (await world.rows.workspaces.workspace(row.id)).startup is Startup.RUNNING
        assert world.agent(row).cancelled == []
        await world.rows.workspaces.stop(row.id)
        await world.comes_to(row, WorkspaceState.STOPPED)
        await world.rows.workspaces.start(row.id)
        await world.comes_to(row, WorkspaceState.RUNNING)
        await trio.sleep(1)
        assert list(world.agent(row).requests) == ["startup-1", "startup-2"]


# --- the sweep --------------------------------------------------------------------------------


async def begin_call(world: HostWorld, row: WorkspaceRow, call_id: str) -> None:
    """A call of the workspace's chat, open in the ledger, and at the agent."""
    _, fences = await world.rows.work_on_chats()
    step = CommitStep((assistant("looking", call_id),), (OpenCall(call_id, "execute"),))
    await world.rows.store.commit(fences[row.chat_id], step)
    await world.run_call(row, row.chat_id, call_id)


@pytest.mark.parametrize("how", ["stop", "edit", "archive"])
async def test_what_a_stop_an_edit_or_an_archive_takes_away_is_cancelled_within_two_seconds_without_an_owner(
    how: str,
) -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        await begin_call(world, row, "c1")
        await trio.sleep(10)
        assert world.agent(row).cancelled == [], "its chat waits for it"
        question = world.database.chats[row.chat_id].messages[0]
        commands: dict[str, Interrupt | Edit | Archive] = {
            "stop": Interrupt(),
            "edit": Edit(question.id, question.parts),
            "archive": Archive(),
        }
        await world.rows.store.apply(row.chat_id, commands[how], owner_id=OWNER)
        await world.until(lambda: bool(world.agent(row).cancelled), seconds=2)
        epoch = world.database.chats[row.chat_id].state.epoch
        assert world.agent(row).cancelled == [("c1", epoch)]


async def test_a_call_that_the_ledger_does_not_know_is_cancelled_and_background_ones_are_left_alone() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        await world.run_call(row, row.chat_id, "closed")
        await world.run_call(row, row.chat_id, "background", background=True)
        await trio.sleep(5)
        assert [call_id for call_id, _ in world.agent(row).cancelled] == ["closed"]


async def test_an_agent_in_which_nothing_runs_is_not_asked() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        await trio.sleep(60)
        assert world.agent(row).looks == 0
        await world.run_call(row, row.chat_id, "c1")
        await trio.sleep(60)
        assert 1 <= world.agent(row).looks <= 5, "and no more once it has ended"


async def test_p10_an_agent_that_is_silent_keeps_no_other_call_from_being_cancelled() -> None:
    async with open_host() as world:
        world.start()
        silent, row = await world.running_one(), await world.running_one()
        await world.run_call(silent, silent.chat_id, "c0")
        world.agent(silent).silent = True
        await trio.sleep(1)
        await world.run_call(row, row.chat_id, "c1")
        await world.until(lambda: bool(world.agent(row).cancelled), seconds=2)


async def test_p10_an_agent_that_tells_of_odd_calls_or_very_many_keeps_no_other_from_being_cancelled() -> None:
    """A NUL in an ID ended the host, with all that ran there: no database can be asked about it."""

    async def told() -> Sequence[CallUnderWay]:
        names = ["a\0b", *(f"c{number}" for number in range(2 * CALLS_MAX))]
        return tuple(CallUnderWay(call_id=name, chat_id=str(OWNER)) for name in names)

    async with open_host() as world:
        world.start()
        odd, row = await world.running_one(), await world.running_one()
        world.agent(odd).under_way = told  # type: ignore[method-assign]
        await world.run_call(odd, odd.chat_id, "c0")
        await trio.sleep(1)
        running = world.running.find(odd.id)
        assert running is not None
        assert [call.call_id for call in running.calls] == [f"c{number}" for number in range(CALLS_MAX - 1)]
        await world.run_call(row, row.chat_id, "c1")
        await world.until(lambda: bool(world.agent(row).cancelled), seconds=2)


async def test_the_workspace_of_an_archived_chat_is_stopped_within_two_seconds() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        _, fences = await world.rows.work_on_chats()
        await world.rows.store.commit(fences[row.chat_id], FinishTurn())
        await world.rows.store.apply(row.chat_id, Archive(), owner_id=OWNER)
        await world.comes_to(row, WorkspaceState.STOPPED, seconds=2)
        assert world.provider.running == set()


# --- ends of hosts ----------------------------------------------------------------------------


async def test_a_host_that_is_stopped_leaves_nothing_running_and_says_so() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        await world.stop()
        assert world.provider.running == set()
        stopped = await world.rows.workspaces.workspace(row.id)
        assert (stopped.state, stopped.detail) == (WorkspaceState.STOPPED, "its host was stopped")
        world.start()
        await world.until(lambda: world.database.kept.workspaces.is_alive(world.host_id))
        await world.rows.workspaces.start(row.id)
        await world.comes_to(row, WorkspaceState.RUNNING)


async def test_a_host_that_cannot_renew_stops_everything_before_anybody_tells_it_lost() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        observer = WorkspaceWatch(world.rows.workspaces, world.rows.hosts, Settings(), uuid4)
        world.nursery.start_soon(observer.run)
        await trio.sleep(5)
        world.link.is_cut = True
        await world.until(lambda: world.database.kept.workspaces.rows[row.id].state is not WorkspaceState.RUNNING)
        assert world.provider.running == set(), "it stopped itself first"
        assert await world.rows.state(row) is WorkspaceState.LOST
        world.link.is_cut = False
        back = await world.comes_to(row, WorkspaceState.STOPPED)
        assert "started again" in back.detail
        await world.rows.workspaces.start(row.id)
        await world.comes_to(row, WorkspaceState.RUNNING)


async def test_a_host_that_dies_is_buried_within_a_lease_and_its_next_process_tells_what_it_ran() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        observer = WorkspaceWatch(world.rows.workspaces, world.rows.hosts, Settings(), uuid4)
        world.nursery.start_soon(observer.run)
        await trio.sleep(5)
        world.link.is_cut = True  # nothing of it reaches the database any more
        world.scope.cancel()
        await world.comes_to(row, WorkspaceState.LOST, seconds=Settings().ownership.lease_ttl_seconds + 3)
        world.link.is_cut = False
        world.start()
        await world.comes_to(row, WorkspaceState.STOPPED)


async def test_p10_a_host_that_cannot_be_buried_keeps_neither_another_one_from_it_nor_use_from_being_noted() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        worker_id, _ = await world.rows.work_on_chats()
        dead = [(await world.rows.host(f"dead {number}")).host_id for number in range(3)]
        hosts = _StubbornHosts(world.rows.hosts, dead[0])
        watch = WorkspaceWatch(world.rows.workspaces, cast(WorkspaceHosts, hosts), Settings(), lambda: worker_id)
        world.nursery.start_soon(watch.run)
        await trio.sleep(3 * 3600)
        assert hosts.buried == set(dead[1:])
        assert await world.rows.state(row) is WorkspaceState.RUNNING


class _StubbornHosts:
    """One of them cannot be buried, and is the first whose turn it is."""

    def __init__(self, hosts: WorkspaceHosts, stubborn: UUID) -> None:
        self._hosts = hosts
        self._stubborn = stubborn
        self.buried: set[UUID] = set()

    async def heartbeats(self) -> dict[UUID, Heartbeat]:
        beats = await self._hosts.heartbeats()
        return dict(sorted(beats.items(), key=lambda beat: beat[0] != self._stubborn))

    async def bury(self, host_id: UUID, token: str) -> tuple[WorkspaceRow, ...] | None:
        if host_id == self._stubborn:
            raise StoreLocked("somebody holds its row")
        self.buried.add(host_id)
        return await self._hosts.bury(host_id, token)


async def test_while_postgres_is_away_what_runs_goes_on_for_as_long_as_the_lease() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        world.link.is_cut = True
        await trio.sleep(2)
        world.link.is_cut = False
        await trio.sleep(10)
        assert await world.rows.state(row) is WorkspaceState.RUNNING
        assert world.provider.running == {str(row.id)}


async def test_no_more_run_at_a_time_than_its_setting_says_whether_they_are_built_or_only_started() -> None:
    async with open_host() as world:
        world.start(workspaces_max=2)
        first = await world.running_one()
        await world.rows.workspaces.stop(first.id)
        await world.comes_to(first, WorkspaceState.STOPPED)
        second, third = await world.running_one(), await world.running_one()
        await world.rows.workspaces.start(first.id)
        fourth = await world.create()
        await trio.sleep(30)
        assert world.provider.running == {str(second.id), str(third.id)}
        await world.rows.workspaces.stop(second.id)
        await world.comes_to(first, WorkspaceState.RUNNING)
        await trio.sleep(30)
        assert world.provider.running == {str(first.id), str(third.id)}
        assert await world.rows.state(fourth) is WorkspaceState.BUILDING
        await world.rows.workspaces.delete(third.id)
        await world.comes_to(fourth, WorkspaceState.RUNNING)


async def test_a_build_that_was_taken_is_begun_and_a_start_of_the_same_moment_waits() -> None:
    """The build could go to another host as long as nobody has taken it, and to none after that."""
    async with open_host() as world:
        world.start(workspaces_max=2)
        first = await world.running_one()
        await world.rows.workspaces.stop(first.id)
        await world.comes_to(first, WorkspaceState.STOPPED)
        second = await world.running_one()
        await world.rows.workspaces.start(first.id)
        third = await world.create()
        await world.comes_to(third, WorkspaceState.RUNNING)
        await trio.sleep(30)
        assert world.provider.running == {str(second.id), str(third.id)}
        assert await world.rows.state(first) is WorkspaceState.STARTING
        await world.rows.workspaces.stop(second.id)
        await world.comes_to(first, WorkspaceState.RUNNING)


async def ends_as_another_lives(world: HostWorld, begin: Callable[[], None]) -> None:
    """One of the processes that are begun ends with the reason."""

    async def live() -> None:
        async with trio.open_nursery() as world.nursery:
            begin()
            await trio.sleep(60)

    with pytest.raises(ExceptionGroup) as ended:
        await live()
    (error,) = ended.value.exceptions
    assert isinstance(error, ConfigError)
    assert "host-id" in str(error)


async def test_a_second_process_of_a_host_that_lives_ends_with_the_reason_however_often_it_is_begun() -> None:
    """A directory of workspaces that was copied to another machine makes two."""
    async with open_host() as world:
        copy = world.directory / "copy"
        copy.mkdir()
        world.start()
        row, first = await world.running_one(), world.provider
        (copy / INCARNATION_FILE).write_bytes((world.directory / INCARNATION_FILE).read_bytes())
        world.directory, world.provider = copy, ScriptedProvider()
        for _ in range(3):
            await ends_as_another_lives(world, world.start)
            assert first.running == {str(row.id)}
            assert await world.rows.state(row) is WorkspaceState.RUNNING
        assert world.provider.deeds == []  # on an engine that both have, what the first one made is no orphan


async def test_of_two_processes_of_one_host_that_do_not_know_of_each_other_one_stays() -> None:
    async with open_host() as world:

        def begin() -> None:
            world.start()
            world.start()

        await ends_as_another_lives(world, begin)


@pytest.mark.parametrize(("is_copy", "seconds"), [(False, 0.1), (True, 3.0)])
async def test_the_next_process_of_a_host_that_was_killed_takes_its_place(is_copy: bool, seconds: float) -> None:
    """At once, in the same directory."""
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        world.link.is_cut = True  # nobody is told that it ends
        await world.stop()
        world.link, world.provider = CutLink(), ScriptedProvider()
        if is_copy:
            world.directory = world.directory / "copy"
        world.start()
        await world.comes_to(row, WorkspaceState.STOPPED, seconds=seconds)


async def test_a_machine_that_cannot_run_workspaces_is_in_the_list_with_the_reason() -> None:
    async with open_host() as world:
        world.start(problem="bubblewrap is missing")
        await trio.sleep(3)
        (host,) = await world.rows.hosts.hosts()
        assert (host.alive, host.problem) == (True, "bubblewrap is missing")


async def test_what_earlier_processes_left_is_removed_before_anything_is_run_and_what_cannot_be_is_told() -> None:
    async with open_host() as world:
        world.start()
        await world.running_one()
        assert world.provider.deeds[0] == ("remove_orphans", "")
        await world.stop()
        world.provider.broken["remove_orphans"] = "the engine is away"
        world.start()
        await trio.sleep(3)
        (host,) = await world.rows.hosts.hosts()
        assert (host.alive, host.problem) == (True, "the engine is away")


async def test_an_owner_at_work_keeps_the_workspace_running() -> None:
    async with open_host() as world:
        world.start()
        row = await world.running_one()
        worker_id, _ = await world.rows.work_on_chats()
        watch = WorkspaceWatch(world.rows.workspaces, world.rows.hosts, Settings(), lambda: worker_id)
        world.nursery.start_soon(watch.run)
        await trio.sleep(3 * 3600)
        assert await world.rows.state(row) is WorkspaceState.RUNNING
