"""What only Postgres has: locks in their order, transactions that wait for each other, commits without an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from chat_states import assistant, text, user
from contract_worlds import OWNER, PAGE_BYTES, fence_of, texts
from postgres_sessions import LossyLink, execute, fetch, fetchval, wait_blocked

from chatcluster.chat import (
    Approve,
    CallState,
    CommitStep,
    DeleteQueued,
    FinishTurn,
    Interrupt,
    OpenCall,
    Send,
    Status,
)
from chatcluster.config import Settings
from chatcluster.errors import IdempotencyKeyReused, Moved, QueueFull, StoreFailed, StoreLocked, StoreUnavailable
from chatcluster.parts import text_of
from chatcluster.ports import Burial, Chat, Claimed, Idempotency, NewChat, Outcome, Replica
from chatcluster.postgres import Connection, Database, Session, open_database
from chatcluster.postgres.accounts import PostgresAccounts
from chatcluster.postgres.claims import Place
from chatcluster.postgres.creation import create_at_once, create_chat
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres

ANSWER = FinishTurn((assistant("the answer"),))


async def create(database: Database, *words: str) -> Chat:
    messages = tuple(user(word) for word in words or ("hello",))
    return (await PostgresStore(database).create(NewChat(uuid4(), OWNER, "", None, messages))).chat


async def register(database: Database) -> UUID:
    worker_id = uuid4()
    await PostgresRegistry(database).register(Replica(worker_id, "replica", "host:8100", "1", slots=4))
    return worker_id


async def claim(database: Database, worker_id: UUID | None = None) -> tuple[Claimed, ...]:
    return await PostgresStore(database).claim(worker_id or await register(database), free_slots=10, batch=10)


@asynccontextmanager
async def holding(session: Session, statement: str, *arguments: object) -> AsyncIterator[None]:
    """A transaction that has executed ``statement`` is open within the block, and committed at its end."""
    await execute(session, "BEGIN")
    await execute(session, statement, *arguments)
    yield
    await execute(session, "COMMIT")


LOCK_CHAT = "SELECT FROM chats WHERE id = $1 FOR UPDATE"


# --- locks ------------------------------------------------------------------------------------


async def test_who_waited_for_the_lock_decides_on_what_it_protects_and_not_on_what_was(
    database: Database, observer: Session, other: Session
) -> None:
    """A statement that waits for a row sees the other tables as they were before it waited. P1 hangs on that."""
    chat = await create(database)
    store = PostgresStore(database)
    for number in range(19):
        await store.apply(chat.id, Send(text(f"{number}")), owner_id=OWNER)

    async with trio.open_nursery() as nursery:

        async def send_one_too_many() -> None:
            with pytest.raises(QueueFull):
                await store.apply(chat.id, Send(text("one too many")), owner_id=OWNER)

        await execute(other, "BEGIN")
        await execute(other, LOCK_CHAT, chat.id)
        nursery.start_soon(send_one_too_many)
        await wait_blocked(observer)
        await execute(other, "INSERT INTO queued_messages (chat_id, position, content) VALUES ($1, 100, '[]')", chat.id)
        await execute(other, "UPDATE chats SET queue_length = 20, queue_version = snapshot_version")
        await execute(other, "COMMIT")
    assert len((await store.read(chat.id)).queue) == 20


async def test_transitions_of_one_chat_wait_for_each_other_and_others_do_not(
    database: Database, observer: Session, other: Session
) -> None:
    chat, neighbour = await create(database), await create(database)
    store = PostgresStore(database)
    async with trio.open_nursery() as nursery, holding(other, LOCK_CHAT, chat.id):
        nursery.start_soon(lambda: store.apply(chat.id, Send(text("waits")), owner_id=OWNER))
        await wait_blocked(observer)
        sent = await store.apply(neighbour.id, Send(text("does not")), owner_id=OWNER)
        assert sent.queued is not None
        assert (await store.read(chat.id)).queue == ()
    assert len((await store.read(chat.id)).queue) == 1


async def test_a_row_that_somebody_holds_delays_its_chat_and_nobody_else(
    database_url: str, observer: Session, other: Session
) -> None:
    """P10: however many requests there are on that chat, it has two of the pool's connections."""
    async with open_database(Settings.of(database_url=database_url)) as database:
        held, free = await create(database), await create(database)
        store = PostgresStore(database)
        refused = trio.Event()

        async def send() -> None:
            with pytest.raises(StoreLocked):
                await store.apply(held.id, Send(text("waits")), owner_id=OWNER)
            refused.set()

        async with trio.open_nursery() as nursery, holding(other, LOCK_CHAT, held.id):
            for _ in range(30):
                nursery.start_soon(send)
            await wait_blocked(observer, 2)
            assert repr(database) == "<Database 2 of 10 busy, 0 idle>"
            await store.apply(free.id, Send(text("does not")), owner_id=OWNER)
            assert [claimed.chat.id for claimed in await claim(database)] == [free.id]
            await store.list_chats(OWNER, archived=None, limit=10, after=None)
            await refused.wait()
            nursery.cancel_scope.cancel()
        assert (await store.read(held.id)).queue == ()


async def test_a_token_whose_row_somebody_holds_lets_in(database: Database, observer: Session, other: Session) -> None:
    """P10: when it was last used is not worth a wait."""
    accounts = PostgresAccounts(database)
    account = await accounts.ensure_user("alice", admin=False)
    await accounts.add_token(account.user_id, token_id="one", name="", secret_digest=b"d" * 32, expires_at=None)
    async with holding(other, "SELECT FROM tokens FOR UPDATE"):
        found = await accounts.authenticate("one", b"d" * 32)
        assert found is not None
        assert found.user_id == account.user_id
    assert await fetchval(observer, "SELECT last_used_at FROM tokens") is None
    await accounts.authenticate("one", b"d" * 32)
    assert await fetchval(observer, "SELECT last_used_at FROM tokens") is not None


async def test_a_claim_passes_over_chats_that_somebody_works_on(database: Database, other: Session) -> None:
    """P4: one stuck transaction holds up one chat, not the claims."""
    stuck, free = await create(database), await create(database)
    async with holding(other, LOCK_CHAT, stuck.id):
        assert [claimed.chat.id for claimed in await claim(database)] == [free.id]
    assert [claimed.chat.id for claimed in await claim(database)] == [stuck.id]


async def test_a_claim_that_meets_the_burial_of_its_worker_takes_nothing(database: Database, other: Session) -> None:
    """P4, P10: no chat gets an owner that everybody knows to be dead, and nobody waits to find that out."""
    chat = await create(database)
    worker_id = await register(database)
    async with holding(other, "DELETE FROM replicas WHERE worker_id = $1", worker_id):
        assert await claim(database, worker_id) == ()
    assert (await PostgresStore(database).get(chat.id)).worker_id is None


async def test_a_burial_that_meets_a_claim_of_its_worker_frees_what_it_took(
    database: Database, observer: Session, other: Session
) -> None:
    """P4: the same, the other way round."""
    chat = await create(database)
    worker_id = await register(database)
    bury = partial(PostgresRegistry(database).bury, worker_id, None)
    claiming = "UPDATE chats SET worker_id = $1, epoch = 1, claimable_since = null"
    async with holding(other, "SELECT FROM replicas WHERE worker_id = $1 FOR KEY SHARE", worker_id):
        await execute(other, claiming, worker_id)
        assert await bury() == Burial(left=1), "the row stays until the claim is committed, and is buried then"
    burial = await bury()
    assert burial is not None
    assert [(freed.id, freed.worker_id) for freed in burial.freed] == [(chat.id, None)]


async def test_a_claim_does_not_delay_the_heartbeat_of_its_worker(database: Database, other: Session) -> None:
    worker_id = await register(database)
    registry = PostgresRegistry(database)
    async with holding(other, "SELECT FROM replicas WHERE worker_id = $1 FOR KEY SHARE", worker_id):
        assert (await registry.renew(worker_id, draining=False)).ring == (worker_id,)


# --- idempotency ------------------------------------------------------------------------------


def key(digest: bytes = b"digest") -> Idempotency:
    return Idempotency("key", digest)


async def test_a_request_with_the_key_of_one_under_way_waits_for_its_answer(
    database: Database, observer: Session, other: Session
) -> None:
    """P1: exactly one effect, and both callers hear of it."""
    chat = await create(database)
    store = PostgresStore(database)
    outcomes: list[Outcome] = []

    async def send() -> None:
        outcomes.append(await store.apply(chat.id, Send(text("once")), owner_id=OWNER, idempotency=key()))

    async with trio.open_nursery() as nursery, holding(other, LOCK_CHAT, chat.id):
        for waiting in (1, 2):
            nursery.start_soon(send)
            await wait_blocked(observer, waiting)
    first, second = sorted(outcomes, key=lambda outcome: outcome.replayed)
    assert (first.replayed, second.replayed) == (False, True)
    assert second.queued == first.queued
    assert second.chat == first.chat
    assert len((await store.read(chat.id)).queue) == 1


async def test_a_request_that_is_cancelled_leaves_its_key_to_the_next(
    database: Database, observer: Session, other: Session
) -> None:
    chat = await create(database)
    store = PostgresStore(database)
    outcomes: list[Outcome] = []

    async def send() -> None:
        outcomes.append(await store.apply(chat.id, Send(text("once")), owner_id=OWNER, idempotency=key()))

    async with trio.open_nursery() as nursery, holding(other, LOCK_CHAT, chat.id):
        async with trio.open_nursery() as cancelled:
            cancelled.start_soon(send)
            await wait_blocked(observer)
            nursery.start_soon(send)
            await wait_blocked(observer, 2)
            cancelled.cancel_scope.cancel()
        await wait_blocked(observer)
    assert [outcome.replayed for outcome in outcomes] == [False]
    assert len((await store.read(chat.id)).queue) == 1


async def test_a_key_is_forgotten_after_a_day_and_old_ones_are_cleared_away(
    database: Database, observer: Session
) -> None:
    chat = await create(database)
    store = PostgresStore(database)
    await store.apply(chat.id, Send(text("today")), owner_id=OWNER, idempotency=key())
    with pytest.raises(IdempotencyKeyReused):
        await store.apply(chat.id, Send(text("other")), owner_id=OWNER, idempotency=key(b"other"))
    await execute(
        observer,
        "INSERT INTO idempotency_keys (owner_id, key, request_digest)"
        " SELECT $1, n::text, '' FROM generate_series(1, 12) AS n",
        OWNER,
    )
    await execute(observer, "UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")
    again = await store.apply(chat.id, Send(text("tomorrow")), owner_id=OWNER, idempotency=key(b"other"))
    assert not again.replayed
    assert await fetchval(observer, "SELECT count(*) FROM idempotency_keys") == 1 + 12 - 10
    await store.apply(chat.id, Send(text("more")), owner_id=OWNER, idempotency=Idempotency("new", b""))
    assert await fetchval(observer, "SELECT count(*) FROM idempotency_keys") == 2


class Counting:
    """A connection that counts its statements."""

    def __init__(self, connection: Connection) -> None:
        self.count = 0
        self._connection = connection

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        self.count += 1
        return cast(Callable[..., Awaitable[Any]], getattr(self._connection, name))


async def test_the_key_of_a_request_that_makes_a_chat_costs_no_statement(database: Database) -> None:
    async def make(connection: Connection, idempotency: Idempotency | None) -> int:
        counting, new = Counting(connection), NewChat(uuid4(), OWNER, "", None, (user("hello"),))
        await create_chat(cast(Connection, counting), new, idempotency, 1 << 20)
        return counting.count

    plain, keyed = await database.transaction(make, None), await database.transaction(make, key())
    assert plain == keyed == 2


async def test_a_chat_that_begins_here_is_one_statement_and_one_transaction(database: Database) -> None:
    store, worker_id = PostgresStore(database), await register(database)
    before = database.transaction_counts.total()
    outcome = await store.create(NewChat(uuid4(), OWNER, "", None, (user("hello"),)), claimer=worker_id)
    assert outcome.claimed is not None
    assert outcome.chat.worker_id == worker_id
    assert database.transaction_counts.total() - before == database.transaction_counts["create_at_once"] == 1

    async def make(connection: Connection) -> int:
        counting, new = Counting(connection), NewChat(uuid4(), OWNER, "", None, (user("hello"),))
        assert await create_at_once(cast(Connection, counting), new, Place(worker_id), []) is not None
        return counting.count

    assert await database.autocommit(make) == 1


async def test_a_chat_whose_making_was_not_told_of_is_not_made_twice_nor_said_to_have_failed(
    database: Database, observer: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: the connection broke before the answer came, and the statement ran again on another."""
    store, worker_id, autocommit = PostgresStore(database), await register(database), database.autocommit

    async def twice(*asked: Any, **how: Any) -> Any:
        await autocommit(*asked, **how)
        return await autocommit(*asked, **how)

    monkeypatch.setattr(database, "autocommit", twice)
    with pytest.raises(StoreUnavailable) as caught:
        await store.create(NewChat(uuid4(), OWNER, "", None, (user("hello"),)), claimer=worker_id)
    assert not isinstance(caught.value, StoreFailed)
    assert await fetchval(observer, "SELECT count(*) FROM messages") == 1


async def test_two_requests_with_one_key_that_make_a_chat_make_one(
    database: Database, observer: Session, other: Session
) -> None:
    """P1: the second one waits for the first one's answer, and all that it did is undone."""
    store = PostgresStore(database)
    outcomes: list[Outcome] = []
    new = NewChat(uuid4(), OWNER, "", None, (user("once"),))

    async def make(chat: NewChat) -> None:
        outcomes.append(await store.create(chat, key()))

    held = "INSERT INTO idempotency_keys (owner_id, key, request_digest) VALUES ($1, 'key', '')"
    await execute(other, "BEGIN")
    await execute(other, held, OWNER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make, new)
        await wait_blocked(observer)
        nursery.start_soon(make, msgspec.structs.replace(new, id=uuid4()))
        await wait_blocked(observer, 2)
        await execute(other, "ROLLBACK")
    first, second = sorted(outcomes, key=lambda outcome: outcome.replayed)
    assert (first.replayed, second.replayed) == (False, True)
    assert second.chat == first.chat
    assert await fetchval(observer, "SELECT count(*) FROM chats") == 1


# --- commits without an answer ----------------------------------------------------------------


async def test_a_turn_whose_last_insert_fails_ends_not_at_all_and_can_be_ended_again(
    database: Database, observer: Session
) -> None:
    """P1: answer, promotion, queue and status are one transaction."""
    chat = await create(database)
    store = PostgresStore(database)
    await store.apply(chat.id, Send(text("queued")), owner_id=OWNER)
    (claimed,) = await claim(database)
    await execute(observer, "ALTER TABLE messages ADD CONSTRAINT refused CHECK (role <> 'user') NOT VALID")
    with pytest.raises(StoreFailed):
        await store.commit(fence_of(claimed.chat), ANSWER)
    page = await store.list_messages(chat.id, owner_id=OWNER, after=0, limit=10, bytes_max=PAGE_BYTES)
    assert (texts(page.messages), [text_of(queued.parts) for queued in page.queue]) == (["hello"], ["queued"])
    assert await store.get(chat.id) == claimed.chat

    await execute(observer, "ALTER TABLE messages DROP CONSTRAINT refused")
    await store.commit(fence_of(claimed.chat), ANSWER)
    page = await store.list_messages(chat.id, owner_id=OWNER, after=0, limit=10, bytes_max=PAGE_BYTES)
    assert (texts(page.messages), page.queue) == (["hello", "the answer", "queued"], ())


@pytest.mark.parametrize("delivered", [True, False], ids=["committed", "not committed"])
async def test_a_commit_that_lost_its_answer_is_repeated_without_being_done_twice(
    database_url: str, database: Database, delivered: bool
) -> None:
    """P1: whether the connection died before or after the COMMIT took effect, the answer is in the history once."""
    chat = await create(database)
    await PostgresStore(database).apply(chat.id, Send(text("next")), owner_id=OWNER)
    ((claimed),) = await claim(database)
    link = LossyLink(database_url)
    async with link.listening() as url, open_database(Settings.of(database_url=url)) as lossy:
        store = PostgresStore(lossy)
        await store.get(chat.id)
        link.break_at("COMMIT", delivered=delivered)
        with pytest.raises(StoreUnavailable):
            await store.commit(fence_of(claimed.chat), ANSWER)
        assert link.broke
        outcome = await store.commit(fence_of(claimed.chat), ANSWER)
    assert outcome.replayed is delivered
    read = await PostgresStore(database).read(chat.id)
    assert texts(read.messages) == ["hello", "the answer", "next"]
    assert outcome.messages == read.messages[1:]
    assert outcome.chat == read.chat


@pytest.mark.parametrize("delivered", [True, False], ids=["committed", "not committed"])
async def test_a_request_that_lost_its_answer_is_repeated_with_its_key(
    database_url: str, database: Database, delivered: bool
) -> None:
    """P1, for callers: the repeat returns the message that the first request made."""
    chat = await create(database)
    link = LossyLink(database_url)
    async with link.listening() as url, open_database(Settings.of(database_url=url)) as lossy:
        store = PostgresStore(lossy)
        link.break_at("COMMIT", delivered=delivered)
        with pytest.raises(StoreUnavailable):
            await store.apply(chat.id, Send(text("once")), owner_id=OWNER, idempotency=key())
        again = await store.apply(chat.id, Send(text("once")), owner_id=OWNER, idempotency=key())
    assert again.replayed is delivered
    assert (await PostgresStore(database).read(chat.id)).queue == (again.queued,)


async def test_a_commit_is_not_taken_for_another_one_from_the_same_history(database: Database) -> None:
    """P1: what was not committed is never reported as committed."""
    chat = await create(database)
    store = PostgresStore(database)
    await store.apply(chat.id, Send(text("next")), owner_id=OWNER)
    (claimed,) = await claim(database)
    first = fence_of(claimed.chat)
    step = await store.commit(first, CommitStep((assistant("a step"),)))
    second = fence_of(step.chat)
    await store.commit(second, ANSWER)

    for command in (CommitStep((assistant("another"),)), FinishTurn((assistant("a step"),)), FinishTurn()):
        with pytest.raises(Moved):
            await store.commit(first, command)
    for command in (FinishTurn((assistant("another answer"),)), FinishTurn()):
        with pytest.raises(Moved):
            await store.commit(second, command)
    assert texts((await store.read(chat.id)).messages) == ["hello", "a step", "the answer", "next"]


# --- what is in no view of a chat -------------------------------------------------------------


async def awaiting_action(database: Database, *call_ids: str, state: CallState = CallState.CLIENT) -> Chat:
    """A chat whose calls wait for somebody, for an hour."""
    store = PostgresStore(database)
    await create(database)
    (claimed,) = await claim(database)
    calls = tuple(OpenCall(call_id, "tool", state, seconds=3600) for call_id in call_ids)
    return (await store.commit(fence_of(claimed.chat), CommitStep((assistant("", *call_ids),), calls))).chat


async def test_the_deadline_of_an_action_stays_while_it_is_awaited(database: Database, observer: Session) -> None:
    chat = await awaiting_action(database, "call")
    deadline = "SELECT action_deadline FROM chats"
    first = await fetchval(observer, deadline)
    await PostgresStore(database).apply(chat.id, Send(text("meanwhile")), owner_id=OWNER)
    assert await fetchval(observer, deadline) == first
    await PostgresStore(database).apply(chat.id, Interrupt(), owner_id=OWNER)
    assert await fetchval(observer, deadline) is None


async def test_an_approval_is_in_the_ledger(database: Database, observer: Session) -> None:
    """P7: what may run is durable before it runs."""
    chat = await awaiting_action(database, "call", "other", state=CallState.APPROVAL)
    await PostgresStore(database).apply(chat.id, Approve("call"), owner_id=OWNER)
    states = await fetch(observer, "SELECT call_id, state FROM tool_calls ORDER BY id")
    assert [(row["call_id"], row["state"]) for row in states] == [("call", "pending"), ("other", "approval")]


# --- the cost of a turn -----------------------------------------------------------------------


async def test_a_plain_turn_of_one_step_costs_three_transactions_on_one_connection(database_url: str) -> None:
    """Send, claim (which starts the first attempt), and one commit that inserts the answer and finishes the turn."""
    settings = Settings.of(database_url=database_url, database_pool_size=1)
    async with open_database(settings) as database:
        store = PostgresStore(database)
        worker_id = await register(database)
        chat = await create(database)
        await store.commit(fence_of((await claim(database, worker_id))[0].chat), ANSWER)
        database.transaction_counts.clear()

        await store.apply(chat.id, Send(text("and?")), owner_id=OWNER)
        (claimed,) = await claim(database, worker_id)
        outcome = await store.commit(fence_of(claimed.chat), ANSWER)

        assert claimed.chat.attempt == 1
        assert outcome.chat.status is Status.WAITING
        assert database.transaction_counts == {"apply_seen": 1, "claim": 1, "commit": 1}
        assert repr(database) == "<Database 0 of 1 busy, 1 idle>"


async def test_the_counters_of_a_chat_agree_with_what_they_count(database: Database, observer: Session) -> None:
    """The store trusts them and does not look into a queue or a ledger that they say is empty."""
    chat = await create(database)
    store = PostgresStore(database)
    queued = [(await store.apply(chat.id, Send(text(word)), owner_id=OWNER)).queued for word in "abc"]
    assert queued[1] is not None
    await store.apply(chat.id, DeleteQueued(queued[1].id), owner_id=OWNER)
    (claimed,) = await claim(database)
    step = await store.commit(fence_of(claimed.chat), CommitStep((assistant("", "call", "other"),)))
    counted = (
        "SELECT queue_length, open_calls, (SELECT count(*) FROM queued_messages) AS queued,"
        " (SELECT count(*) FROM tool_calls WHERE state <> 'done') AS open FROM chats"
    )
    assert [tuple(row) for row in await fetch(observer, counted)] == [(2, 2, 2, 2)]  # type: ignore[arg-type]
    await store.commit(fence_of(step.chat), FinishTurn())
    assert [tuple(row) for row in await fetch(observer, counted)] == [(1, 0, 1, 0)]  # type: ignore[arg-type]
