"""Chats that a model is to name: taken by one at a time, named once, and never over a person's own title."""

from __future__ import annotations

from uuid import UUID, uuid4

from chat_states import assistant, user
from contract_worlds import OWNER, World, fence_of

from chatcluster.chat import FinishTurn, Rename
from chatcluster.ports import NewChat
from chatcluster.title_text import ASKED_CHARS_MAX
from chatcluster.usage import TITLE_VERSION, Bill, Spent, SpentOutcome

pytest_plugins = ["contract_fixtures"]


async def nameless(
    world: World, words: str = "why is the sky blue?", model: str | None = None, owner_id: UUID = OWNER
) -> UUID:
    chat = NewChat(uuid4(), owner_id, "first words", model, (user(words),), wants_title=True)
    return (await world.store.create(chat)).chat.id


def spent(number: int, outcome: SpentOutcome = SpentOutcome.TITLE) -> tuple[Spent, ...]:
    return (Spent(TITLE_VERSION, number, 0, outcome, "large", input_tokens=3, cost_micros=2),)


async def test_p10_of_a_large_message_the_beginning_is_enough(world: World) -> None:
    words = "why is the sky blue? " * 60_000
    await nameless(world, words)
    (task,) = await world.titles.take(9, seconds=60)
    assert task.text[:ASKED_CHARS_MAX] == words[:ASKED_CHARS_MAX]


async def test_a_chat_is_taken_by_one(world: World) -> None:
    chat_id = await nameless(world, model="large")
    await world.chat("this one has a title")
    (task,) = await world.titles.take(9, seconds=60)
    assert (task.chat_id, task.owner_id, task.model, task.text, task.number) == (
        chat_id,
        OWNER,
        "large",
        "why is the sky blue?",
        1,
    )
    assert await world.titles.take(9, seconds=60) == ()


async def test_no_more_are_taken_than_there_are_places_for(world: World) -> None:
    ids = [await nameless(world) for _ in range(3)]
    first = await world.titles.take(2, seconds=60)
    second = await world.titles.take(2, seconds=60)
    assert [task.chat_id for task in (*first, *second)] == ids


async def test_users_have_their_chats_named_by_turns(world: World) -> None:
    """P10: one has many to be named, by a model that says nothing perhaps."""
    for _ in range(5):
        await nameless(world)
    theirs = await nameless(world, owner_id=UUID(int=101))
    taken = [task.chat_id for task in await world.titles.take(2, seconds=60)]
    assert theirs in taken


async def test_what_is_being_named_counts_as_a_turn(world: World) -> None:
    """P10"""
    for _ in range(5):
        await nameless(world)
    assert len(await world.titles.take(2, seconds=60)) == 2
    theirs = [await nameless(world, owner_id=UUID(int=101)) for _ in range(2)]
    assert [task.chat_id for task in await world.titles.take(2, seconds=60)] == theirs


async def test_a_title_changes_neither_history_nor_owner(world: World) -> None:
    chat_id = await nameless(world)
    before = (await world.claim()).chat
    (task,) = await world.titles.take(1, seconds=60)
    chat = await world.titles.entitle(task, "Blue skies", spent(1))
    assert chat is not None
    assert chat.title == "Blue skies"
    assert chat.snapshot_version == before.snapshot_version + 1
    assert (chat.history_version, chat.worker_id, chat.epoch) == (1, before.worker_id, before.epoch)
    await world.store.commit(fence_of(before), FinishTurn((assistant("an answer"),)), known=before)
    assert (await world.store.get(chat_id)).title == "Blue skies"
    assert await world.bill(chat_id) == Bill(1, input_tokens=3, cost_micros=2)


async def test_a_chat_is_named_once(world: World) -> None:
    chat_id = await nameless(world)
    (task,) = await world.titles.take(1, seconds=0)
    (again,) = await world.titles.take(1, seconds=60)
    assert await world.titles.entitle(again, "Second", spent(2)) is not None
    assert await world.titles.entitle(task, "First", spent(1)) is None
    assert (await world.store.get(chat_id)).title == "Second"


async def test_a_persons_own_title_stays(world: World) -> None:
    chat_id = await nameless(world)
    (task,) = await world.titles.take(1, seconds=0)
    await world.store.apply(chat_id, Rename("Mine"), owner_id=OWNER)
    assert await world.titles.entitle(task, "Blue skies", spent(1)) is None
    assert (await world.store.get(chat_id)).title == "Mine"
    assert await world.titles.take(1, seconds=60) == ()
    assert (await world.bill(chat_id)).attempts == 1, "it has cost something all the same"


async def test_who_is_given_up_keeps_the_first_words(world: World) -> None:
    chat_id = await nameless(world)
    (task,) = await world.titles.take(1, seconds=0)
    assert await world.titles.entitle(task, None, ()) is not None
    assert (await world.store.get(chat_id)).title == "first words"
    assert await world.titles.take(1, seconds=60) == ()


async def test_a_try_that_came_to_nothing_is_booked_and_made_again(world: World) -> None:
    chat_id = await nameless(world)
    (task,) = await world.titles.take(1, seconds=0)
    await world.titles.book(task, spent(1))
    (again,) = await world.titles.take(1, seconds=60)
    assert again.number == 2
    assert await world.bill(chat_id) == Bill(1, input_tokens=3, cost_micros=2)


async def test_the_try_of_one_that_died_is_booked_as_lost(world: World) -> None:
    chat_id = await nameless(world)
    await world.titles.take(1, seconds=0)
    (again,) = await world.titles.take(1, seconds=60)
    await world.titles.entitle(again, "Blue skies", spent(2))
    assert await world.bill(chat_id) == Bill(2, input_tokens=3, cost_micros=2, unpriced=1)


async def test_a_try_that_was_refused_and_cost_nothing_is_not_lost(world: World) -> None:
    """P1: what is booked is what was spent."""
    chat_id = await nameless(world)
    (task,) = await world.titles.take(1, seconds=0)
    await world.titles.book(task, ())
    (again,) = await world.titles.take(1, seconds=60)
    await world.titles.entitle(again, "Blue skies", spent(2))
    assert await world.bill(chat_id) == Bill(1, input_tokens=3, cost_micros=2)


async def test_a_chat_that_is_deleted_wants_nothing(world: World) -> None:
    chat_id = await nameless(world)
    (task,) = await world.titles.take(1, seconds=0)
    chat = (await world.claim()).chat
    await world.store.commit(fence_of(chat), FinishTurn((assistant("an answer"),)))
    await world.store.delete(chat_id, owner_id=OWNER)
    assert await world.titles.entitle(task, "Blue skies", spent(1)) is None
    assert await world.titles.take(1, seconds=60) == ()
