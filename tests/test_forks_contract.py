"""The history that a new chat begins with, copied in every ``Store``: whole, in order, its own from then on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from chat_states import assistant, result, summary, text, user
from contract_worlds import OWNER, World, Worlds, fence_of, texts

from chatcluster.chat import CommitStep, CommitSummary, Edit, FinishTurn, Send, Status
from chatcluster.content import FilePart
from chatcluster.errors import ChatFull, ChatNotFound, Conflict
from chatcluster.file_errors import FileInUse, TooManyFiles
from chatcluster.parts import Message, NewMessage, Parts, Role, TextPart, Usage
from chatcluster.ports import VERSION_MAX, Chat, Idempotency, NewChat, Outcome
from chatcluster.ports.files import CHAT_FILES_MAX
from chatcluster.ports.forks import HistoryCopy, TurnEnds

BYTES_MAX = 64 << 10

pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def world(worlds: Worlds) -> AsyncIterator[World]:
    async with worlds(history_bytes_max=BYTES_MAX) as world:
        yield world


async def answered(world: World, answer: NewMessage | None = None) -> Chat:
    """Answer what the only chat that waits for it was asked."""
    command = FinishTurn((answer or assistant("an answer"),))
    return (await world.store.commit(fence_of((await world.claim()).chat), command)).chat


async def of_two_turns(world: World) -> tuple[Chat, tuple[Message, ...]]:
    chat_id = await world.chat("one")
    await answered(world)
    await world.send(chat_id, "two")
    chat = await answered(world)
    return chat, (await world.store.read(chat_id)).messages


async def fork(world: World, chat: Chat, up_to: int, *more: NewMessage, **fields: Any) -> Outcome:
    key, owner_id = fields.pop("key", None), fields.pop("owner_id", OWNER)
    copied = HistoryCopy(chat.id, up_to, chat.reset_version)
    fields.setdefault("at_rest", not more)
    return await world.store.create(NewChat(uuid4(), owner_id, "a fork", None, more, copied=copied, **fields), key)


async def told(world: World, chat_id: UUID) -> list[tuple[Any, ...]]:
    """What a history says, without what is its own."""
    messages = (await world.store.read(chat_id)).messages
    return [(one.role, one.parts, one.finish_reason, one.model, one.usage) for one in messages]


def ids(messages: Sequence[Message]) -> list[int]:
    return [one.id for one in messages]


async def test_a_copy_says_what_the_history_says_and_goes_its_own_way(world: World) -> None:
    chat_id = await world.chat("\0 \U0001f600", "and?")
    called = assistant("looking", "c1")
    step = CommitStep((msgspec.structs.replace(called, model="large", usage=Usage(1, 2), position="1-7"),))
    stepped = await world.store.commit(fence_of((await world.claim()).chat), step)
    stepped = await world.store.commit(fence_of(stepped.chat), CommitStep((result("c1"),)))
    chat = (await world.store.commit(fence_of(stepped.chat), FinishTurn((assistant("done"),)))).chat
    before, last = await told(world, chat_id), (await world.store.read(chat_id)).messages[-1]
    made = await fork(world, chat, last.id)
    assert (made.chat.status, made.messages, made.chat.title) == (Status.WAITING, (), "a fork")
    assert (made.chat.snapshot_version, made.chat.history_version) == (1, 1)
    copies = (await world.store.read(made.chat.id)).messages
    assert await told(world, made.chat.id) == before
    assert ids(copies) == sorted(ids(copies))
    assert {(one.revision, one.position) for one in copies} == {(1, None)}
    await world.send(made.chat.id, "more")
    await world.store.delete(chat_id, owner_id=OWNER)
    assert (await told(world, made.chat.id))[:-1] == before


async def test_what_the_system_said_and_summaries_stay_behind_whatever_others_say_of_them(world: World) -> None:
    """Summaries name messages of the original by their IDs."""
    said = '{"type":"summary"} "name":"chat_summarized" "type":"summary"'
    created = await world.create(NewMessage(Role.SYSTEM, text("be brief")), user(said))
    chat = (await world.claim()).chat
    chat = (await world.store.commit(fence_of(chat), CommitSummary(summary("They said hello.")))).chat
    chat = (await world.store.commit(fence_of(chat), FinishTurn((assistant(said),)))).chat
    last = (await world.store.read(created.chat.id)).messages[-1]
    made = await fork(world, chat, last.id)
    assert texts((await world.store.read(made.chat.id)).messages) == [said, said]
    assert made.chat.summaries == ()


async def test_what_comes_behind_a_copy_is_answered_and_its_owner_reads_all_of_it(world: World) -> None:
    """Also where that is no user's message, as the output of a call is."""
    chat, messages = await of_two_turns(world)
    for more in (user("three"), result("c1")):
        made = await fork(world, chat, messages[1].id, more)
        assert made.chat.status is Status.RUNNING
        assert [one.parts for one in made.messages] == [more.parts]
        claimed = (await world.claim()).chat
        assert [one.parts for one in await world.history(claimed.id)] == [
            *(one.parts for one in messages[:2]),
            more.parts,
        ]
        await world.store.commit(fence_of(claimed), FinishTurn((assistant("done"),)))


async def test_with_a_key_it_is_made_once(world: World) -> None:
    chat, messages = await of_two_turns(world)
    key = Idempotency("key", b"")
    first, again = [await fork(world, chat, messages[-1].id, key=key) for _ in range(2)]
    assert again == msgspec.structs.replace(first, replayed=True)
    assert len(await world.store.list_chats(OWNER, archived=None, limit=9, after=None)) == 2


async def test_p9_of_somebody_elses_chat_and_of_one_that_is_rewritten_nothing_is_copied(world: World) -> None:
    chat, messages = await of_two_turns(world)
    with pytest.raises(ChatNotFound):
        await fork(world, chat, messages[-1].id, owner_id=uuid4())
    await world.store.apply(chat.id, Edit(messages[0].id, text("otherwise")), owner_id=OWNER)
    with pytest.raises(Conflict):
        await fork(world, chat, messages[-1].id)
    assert len(await world.store.list_chats(OWNER, archived=None, limit=9, after=None)) == 1


async def test_a_copy_has_as_much_as_a_chat_may_have_and_counts_for_that(world: World) -> None:
    chat_id = await world.chat("one")
    await answered(world, assistant("x" * (BYTES_MAX - 2000)))
    await world.send(chat_id, "two")
    chat = await answered(world, assistant("y" * 2000))
    messages = (await world.store.read(chat_id)).messages
    with pytest.raises(ChatFull):
        await fork(world, chat, messages[-1].id)
    with pytest.raises(ChatFull):
        await fork(world, chat, messages[1].id, user("y" * 2000))
    made = await fork(world, chat, messages[1].id)
    with pytest.raises(ChatFull):
        await world.send(made.chat.id, "y" * 2000)
    await world.send(made.chat.id, "short")


async def test_files_go_along_and_stay_when_the_original_goes(world: World) -> None:
    files = [await file_of(world) for _ in range(CHAT_FILES_MAX)]
    chat_id = (await world.create(NewMessage(Role.USER, with_files(*files[:-1])))).chat.id
    await answered(world)
    await world.store.apply(chat_id, Send(with_files(files[-1])), owner_id=OWNER)
    chat = await answered(world)
    messages = (await world.store.read(chat_id)).messages
    made = await fork(world, chat, messages[1].id)
    await world.store.delete(chat_id, owner_id=OWNER)
    await world.files.delete(OWNER, files[-1])
    for file_id in (files[0], files[-2]):
        with pytest.raises(FileInUse):
            await world.files.delete(OWNER, file_id)
    more = with_files(await file_of(world), await file_of(world))
    with pytest.raises(TooManyFiles):
        await world.store.apply(made.chat.id, Send(more), owner_id=OWNER)


async def file_of(world: World) -> UUID:
    file_id = await world.files.begin(OWNER, "notes.txt", size_bytes=1, bytes_max=0)
    await world.files.append(file_id, 0, b"x")
    await world.files.finish(file_id, media_type="text/plain", size_bytes=1, sha256="00" * 32, rendition=None)
    return file_id


def with_files(*file_ids: UUID) -> Parts:
    return (TextPart("look"), *(FilePart(file_id, "notes.txt", "text/plain", 1) for file_id in file_ids))


async def test_a_copy_has_content_of_the_version_that_the_original_has(world: World) -> None:
    """A version that cannot read it leaves the fork alone as well."""
    chat, messages = await of_two_turns(world)
    await world.have_content(chat.id, 99)
    made = await fork(world, chat, messages[-1].id)
    assert made.chat.content_version == 99


async def test_turns_end_before_a_users_message_and_where_the_chat_rests(world: World) -> None:
    chat, (one, first, two, second) = await of_two_turns(world)
    for message_id, ends in (
        (one.id, TurnEnds(True, None, first.id)),
        (first.id, TurnEnds(True, None, first.id)),
        (two.id, TurnEnds(True, first.id, second.id)),
        (second.id, TurnEnds(True, first.id, second.id)),
        (VERSION_MAX, TurnEnds(False, first.id, second.id)),
        (0, TurnEnds(False, None, None)),
    ):
        assert (message_id, await world.store.turn_ends(chat.id, message_id)) == (message_id, ends)
    await world.send(chat.id, "three")
    third = (await world.store.read(chat.id)).messages[-1]
    assert await world.store.turn_ends(chat.id, second.id) == TurnEnds(True, first.id, second.id)
    assert await world.store.turn_ends(chat.id, third.id) == TurnEnds(True, second.id, None)
    assert await world.store.turn_ends(chat.id, VERSION_MAX) == TurnEnds(False, second.id, None)
    with pytest.raises(ChatNotFound):
        await world.store.turn_ends(uuid4(), 1)
