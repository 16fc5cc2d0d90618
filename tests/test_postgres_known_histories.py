"""What a store wrote or read of a history saves the read after a claim, and is never another than the database's."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from chat_states import assistant, text, user
from contract_worlds import OWNER, fence_of, texts

from chatcluster.chat import Edit, FinishTurn, Interrupt, Rename, Send
from chatcluster.config import Settings
from chatcluster.ports import Chat, HistoryPage, Idempotency, NewChat, Replica
from chatcluster.postgres import Connection, Database, open_database
from chatcluster.postgres.known_histories import HISTORY_BYTES_MAX, TOTAL_BYTES_MAX, KnownHistories
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres

ANSWER = FinishTurn((assistant("the answer"),))


@pytest.fixture
def store(database: Database) -> PostgresStore:
    return PostgresStore(database)


@pytest.fixture
def other(database: Database) -> PostgresStore:
    """Another replica's."""
    return PostgresStore(database)


@pytest.fixture
async def worker_id(database: Database) -> UUID:
    worker_id = uuid4()
    await PostgresRegistry(database).register(Replica(worker_id, "replica", "host:8100", "1", slots=4))
    return worker_id


async def create(store: PostgresStore) -> Chat:
    return (await store.create(NewChat(uuid4(), OWNER, "", None, (user("hello"),)))).chat


async def claim(store: PostgresStore, worker_id: UUID) -> Chat:
    (claimed,) = await store.claim(worker_id, free_slots=1, batch=1)
    return claimed.chat


async def read(store: PostgresStore, chat: Chat) -> HistoryPage:
    return await store.read_history(chat.id, after=0, page_bytes=1 << 20, message_bytes_max=1 << 20)


async def rest(store: PostgresStore, worker_id: UUID) -> Chat:
    """A chat that has had its first turn."""
    await create(store)
    chat = await claim(store, worker_id)
    await read(store, chat)
    return (await store.commit(fence_of(chat), ANSWER, known=chat)).chat


async def reads(database: Database, store: PostgresStore, chat: Chat) -> tuple[bool, list[str]]:
    """Whether it took the database to read the history, and what it says."""
    before = database.transaction_counts["read_history"]
    page = await read(store, chat)
    fresh = await read(PostgresStore(database), chat)
    assert (page.history_version, page.messages) == (fresh.history_version, fresh.messages)
    return database.transaction_counts["read_history"] - before > 1, texts(page.messages)


async def test_a_chat_that_was_made_here_is_not_read(database: Database, store: PostgresStore, worker_id: UUID) -> None:
    await create(store)
    assert await reads(database, store, await claim(store, worker_id)) == (False, ["hello"])


@pytest.mark.parametrize("key", [None, Idempotency("key", b"digest")], ids=["plain", "with a key"])
async def test_a_chat_whose_last_turn_and_next_message_were_had_here_is_not_read(
    database: Database, store: PostgresStore, worker_id: UUID, key: Idempotency | None
) -> None:
    chat = await rest(store, worker_id)
    await store.apply(chat.id, Rename("another title"), owner_id=OWNER)
    await store.apply(chat.id, Send(text("and?")), owner_id=OWNER, idempotency=key)
    claimed = await claim(store, worker_id)
    assert await reads(database, store, claimed) == (False, ["hello", "the answer", "and?"])


async def test_what_was_read_is_known_at_the_next_turn(
    database: Database, store: PostgresStore, other: PostgresStore, worker_id: UUID
) -> None:
    chat = await rest(other, worker_id)
    for number, is_read in (("second", True), ("third", False)):
        await store.apply(chat.id, Send(text(number)), owner_id=OWNER)
        chat = await claim(store, worker_id)
        assert (await reads(database, store, chat))[0] is is_read
        chat = (await store.commit(fence_of(chat), ANSWER, known=chat)).chat


async def test_it_is_given_out_once(database: Database, store: PostgresStore, worker_id: UUID) -> None:
    """Whoever reads again does so because the chat has moved."""
    await create(store)
    chat = await claim(store, worker_id)
    assert not (await reads(database, store, chat))[0]
    assert (await reads(database, store, chat))[0]


async def test_what_another_replica_wrote_is_read(
    database: Database, store: PostgresStore, other: PostgresStore, worker_id: UUID
) -> None:
    """P1: the model is asked about the history that there is."""
    chat = await rest(store, worker_id)
    await other.apply(chat.id, Send(text("there")), owner_id=OWNER)
    assert await reads(database, store, await claim(store, worker_id)) == (True, ["hello", "the answer", "there"])


async def test_a_turn_of_another_replica_in_between_is_read(
    database: Database, store: PostgresStore, other: PostgresStore, worker_id: UUID
) -> None:
    chat = await rest(store, worker_id)
    await store.apply(chat.id, Send(text("second")), owner_id=OWNER)
    chat = await claim(other, worker_id)
    await other.commit(fence_of(chat), ANSWER, known=chat)
    await store.apply(chat.id, Send(text("third")), owner_id=OWNER)
    taken, found = await reads(database, store, await claim(store, worker_id))
    assert taken
    assert found == ["hello", "the answer", "second", "the answer", "third"]


async def test_a_history_that_was_rewritten_is_read(database: Database, store: PostgresStore, worker_id: UUID) -> None:
    chat = await rest(store, worker_id)
    first = (await store.read(chat.id)).messages[0]
    await store.apply(chat.id, Edit(first.id, text("hello again")), owner_id=OWNER)
    assert await reads(database, store, await claim(store, worker_id)) == (True, ["hello again"])


async def test_an_interrupt_before_the_read_changes_nothing_of_it(
    database: Database, store: PostgresStore, worker_id: UUID
) -> None:
    await create(store)
    chat = await claim(store, worker_id)
    await store.apply(chat.id, Interrupt(), owner_id=OWNER)
    assert (await reads(database, store, chat))[1] == ["hello"]


async def test_after_a_failover_everything_is_read(
    database_url: str, database: Database, store: PostgresStore, worker_id: UUID
) -> None:
    """P1: the server that took over has lost the last message, and gives its version to another one."""
    chat = await rest(store, worker_id)
    await store.apply(chat.id, Send(text("lost")), owner_id=OWNER)

    async def lose(connection: Connection) -> None:
        await connection.execute(
            "UPDATE messages SET content = json_build_array(json_build_object("
            "'type', 'text', 'text', 'another')) WHERE content::text LIKE '%lost%'"
        )
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database() AND application_name LIKE '%transactions'"
        )

    async with open_database(Settings.of(database_url=database_url)) as elsewhere:
        session = elsewhere.session("observer")
        await session.run(lose)
        await session.aclose()
    assert await reads(database, store, await claim(store, worker_id)) == (True, ["hello", "the answer", "another"])


async def test_behind_a_pooler_everything_is_read(database_url: str, worker_id: UUID) -> None:
    """It hides from us that its server is another one."""
    async with open_database(Settings.of(database_url=database_url, database_direct_url="off")) as pooled:
        store = PostgresStore(pooled)
        await create(store)
        assert (await reads(pooled, store, await claim(store, worker_id)))[0]


def test_what_is_kept_is_bounded() -> None:
    known = KnownHistories()
    known.keep(uuid4(), HistoryPage(1, (), HISTORY_BYTES_MAX + 1, has_more=False), 1)
    known.keep(uuid4(), HistoryPage(1, (), 10, has_more=True), 1)
    assert repr(known) == "<KnownHistories 0 of 0 bytes>"
    for _ in range(TOTAL_BYTES_MAX // HISTORY_BYTES_MAX + 10):
        known.keep(uuid4(), HistoryPage(1, (), HISTORY_BYTES_MAX, has_more=False), 1)
    assert repr(known) == f"<KnownHistories {TOTAL_BYTES_MAX // HISTORY_BYTES_MAX} of {TOTAL_BYTES_MAX} bytes>"
