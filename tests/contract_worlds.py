"""One database as the contract suites see it: its ports, and the means to let time pass and processes die."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import trio
import trio.testing
from chat_states import text, user
from conftest import execute_sql

from chatcluster.accounts import PostgresAccounts
from chatcluster.chat import Busy, Fence, Send
from chatcluster.config import Settings
from chatcluster.memory import MemoryAccounts, MemoryDatabase, MemoryRegistry, MemoryStore
from chatcluster.parts import Message, NewMessage, QueuedMessage, text_of
from chatcluster.ports import Accounts, Chat, Claimed, NewChat, Outcome, Registry, Replica, Store
from chatcluster.postgres import open_database
from chatcluster.registry import PostgresRegistry
from chatcluster.store import PostgresStore

OWNER = UUID(int=100)
PAGE_BYTES = 1 << 20


@dataclass(frozen=True)
class World:
    store: Store
    registry: Registry
    accounts: Accounts
    age_lease: Callable[[UUID, float], Awaitable[None]]
    """Let the last heartbeat of a worker be so many seconds older."""
    kill_sessions: Callable[[], Awaitable[None]]
    """Let the processes die that hold a session lock."""
    lock_awaited: Callable[[], Awaitable[None]]
    """Return when somebody waits for a session lock."""

    async def chat(self, *words: str, owner_id: UUID = OWNER, **fields: str) -> UUID:
        """A new chat that begins with a user message of each of these words."""
        messages = tuple(user(word) for word in words or ("hello",))
        return (await self.create(*messages, owner_id=owner_id, **fields)).chat.id

    async def create(
        self, *messages: NewMessage, owner_id: UUID = OWNER, title: str = "a chat", model: str | None = None
    ) -> Outcome:
        return await self.store.create(NewChat(uuid4(), owner_id, title, model, messages))

    async def send(self, chat_id: UUID, words: str, busy: Busy = Busy.QUEUE) -> Outcome:
        return await self.store.apply(chat_id, Send(text(words), busy), owner_id=OWNER)

    async def queue(self, chat_id: UUID, words: str) -> QueuedMessage:
        """A message to a busy chat, as it is queued."""
        queued = (await self.send(chat_id, words)).queued
        assert queued is not None
        return queued

    async def worker(self) -> UUID:
        """A registered worker."""
        worker_id = uuid4()
        await self.registry.register(Replica(worker_id, "replica", "127.0.0.1:8100", "0.1.0", slots=4))
        return worker_id

    async def claim(self, worker_id: UUID | None = None) -> Claimed:
        """The only chat that can be claimed, claimed by a worker of its own unless one is named."""
        (claimed,) = await self.store.claim(worker_id or await self.worker(), free_slots=1, batch=1)
        return claimed


@asynccontextmanager
async def open_world(url: str | None) -> AsyncIterator[World]:
    """The database at ``url``, or one in memory."""
    if url is None:
        yield memory_world()
        return

    async def execute(statement: str) -> None:
        await trio.to_thread.run_sync(execute_sql, url, statement)

    async def age_lease(worker_id: UUID, seconds: float) -> None:
        interval = f"interval '{seconds} seconds'"
        await execute(f"UPDATE replicas SET heartbeat_at = heartbeat_at - {interval} WHERE worker_id = '{worker_id}'")

    async def kill_sessions() -> None:
        await execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON oid = database"
            " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
        )

    async def lock_awaited() -> None:
        await execute(
            "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
            " LOOP PERFORM pg_sleep(0.002); END LOOP; END $$"
        )

    async with open_database(Settings(database_url=url)) as database:
        yield World(
            PostgresStore(database),
            PostgresRegistry(database),
            PostgresAccounts(database),
            age_lease,
            kill_sessions,
            lock_awaited,
        )


def memory_world() -> World:
    database = MemoryDatabase()

    async def age_lease(worker_id: UUID, seconds: float) -> None:
        database.replicas[worker_id].heartbeat_at -= seconds

    async def kill_sessions() -> None:
        for worker_id in list(database.locks):
            database.drop_session(worker_id)

    return World(
        MemoryStore(database),
        MemoryRegistry(database),
        MemoryAccounts(database),
        age_lease,
        kill_sessions,
        trio.testing.wait_all_tasks_blocked,
    )


def fence_of(chat: Chat) -> Fence:
    """The fence of the chat's owner, as of this view of it."""
    assert chat.worker_id is not None
    return Fence(chat.id, chat.worker_id, chat.epoch, chat.history_version)


def texts(messages: tuple[Message, ...]) -> list[str]:
    return [text_of(message.parts) for message in messages]
