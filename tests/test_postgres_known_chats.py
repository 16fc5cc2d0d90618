"""What an owner knows of its chat saves statements and never decides: the row does, whatever became of it meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID, uuid4

import asyncpg
import pytest
import trio
from chat_states import assistant, text, user
from contract_worlds import OWNER, fence_of, texts
from postgres_sessions import LossyLink, execute, wait_blocked

from chatcluster.chat import (
    Busy,
    CommitStep,
    FinishTurn,
    OwnerCommand,
    Retry,
    ScheduleRetry,
    Send,
    StartAttempt,
    Status,
)
from chatcluster.config import Settings
from chatcluster.errors import ChatArchived, Fenced, Moved, StoreUnavailable
from chatcluster.ports import Chat, Idempotency, NewChat, Replica
from chatcluster.postgres import Database, Session, open_database
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres

ANSWER = FinishTurn((assistant("the answer"),))
RETRY = ScheduleRetry(Retry(attempt=1, delay_ms=1000, error="busy", kind="overloaded"))
ARCHIVE = "UPDATE chats SET archived = true, snapshot_version = snapshot_version + 1 WHERE id = $1"
INTERRUPT = "UPDATE chats SET status = 'interrupting', snapshot_version = snapshot_version + 1 WHERE id = $1"


@pytest.fixture
def store(database: Database) -> PostgresStore:
    return PostgresStore(database)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements of the pool's connections, as they are made."""
    made: list[str] = []
    for name in ("execute", "fetch", "fetchrow", "fetchval"):
        original = getattr(asyncpg.Connection, name)

        monkeypatch.setattr(asyncpg.Connection, name, recording(original, made))
    return made


def recording(original: Callable[..., Awaitable[object]], made: list[str]) -> Callable[..., Awaitable[object]]:
    async def record(self: object, query: str, *args: object, **options: object) -> object:
        made.append(query)
        return await original(self, query, *args, **options)

    return record


async def register(database: Database) -> UUID:
    worker_id = uuid4()
    await PostgresRegistry(database).register(Replica(worker_id, "replica", "host:8100", "1", slots=4))
    return worker_id


async def create(store: PostgresStore, word: str = "hello") -> Chat:
    return (await store.create(NewChat(uuid4(), OWNER, "", None, (user(word),)))).chat


async def own(database: Database, store: PostgresStore) -> Chat:
    """A chat that has just been claimed."""
    await create(store)
    (claimed,) = await store.claim(await register(database), free_slots=1, batch=1)
    return claimed.chat


# --- statements -------------------------------------------------------------------------------


async def test_a_claim_is_one_statement_however_many_it_takes(
    database: Database, store: PostgresStore, statements: list[str]
) -> None:
    worker_id = await register(database)
    for word in ("first", "second"):
        await create(store, word)
    statements.clear()
    claimed = await store.claim(worker_id, free_slots=10, batch=10)
    assert len(claimed) == 2
    assert len(statements) == 1
    assert "messages" not in statements[0], "no history is read"


async def test_short_histories_that_are_read_at_the_same_moment_are_read_by_one_statement(
    store: PostgresStore, statements: list[str]
) -> None:
    chats = [await create(store, word) for word in ("first", "second", "third")]
    read: dict[UUID, list[str]] = {}

    async def read_history(chat_id: UUID) -> None:
        page = await store.read_history(chat_id, after=0, page_bytes=1 << 20, message_bytes_max=1 << 20)
        read[chat_id] = texts(page.messages)

    statements.clear()
    async with trio.open_nursery() as nursery:
        for chat in chats:
            nursery.start_soon(read_history, chat.id)
    assert [read[chat.id] for chat in chats] == [["first"], ["second"], ["third"]]
    assert len(statements) == 1


@pytest.mark.parametrize(
    "command", [ANSWER, FinishTurn(), CommitStep((assistant("a step"),)), RETRY], ids=["answer", "end", "step", "retry"]
)
async def test_a_plain_commit_on_a_chat_that_is_as_it_is_known_is_one_statement(
    database: Database, store: PostgresStore, statements: list[str], command: OwnerCommand
) -> None:
    chat = await own(database, store)
    statements.clear()
    outcome = await store.commit(fence_of(chat), command, known=chat)
    assert len(statements) == 1
    read = await store.read(chat.id)
    assert outcome.chat == read.chat
    assert outcome.messages == read.messages[1:]


async def test_commits_that_follow_each_other_each_know_the_chat(
    database: Database, store: PostgresStore, statements: list[str]
) -> None:
    chat = await own(database, store)
    statements.clear()
    for command in (RETRY, StartAttempt(2), CommitStep((assistant("a step"),)), FinishTurn()):
        chat = (await store.commit(fence_of(chat), command, known=chat)).chat
    assert len(statements) == 4
    assert chat == await store.get(chat.id)


# --- a chat that is not as it is known --------------------------------------------------------


async def test_a_message_that_was_queued_meanwhile_is_promoted(database: Database, store: PostgresStore) -> None:
    """P1"""
    chat = await own(database, store)
    await store.apply(chat.id, Send(text("next")), owner_id=OWNER)
    outcome = await store.commit(fence_of(chat), ANSWER, known=chat)
    assert texts(outcome.messages) == ["the answer", "next"]
    assert outcome.chat.status is Status.RUNNING


async def test_calls_that_are_open_get_their_results(database: Database, store: PostgresStore) -> None:
    """P7: each call has exactly one result, also where the owner says nothing of it."""
    chat = await own(database, store)
    asked = await store.commit(fence_of(chat), CommitStep((assistant("looking", "call"),)), known=chat)
    outcome = await store.commit(fence_of(asked.chat), FinishTurn(), known=asked.chat)
    assert [message.role for message in outcome.messages] == ["tool"]


async def test_an_interrupt_that_came_meanwhile_moves_the_chat(database: Database, store: PostgresStore) -> None:
    """P5"""
    chat = await own(database, store)
    await store.apply(chat.id, Send(text("stop"), Busy.INTERRUPT), owner_id=OWNER)
    with pytest.raises(Moved):
        await store.commit(fence_of(chat), ANSWER, known=chat)
    assert texts((await store.read(chat.id)).messages) == ["hello"]


async def test_a_tenure_that_is_over_is_fenced_whatever_it_knows(database: Database, store: PostgresStore) -> None:
    """P2"""
    chat = await own(database, store)
    assert chat.worker_id is not None
    await PostgresRegistry(database).bury(chat.worker_id, None)
    with pytest.raises(Fenced):
        await store.commit(fence_of(chat), ANSWER, known=chat)
    assert texts((await store.read(chat.id)).messages) == ["hello"]


async def test_a_commit_that_waited_for_another_transition_does_not_go_by_what_it_knew(
    database: Database, store: PostgresStore, observer: Session, other: Session
) -> None:
    """P1, P2: the row is changed by somebody else while the one statement waits for it."""
    chat = await own(database, store)

    async def commit() -> None:
        with pytest.raises(Moved):
            await store.commit(fence_of(chat), ANSWER, known=chat)

    async with trio.open_nursery() as nursery:
        await execute(other, "BEGIN")
        await execute(other, INTERRUPT, chat.id)
        nursery.start_soon(commit)
        await wait_blocked(observer)
        await execute(other, "COMMIT")
    assert texts((await store.read(chat.id)).messages) == ["hello"]


@pytest.mark.parametrize("delivered", [True, False], ids=["committed", "not committed"])
async def test_a_commit_of_one_statement_that_lost_its_answer_is_not_done_twice(
    database_url: str, database: Database, store: PostgresStore, delivered: bool
) -> None:
    """P1: the repeat finds that the chat is not as it is known, and recognises what the first one did."""
    chat = await own(database, store)
    link = LossyLink(database_url)
    async with link.listening() as url, open_database(Settings.of(database_url=url)) as lossy:
        await PostgresStore(lossy).get(chat.id)
        link.break_at("the answer", delivered=delivered)
        outcome = await PostgresStore(lossy).commit(fence_of(chat), ANSWER, known=chat)
        assert link.broke
    read = await store.read(chat.id)
    assert outcome.replayed is delivered
    assert texts(read.messages) == ["hello", "the answer"]
    assert outcome.messages == read.messages[1:]


async def test_a_claim_does_not_wait_for_the_row_of_its_own_replica(
    database: Database, store: PostgresStore, other: Session
) -> None:
    """P10: a burial has it, or somebody else. Nothing is claimed, and nothing is held meanwhile."""
    worker_id = await register(database)
    chat = await create(store)
    await execute(other, "BEGIN")
    await execute(other, "SELECT FROM replicas WHERE worker_id = $1 FOR UPDATE", worker_id)
    assert await store.claim(worker_id, free_slots=10, batch=10) == ()
    await execute(other, "ROLLBACK")
    assert [claimed.chat.id for claimed in await store.claim(worker_id, free_slots=10, batch=10)] == [chat.id]


# --- a user's message to a chat at rest -------------------------------------------------------


async def rest(database: Database, store: PostgresStore) -> Chat:
    chat = await own(database, store)
    return (await store.commit(fence_of(chat), ANSWER, known=chat)).chat


async def test_a_message_to_a_chat_at_rest_is_a_look_and_one_statement(
    database: Database, store: PostgresStore, statements: list[str]
) -> None:
    chat = await rest(database, store)
    statements.clear()
    outcome = await store.apply(chat.id, Send(text("and?")), owner_id=OWNER)
    assert len(statements) == 2
    read = await store.read(chat.id)
    assert outcome.chat == read.chat
    assert outcome.messages == read.messages[2:]


async def test_a_message_that_claims_its_chat_is_a_look_and_one_statement(
    database: Database, store: PostgresStore, statements: list[str]
) -> None:
    worker_id = await register(database)
    chat = await rest(database, store)
    statements.clear()
    outcome = await store.apply(chat.id, Send(text("and?")), owner_id=OWNER, claimer=worker_id)
    assert outcome.chat.worker_id == worker_id
    assert texts((await store.read_history(chat.id, after=0, page_bytes=1 << 20, message_bytes_max=1 << 20)).messages)
    assert len(statements) == 2, "the history is known here"
    await store.commit(fence_of(outcome.chat), ANSWER, known=outcome.chat)
    statements.clear()
    elsewhere = PostgresStore(database)
    outcome = await elsewhere.apply(chat.id, Send(text("so?")), owner_id=OWNER, claimer=worker_id)
    page = await elsewhere.read_history(chat.id, after=0, page_bytes=1 << 20, message_bytes_max=1 << 20)
    assert texts(page.messages) == ["hello", "the answer", "and?", "the answer", "so?"]
    assert len(statements) == 3, "a short history that is not known is read with it"


async def test_a_message_waits_for_the_row_of_its_chat_and_not_with_that_of_the_replica(
    database: Database, store: PostgresStore, observer: Session, other: Session
) -> None:
    """P4: or nobody could bury the replica meanwhile."""
    chat, worker_id = await rest(database, store), await register(database)
    async with trio.open_nursery() as nursery:
        await execute(other, "BEGIN")
        await execute(other, "UPDATE chats SET title = 'other' WHERE id = $1", chat.id)
        nursery.start_soon(partial(store.apply, chat.id, Send(text("and?")), owner_id=OWNER, claimer=worker_id))
        await wait_blocked(observer)
        await execute(observer, "SELECT FROM replicas WHERE worker_id = $1 FOR UPDATE NOWAIT", worker_id)
        await execute(other, "COMMIT")
    assert texts((await store.read(chat.id)).messages) == ["hello", "the answer", "and?"]


async def test_a_message_is_stored_where_its_chat_cannot_be_claimed(
    database: Database, store: PostgresStore, other: Session
) -> None:
    """P10: the claim that comes after it ends the chat in an error, and no other one."""
    chat, worker_id = await rest(database, store), await register(database)
    await execute(
        other,
        """
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF new.worker_id IS NOT NULL THEN
                RAISE EXCEPTION 'missing chunk number 0 for toast value' USING errcode = 'data_corrupted';
            END IF;
            RETURN new;
        END $$;
        """,
    )
    await execute(other, "CREATE TRIGGER fail BEFORE UPDATE ON chats FOR EACH ROW EXECUTE FUNCTION fail()")
    for key in (None, Idempotency("key", b"")):
        outcome = await store.apply(chat.id, Send(text("and?")), owner_id=OWNER, idempotency=key, claimer=worker_id)
        assert (outcome.claimed, outcome.chat.claimable) == (None, True)
        assert await store.claim(worker_id, free_slots=1, batch=1) == ()
        assert (await store.get(chat.id)).status is Status.ERROR
        await execute(other, "UPDATE chats SET status = 'waiting', last_error = null WHERE id = $1", chat.id)


async def test_a_message_that_waited_for_another_transition_does_not_go_by_what_it_saw(
    database: Database, store: PostgresStore, observer: Session, other: Session
) -> None:
    """P1: the row is changed by somebody else while the one statement waits for it."""
    chat = await rest(database, store)

    async def send() -> None:
        with pytest.raises(ChatArchived):
            await store.apply(chat.id, Send(text("and?")), owner_id=OWNER)

    async with trio.open_nursery() as nursery:
        await execute(other, "BEGIN")
        await execute(other, ARCHIVE, chat.id)
        nursery.start_soon(send)
        await wait_blocked(observer)
        await execute(other, "COMMIT")
    assert texts((await store.read(chat.id)).messages) == ["hello", "the answer"]


@pytest.mark.parametrize("delivered", [True, False], ids=["committed", "not committed"])
async def test_a_message_that_lost_its_answer_is_not_sent_twice(
    database_url: str, database: Database, store: PostgresStore, delivered: bool
) -> None:
    """P1: only the look is repeated on another connection; what became of the rest is the caller's to find out."""
    chat = await rest(database, store)
    link = LossyLink(database_url)
    async with link.listening() as url, open_database(Settings.of(database_url=url)) as lossy:
        await PostgresStore(lossy).get(chat.id)
        link.break_at("the words", delivered=delivered)
        with pytest.raises(StoreUnavailable):
            await PostgresStore(lossy).apply(chat.id, Send(text("the words")), owner_id=OWNER)
        assert link.broke
    assert texts((await store.read(chat.id)).messages) == ["hello", "the answer", *["the words"] * delivered]
