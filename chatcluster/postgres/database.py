"""The pool, and the way of a transaction through it.

A crossing between trio and asyncio costs as much as a round trip to a near server, so **a transaction crosses once**,
however many statements it has. Before it, it waits for a place (``places.py``).

What happens on failure:

* Each error is one of ours (``translation.py``). After a ``StoreUnavailable`` a transaction may have taken effect or
  not, unless the message says so.
* A pooled connection that died while it was idle is noticed when the next transaction begins on it, before
  anything happened, and passed over. So the pool comes back by itself after the server did. If it died without a word,
  ``silence.py`` finds out within about a second.
* A transaction that fails or is cancelled is rolled back in the time of ``RECOVERY_SECONDS``; if the server does not
  confirm that, the connection is closed, which ends the transaction as well. It never returns to the pool unsure.
* A row that somebody else holds is waited for up to ``LOCK_SECONDS_MAX``, and the chat's further transactions wait for
  that one outside of the pool.
* Each crossing has a deadline a little above the server's own ``statement_timeout``: a server that is stopped answers
  nothing, and knows nothing of its sessions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar, TypeVarTuple
from uuid import UUID

import asyncpg
import trio

from chatcluster import telemetry
from chatcluster.backoff import Backoff
from chatcluster.config import Settings
from chatcluster.errors import StoreUnavailable
from chatcluster.postgres.asyncio_loop import AsyncioLoop, open_asyncio_loop
from chatcluster.postgres.connecting import (
    IDLE_IN_TRANSACTION_SECONDS_MAX,
    LOCK_SECONDS_MAX,
    TRANSACTIONS,
    Connection,
    connect,
    is_pooled,
)
from chatcluster.postgres.connections import Connections
from chatcluster.postgres.places import Lane, Places
from chatcluster.postgres.pool_share import PoolShare
from chatcluster.postgres.session import CLOSE_SECONDS, Session
from chatcluster.postgres.silence import SilenceWatch
from chatcluster.postgres.translation import LOST, RAISED, ReportingClosed, Translated

RECOVERY_SECONDS = 0.5
ROOM_PAUSE_SECONDS, ROOM_PAUSE_SECONDS_MAX = 0.05, 0.5
"""Between tries to connect where the server has no connection left for what is more important than the pool."""
DEADLINE_MARGIN_SECONDS = 2.0

BEGIN = "BEGIN"
BEGIN_POOLED = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL standard_conforming_strings = on;"
    f" SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX:g}s';"
    f" SET LOCAL idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_SECONDS_MAX:g}s'"
)
"""One message as well; what a connection through a pooler could not be told before."""

S = TypeVar("S")
T = TypeVar("T")
Args = TypeVarTuple("Args")


@asynccontextmanager
async def open_database(settings: Settings, *, purpose: str = TRANSACTIONS) -> AsyncIterator[Database]:
    """The database at ``settings.servers.database_url``, for the length of the block.

    Nothing is connected yet on entry, so the server need not be there. ``purpose`` is in the names of its
    sessions.
    """
    async with open_asyncio_loop(_report_stray_error) as loop:
        database = Database(settings, loop, purpose)
        try:
            yield database
        finally:
            with trio.move_on_after(2 * CLOSE_SECONDS, shield=True):
                await database.aclose()


def _report_stray_error(message: str, error: BaseException | None) -> None:
    """Tell of an error that is nobody's, as of a socket that breaks while it is closed."""
    telemetry.event("postgres.stray_error", message=message, error=type(error).__name__)


class Database:
    """The pool. At most ``database_pool_size`` transactions at a time, or this replica's share of what the server
    allows (``pool_share.py``); the others wait in order."""

    def __init__(self, settings: Settings, loop: AsyncioLoop, purpose: str) -> None:
        self.settings = settings
        self._purpose = purpose
        self.transaction_counts: Counter[str] = Counter()
        """How many transactions have run, by the names of their functions."""
        self._loop = loop
        self._places = Places(settings.servers.database_pool_size)
        self._pooled_url = is_pooled(settings.servers, settings.servers.database_url)
        self._silence = SilenceWatch(self._connect_to_ask, self._drop_idle)
        self._generation = 0
        self._connections = Connections(
            self._connect_for_transactions,
            None if self._pooled_url else self._silence,
            size=settings.servers.database_pool_size,
            wait_seconds_max=settings.servers.statement_timeout_seconds,
        )
        self._sessions: set[Session] = set()
        self.share = PoolShare(self)

    def __repr__(self) -> str:
        return f"<Database {self._places.taken} of {self._places.size} busy, {self._connections.idle} idle>"

    async def transaction(
        self,
        body: Callable[[Connection, *Args], Coroutine[Any, Any, T]],
        *args: *Args,
        lane: Lane = Lane.REQUESTS,
        chat_id: UUID | None = None,
    ) -> T:
        """Run ``body(connection, *args)`` in a transaction: committed if it returns, rolled back if it raises.

        ``chat_id`` names the one chat whose row it locks. Raises ``StoreUnavailable``; then it is unknown whether the
        transaction was committed.
        """
        return await self._pooled(self._transact, body, args, lane, chat_id)

    async def autocommit(
        self,
        body: Callable[[Connection, *Args], Coroutine[Any, Any, T]],
        *args: *Args,
        lane: Lane = Lane.REQUESTS,
        chat_id: UUID | None = None,
    ) -> T:
        """Run ``body(connection, *args)``, of which each statement is a transaction of its own.

        For a single statement, or several that need no common view. It may run twice, if the connection breaks.
        """
        return await self._pooled(self._autocommit, body, args, lane, chat_id)

    async def look_and_write(
        self,
        look: Callable[[Connection], Awaitable[S]],
        write: Callable[[Connection, S, *Args], Coroutine[Any, Any, T]],
        *args: *Args,
        lane: Lane = Lane.REQUESTS,
        chat_id: UUID | None = None,
    ) -> T:
        """Run ``look(connection)``, and then ``write(connection, seen, *args)`` with what that returned.

        There is no transaction around them, so ``write`` is one statement, which has in its own condition what it
        depends on. Only ``look`` is run again if the connection breaks. Raises ``StoreUnavailable``; then it is unknown
        whether ``write`` was committed.
        """
        return await self._pooled(partial(self._look_and_write, look), write, args, lane, chat_id)

    def session(self, purpose: str, *, url: str | None = None, lasting: bool = False) -> Session:
        """A connection outside of the pool, to ``url`` or the pool's own. It is connected at its first use.

        A ``lasting`` one has no limits of time on the server's side. Close it, or leave that to the database.
        """
        session = Session(self, purpose, url or self.settings.servers.database_url, lasting=lasting)
        self._sessions.add(session)
        return session

    def forget(self, session: Session) -> None:
        """The session closes itself; the database need not."""
        self._sessions.discard(session)

    def resize(self, size: int) -> None:
        """Have a pool of so many from now on."""
        self._places.resize(size)
        self._connections.resize(size)

    async def aclose(self) -> None:
        """Close all connections. Whatever still runs on one fails."""
        sessions, self._sessions = self._sessions, set()
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(session.aclose)
            nursery.start_soon(self.cross, self._connections.aclose())

    # trio's side

    @property
    def deadline_seconds(self) -> float:
        return self.settings.servers.statement_timeout_seconds + DEADLINE_MARGIN_SECONDS

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler hides which server a transaction runs on."""
        return self._pooled_url

    @property
    def generation(self) -> int:
        """Is as it was before only if all transactions since then ran on connections that were there before: so on the
        same server. Behind a pooler, which hides that, it never is."""
        self._generation += self._pooled_url
        return self._generation

    async def cross(self, work: Coroutine[Any, Any, T]) -> T:
        """Run asyncio's kind of coroutine to its end, with its errors translated."""
        with Translated():
            return await self._loop.run(work)

    async def _pooled(
        self,
        work: Callable[..., Coroutine[Any, Any, T]],
        body: Callable[..., Any],
        args: tuple[Any, ...],
        lane: Lane,
        chat_id: UUID | None,
    ) -> T:
        name = body.__name__.lstrip("_")
        self.transaction_counts[name] += 1
        with telemetry.span("store.transaction", name=name):
            await self._places.take(lane, chat_id, seconds_max=self.settings.servers.statement_timeout_seconds)
            try:
                with trio.move_on_after(self.deadline_seconds):
                    return await self.cross(work(body, args, lane))
                raise StoreUnavailable(f"Postgres did not answer within {self.deadline_seconds:g} s")
            finally:
                self._places.give_back(lane, chat_id)

    # asyncio's side

    @contextmanager
    def watching(self, connection: asyncpg.Connection) -> Iterator[None]:
        """End the connection if it is found dead in silence. For those outside of the pool."""
        self._silence.begin(connection)
        try:
            yield
        finally:
            self._silence.end(connection)

    async def connect_outside(self, purpose: str, url: str, *, lasting: bool) -> asyncpg.Connection:
        """A connection outside of the pool, which makes room for it where the server has none left."""
        now = asyncio.get_running_loop().time
        give_up_at = now() + self.settings.servers.statement_timeout_seconds
        pauses = Backoff(ROOM_PAUSE_SECONDS, ROOM_PAUSE_SECONDS_MAX)
        while not self.share.admits(purpose):
            if now() >= give_up_at:
                raise StoreUnavailable(f"Postgres has no connection to spare for a {purpose}")
            await asyncio.sleep(ROOM_PAUSE_SECONDS_MAX)
        while True:
            try:
                return await connect(self.settings.servers, purpose, url, lasting=lasting)
            except asyncpg.TooManyConnectionsError as error:
                if now() >= give_up_at:
                    raise
                if not pauses.has_begun:
                    telemetry.event("postgres.full", purpose=purpose, error=str(error))
                self._connections.spare()
            await asyncio.sleep(pauses.next_seconds())

    async def _connect_for_transactions(self) -> asyncpg.Connection:
        servers = self.settings.servers
        connection = await connect(servers, self._purpose, servers.database_url)
        self._generation += 1
        return connection

    async def _connect_to_ask(self) -> asyncpg.Connection:
        servers = self.settings.servers
        return await self.connect_outside("question", servers.direct_url or servers.database_url, lasting=False)

    def _drop_idle(self, before: float) -> None:
        self._connections.drop_idle(before)

    async def _transact(self, body: Callable[..., Awaitable[T]], args: tuple[Any, ...], lane: Lane) -> T:
        begin = BEGIN_POOLED if self._pooled_url else BEGIN
        connection, _ = await self._start(lane, lambda connection: connection.execute(begin), undo="ROLLBACK")
        try:
            with ReportingClosed(connection):
                result = await body(connection, *args)
                ended = await connection.execute("COMMIT")
            assert ended == "COMMIT", "a statement failed, and the function of the transaction went on all the same"
        except BaseException as error:
            await self._recover(connection, error, undo="ROLLBACK")
            raise
        self._connections.give_back(connection)
        return result

    async def _autocommit(self, body: Callable[..., Awaitable[T]], args: tuple[Any, ...], lane: Lane) -> T:
        connection, result = await self._start(lane, lambda connection: body(connection, *args), undo="SELECT")
        self._connections.give_back(connection)
        return result

    async def _look_and_write(
        self,
        look: Callable[[Any], Awaitable[S]],
        write: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        lane: Lane,
    ) -> T:
        connection, seen = await self._start(lane, look, undo="SELECT")
        try:
            with ReportingClosed(connection):
                result = await write(connection, seen, *args)
        except BaseException as error:
            await self._recover(connection, error, undo="SELECT")
            raise
        self._connections.give_back(connection)
        return result

    async def _start(
        self, lane: Lane, first: Callable[[Any], Awaitable[T]], *, undo: str
    ) -> tuple[asyncpg.Connection, T]:
        """A connection, and what ``first`` returned on it. Idle ones that turn out to be dead are passed over."""
        while True:
            connection, is_new = await self._connections.take(lane)
            try:
                with ReportingClosed(connection):
                    return connection, await first(connection)
            except BaseException as error:
                await self._recover(connection, error, undo=undo)
                if is_new or not isinstance(error, LOST):
                    raise

    async def _recover(self, connection: asyncpg.Connection, error: BaseException, *, undo: str) -> None:
        """After a failure: back to the pool, if the server confirms in time that nothing is open on the connection.

        ``undo`` is executed for that. After a cancelled statement it waits for the end of the cancellation.
        """
        if isinstance(error, LOST):
            self._connections.discard(connection)
            return
        try:
            async with asyncio.timeout(RECOVERY_SECONDS):
                await connection.execute(undo)
        except BaseException as failure:
            self._connections.discard(connection)
            if not isinstance(failure, RAISED):
                raise
        else:
            self._connections.give_back(connection)
