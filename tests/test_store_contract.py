"""What every ``Store`` does, in memory as on Postgres: transitions, claims, fences, keys and reads."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from chat_states import assistant, result, text, user
from contract_worlds import OWNER, PAGE_BYTES, World, fence_of, texts

from chatcluster.chat import (
    QUEUE_MESSAGES_MAX,
    Archive,
    CallState,
    ClientTool,
    CommitStep,
    DeleteMessage,
    DeleteQueued,
    Edit,
    FinishInterruption,
    FinishTurn,
    Insert,
    Interrupt,
    OpenCall,
    Promote,
    Rename,
    Send,
    Status,
    SubmitToolResults,
    ToolResult,
    Unarchive,
)
from chatcluster.errors import (
    CallAnswered,
    ChatBusy,
    ChatNotFound,
    IdempotencyKeyReused,
    MessageNotFound,
    MessageNotUser,
    Moved,
    NotAllowedInStatus,
    QueuedMessageNotFound,
    QueueFull,
    StoreFailed,
)
from chatcluster.parts import Message, NewMessage, ReasoningPart, Role, TextPart, ToolCallPart, ToolResultPart, Usage
from chatcluster.ports import Chat, ChatRead, Idempotency, MessagePage, NewChat, Outcome, Version

STRANGER = UUID(int=200)
ANSWER = FinishTurn((assistant("the answer"),))


pytest_plugins = ["contract_fixtures"]


# --- creating ---------------------------------------------------------------------------------


async def test_a_new_chat_is_pending_with_its_messages_at_version_1(world: World) -> None:
    created = await world.create(
        NewMessage(Role.SYSTEM, text("be brief")), user("hello"), title="greeting", model="small"
    )
    chat = created.chat
    assert (chat.title, chat.model, chat.owner_id, chat.shown_status) == ("greeting", "small", OWNER, "pending")
    assert (chat.snapshot_version, chat.history_version, chat.queue_version, chat.epoch) == (1, 1, 0, 0)
    assert texts(created.messages) == ["be brief", "hello"]
    read = await world.store.read(chat.id)
    assert (read.chat, read.messages, read.queue) == (chat, created.messages[1:], ()), "a system text is for the model"
    assert await world.store.get(chat.id) == chat


async def test_content_comes_back_exactly_as_it_was_sent(world: World) -> None:
    odd = "\u0000 \u2028 \U0001f600 \\ \" ' $1 %s {} </script> é e\u0301\r\n\t"
    said = (
        ReasoningPart(odd),
        TextPart(odd),
        ToolCallPart("call", "look", '{"a" : 1.0}'),
    )
    chat_id = await world.chat(odd)
    chat = (await world.claim()).chat
    message = NewMessage(Role.ASSISTANT, said, "tool_calls", "large", Usage(1, 2, 3, 4), "1-7")
    stepped = await world.store.commit(fence_of(chat), CommitStep((message,)))
    answered = NewMessage(Role.TOOL, (ToolResultPart("call", odd, is_error=True),))
    await world.store.commit(fence_of(stepped.chat), CommitStep((answered,)))
    asked, called, done = (await world.store.read(chat_id)).messages
    assert asked.parts == text(odd)
    assert (called.parts, called.finish_reason, called.model) == (said, "tool_calls", "large")
    assert (called.usage, called.position) == (Usage(1, 2, 3, 4), "1-7")
    assert done.parts == answered.parts


async def test_a_chat_is_made_once_and_its_id_is_its_own(world: World) -> None:
    new = NewChat(uuid4(), OWNER, "first", None, (user("hello"),))
    first = await world.store.create(new)
    with pytest.raises(StoreFailed):
        await world.store.create(msgspec.structs.replace(new, title="second"))
    assert (await world.store.read(new.id)).chat == first.chat


@pytest.mark.parametrize("words", [(), ("hello",), ("\0 \U0001f600 \\ \u2028", "two")], ids=["none", "one", "two"])
async def test_what_made_a_chat_is_answered_again_and_makes_no_other(world: World, words: tuple[str, ...]) -> None:
    """Whether the repeat names the same chat or another one; with tools and a prompt, which the answer has as well."""
    tool = ClientTool("look", "looks", {"type": "object"})
    new = NewChat(uuid4(), OWNER, "a chat", "large", tuple(map(user, words)), client_tools=(tool,), system_prompt="Hm.")
    key = Idempotency("key", b"digest")
    first = await world.store.create(new, key, claimer=await world.worker())
    assert (await world.store.read(new.id)).messages == first.messages
    for chat_id in (new.id, uuid4()):
        again = await world.store.create(msgspec.structs.replace(new, id=chat_id), key, claimer=await world.worker())
        assert again == msgspec.structs.replace(first, replayed=True, claimed=None)
    with pytest.raises(IdempotencyKeyReused):
        await world.store.create(msgspec.structs.replace(new, id=uuid4()), Idempotency("key", b"other"))
    assert [chat.id for chat in await world.store.list_chats(OWNER, archived=None, limit=9, after=None)] == [new.id]
    assert await world.store.answered(OWNER, key) == msgspec.structs.replace(first, replayed=True, claimed=None)


# --- transitions of users ---------------------------------------------------------------------


async def test_another_users_chat_and_one_that_does_not_exist_are_not_told_apart(world: World) -> None:
    """P9"""
    chat_id = await world.chat()
    for missing, caller in ((chat_id, STRANGER), (uuid4(), OWNER)):
        with pytest.raises(ChatNotFound):
            await world.store.apply(missing, Interrupt(), owner_id=caller)
        with pytest.raises(ChatNotFound):
            await world.store.list_messages(missing, owner_id=caller, after=0, limit=10, bytes_max=PAGE_BYTES)
    for read in (world.store.read, world.store.get):
        with pytest.raises(ChatNotFound):
            await read(uuid4())
    assert (await world.store.get(chat_id)).snapshot_version == 1


async def test_a_message_to_a_busy_chat_is_queued_and_to_a_resting_one_goes_into_history(world: World) -> None:
    chat_id = await world.chat("first")
    queued = await world.send(chat_id, "second")
    assert queued.message is None
    assert queued.queued is not None
    assert (await world.store.read(chat_id)).queue == (queued.queued,)
    claimed = await world.claim()
    finished = await world.store.commit(fence_of(claimed.chat), ANSWER)
    assert texts(finished.messages) == ["the answer", "second"]
    finished = await world.store.commit(fence_of(finished.chat), ANSWER)
    assert finished.chat.status is Status.WAITING
    direct = await world.send(chat_id, "third")
    assert direct.queued is None
    read = await world.store.read(chat_id)
    assert texts(read.messages) == ["first", "the answer", "second", "the answer", "third"]
    assert read.queue == ()
    assert [message.id for message in read.messages] == sorted({message.id for message in read.messages})
    assert read.messages[-1] == direct.message


async def test_a_message_keeps_the_model_that_it_asks_for_through_queue_and_edit(world: World) -> None:
    chat_id = await world.chat("first")
    sent = await world.store.apply(chat_id, Send(text("second"), model="large"), owner_id=OWNER)
    assert sent.queued is not None
    assert sent.queued.model == "large"
    assert (await world.store.read(chat_id)).queue == (sent.queued,)
    promoted = await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
    second = promoted.messages[-1]
    assert (second.parts, second.model) == (text("second"), "large")
    edited = await world.store.apply(chat_id, Edit(second.id, text("better")), owner_id=OWNER)
    assert edited.message is not None
    assert edited.message.model == "large"
    again = await world.store.apply(chat_id, Edit(edited.message.id, text("best"), "small"), owner_id=OWNER)
    assert (await world.store.read(chat_id)).messages[-1] == again.message
    assert again.message is not None
    assert again.message.model == "small"


async def test_what_is_inserted_is_history_that_nobody_answers_and_one_message_of_it_can_go(world: World) -> None:
    chat_id = await world.chat("first")
    await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
    said = (user("aside"), assistant("noted", "call"), user("bye"))
    inserted = await world.store.apply(chat_id, Insert(said), owner_id=OWNER)
    assert [message.parts for message in inserted.messages] == [message.parts for message in said]
    assert (inserted.chat.status, inserted.chat.open_calls) == (Status.WAITING, 0)
    aside, _, bye = inserted.messages
    deleted = await world.store.apply(chat_id, DeleteMessage(aside.id), owner_id=OWNER)
    assert deleted.chat.reset_version == deleted.chat.history_version == deleted.chat.snapshot_version
    assert [message.parts for message in await world.history(chat_id)][2:] == [said[1].parts, said[2].parts]
    for message_id in (aside.id, 12345):
        with pytest.raises(MessageNotFound):
            await world.store.apply(chat_id, DeleteMessage(message_id), owner_id=OWNER)
    await world.store.apply(chat_id, Send(text("second")), owner_id=OWNER)
    for command in (Insert(said), DeleteMessage(bye.id)):
        with pytest.raises(ChatBusy):
            await world.store.apply(chat_id, command, owner_id=OWNER)


async def test_a_refused_transition_writes_nothing(world: World) -> None:
    chat_id = await world.chat()
    before = await world.store.read(chat_id)
    for command, error in (
        (Unarchive(), NotAllowedInStatus),
        (DeleteQueued(12345), QueuedMessageNotFound),
        (Edit(12345, text("better")), MessageNotFound),
    ):
        with pytest.raises(error):
            await world.store.apply(chat_id, command, owner_id=OWNER)
    assert await world.store.read(chat_id) == before


async def test_promoting_b_of_a_b_c_makes_the_order_b_a_c_behind_the_partial_answer(world: World) -> None:
    chat_id = await world.chat("hello")
    chat = (await world.claim()).chat
    a, b, c = [await world.queue(chat_id, word) for word in "ABC"]
    promoted = await world.store.apply(chat_id, Promote(b.id), owner_id=OWNER)
    assert promoted.chat.status is Status.INTERRUPTING
    assert [queued.id for queued in (await world.store.read(chat_id)).queue] == [b.id, a.id, c.id]
    partial = assistant("half an ans", "call", finish_reason="interrupted")
    finished = await world.store.commit(fence_of(chat), FinishInterruption(partial))
    assert [message.role for message in finished.messages] == [Role.ASSISTANT, Role.TOOL, Role.USER]
    assert [queued.id for queued in (await world.store.read(chat_id)).queue] == [a.id, c.id]
    assert (finished.chat.status, finished.chat.worker_id) == (Status.RUNNING, chat.worker_id)
    assert texts((await world.store.read(chat_id)).messages) == ["hello", "half an ans", "", "B"]


async def test_a_message_behind_a_moved_head_stays_behind_it(world: World) -> None:
    chat_id = await world.chat()
    _, second = [await world.queue(chat_id, word) for word in "AB"]
    await world.store.apply(chat_id, Promote(second.id), owner_id=OWNER)
    await world.send(chat_id, "C")
    read = await world.store.read(chat_id)
    assert [part.text for queued in read.queue for part in queued.parts if isinstance(part, TextPart)] == [
        "B",
        "A",
        "C",
    ]


async def test_a_queued_message_can_be_deleted_once(world: World) -> None:
    chat_id = await world.chat()
    first, second = [await world.queue(chat_id, word) for word in "AB"]
    deleted = await world.store.apply(chat_id, DeleteQueued(first.id), owner_id=OWNER)
    assert deleted.chat.queue_version == deleted.chat.snapshot_version
    assert (await world.store.read(chat_id)).queue == (second,)
    with pytest.raises(QueuedMessageNotFound):
        await world.store.apply(chat_id, DeleteQueued(first.id), owner_id=OWNER)


async def test_an_edit_replaces_the_message_and_all_after_it_and_empties_the_queue(world: World) -> None:
    chat_id = await world.chat("keep", "wrong")
    kept, wrong = (await world.store.read(chat_id)).messages
    chat = (await world.claim()).chat
    stepped = await world.store.commit(fence_of(chat), CommitStep((assistant("looking", "call"),)))
    await world.send(chat_id, "later")
    edited = await world.store.apply(chat_id, Edit(wrong.id, text("right")), owner_id=OWNER)
    read = await world.store.read(chat_id)
    assert texts(read.messages) == ["keep", "right"]
    assert read.messages == (kept, edited.message)
    assert read.queue == ()
    assert edited.message is not None
    assert edited.message.id > stepped.messages[0].id
    after = edited.chat
    assert after.reset_version == after.history_version == after.queue_version == after.snapshot_version
    assert (after.worker_id, after.epoch, after.attempt) == (chat.worker_id, chat.epoch, 0)
    with pytest.raises(Moved):
        await world.store.commit(fence_of(stepped.chat), ANSWER)
    await world.store.commit(fence_of(after), ANSWER)


async def test_only_a_users_message_of_this_chat_can_be_edited(world: World) -> None:
    other = await world.chat("not here")
    elsewhere = (await world.store.read(other)).messages[0]
    await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
    chat_id = await world.chat("hello")
    finished = await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
    answer = finished.messages[0]
    for message_id, error in ((elsewhere.id, MessageNotFound), (answer.id, MessageNotUser), (2**40, MessageNotFound)):
        with pytest.raises(error):
            await world.store.apply(chat_id, Edit(message_id, text("better")), owner_id=OWNER)
    first = (await world.store.read(chat_id)).messages[0]
    await world.store.apply(chat_id, Edit(first.id, text("better")), owner_id=OWNER)
    with pytest.raises(MessageNotFound):
        await world.store.apply(chat_id, Edit(first.id, text("again")), owner_id=OWNER)


async def test_an_archived_busy_chat_ends_its_work_and_keeps_its_queue(world: World) -> None:
    chat_id = await world.chat()
    await world.send(chat_id, "later")
    archiving = await world.store.apply(chat_id, Archive(), owner_id=OWNER)
    assert archiving.chat.archiving
    chat = (await world.claim()).chat
    archived = await world.store.commit(fence_of(chat), FinishInterruption())
    assert (archived.chat.archived, archived.chat.archiving, archived.chat.worker_id) == (True, False, None)
    assert await world.store.claim(await world.worker(), free_slots=9, batch=9) == ()
    back = await world.store.apply(chat_id, Unarchive(), owner_id=OWNER)
    assert (back.chat.archived, back.chat.status) == (False, Status.WAITING)
    assert len((await world.store.read(chat_id)).queue) == 1


async def test_a_title_is_stored_without_touching_what_fences_a_run(world: World) -> None:
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    renamed = await world.store.apply(chat_id, Rename("a better title"), owner_id=OWNER)
    assert renamed.chat.title == "a better title"
    assert (renamed.chat.history_version, renamed.chat.attempt) == (chat.history_version, chat.attempt)
    await world.store.commit(fence_of(chat), ANSWER)


async def test_the_result_of_a_clients_tool_lets_the_turn_go_on(world: World) -> None:
    """P7: the call is durable before it runs, and of two results the first wins."""
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    calls = (OpenCall("b", "tool", CallState.CLIENT),)
    stepped = await world.store.commit(fence_of(chat), CommitStep((assistant("looking", "a", "b"),), calls))
    waiting = await world.store.commit(fence_of(stepped.chat), CommitStep((result("a"),)))
    assert (waiting.chat.status, waiting.chat.worker_id) == (Status.REQUIRES_ACTION, None)
    submit = SubmitToolResults((ToolResult("b", "42"),))
    outcomes: list[Outcome] = []
    refused: list[CallAnswered] = []

    async def submit_once() -> None:
        try:
            outcomes.append(await world.store.apply(chat_id, submit, owner_id=OWNER))
        except CallAnswered as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(submit_once)
    assert (len(outcomes), len(refused)) == (1, 2)
    assert outcomes[0].chat.claimable


# --- concurrency ------------------------------------------------------------------------------


async def test_8_writers_on_one_chat_advance_its_version_by_exactly_8(world: World) -> None:
    """P1: no write is lost in another."""
    chat_id = await world.chat()
    versions: list[int] = []

    async def write(number: int) -> None:
        versions.append((await world.send(chat_id, f"message {number}")).chat.snapshot_version)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(write, number)
    assert sorted(versions) == list(range(2, 10))
    read = await world.store.read(chat_id)
    assert read.chat.snapshot_version == read.chat.queue_version == 9
    assert len(read.queue) == 8


async def test_of_25_messages_at_once_20_are_queued(world: World) -> None:
    chat_id = await world.chat()
    refused: list[QueueFull] = []

    async def write() -> None:
        try:
            await world.send(chat_id, "hello")
        except QueueFull as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(QUEUE_MESSAGES_MAX + 5):
            nursery.start_soon(write)
    assert len(refused) == 5
    assert len((await world.store.read(chat_id)).queue) == QUEUE_MESSAGES_MAX


async def test_a_read_is_consistent_while_others_write(world: World) -> None:
    """P3: what a reader is shown belongs to one version."""
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    done = trio.Event()

    async def answer() -> None:
        fence = fence_of(chat)
        for _ in range(10):
            stepped = await world.store.commit(fence, CommitStep((assistant("a step"),)))
            await world.send(chat_id, "more")
            fence = fence_of(stepped.chat)
        done.set()

    reads = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        while not done.is_set():
            read = await world.store.read(chat_id)
            assert read.messages[-1].revision == read.chat.history_version
            assert len(read.messages) + len(read.queue) == read.chat.snapshot_version - 1
            reads += 1
    assert reads > 1


# --- reads ------------------------------------------------------------------------------------


async def test_a_read_after_a_version_has_the_messages_that_are_newer_and_the_whole_queue(world: World) -> None:
    chat_id = await world.chat("hello")
    chat = (await world.claim()).chat
    await world.queue(chat_id, "later")
    stepped = await world.store.commit(fence_of(chat), CommitStep((assistant("a step"),)))
    read = await world.store.read(chat_id, after_version=chat.history_version)
    assert read.messages == stepped.messages
    assert len(read.queue) == 1
    assert read.chat == stepped.chat
    later = await world.store.read(chat_id, after_version=stepped.chat.history_version)
    assert (later.messages, later.queue) == ((), read.queue)


async def test_messages_can_be_read_in_pages_within_bounds_of_versions(world: World) -> None:
    chat_id = await world.chat("1", "2", "3")
    chat = (await world.claim()).chat
    second = (await world.store.commit(fence_of(chat), CommitStep((assistant("4"),)))).chat
    third = (await world.store.commit(fence_of(second), CommitStep((assistant("5"),)))).chat

    async def page(after_version: int, after_id: int, up_to_version: int, limit: int = 10) -> list[str]:
        page = await world.store.read_messages(
            chat_id,
            after_version=after_version,
            after_id=after_id,
            up_to_version=up_to_version,
            limit=limit,
            bytes_max=PAGE_BYTES,
        )
        assert (page.next_revision is not None) == (limit == 2)
        return texts(page.messages)

    ids = [message.id for message in (await world.store.read(chat_id)).messages]
    assert await page(0, 0, third.history_version) == ["1", "2", "3", "4", "5"]
    assert await page(0, 0, second.history_version, limit=2) == ["1", "2"]
    assert await page(0, ids[1], second.history_version) == ["3", "4"]
    assert await page(chat.history_version, 0, third.history_version) == ["4", "5"]
    assert await page(third.history_version, 0, third.history_version) == []


async def test_history_is_listed_in_pages_with_the_queue(world: World) -> None:
    chat_id = await world.chat("1", "2", "3")
    queued = await world.queue(chat_id, "later")

    async def page(after: int, limit: int) -> MessagePage:
        return await world.store.list_messages(chat_id, owner_id=OWNER, after=after, limit=limit, bytes_max=PAGE_BYTES)

    first = await page(0, 2)
    assert (texts(first.messages), first.queue, first.has_more) == (["1", "2"], (queued,), True)
    second = await page(first.messages[-1].id, 2)
    assert (texts(second.messages), second.has_more) == (["3"], False)
    assert not (await page(0, 3)).has_more
    assert await page(2**63 - 1, 3) == MessagePage((), (queued,), has_more=False)


async def test_p10_a_page_of_history_is_bounded_in_bytes_and_a_larger_message_comes_alone(world: World) -> None:
    """As it is listed, and as readers and feeds catch up: each message once, in order, whatever their sizes."""
    words = ["a", "b" * 500, "c" * 100, "d" * 5000, "e", "\U0001f600" * 200, "f"]
    chat_id = await world.chat(*words)
    chat = (await world.claim()).chat
    version = (await world.store.commit(fence_of(chat), CommitStep((assistant("g"), assistant("h"))))).chat

    async def listed(after: int) -> tuple[tuple[Message, ...], bool]:
        page = await world.store.list_messages(chat_id, owner_id=OWNER, after=after, limit=9, bytes_max=800)
        return page.messages, page.has_more

    async def caught_up(after: int) -> tuple[tuple[Message, ...], bool]:
        page = await world.store.read_messages(
            chat_id, after_version=0, after_id=after, up_to_version=version.history_version, limit=9, bytes_max=800
        )
        return page.messages, page.next_revision is not None

    async def newer(after: int) -> tuple[tuple[Message, ...], bool]:
        read = await world.store.read_newer(
            chat_id, after_version=0, after_id=after, queue_version=-1, limit=9, bytes_max=800
        )
        assert read.chat == version
        return read.messages, read.next_revision is not None

    for read in (listed, caught_up, newer):
        pages, after, has_more = list[list[str]](), 0, True
        while has_more:
            messages, has_more = await read(after)
            pages.append(texts(messages))
            after = messages[-1].id
        assert [words for page in pages for words in page] == [*words, "g", "h"]
        for page, following in pairwise(pages):
            size = sum(len(word.encode()) + 30 for word in page)
            assert len(page) == 1 or size <= 800
            assert size + len(following[0].encode()) + 30 > 800, f"as much as fits: {page}"


async def test_what_is_newer_comes_with_the_revision_of_what_did_not_fit_and_a_queue_that_moved(world: World) -> None:
    chat_id = await world.chat("1", "2")
    chat = (await world.claim()).chat
    queued = await world.queue(chat_id, "later")
    step = (await world.store.commit(fence_of(chat), CommitStep((assistant("3"),)))).chat

    async def read(after_version: int, after_id: int, queue_version: int, limit: int) -> ChatRead:
        return await world.store.read_newer(
            chat_id,
            after_version=after_version,
            after_id=after_id,
            queue_version=queue_version,
            limit=limit,
            bytes_max=PAGE_BYTES,
        )

    first = await read(0, 0, -1, 1)
    assert (texts(first.messages), first.next_revision, first.queue) == (["1"], chat.history_version, (queued,))
    second = await read(0, first.messages[-1].id, step.queue_version, 1)
    assert (texts(second.messages), second.next_revision, second.queue) == (["2"], step.history_version, ())
    third = await read(chat.history_version, 0, step.queue_version - 1, 1)
    assert (texts(third.messages), third.next_revision, third.queue) == (["3"], None, (queued,))
    nothing = await read(step.snapshot_version, 0, step.queue_version, 1)
    assert (nothing.chat, nothing.messages, nothing.next_revision) == (step, (), None)
    with pytest.raises(ChatNotFound):
        await world.store.read_newer(uuid4(), after_version=0, after_id=0, queue_version=-1, limit=1, bytes_max=1)


async def test_a_short_history_comes_whole_and_of_a_longer_one_nothing_but_the_state(world: World) -> None:
    """P10: who asks for a chat gets no page that has to be read again, and no message that is large."""
    chat_id = await world.chat("1", "2")
    chat = (await world.claim()).chat
    await world.store.commit(fence_of(chat), FinishTurn((assistant("3"),)))

    async def read() -> ChatRead:
        place = {"after_version": 0, "after_id": 0, "queue_version": -1, "turns_after": 0}
        return await world.store.read_newer(chat_id, **place, limit=8, bytes_max=8 << 10, if_whole=True)

    whole = await read()
    assert (texts(whole.messages), whole.next_revision) == (["1", "2", "3"], None)
    assert [turn.outcome for turn in whole.turns] == ["finished"]
    await world.send(chat_id, "x" * 20_000)
    state = await read()
    assert (state.messages, state.turns, state.next_revision) == ((), (), 0)
    assert state.chat.snapshot_version > whole.chat.snapshot_version


async def test_chats_are_listed_newest_first_in_pages_and_only_to_their_owner(world: World) -> None:
    """P9"""
    chat_ids = [await world.chat() for _ in range(5)]
    foreign = await world.chat(owner_id=STRANGER)
    worker = await world.worker()
    for claimed in await world.store.claim(worker, free_slots=9, batch=9):
        await world.store.commit(fence_of(claimed.chat), ANSWER)
    await world.store.apply(chat_ids[2], Archive(), owner_id=OWNER)

    async def page(archived: bool | None, limit: int, after: UUID | None) -> list[UUID]:
        chats = await world.store.list_chats(OWNER, archived=archived, limit=limit, after=after)
        return [chat.id for chat in chats]

    newest = chat_ids[::-1]
    assert await page(None, 2, None) == newest[:2]
    assert await page(None, 9, newest[1]) == newest[2:]
    assert await page(None, 9, newest[-1]) == []
    assert await page(True, 9, None) == [chat_ids[2]]
    assert await page(False, 2, newest[1]) == [chat_ids[1], chat_ids[0]]
    for unknown in (uuid4(), foreign):
        with pytest.raises(ChatNotFound):
            await page(None, 9, unknown)


async def test_what_changed_lately_is_listed_of_all_chats_of_some_owners(world: World) -> None:
    """P9: and of nobody else's. The earliest change comes first, whatever the age of its chat."""
    old, new = await world.chat(), await world.chat()
    foreign, unasked = await world.chat(owner_id=STRANGER), await world.chat(owner_id=uuid4())
    await world.send(old, "later")

    async def changed(
        *owner_ids: UUID,
        seconds: float = 60.0,
        as_of: datetime | None = None,
        after: Chat | None = None,
        limit: int = 9,
    ) -> list[Chat]:
        asked = {"seconds": seconds, "as_of": as_of, "after": after, "limit": limit}
        return list((await world.store.list_changed(owner_ids, **asked)).chats)  # type: ignore[arg-type]

    def ids(chats: list[Chat]) -> list[UUID]:
        return [chat.id for chat in chats]

    assert set(ids(await changed(OWNER, STRANGER, uuid4()))) == {old, new, foreign}
    assert unasked not in ids(await changed(OWNER, STRANGER))
    assert await changed(OWNER, seconds=0.0) == []
    assert await changed() == []
    first = await changed(OWNER, limit=1)
    rest = await changed(OWNER, after=first[0])
    assert {*ids(first), *ids(rest)} == {old, new}
    assert len(first) == len(rest) == 1
    assert await changed(OWNER, after=rest[0]) == []


@pytest.mark.parametrize("step_seconds", [-3600.0, 3600.0])
async def test_a_clock_that_was_set_hides_no_change(world: World, step_seconds: float) -> None:
    """The database's clock was another one at the last look: the earlier of the two times counts."""
    chat = await world.chat()
    now = (await world.store.list_changed([OWNER], seconds=60.0, as_of=None, after=None, limit=9)).as_of
    then = now + timedelta(seconds=step_seconds)
    changes = await world.store.list_changed([OWNER], seconds=60.0, as_of=then, after=None, limit=9)
    assert [chat.id for chat in changes.chats] == [chat]
    assert changes.as_of >= now


async def test_versions_are_those_of_the_chats_that_exist(world: World) -> None:
    one, other = await world.chat(), await world.chat()
    await world.send(other, "later")
    versions = await world.store.versions([one, other, uuid4()])
    assert versions == {chat: Version.of(await world.store.get(chat)) for chat in (one, other)}
    assert [versions[chat].snapshot_version for chat in (one, other)] == [1, 2]
    assert await world.store.versions([]) == {}
