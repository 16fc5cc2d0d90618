"""What every ``Workspaces`` does: templates; one workspace for a chat, started, stopped and deleted as it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import trio
from contract_worlds import OWNER
from workspace_rows import RowsWorld, open_rows

from chatcluster.chat import Archive, FinishTurn
from chatcluster.errors import ChatArchived, ChatNotFound, InvalidRequest
from chatcluster.ports.details import ChatWorkspace
from chatcluster.ports.workspaces import Asked, LogEntry, Report, WorkspaceState
from chatcluster.workspace_errors import (
    NoWorkspaceHost,
    TemplateChanged,
    TemplateNotFound,
    WorkspaceHostAway,
    WorkspaceNotFound,
    WorkspaceNotRunning,
    WorkspacesFull,
)
from chatcluster.workspace_templates import TEMPLATES_MAX, TemplateParameter, TemplateSettings

STRANGER = UUID(int=7)
HOUR = 3600.0


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def world(url: str | None) -> AsyncIterator[RowsWorld]:
    async with open_rows(url) as opened:
        yield opened


# --- templates --------------------------------------------------------------------------------


async def test_a_template_is_read_as_it_was_put_by_name_and_by_id(world: RowsWorld) -> None:
    settings = TemplateSettings(
        description="Akten, ヘルプ", network=("pypi.org:443",), parameters=(TemplateParameter(name="branch"),)
    )
    put = await world.workspaces.put_template("python", settings)
    assert (put.name, put.settings, put.revision) == ("python", settings, 1)
    assert await world.workspaces.template("python") == put
    assert await world.workspaces.template(str(put.id)) == put
    assert [template.name for template in await world.workspaces.templates()] == ["plain", "python"]


async def test_a_template_changes_only_for_those_who_know_what_it_is(world: RowsWorld) -> None:
    changed = TemplateSettings(desktop=True)
    put = await world.workspaces.put_template("plain", changed, revision=1)
    assert (put.revision, put.settings) == (2, changed)
    with pytest.raises(TemplateChanged):
        await world.workspaces.put_template("plain", TemplateSettings(), revision=1)
    assert (await world.workspaces.template("plain")).settings == changed


async def test_a_default_template_takes_no_other_one_s_place(world: RowsWorld) -> None:
    assert await world.workspaces.ensure_template("default", TemplateSettings(desktop=True))
    assert not await world.workspaces.ensure_template("default", TemplateSettings())
    assert (await world.workspaces.template("default")).settings.desktop


@pytest.mark.parametrize("name", ["plain", "default"])
async def test_where_there_is_room_for_no_template_a_default_one_is_not_missed(world: RowsWorld, name: str) -> None:
    """A host that wants one begins all the same."""
    for number in range(TEMPLATES_MAX - 1):
        await world.template(f"other-{number}")
    assert not await world.workspaces.ensure_template(name, TemplateSettings(desktop=True))
    assert len(await world.workspaces.templates()) == TEMPLATES_MAX


async def test_a_template_that_is_removed_is_there_no_more(world: RowsWorld) -> None:
    assert await world.workspaces.remove_template("plain")
    assert not await world.workspaces.remove_template("plain")
    with pytest.raises(TemplateNotFound):
        await world.workspaces.template("plain")


# --- create -----------------------------------------------------------------------------------


async def test_a_workspace_is_built_of_what_its_template_says_now(world: RowsWorld) -> None:
    await world.host()
    await world.template(parameters=(TemplateParameter(name="branch", default="main"),), desktop=True)
    asked = await world.create(parameters={"branch": "next"})
    await world.template(desktop=False)
    row = await world.workspaces.workspace(asked.workspace.id, OWNER)
    assert asked.changed
    assert (row.state, row.host_id, row.made_of.template_name) == (WorkspaceState.BUILDING, None, "plain")
    assert (row.made_of.parameters, row.made_of.settings.desktop) == ({"branch": "next"}, True)


async def test_a_chat_has_one_workspace_whoever_asks_at_the_same_time(world: RowsWorld) -> None:
    await world.host()
    chat_id = await world.chat()
    made: list[Asked] = []

    async def create() -> None:
        made.append(await world.create(chat_id))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(create)
    assert [asked.changed for asked in made].count(True) == 1
    assert len({asked.workspace.id for asked in made}) == 1


@pytest.mark.parametrize("state", ["building", "starting", "running", "stopping", "stopped"])
async def test_a_workspace_that_is_of_use_is_not_made_again(world: RowsWorld, state: str) -> None:
    lease = await world.host()
    row = (await world.create()).workspace
    await world.hosts.work(lease, places=1)
    for reported in ("starting", "running"):
        if state != "building":
            await world.hosts.report(lease, Report(row.id, 1, WorkspaceState(reported)))
        if state == reported:
            break
    if state in ("stopping", "stopped"):
        await world.workspaces.stop(row.id)
    if state == "stopped":
        await world.hosts.report(lease, Report(row.id, 1, WorkspaceState.STOPPED))
    asked = await world.create(row.chat_id)
    assert (asked.changed, asked.workspace.id, asked.workspace.state) == (False, row.id, state)


async def test_a_failed_or_lost_workspace_makes_room_for_another_one_and_stays(world: RowsWorld) -> None:
    lease = await world.host("one")
    lost = await world.running(lease)
    await world.bury(lease)
    await world.host("two")
    asked = await world.create(lost.chat_id)
    assert asked.changed
    found = await world.workspaces.of_chat(lost.chat_id)
    assert found is not None
    assert found.id == asked.workspace.id
    left = await world.workspaces.workspace(lost.id)
    assert (left.state, left.replaced) == (WorkspaceState.LOST, True)
    assert {row.id for row in await world.workspaces.workspaces(OWNER)} == {lost.id, found.id}


async def test_nothing_is_made_where_no_host_could_run_it(world: RowsWorld) -> None:
    with pytest.raises(NoWorkspaceHost, match="workspace-host"):
        await world.create()
    await world.host(problem="bubblewrap is missing")
    with pytest.raises(NoWorkspaceHost, match="host: bubblewrap is missing"):
        await world.create()
    assert await world.workspaces.workspaces() == ()


async def test_who_has_as_many_as_one_may_have_deletes_one_first(world: RowsWorld) -> None:
    await world.host()
    first = (await world.create(per_user_max=1)).workspace
    with pytest.raises(WorkspacesFull):
        await world.create(per_user_max=1)
    await world.create(owner_id=STRANGER, per_user_max=1)
    await world.workspaces.delete(first.id)
    assert (await world.create(per_user_max=1)).changed


async def test_what_cannot_be_made_is_refused_and_writes_nothing(world: RowsWorld) -> None:
    await world.host()
    await world.template("old", deprecated=True)
    for template in ("old", "none"):
        with pytest.raises(TemplateNotFound):
            await world.create(template=template)
    with pytest.raises(InvalidRequest):
        await world.create(parameters={"branch": "main"})
    with pytest.raises(ChatNotFound):
        await world.create(uuid4())
    with pytest.raises(ChatNotFound):
        await world.create(await world.chat(STRANGER))
    assert await world.workspaces.workspaces() == ()


async def test_b104_a_template_is_only_there_for_its_users(world: RowsWorld) -> None:
    await world.host()
    ann, bob = await world.user("ann"), await world.user("bob")
    await world.template("hers", users=("ann",))
    await world.template("nobody-s", users=("nobody",))
    await world.template("old", deprecated=True)
    assert [one.name for one in await world.workspaces.templates(ann)] == ["hers", "plain"]
    assert [one.name for one in await world.workspaces.templates(bob)] == ["plain"]
    assert len(await world.workspaces.templates()) == 4
    assert (await world.workspaces.template("hers", ann)).name == "hers"
    for name in ("hers", "nobody-s", "old"):
        with pytest.raises(TemplateNotFound):
            await world.workspaces.template(name, bob)
        with pytest.raises(TemplateNotFound):
            await world.create(owner_id=bob, template=name)
    assert (await world.create(owner_id=ann, template="hers")).changed


# --- start, stop, delete ----------------------------------------------------------------------


async def test_stop_and_start_are_asked_for_and_a_repeat_changes_nothing(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    assert not (await world.workspaces.start(row.id)).changed
    assert (await world.workspaces.stop(row.id, OWNER)).workspace.state is WorkspaceState.STOPPING
    assert not (await world.workspaces.stop(row.id)).changed
    with pytest.raises(WorkspaceNotRunning):
        await world.workspaces.start(row.id)
    await world.hosts.report(lease, Report(row.id, row.generation, WorkspaceState.STOPPED, "by its user"))
    assert not (await world.workspaces.stop(row.id)).changed
    started = await world.workspaces.start(row.id, OWNER)
    assert started.changed
    assert (started.workspace.state, started.workspace.detail) == (WorkspaceState.STARTING, "")
    assert started.workspace.generation == row.generation + 1


async def test_what_was_never_built_is_built_at_its_next_start_by_any_host(world: RowsWorld) -> None:
    lease = await world.host()
    row = (await world.create()).workspace
    await world.hosts.work(lease, places=1)
    await world.hosts.report(lease, Report(row.id, 1, WorkspaceState.FAILED, "no such base"))
    assert (await world.workspaces.workspace(row.id)).detail == "no such base"
    started = (await world.workspaces.start(row.id)).workspace
    assert (started.state, started.host_id) == (WorkspaceState.BUILDING, None)


async def test_a_lost_workspace_starts_again_on_its_machine_and_on_no_other(world: RowsWorld) -> None:
    lease = await world.host("one")
    row = await world.running(lease)
    await world.bury(lease)
    await world.host("two")
    with pytest.raises(WorkspaceHostAway):
        await world.workspaces.start(row.id)
    await world.host("one", host_id=lease.host_id)
    started = (await world.workspaces.start(row.id)).workspace
    assert (started.state, started.host_id) == (WorkspaceState.STARTING, lease.host_id)


async def test_one_whose_machine_cannot_run_it_any_more_is_not_started_and_it_is_said_why(world: RowsWorld) -> None:
    lease = await world.host("one")
    row = await world.running(lease)
    await world.host("one", host_id=lease.host_id, problem="bubblewrap is missing")
    await world.host("two")
    with pytest.raises(NoWorkspaceHost, match="bubblewrap is missing"):
        await world.workspaces.start(row.id)
    assert await world.state(row) is WorkspaceState.STOPPED


async def test_a_deleted_workspace_is_there_for_nobody_but_its_host(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    await world.workspaces.delete(row.id, OWNER)
    for request in (world.workspaces.workspace, world.workspaces.start, world.workspaces.stop, world.workspaces.delete):
        with pytest.raises(WorkspaceNotFound):
            await request(row.id)
    assert await world.workspaces.of_chat(row.chat_id) is None
    assert [work.state for work in await world.hosts.work(lease, places=0)] == [WorkspaceState.DELETED]
    assert await world.hosts.removed(lease, row.id)
    assert await world.hosts.work(lease, places=0) == ()


async def test_a_workspace_that_no_host_has_taken_is_stopped_and_deleted_at_once(world: RowsWorld) -> None:
    lease = await world.host()
    row = (await world.create()).workspace
    assert (await world.workspaces.stop(row.id)).workspace.state is WorkspaceState.STOPPED
    await world.workspaces.delete(row.id)
    assert await world.hosts.work(lease, places=1) == ()


async def test_what_is_somebody_elses_is_not_found(world: RowsWorld) -> None:
    row = await world.running(await world.host())
    for request in (world.workspaces.workspace, world.workspaces.start, world.workspaces.stop, world.workspaces.delete):
        with pytest.raises(WorkspaceNotFound):
            await request(row.id, STRANGER)
    assert await world.workspaces.workspaces(STRANGER) == ()


async def test_the_workspace_of_an_archived_chat_stays_stopped(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    await _archive(world, row.chat_id)
    assert [work.state for work in await world.hosts.work(lease, places=0)] == [WorkspaceState.STOPPING]
    await world.hosts.report(lease, Report(row.id, row.generation, WorkspaceState.STOPPED))
    with pytest.raises(ChatArchived):
        await world.workspaces.start(row.id)


async def _archive(world: RowsWorld, chat_id: UUID) -> None:
    _, fences = await world.work_on_chats()
    await world.store.commit(fences[chat_id], FinishTurn())
    await world.store.apply(chat_id, Archive(), owner_id=OWNER)


# --- time -------------------------------------------------------------------------------------


async def test_work_in_it_extends_its_time_once_a_twentieth_of_the_bump_has_passed(world: RowsWorld) -> None:
    row = await world.running(await world.host())
    assert row.times.expires_at is not None
    assert not await world.workspaces.bump(row.id)
    await world.later(0.04 * HOUR)
    assert not await world.workspaces.bump(row.id)
    await world.later(0.02 * HOUR)
    assert await world.workspaces.bump(row.id)
    assert not await world.workspaces.bump(row.id)
    bumped = await world.workspaces.workspace(row.id)
    assert bumped.times.expires_at is not None
    assert bumped.times.expires_at - row.times.expires_at > timedelta(seconds=-1)


async def test_a_bump_shortens_no_time_and_starts_nothing(world: RowsWorld) -> None:
    await world.template(idle_stop_seconds=10 * HOUR, activity_bump_seconds=60.0)
    lease = await world.host()
    row = await world.running(lease)
    await world.later(HOUR)
    assert await world.workspaces.bump(row.id)
    bumped = await world.workspaces.workspace(row.id)
    assert bumped.times.expires_at is not None
    assert bumped.times.last_used_at is not None
    assert bumped.times.expires_at - bumped.times.last_used_at > timedelta(hours=8)
    await world.workspaces.stop(row.id)
    await world.later(HOUR)
    assert not await world.workspaces.bump(row.id)
    assert not await world.workspaces.bump(uuid4())


async def test_an_owner_s_heartbeat_bumps_the_workspaces_of_the_chats_at_work(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    worker_id, _ = await world.work_on_chats()
    await world.later(0.1 * HOUR)
    assert await world.workspaces.bump_owned(uuid4()) == 0
    assert await world.workspaces.bump_owned(worker_id) == 1
    assert await world.workspaces.bump_owned(worker_id) == 0
    assert (await world.workspaces.workspace(row.id)).times.last_used_at != row.times.last_used_at


async def test_a_workspace_in_which_nobody_works_is_stopped(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    await world.later(HOUR - 5)
    assert await world.look(lease) == ()
    await world.later(10)
    (work,) = await world.look(lease)
    assert (work.id, work.state, work.detail) == (row.id, WorkspaceState.STOPPING, "nobody worked in it")


async def test_one_that_was_used_after_its_host_looked_is_not_stopped(world: RowsWorld) -> None:
    lease = await world.host()
    row = await world.running(lease)
    await world.later(HOUR + 10)
    seen = await world.hosts.last_uses(lease)
    assert [(use.workspace_id, use.seconds_left < 0) for use in seen] == [(row.id, True)]
    assert await world.workspaces.bump(row.id)
    assert await world.hosts.work(lease, places=0, idle=seen) == ()


async def test_use_that_a_clock_told_which_was_set_back_since_does_not_keep_it_from_being_told_anew(
    world: RowsWorld,
) -> None:
    lease = await world.host()
    row = await world.running(lease)
    await world.later(-10 * HOUR)
    assert await world.workspaces.bump(row.id)
    (use,) = await world.hosts.last_uses(lease)
    assert use.last_used_at == (await world.workspaces.workspace(row.id)).times.last_used_at
    assert use.seconds_left <= HOUR, "what that clock said of its end is no more true"
    assert not await world.workspaces.bump(row.id)


async def test_one_whose_chat_is_at_work_is_not_stopped_however_short_its_time_is(world: RowsWorld) -> None:
    await world.template(idle_stop_seconds=5.0, activity_bump_seconds=5.0)
    lease = await world.host()
    row = await world.running(lease)
    _, fences = await world.work_on_chats()
    for _ in range(3):
        await world.later(10)
        assert await world.look(lease) == ()
        found = await world.workspaces.workspace(row.id)
        assert (found.state, found.times.last_used_at != row.times.last_used_at) == (WorkspaceState.RUNNING, True)
    await world.store.commit(fences[row.chat_id], FinishTurn())
    assert await world.look(lease) == (), "its time begins when the work is over"
    await world.later(10)
    (work,) = await world.look(lease)
    assert (work.id, work.state) == (row.id, WorkspaceState.STOPPING)


async def test_without_a_limit_it_is_never_stopped(world: RowsWorld) -> None:
    await world.template(idle_stop_seconds=0.0)
    lease = await world.host()
    row = await world.running(lease)
    await world.later(1000 * HOUR)
    assert await world.workspaces.bump(row.id)
    assert (await world.workspaces.workspace(row.id)).times.expires_at is None
    assert await world.look(lease) == ()


# --- the log ----------------------------------------------------------------------------------


async def test_the_log_is_read_from_a_line_on_and_goes_with_its_workspace(world: RowsWorld) -> None:
    row = await world.running(await world.host())
    await world.hosts.append_log(row.id, [LogEntry("build", "one\0"), LogEntry("startup", "two")])
    one, two = await world.workspaces.log(row.id)
    assert [(line.source, line.text) for line in (one, two)] == [("build", "one"), ("startup", "two")]
    assert await world.workspaces.log(row.id, after=one.number) == (two,)
    assert await world.workspaces.log(row.id, limit=1) == (one,)
    await world.hosts.append_log(uuid4(), [LogEntry("build", "of nobody")])


# --- with its chat ----------------------------------------------------------------------------


async def test_a_chat_is_shown_with_the_workspace_that_counts(world: RowsWorld) -> None:
    lease = await world.host("one")
    lost = await world.running(lease)
    shown = (await world.store.details(lost.chat_id)).workspace
    assert shown == ChatWorkspace(lost.id, lost.name, WorkspaceState.RUNNING)
    await world.bury(lease)
    await world.host("two")
    other = (await world.create(lost.chat_id)).workspace
    shown = (await world.store.details(lost.chat_id)).workspace
    assert shown == ChatWorkspace(other.id, other.name, WorkspaceState.BUILDING)
    await world.workspaces.delete(other.id)
    assert (await world.store.details(lost.chat_id)).workspace is None
