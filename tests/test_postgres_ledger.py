"""Whatever is stored of one chat's calls: its own reads say what can be said, and every other chat goes on (P10)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from chat_states import assistant, result
from contract_worlds import OWNER, World, fence_of, open_world
from postgres_sessions import execute, fetchval
from test_postgres_unreadable import ODD_CONTENT, ODD_JSON, damage

from chatcluster.chat import CallState, CommitStep, Interrupt, OpenCall, Status
from chatcluster.errors import Unreadable
from chatcluster.parts import EndedTurn
from chatcluster.ports import Chat
from chatcluster.postgres import Database, Session
from chatcluster.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres

APPROVAL = OpenCall("call", "tool", CallState.APPROVAL, seconds=60.0)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with open_world(database_url) as world:
        yield world


async def overdue(world: World) -> Chat:
    chat = await world.ask(APPROVAL)
    await world.age_actions(chat.id, 61.0)
    return chat


@pytest.mark.parametrize("content", [content for content in ODD_CONTENT if not content.startswith("[[[")])
async def test_a_chat_whose_asking_message_is_odd_still_tells_what_it_waits_for(
    world: World, other: Session, content: str
) -> None:
    odd, plain = await overdue(world), await overdue(world)
    await execute(
        other,
        "UPDATE messages SET content = $2::text::json WHERE chat_id = $1 AND role = 'assistant'",
        odd.id,
        content,
    )
    (action,) = (await world.store.read(odd.id)).actions
    assert (action.call_id, action.arguments) == ("call", "")
    assert {outcome.chat.id for outcome in await world.store.expire_actions(9)} == {odd.id, plain.id}


@pytest.mark.parametrize("tools", ODD_JSON)
async def test_client_tools_that_cannot_be_read_are_none(world: World, other: Session, tools: str) -> None:
    odd = await world.chat()
    await execute(other, "UPDATE chats SET client_tools = $2::text::json WHERE id = $1", odd, tools)
    await execute(other, "UPDATE chats SET mcp_servers = '{a,null,b}' WHERE id = $1", odd)
    chat = (await world.claim()).chat
    assert (chat.client_tools, chat.mcp_servers) == ((), ("a", "b"))


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "4000-01-01 BC", "20000-01-01"])
async def test_a_deadline_that_is_no_date_of_ours_can_be_told(world: World, other: Session, moment: str) -> None:
    chat = await world.ask(APPROVAL)
    await execute(other, "UPDATE tool_calls SET deadline = $1::text::timestamptz", moment)
    (action,) = (await world.store.read(chat.id)).actions
    assert 1 <= action.deadline.year <= 9999
    assert len(await world.store.open_calls(chat.id)) == 1
    await world.store.apply(chat.id, Interrupt(), owner_id=OWNER)


async def test_a_call_that_cannot_be_read_ends_its_chat_in_an_error_and_the_others_go_on(
    world: World, other: Session
) -> None:
    """P10"""
    odd, plain = await overdue(world), await overdue(world)
    await execute(other, "UPDATE tool_calls SET wait_seconds = 'NaN' WHERE chat_id = $1", odd.id)
    with pytest.raises(Unreadable):
        await world.store.apply(odd.id, Interrupt(), owner_id=OWNER)
    assert [outcome.chat.id for outcome in await world.store.expire_actions(9)] == [plain.id]
    ended = await world.store.read(odd.id)
    assert (ended.chat.status, ended.chat.cause, ended.actions) == (Status.ERROR, "error", ())
    assert ended.chat.last_error is not None
    assert ended.chat.last_error.code == "unreadable"
    assert [turn.outcome for turn in (await read_turns(world, odd))] == ["error"]
    assert await world.store.open_calls(odd.id) == ()


async def read_turns(world: World, chat: Chat) -> tuple[EndedTurn, ...]:
    read = await world.store.read_newer(
        chat.id, after_version=0, after_id=0, queue_version=0, limit=9, bytes_max=1 << 20, turns_after=0
    )
    return read.turns


@pytest.mark.parametrize("questions", ["", "hologram", "{", "[7]", "[" * 100_000])
async def test_questions_that_cannot_be_read_are_an_error_of_that_chat(
    world: World, other: Session, questions: str
) -> None:
    odd = await world.ask(APPROVAL)
    await execute(other, "UPDATE tool_calls SET state = 'question', questions = $1", questions)
    assert (await world.store.read(odd.id)).actions == (await world.store.details(odd.id)).actions == ()
    with pytest.raises(Unreadable):
        await world.store.open_calls(odd.id)
    with pytest.raises(Unreadable):
        await world.store.apply(odd.id, Interrupt(), owner_id=OWNER)


async def test_chats_that_cannot_be_written_keep_no_others_waiting(world: World, other: Session) -> None:
    """P10: also if they are as many as a sweep takes: it takes them in no order."""
    odd = await overdue(world)
    await damage(other, odd.id, "true")
    plain = await overdue(world)
    swept = [outcome.chat.id for _ in range(40) for outcome in await world.store.expire_actions(1)]
    assert swept == [plain.id]


async def test_results_and_permissions_go_with_what_they_belong_to(world: World, other: Session) -> None:
    chat = await world.ask(OpenCall("call", "tool", CallState.STARTED))
    await world.store.keep_result(fence_of(chat), "call", b"x" * (10 << 20))
    await execute(
        other,
        "INSERT INTO tool_permissions (user_id, chat_id, tool, expires_at)"
        " SELECT owner_id, id, 'tool', now() FROM chats",
    )
    await execute(other, "DELETE FROM chats WHERE id = $1", chat.id)
    counts = "SELECT (SELECT count(*) FROM tool_results) + (SELECT count(*) FROM tool_permissions)"
    assert await fetchval(other, counts) == 0


async def test_a_step_with_a_tool_costs_two_transactions(database: Database, world: World) -> None:
    """Its calls are started with the step that asks for them, and their results start the next attempt."""
    store = PostgresStore(database)
    await world.chat()
    chat = (await world.claim()).chat
    step = CommitStep((assistant("looking", "call"),), (OpenCall("call", "tool", CallState.STARTED),))
    asked = await store.commit(fence_of(chat), step, known=chat)
    done = await store.commit(fence_of(asked.chat), CommitStep((result("call"),)), known=asked.chat)
    assert done.chat.attempt == 1
    assert database.transaction_counts == {"commit": 2}
