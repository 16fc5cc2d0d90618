"""What every ``WorkspaceHosts`` does: leases, work that one host takes, and reports that only its process may make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import trio
from chat_states import assistant
from contract_worlds import OWNER
from workspace_rows import RowsWorld, a_host, open_rows

from chatcluster.chat import CommitStep, FinishTurn, Interrupt, OpenCall
from chatcluster.errors import LeaseLost
from chatcluster.ports.workspaces import (
    GONE_EPOCH,
    LOG_LINE_CHARS_MAX,
    LOG_LINES_MAX,
    ClosedCall,
    HostLease,
    LogEntry,
    Report,
    RunningCall,
    Startup,
    WorkspaceState,
)

pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def world(url: str | None) -> AsyncIterator[RowsWorld]:
    async with open_rows(url) as opened:
        yield opened


# --- leases -----------------------------------------------------------------------------------


async def test_a_renewal_changes_the_token_and_tells_what_is_wrong_with_the_host(world: RowsWorld) -> None:
    lease = await world.host()
    before = (await world.hosts.heartbeats())[lease.host_id]
    await world.hosts.renew(lease, problem="the disk is full")
    after = (await world.hosts.heartbeats())[lease.host_id]
    assert before.token != after.token
    (host,) = await world.hosts.hosts()
    assert (host.id, host.problem, host.alive, host.workspaces) == (lease.host_id, "the disk is full", True, 0)
    assert host.heartbeat_age_seconds < 5


async def test_a_buried_host_is_told_so_and_writes_nothing(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    await world.bury(lease)
    with pytest.raises(LeaseLost):
        await world.hosts.renew(lease)
    with pytest.raises(LeaseLost):
        await world.hosts.work(lease, places=1)
    assert not await world.hosts.report(lease, Report(row.id, row.generation, WorkspaceState.STOPPED))
    assert await world.hosts.heartbeats() == {}
    assert await world.state(row) is WorkspaceState.LOST


async def test_a_host_that_renewed_since_is_not_buried(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    token = (await world.hosts.heartbeats())[lease.host_id].token
    await world.hosts.renew(lease)
    assert await world.hosts.bury(lease.host_id, token) is None
    assert await world.hosts.bury(uuid4(), token) is None
    assert await world.state(row) is WorkspaceState.RUNNING


async def test_a_burial_tells_what_was_lost_and_builds_go_elsewhere(world: RowsWorld) -> None:
    lease = await world.host("one")
    running, stopping = await world.running(lease), await world.running(lease)
    await world.workspaces.stop(stopping.id)
    building = (await world.create()).workspace
    await world.hosts.work(lease, places=1)
    lost = await world.bury(lease)
    assert {row.id for row in lost} == {running.id, stopping.id}
    assert await world.state(running) is WorkspaceState.LOST
    assert await world.state(stopping) is WorkspaceState.STOPPED
    other = await world.host("two")
    assert [row.id for row in await world.hosts.work(other, places=1)] == [building.id]


async def test_builds_of_a_host_that_comes_back_unable_go_elsewhere(world: RowsWorld) -> None:
    lease = await world.host("one")
    building = (await world.create()).workspace
    await world.hosts.work(lease, places=1)
    await world.host("one", host_id=lease.host_id, problem="bubblewrap is missing")
    other = await world.host("two")
    assert [row.id for row in await world.hosts.work(other, places=1)] == [building.id]


async def test_a_host_that_starts_again_finds_what_it_ran_stopped_and_its_old_process_writes_nothing(
    world: RowsWorld,
) -> None:
    old = await world.host()
    row = await world.running(old)
    building = (await world.create()).workspace
    await world.hosts.work(old, places=1)
    new = HostLease(old.host_id, uuid4())
    ended = await world.hosts.register(a_host(new))
    assert [(one.id, one.state) for one in ended] == [(row.id, WorkspaceState.STOPPED)]
    assert "ended" in ended[0].detail
    with pytest.raises(LeaseLost):
        await world.hosts.renew(old)
    assert not await world.hosts.report(old, Report(building.id, 1, WorkspaceState.STARTING))
    assert [one.id for one in await world.hosts.work(new, places=0)] == [building.id]


async def test_a_retired_host_is_away_and_comes_back(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    building = (await world.create()).workspace
    await world.hosts.work(lease, places=1)
    await world.hosts.retire(lease)
    assert await world.state(row) is WorkspaceState.STOPPED
    assert (await world.workspaces.workspace(building.id)).host_id is None
    assert [host.alive for host in await world.hosts.hosts()] == [False]
    await world.host(host_id=lease.host_id)
    assert [host.alive for host in await world.hosts.hosts()] == [True]
    await world.hosts.retire(lease)
    assert [host.alive for host in await world.hosts.hosts()] == [True], "of an earlier process"


# --- work -------------------------------------------------------------------------------------


async def test_each_build_is_taken_by_one_host_and_no_more_than_it_has_places_for(world: RowsWorld) -> None:
    leases = [await world.host("one"), await world.host("two")]
    made = {(await world.create()).workspace.id for _ in range(6)}
    taken: list[list[object]] = []

    async def take(lease: HostLease) -> None:
        taken.append([row.id for row in await world.hosts.work(lease, places=2)])

    async with trio.open_nursery() as nursery:
        for lease in leases:
            nursery.start_soon(take, lease)
    assert [len(rows) for rows in taken] == [2, 2]
    assert len({row for rows in taken for row in rows} & made) == 4


async def test_work_is_told_until_it_is_reported(world: RowsWorld) -> None:
    lease = await world.host()
    row = (await world.create()).workspace
    for _ in range(2):
        assert [work.id for work in await world.hosts.work(lease, places=1)] == [row.id]
    assert await world.hosts.report(lease, Report(row.id, 1, WorkspaceState.STARTING))
    assert [work.state for work in await world.hosts.work(lease, places=0)] == [WorkspaceState.STARTING]
    report = Report(row.id, 1, WorkspaceState.RUNNING, startup=Startup.RUNNING)
    assert await world.hosts.report(lease, report)
    assert await world.hosts.work(lease, places=0) == ()
    found = await world.workspaces.workspace(row.id)
    assert (found.state, found.built, found.startup) == (WorkspaceState.RUNNING, True, Startup.RUNNING)
    assert found.times.started_at is not None


async def test_a_start_up_script_that_ends_later_is_told_and_moves_no_time(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    told = Report(row.id, row.generation, WorkspaceState.RUNNING, startup=Startup.FAILED)
    assert await world.hosts.report(lease, told)
    found = await world.workspaces.workspace(row.id)
    assert found.startup is Startup.FAILED
    assert (found.times.expires_at, found.times.started_at) == (row.times.expires_at, row.times.started_at)


async def test_a_report_that_comes_too_late_changes_nothing(world: RowsWorld) -> None:
    lease = await world.host()
    row = (await world.create()).workspace
    await world.hosts.work(lease, places=1)
    await world.hosts.report(lease, Report(row.id, 1, WorkspaceState.STARTING))
    await world.workspaces.stop(row.id)
    assert not await world.hosts.report(lease, Report(row.id, 1, WorkspaceState.RUNNING))
    assert await world.hosts.report(lease, Report(row.id, 1, WorkspaceState.STOPPED))
    await world.workspaces.start(row.id)
    assert not await world.hosts.report(lease, Report(row.id, 1, WorkspaceState.FAILED)), "of the start before"
    assert await world.state(row) is WorkspaceState.STARTING


async def test_another_host_reports_nothing_of_it(world: RowsWorld) -> None:
    row = await world.running(await world.host("one"))
    other = await world.host("two")
    assert not await world.hosts.report(other, Report(row.id, row.generation, WorkspaceState.STOPPED))
    await world.workspaces.delete(row.id)
    assert not await world.hosts.removed(other, row.id)


async def test_a_host_removes_only_what_was_deleted(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    assert not await world.hosts.removed(lease, row.id)
    assert await world.state(row) is WorkspaceState.RUNNING


async def test_the_workspace_of_a_chat_that_is_gone_is_deleted_without_a_word(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    unplaced = (await world.create()).workspace
    await _finish_and_delete(world, row.chat_id, unplaced.chat_id)
    assert [(work.id, work.state) for work in await world.hosts.work(lease, places=0)] == [
        (row.id, WorkspaceState.DELETED)
    ]
    assert await world.workspaces.workspaces() == ()


async def _finish_and_delete(world: RowsWorld, *chat_ids: UUID) -> None:
    _, fences = await world.work_on_chats()
    for chat_id in chat_ids:
        await world.store.commit(fences[chat_id], FinishTurn())
        await world.store.delete(chat_id, owner_id=OWNER)


# --- calls ------------------------------------------------------------------------------------


async def test_calls_that_nobody_waits_for_any_more_are_told_with_the_epoch_of_their_chat(
    world: RowsWorld,
) -> None:
    chat_id = await world.chat()
    _, fences = await world.work_on_chats()
    fence = fences[chat_id]
    await world.store.commit(fence, CommitStep((assistant("looking", "open"),), (OpenCall("open", "execute"),)))
    nobodys = uuid4()
    asked = [RunningCall(chat_id, "open"), RunningCall(chat_id, "closed"), RunningCall(nobodys, "open")]
    assert set(await world.hosts.closed_calls(asked)) == {
        ClosedCall(chat_id, "closed", fence.epoch),
        ClosedCall(nobodys, "open", GONE_EPOCH),
    }
    assert await world.hosts.closed_calls([]) == ()
    await world.store.apply(chat_id, Interrupt(), owner_id=OWNER)
    assert await world.hosts.closed_calls(asked[:1]) == (ClosedCall(chat_id, "open", fence.epoch),)


# --- the log ----------------------------------------------------------------------------------


async def test_the_log_of_a_workspace_is_bounded(world: RowsWorld) -> None:
    row = await world.running(await world.host())
    entries = [LogEntry("build", f"line {number}") for number in range(LOG_LINES_MAX)]
    await world.hosts.append_log(row.id, entries)
    await world.hosts.append_log(row.id, [LogEntry("build", "x" * (LOG_LINE_CHARS_MAX + 1)), LogEntry("build", "end")])
    lines = await world.workspaces.log(row.id, limit=LOG_LINES_MAX + 10)
    assert len(lines) == LOG_LINES_MAX
    assert (lines[0].text, len(lines[-2].text), lines[-1].text) == ("line 2", LOG_LINE_CHARS_MAX, "end")
