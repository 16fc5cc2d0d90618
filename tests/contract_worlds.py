"""One database as the contract suites see it: its ports, and the means to let time pass and processes die."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import trio
import trio.testing
from chat_states import assistant, text, user
from conftest import execute_sql

from chatcluster.chat import Busy, CommitStep, Fence, OpenCall, Send
from chatcluster.config import Settings
from chatcluster.memory import MemoryAccounts, MemoryDatabase, MemoryRegistry, MemoryStore
from chatcluster.memory.files import MemoryFiles
from chatcluster.memory.limits import MemoryLimits
from chatcluster.memory.titles import MemoryTitles
from chatcluster.memory.usage import MemoryUsage
from chatcluster.parts import Message, NewMessage, QueuedMessage, text_of
from chatcluster.ports import Accounts, Chat, Claimed, HistoryPage, NewChat, Outcome, Registry, Replica, Store
from chatcluster.ports.files import Files
from chatcluster.ports.limits import Limits
from chatcluster.ports.titles import Titles
from chatcluster.ports.usage import UsageBook
from chatcluster.postgres import Connection, Database, open_database
from chatcluster.postgres.accounts import PostgresAccounts
from chatcluster.postgres.files import PostgresFiles
from chatcluster.postgres.limits import PostgresLimits
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.session_locks import lock_keys
from chatcluster.postgres.store import PostgresStore
from chatcluster.postgres.titles import PostgresTitles
from chatcluster.postgres.usage import PostgresUsage
from chatcluster.usage import Bill

OWNER = UUID(int=100)
PAGE_BYTES = 1 << 20


@dataclass(frozen=True)
class World(ABC):
    store: Store
    registry: Registry
    accounts: Accounts
    usage: UsageBook
    limits: Limits
    titles: Titles
    files: Files

    @abstractmethod
    async def age_lease(self, worker_id: UUID, seconds: float) -> None:
        """Let the last heartbeat of a worker be so many seconds older."""

    @abstractmethod
    async def age_change(self, chat_id: UUID, seconds: float) -> None:
        """Let the last change of a chat be so many seconds older."""

    @abstractmethod
    async def age_actions(self, chat_id: UUID, seconds: float) -> None:
        """Let the calls of a chat that wait for somebody have waited so many seconds longer."""

    @abstractmethod
    async def kill_sessions(self) -> None:
        """Let the processes die that hold a session lock."""

    @abstractmethod
    async def break_session(self, worker_id: UUID, lock: int) -> None:
        """Let the connection break that holds this session lock of a worker; its process lives on."""

    @abstractmethod
    async def have_session_locks(self, worker_id: UUID, count: int) -> None:
        """Let the row of a worker say so, as when another version registered it."""

    @abstractmethod
    def lock_row(self, row_id: UUID) -> AbstractAsyncContextManager[None]:
        """Have somebody hold the row of a chat, or of a worker, for the length of the block."""

    @abstractmethod
    async def lock_awaited(self) -> None:
        """Return when somebody waits for a session lock."""

    @abstractmethod
    async def have_content(self, chat_id: UUID, version: int) -> None:
        """Let a chat have content of this version, as when another version of chatcluster wrote it."""

    @abstractmethod
    async def write_on(self, timeline: int | None) -> None:
        """Let the server write on another WAL timeline, as one that took another's place; None: it does not tell."""

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

    async def bill(self, chat_id: UUID) -> Bill:
        """What the attempts of a chat cost until now."""
        return (await self.store.details(chat_id)).usage

    async def worker(self) -> UUID:
        """A registered worker."""
        worker_id = uuid4()
        await self.registry.register(Replica(worker_id, "replica", "127.0.0.1:8100", "0.1.0", slots=4))
        return worker_id

    async def history(self, chat_id: UUID) -> tuple[Message, ...]:
        """The history as the chat's owner reads it."""
        return (await self.page(chat_id)).messages

    async def page(
        self,
        chat_id: UUID,
        *,
        after: int = 0,
        page_bytes: int = 1 << 20,
        message_bytes_max: int = 1 << 20,
        since: int = 0,
        before: int = 0,
    ) -> HistoryPage:
        return await self.store.read_history(
            chat_id, after=after, page_bytes=page_bytes, message_bytes_max=message_bytes_max, since=since, before=before
        )

    async def claim(self, worker_id: UUID | None = None) -> Claimed:
        """The only chat that can be claimed, claimed by a worker of its own unless one is named."""
        (claimed,) = await self.store.claim(worker_id or await self.worker(), free_slots=1, batch=1)
        return claimed

    async def ask(self, *calls: OpenCall) -> Chat:
        """A new chat whose first step asks for these calls, begun so. It has an owner if that has to run any."""
        await self.chat()
        step = CommitStep((assistant("looking", *(call.call_id for call in calls)),), calls)
        return (await self.store.commit(fence_of((await self.claim()).chat), step)).chat


@dataclass(frozen=True)
class PostgresWorld(World):
    database: Database
    url: str

    async def age_lease(self, worker_id: UUID, seconds: float) -> None:
        interval = f"interval '{seconds} seconds'"
        await self._execute(
            f"UPDATE replicas SET heartbeat_at = heartbeat_at - {interval} WHERE worker_id = '{worker_id}'"
        )

    async def age_change(self, chat_id: UUID, seconds: float) -> None:
        interval = f"interval '{seconds} seconds'"
        await self._execute(f"UPDATE chats SET updated_at = updated_at - {interval} WHERE id = '{chat_id}'")

    async def age_actions(self, chat_id: UUID, seconds: float) -> None:
        interval = f"interval '{seconds} seconds'"
        await self._execute(f"UPDATE tool_calls SET deadline = deadline - {interval} WHERE chat_id = '{chat_id}'")

    async def kill_sessions(self) -> None:
        await self._execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON oid = database"
            " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
        )

    async def break_session(self, worker_id: UUID, lock: int) -> None:
        key = lock_keys(worker_id)[lock] % (1 << 64)
        await self._execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'"
            f" AND classid = {key >> 32}::oid AND objid = {key & 0xFFFFFFFF}::oid"
        )

    async def have_session_locks(self, worker_id: UUID, count: int) -> None:
        await self._execute(f"UPDATE replicas SET session_locks = {count} WHERE worker_id = '{worker_id}'")

    @asynccontextmanager
    async def lock_row(self, row_id: UUID) -> AsyncIterator[None]:
        session = self.database.session("somebody else")
        try:
            await session.run(_begin_with_lock, row_id)
            yield
        finally:
            await session.aclose()

    async def lock_awaited(self) -> None:
        await self._execute(
            "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
            " LOOP PERFORM pg_sleep(0.002); END LOOP; END $$"
        )

    async def have_content(self, chat_id: UUID, version: int) -> None:
        await self._execute(f"UPDATE chats SET content_version = {version} WHERE id = '{chat_id}'")

    async def write_on(self, timeline: int | None) -> None:
        await self._execute(
            "CREATE OR REPLACE FUNCTION wal_timeline() RETURNS bigint LANGUAGE plpgsql STABLE"
            f" AS 'begin return {'null' if timeline is None else timeline}; end'"
        )

    async def _execute(self, statement: str) -> None:
        await trio.to_thread.run_sync(execute_sql, self.url, statement)


async def _begin_with_lock(connection: Connection, row_id: UUID) -> None:
    await connection.execute("BEGIN")
    await connection.fetch("SELECT FROM chats WHERE id = $1 FOR UPDATE", row_id)
    await connection.fetch("SELECT FROM replicas WHERE worker_id = $1 FOR UPDATE", row_id)


@dataclass(frozen=True)
class MemoryWorld(World):
    database: MemoryDatabase

    async def age_lease(self, worker_id: UUID, seconds: float) -> None:
        self.database.replicas[worker_id].heartbeat_at -= seconds

    async def age_change(self, chat_id: UUID, seconds: float) -> None:
        self.database.chats[chat_id].updated_at -= timedelta(seconds=seconds)

    async def age_actions(self, chat_id: UUID, seconds: float) -> None:
        deadlines = self.database.chats[chat_id].calls.deadlines
        deadlines.update({call_id: deadline - seconds for call_id, deadline in deadlines.items()})

    async def kill_sessions(self) -> None:
        for worker_id, lock in list(self.database.locks):
            self.database.drop_session(worker_id, lock)

    async def break_session(self, worker_id: UUID, lock: int) -> None:
        self.database.drop_session(worker_id, lock)

    async def have_session_locks(self, worker_id: UUID, count: int) -> None:
        self.database.replicas[worker_id].session_locks = count

    @asynccontextmanager
    async def lock_row(self, row_id: UUID) -> AsyncIterator[None]:
        self.database.locked_rows.add(row_id)
        yield
        self.database.locked_rows.remove(row_id)

    async def lock_awaited(self) -> None:
        await trio.testing.wait_all_tasks_blocked()

    async def have_content(self, chat_id: UUID, version: int) -> None:
        row = self.database.chats[chat_id]
        row.state = msgspec.structs.replace(row.state, content_version=version)

    async def write_on(self, timeline: int | None) -> None:
        self.database.timeline = timeline


Worlds = Callable[..., AbstractAsyncContextManager[World]]
"""``open_world`` at one of the two stores, which takes settings."""


@asynccontextmanager
async def open_world(url: str | None, **settings: Any) -> AsyncIterator[World]:
    """The database at ``url``, or one in memory."""
    if url is None:
        yield memory_world(**settings)
        return
    async with open_database(Settings.of(database_url=url, **settings)) as database:
        yield PostgresWorld(
            PostgresStore(database),
            PostgresRegistry(database),
            PostgresAccounts(database),
            PostgresUsage(database),
            PostgresLimits(database),
            PostgresTitles(database),
            PostgresFiles(database),
            database,
            url,
        )


def memory_world(**settings: Any) -> World:
    database = MemoryDatabase()
    return MemoryWorld(
        MemoryStore(database, settings=Settings.of(**settings)),
        MemoryRegistry(database),
        MemoryAccounts(database),
        MemoryUsage(database),
        MemoryLimits(database),
        MemoryTitles(database),
        MemoryFiles(database),
        database,
    )


def fence_of(chat: Chat) -> Fence:
    """The fence of the chat's owner, as of this view of it."""
    assert chat.worker_id is not None
    return Fence(chat.id, chat.worker_id, chat.epoch, chat.history_version)


def texts(messages: tuple[Message, ...]) -> list[str]:
    return [text_of(message.parts) for message in messages]
