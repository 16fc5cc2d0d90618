"""One chat with all that belongs to it, in one look, in memory as on Postgres."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from chat_states import assistant, user
from contract_worlds import OWNER, World, fence_of

from chatcluster.agents import agent_of
from chatcluster.chat import CallState, FinishTurn, OpenCall
from chatcluster.errors import ChatNotFound
from chatcluster.parts import NewMessage, Role, TextPart
from chatcluster.ports import NewChat
from chatcluster.usage import Bill, Spent, SpentOutcome

pytest_plugins = ["contract_fixtures"]


async def new_chat(world: World, system_prompt: str = "") -> UUID:
    new = NewChat(uuid4(), OWNER, "a chat", None, (user("hello"),), system_prompt=system_prompt)
    return (await world.store.create(new)).chat.id


async def test_a_chat_that_has_nothing_is_its_row_alone(world: World) -> None:
    chat_id = await world.chat()
    details = await world.store.details(chat_id)
    assert details.chat == await world.store.get(chat_id)
    assert (details.actions, details.usage, details.own_prompt) == ((), Bill(), None)


async def test_a_chat_that_does_not_exist_has_no_details(world: World) -> None:
    with pytest.raises(ChatNotFound):
        await world.store.details(uuid4())


async def test_of_several_chats_the_first_that_is_the_owners_is_found(world: World) -> None:
    """P9"""
    first, second, strangers = await world.chat(), await world.chat(), await world.chat(owner_id=uuid4())
    for asked, found in (
        ((first, second), first),
        ((second, first), second),
        ((uuid4(), strangers, second), second),
        ((strangers,), None),
        ((), None),
    ):
        chat = await world.store.find(asked, owner_id=OWNER)
        assert (chat and chat.id) == found
    assert await world.store.find((first,), owner_id=OWNER) == await world.store.get(first)


async def test_details_are_of_this_chat_alone(world: World) -> None:
    chat_id = await new_chat(world, "Be brief.")
    chat = (await world.claim()).chat
    await world.store.commit(
        fence_of(chat),
        FinishTurn((assistant("yes"),)),
        spent=(Spent(chat.history_version, 1, chat.epoch, SpentOutcome.COMMITTED, input_tokens=3, cost_micros=2),),
    )
    other_id = await new_chat(world, "Be long.")
    mine, other = await world.store.details(chat_id), await world.store.details(other_id)
    assert (mine.usage, mine.own_prompt) == (Bill(1, input_tokens=3, cost_micros=2), "Be brief.")
    assert (other.usage, other.own_prompt) == (Bill(), "Be long.")


async def test_the_prompt_that_a_previous_version_had_as_first_message_is_the_chats_own(world: World) -> None:
    """But that of an agent is not its user's."""
    first = NewMessage(Role.SYSTEM, (TextPart("Be kind."),))
    created = await world.create(first, user("hello"))
    assert (await world.store.details(created.chat.id)).own_prompt == "Be kind."
    chat = await world.ask(OpenCall("s", "spawn_agent", CallState.STARTED, effect="idempotent"))
    agent = await world.store.spawn(agent_of(chat, "s", "Count the birds", None), "s", agents_max=1)
    assert (await world.store.details(agent.chat.id)).own_prompt is None


async def test_what_a_chat_waits_for_is_told_as_the_ledger_tells_it(world: World) -> None:
    waiting = await world.ask(OpenCall("c1", "look", CallState.APPROVAL, digest="d"))
    details = await world.store.details(waiting.id)
    assert [action.call_id for action in details.actions] == ["c1"]
    assert details.actions == await world.store.actions(waiting.id)
    assert details.chat == waiting
