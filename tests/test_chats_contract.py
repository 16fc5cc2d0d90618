"""What users do to chats besides talking, in every ``Store``: find, pin, choose a model, edit the queue, delete."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from chat_states import assistant, text, user
from contract_worlds import OWNER, PAGE_BYTES, World, fence_of, open_world, texts

from chatcluster.chat import (
    DRAINED,
    RELEASED,
    ChooseModel,
    EditQueued,
    Fail,
    FinishTurn,
    Interrupt,
    Pin,
    Promote,
    Release,
    Send,
    Status,
)
from chatcluster.chat.state import ErrorInfo
from chatcluster.errors import ChatBusy, ChatFull, ChatNotFound, QueuedMessageNotFound
from chatcluster.ports import Idempotency, NewChat

ANSWER = FinishTurn((assistant("hi"),))


pytest_plugins = ["contract_fixtures"]


async def found(world: World, words: str | None = None, *, pinned: bool | None = None) -> list[str]:
    chats = await world.store.list_chats(OWNER, archived=None, limit=50, after=None, pinned=pinned, words=words)
    return [chat.title for chat in chats]


async def resting(world: World) -> UUID:
    """A chat with one turn."""
    chat_id = await world.chat("hello")
    await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
    return chat_id


async def test_a_search_finds_words_in_titles_whatever_their_case_and_no_wildcards(world: World) -> None:
    for title in ("Shopping list", "shop talk", "100% sure", "100 sure", "a_b", "axb", "back\\slash", "other"):
        await world.create(title=title)
    await world.create(title="shop of another", owner_id=uuid4())
    assert await found(world, "SHOP") == ["shop talk", "Shopping list"]
    assert await found(world, "0% s") == ["100% sure"]
    assert await found(world, "a_b") == ["a_b"]
    assert await found(world, "k\\s") == ["back\\slash"]
    assert await found(world, "%") == ["100% sure"]
    for title in ("Ärger in der Straße", "ΣΊΣΥΦΟΣ", "(a|b)* c\u00b7"):
        await world.create(title=title)
    assert await found(world, "ärger IN") == ["Ärger in der Straße"]
    assert await found(world, "σίσυφο") == ["ΣΊΣΥΦΟΣ"]
    assert await found(world, "(A|B)*") == ["(a|b)* c\u00b7"]
    assert await found(world, "***:a") == []
    assert await found(world, "nothing") == []
    assert len(await found(world)) == 11


async def test_a_pin_is_kept_and_asked_for_and_fences_nobody(world: World) -> None:
    chat_id, other = await world.chat("hello"), await world.create(title="other")
    claimed = (await world.claim()).chat
    outcome = await world.store.apply(chat_id, Pin(True), owner_id=OWNER)
    assert outcome.chat.pinned
    assert outcome.chat.history_version == claimed.history_version
    assert await found(world, pinned=True) == ["a chat"]
    assert await found(world, pinned=False) == ["other"]
    await world.store.commit(fence_of(claimed), ANSWER)
    assert (await world.store.get(chat_id)).pinned, "who works on the chat leaves it as it is"
    await world.store.apply(chat_id, Pin(False), owner_id=OWNER)
    assert not (await world.store.get(chat_id)).pinned
    assert not other.chat.pinned


async def test_the_model_is_another_one_from_the_next_message_on(world: World) -> None:
    chat_id = await resting(world)
    for model in ("better", None):
        assert (await world.store.apply(chat_id, ChooseModel(model), owner_id=OWNER)).chat.model == model
        assert (await world.store.get(chat_id)).model == model


async def test_a_queued_message_is_replaced_where_it_waits(world: World) -> None:
    chat_id = await world.chat("hello")
    claimed = (await world.claim()).chat
    first, second = [await world.queue(chat_id, words) for words in ("one", "two")]
    before = await world.store.get(chat_id)
    outcome = await world.store.apply(chat_id, EditQueued(first.id, text("better"), "m"), owner_id=OWNER)
    assert outcome.queued is not None
    assert (outcome.queued.id, outcome.queued.parts, outcome.queued.model) == (first.id, text("better"), "m")
    assert outcome.queued.created_at == first.created_at
    assert outcome.chat.queue_version > before.queue_version
    assert outcome.chat.history_version == before.history_version
    page = await world.store.list_messages(chat_id, owner_id=OWNER, after=0, limit=9, bytes_max=PAGE_BYTES)
    assert [(queued.id, queued.parts) for queued in page.queue] == [
        (first.id, text("better")),
        (second.id, text("two")),
    ]
    again = await world.store.apply(chat_id, EditQueued(first.id, text("best")), owner_id=OWNER)
    assert again.queued is not None
    assert again.queued.model == "m", "it stays if none is given"
    await world.store.commit(fence_of(claimed), ANSWER)
    assert texts(await world.history(chat_id)) == ["hello", "hi", "best"]
    with pytest.raises(QueuedMessageNotFound):
        await world.store.apply(chat_id, EditQueued(first.id, text("late")), owner_id=OWNER)


async def test_a_queued_message_that_grows_has_to_have_room(url: str | None) -> None:
    async with open_world(url, history_bytes_max=64 << 10) as world:
        chat_id = await world.chat("hello")
        queued = await world.queue(chat_id, "one")
        with pytest.raises(ChatFull):
            await world.store.apply(chat_id, EditQueued(queued.id, text("x" * (65 << 10))), owner_id=OWNER)
        for _ in range(10):  # what it was does not count any more
            await world.store.apply(chat_id, EditQueued(queued.id, text("x" * 20_000)), owner_id=OWNER)


async def test_a_chat_that_rests_is_deleted_with_all_that_belongs_to_it(world: World) -> None:
    chat_id, kept = await resting(world), await world.create(title="kept")
    deleted = await world.store.delete(chat_id, owner_id=OWNER)
    assert (deleted.id, deleted.owner_id) == (chat_id, OWNER)
    assert await found(world) == ["kept"]
    for act in (
        world.store.get(chat_id),
        world.store.read(chat_id),
        world.store.list_newest(chat_id, owner_id=OWNER, before=9, limit=1, bytes_max=PAGE_BYTES),
        world.store.apply(chat_id, Send(text("x")), owner_id=OWNER),
        world.store.delete(chat_id, owner_id=OWNER),
    ):
        with pytest.raises(ChatNotFound):
            await act
    assert await world.store.versions([chat_id]) == {}
    changes = await world.store.list_changed([OWNER], seconds=60, as_of=None, after=None, limit=10)
    assert [(gone.chat_id, gone.owner_id) for gone in changes.deleted] == [(chat_id, OWNER)]
    assert [chat.id for chat in changes.chats] == [kept.chat.id]
    nobody = await world.store.list_changed([uuid4()], seconds=60, as_of=None, after=None, limit=10)
    assert nobody.deleted == ()


async def test_a_chat_of_the_same_name_is_a_new_one_once_the_first_is_deleted(world: World) -> None:
    """P1: for doors whose clients name chats and messages themselves, under keys made from those names."""
    chat_id, first, own = uuid4(), Idempotency("said-1", b"1"), Idempotency("mine", b"1")
    new = NewChat(chat_id, OWNER, "a chat", None, (user("hello"),))
    await world.store.create(new, first)
    await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
    await world.store.apply(chat_id, Send(text("more")), owner_id=OWNER, idempotency=own)
    await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
    await world.store.delete(chat_id, owner_id=OWNER)
    assert await world.store.answered(OWNER, own) is not None, "whoever gave a key goes by what it was answered"
    for digest in (b"1", b"2"):
        again = await world.store.create(new, Idempotency("said-1", digest))
        assert not again.replayed
        assert (await world.store.get(chat_id)).id == chat_id
        await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
        await world.store.delete(chat_id, owner_id=OWNER)


async def test_a_chat_is_deleted_by_its_user_alone(world: World) -> None:
    """P9"""
    chat_id = await resting(world)
    with pytest.raises(ChatNotFound):
        await world.store.delete(chat_id, owner_id=uuid4())
    assert (await world.store.get(chat_id)).id == chat_id


async def test_a_busy_chat_is_not_deleted(world: World) -> None:
    """P1: an answer under way is stopped in order, or goes on."""
    chat_id = await world.chat("hello")
    with pytest.raises(ChatBusy):
        await world.store.delete(chat_id, owner_id=OWNER)
    await world.claim()
    await world.store.apply(chat_id, Interrupt(), owner_id=OWNER)
    with pytest.raises(ChatBusy):
        await world.store.delete(chat_id, owner_id=OWNER)


async def test_a_status_says_what_led_to_it(world: World) -> None:
    a, b = await world.worker(), await world.worker()
    chat_id = await world.chat("hello")

    async def cause() -> tuple[str, str]:
        chat = await world.store.get(chat_id)
        return chat.shown_status, chat.cause

    assert await cause() == ("pending", "turn")
    claimed = (await world.claim(a)).chat
    assert await cause() == ("running", "claim")
    await world.registry.bury(a, None)
    assert await cause() == ("pending", "takeover")
    taken = (await world.claim(b)).chat
    assert await cause() == ("running", "takeover")
    assert taken.worker_id != claimed.worker_id
    await world.store.commit(fence_of(taken), Release(DRAINED))
    assert await cause() == ("pending", "drain")
    a = await world.worker()
    again = (await world.claim(a)).chat
    assert await cause() == ("running", "drain")
    await world.store.commit(fence_of(again), Release(RELEASED))
    assert await cause() == ("pending", "release")
    again = (await world.claim(a)).chat
    assert await cause() == ("running", "claim")
    queued = await world.queue(chat_id, "more")
    assert await cause() == ("running", "claim"), "the queue is none of its business"
    await world.store.commit(fence_of(again), ANSWER)
    assert (await world.store.get(chat_id)).cause == "claim", "one turn ended, the next began, and nobody else took it"
    await world.queue(chat_id, "and more")
    await world.store.apply(chat_id, Promote((await world.queue(chat_id, "now")).id), owner_id=OWNER)
    assert await cause() == ("interrupting", "interrupt")
    assert queued


async def test_the_end_of_a_turn_is_a_cause(world: World) -> None:
    chat_id = await resting(world)
    assert (await world.store.get(chat_id)).cause == "turn"
    await world.send(chat_id, "more")
    claimed = (await world.claim()).chat
    outcome = await world.store.commit(fence_of(claimed), Fail(ErrorInfo("generic", "no")))
    assert (outcome.chat.status, outcome.chat.cause) == (Status.ERROR, "error")


async def test_a_replica_that_leaves_says_so_of_what_it_leaves_behind(world: World) -> None:
    a = await world.worker()
    chat_id = await world.chat("hello")
    await world.claim(a)
    await world.registry.retire(a)
    assert (await world.store.get(chat_id)).cause == "drain"
