"""The connections to Postgres: asyncpg, which speaks asyncio, behind trio.

``Database`` is a bounded pool for transactions, and the way to a ``Session``, which is a connection of its own for what
must not wait for the pool (heartbeats) or lasts (session locks). Nothing outside of this module knows asyncio or
asyncpg: the adapters write a transaction as a coroutine function that gets a ``Connection`` and awaits nothing else.

A crossing between trio and asyncio costs as much as a round trip to a near server, so **a transaction crosses once**,
however many statements it has.

What happens on failure:

* Whatever says that the server is gone, going, coming or full is raised as ``StoreUnavailable``; other errors of
  the server are bugs and propagate as they are. After ``StoreUnavailable`` a transaction may have taken effect or not.
* A pooled connection that died while it was idle is noticed when the next transaction begins on it, before
  anything happened, and passed over. So the pool comes back by itself after the server did.
* A transaction that fails or is cancelled is rolled back in the time of ``RECOVERY_SECONDS``; if the server does not
  confirm that, the connection is closed, which ends the transaction as well. It never returns to the pool unsure.
* A session that fails, whatever with, is closed, and connects anew when it is used next.
* Each crossing has a deadline a little above the server's own ``statement_timeout``: a cut network answers nothing.

Behind a transaction pooler (the direct URL is another one, or off) connections carry no session settings and no
prepared statements; the deadline here then stands in for the statement timeout.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar, TypeVarTuple

import asyncpg
import trio

from chatcluster import telemetry
from chatcluster.asyncio_loop import AsyncioLoop, open_asyncio_loop
from chatcluster.config import Settings
from chatcluster.errors import ConfigError, InvalidRequest, SchemaError, StoreUnavailable

CONNECT_SECONDS = 5.0
RECOVERY_SECONDS = 0.5
CLOSE_SECONDS = 1.0
DEADLINE_MARGIN_SECONDS = 2.0
IDLE_IN_TRANSACTION_SECONDS = 3.0
"""The server ends a silent transaction: a frozen process must not keep a chat's lock for longer than its lease."""
PROBE_SECONDS = 5.0
"""A session that lasts is asked for a sign of life this often: a cut network does not close a connection."""

KEEPALIVES = {"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "3"}
"""The server's side of the same: it lets go of the locks of a client that it cannot reach any more."""

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Row(Protocol):
    def __getitem__(self, key: str | int, /) -> Any: ...


class Connection(Protocol):
    """What a transaction may do: one statement with ``$1``-style arguments at a time."""

    async def execute(self, query: str, *args: object) -> str: ...

    async def fetch(self, query: str, *args: object) -> Sequence[Row]: ...

    async def fetchrow(self, query: str, *args: object) -> Row | None: ...

    async def fetchval(self, query: str, *args: object) -> Any: ...


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database at ``settings.database_url``, for the length of the block.

    Nothing is connected yet on entry, so the server need not be there.
    """
    async with open_asyncio_loop(_report_stray_error) as loop:
        database = Database(settings, loop)
        try:
            yield database
        finally:
            with trio.move_on_after(2 * CLOSE_SECONDS, shield=True):
                await database.aclose()


def _report_stray_error(message: str, error: BaseException | None) -> None:
    """Such as of a socket that breaks while it is closed. Whoever uses that connection has an error of its own."""
    telemetry.event("postgres.stray_error", message=message, error=type(error).__name__)


class Database:
    """The pool. At most ``database_pool_size`` transactions at a time; the others wait in order."""

    def __init__(self, settings: Settings, loop: AsyncioLoop) -> None:
        self.settings = settings
        self.transaction_counts: Counter[str] = Counter()
        """How many transactions have run, by the names of their functions."""
        self._loop = loop
        self._slots = trio.Semaphore(settings.database_pool_size, max_value=settings.database_pool_size)
        self._idle: list[asyncpg.Connection] = []
        self._sessions: set[Session] = set()

    def __repr__(self) -> str:
        size = self.settings.database_pool_size
        return f"<Database {size - self._slots.value} of {size} busy, {len(self._idle)} idle>"

    async def transaction(self, body: Callable[[Connection, *Args], Coroutine[Any, Any, T]], *args: *Args) -> T:
        """Run ``body(connection, *args)`` in a transaction: committed if it returns, rolled back if it raises.

        Raises ``StoreUnavailable``; then it is unknown whether the transaction was committed.
        """
        return await self._pooled(self._transact, body, args)

    async def autocommit(self, body: Callable[[Connection, *Args], Coroutine[Any, Any, T]], *args: *Args) -> T:
        """Run ``body(connection, *args)``, of which each statement is a transaction of its own.

        For a single statement, or several that need no common view. It may run twice, if the connection breaks.
        """
        return await self._pooled(self._autocommit, body, args)

    def session(self, purpose: str, *, url: str | None = None, lasting: bool = False) -> Session:
        """A connection outside of the pool, to ``url`` or the pool's own. It is connected at its first use.

        A ``lasting`` one has no limits of time on the server's side. Close it, or leave that to the database.
        """
        session = Session(self, purpose, url or self.settings.database_url, lasting=lasting)
        self._sessions.add(session)
        return session

    def forget(self, session: Session) -> None:
        """The session closes itself; the database need not."""
        self._sessions.discard(session)

    async def aclose(self) -> None:
        """Close all connections. Whatever still runs on one fails."""
        sessions, self._sessions = self._sessions, set()
        idle, self._idle = self._idle, []
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(session.aclose)
            for connection in idle:
                nursery.start_soon(self.cross, _close(connection))

    # trio's side

    @property
    def deadline_seconds(self) -> float:
        return self.settings.statement_timeout_seconds + DEADLINE_MARGIN_SECONDS

    async def cross(self, work: Coroutine[Any, Any, T]) -> T:
        """Run asyncio's kind of coroutine to its end, with its errors translated."""
        with _translated():
            return await self._loop.run(work)

    async def _pooled(
        self, work: Callable[..., Coroutine[Any, Any, T]], body: Callable[..., Any], args: tuple[Any, ...]
    ) -> T:
        name = body.__name__.lstrip("_")
        self.transaction_counts[name] += 1
        with telemetry.span("store.transaction", name=name):
            await self._take_slot()
            try:
                with trio.move_on_after(self.deadline_seconds):
                    return await self.cross(work(body, args))
                raise StoreUnavailable(f"Postgres did not answer within {self.deadline_seconds:g} s")
            finally:
                self._slots.release()

    async def _take_slot(self) -> None:
        seconds = self.settings.statement_timeout_seconds
        with trio.move_on_after(seconds):
            await self._slots.acquire()
            return
        raise StoreUnavailable(f"no connection to Postgres became free within {seconds:g} s; nothing was done")

    # asyncio's side

    async def _transact(self, body: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
        connection, _ = await self._start(lambda connection: connection.execute("BEGIN"), undo="ROLLBACK")
        try:
            with _reporting_closed(connection):
                result = await body(connection, *args)
                ended = await connection.execute("COMMIT")
            assert ended == "COMMIT", "a statement failed, and the function of the transaction went on all the same"
        except BaseException as error:
            await self._recover(connection, error, undo="ROLLBACK")
            raise
        self._idle.append(connection)
        return result

    async def _autocommit(self, body: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
        connection, result = await self._start(lambda connection: body(connection, *args), undo="SELECT")
        self._idle.append(connection)
        return result

    async def _start(self, first: Callable[[Any], Awaitable[T]], *, undo: str) -> tuple[asyncpg.Connection, T]:
        """A connection, and what ``first`` returned on it. Idle ones that turn out to be dead are passed over."""
        while True:
            idle = self._pop_idle()
            connection = idle or await _connect(self.settings, "transactions", self.settings.database_url)
            try:
                with _reporting_closed(connection):
                    return connection, await first(connection)
            except BaseException as error:
                await self._recover(connection, error, undo=undo)
                if idle is None or not isinstance(error, LOST):
                    raise

    def _pop_idle(self) -> asyncpg.Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    async def _recover(self, connection: asyncpg.Connection, error: BaseException, *, undo: str) -> None:
        """After a failure: back to the pool, if the server confirms in time that nothing is open on the connection.

        ``undo`` is executed for that. After a cancelled statement it waits for the end of the cancellation.
        """
        if isinstance(error, LOST):
            connection.terminate()
            return
        try:
            async with asyncio.timeout(RECOVERY_SECONDS):
                await connection.execute(undo)
        except (*UNAVAILABLE, asyncpg.InterfaceError):
            connection.terminate()
        else:
            self._idle.append(connection)


class Session:
    """A connection outside of the pool. It is used by one task at a time, and connects anew after any failure."""

    def __init__(self, database: Database, purpose: str, url: str, *, lasting: bool) -> None:
        self._database = database
        self._purpose = purpose
        self._url = url
        self._lasting = lasting
        self._connection: asyncpg.Connection | None = None
        self._lost = trio.Event()
        self._turn = trio.Lock()

    def __repr__(self) -> str:
        state = "lost" if self._lost.is_set() else "connected" if self._connection else "not connected"
        return f"<Session {self._purpose}, {state}>"

    async def run(
        self,
        body: Callable[[Connection, *Args], Coroutine[Any, Any, T]],
        *args: *Args,
        deadline_seconds: float | None = None,
    ) -> T:
        """Run ``body(connection, *args)``, of which each statement is a transaction of its own.

        The deadline is the database's where none is given. Raises ``StoreUnavailable``, then the connection is closed.
        """
        seconds = self._database.deadline_seconds if deadline_seconds is None else deadline_seconds
        async with self._turn:
            with trio.move_on_after(seconds):
                return await self._database.cross(self._run(body, args))
        raise StoreUnavailable(f"Postgres did not answer the {self._purpose} session within {seconds:g} s")

    async def wait_lost(self) -> None:
        """Return when the connection of the last ``run`` is gone."""
        lost = self._lost
        while not lost.is_set():
            with trio.move_on_after(PROBE_SECONDS):
                await lost.wait()
                return
            try:
                await self.run(_probe)
            except StoreUnavailable:
                return

    async def aclose(self) -> None:
        """Close the connection; what it held is let go."""
        self._database.forget(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._database.cross(_close(connection))

    async def _run(self, body: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
        if self._connection is None or self._connection.is_closed():
            self._lost = lost = trio.Event()
            self._connection = await _connect(self._database.settings, self._purpose, self._url, lasting=self._lasting)
            self._connection.add_termination_listener(lambda _: lost.set())
        connection = self._connection
        try:
            with _reporting_closed(connection):
                return await body(connection, *args)
        except BaseException:
            self._connection = None
            await _close(connection)
            raise


async def _probe(connection: Connection) -> None:
    await connection.execute("SELECT")


async def _connect(settings: Settings, purpose: str, url: str, *, lasting: bool = False) -> asyncpg.Connection:
    pooled = settings.direct_url != settings.database_url and url == settings.database_url
    server_settings = {"application_name": f"chatcluster {purpose}"}
    if lasting:
        server_settings |= {"statement_timeout": "0", "idle_session_timeout": "0", **KEEPALIVES}
    elif not pooled:
        server_settings["statement_timeout"] = f"{settings.statement_timeout_seconds * 1000:.0f}"
        server_settings["idle_in_transaction_session_timeout"] = f"{IDLE_IN_TRANSACTION_SECONDS * 1000:.0f}"
    try:
        return await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS,
            server_settings=server_settings,
            statement_cache_size=0 if pooled else 200,
            max_cached_statement_lifetime=0,
        )
    except asyncpg.ClientConfigurationError as error:
        raise ConfigError(f"the Postgres URL cannot be used: {error}") from None
    except ValueError:  # its text may be a part of the password
        raise ConfigError(
            "the Postgres URL cannot be used: it is malformed (in a password / is %2F, # is %23, ? is %3F)"
        ) from None


async def _close(connection: asyncpg.Connection) -> None:
    """Close in order if the server takes part in time: it then knows at once, and lets go of all locks."""
    try:
        async with asyncio.timeout(RECOVERY_SECONDS):
            await connection.close()
    except (*UNAVAILABLE, asyncpg.InterfaceError):
        connection.terminate()


# --- errors -----------------------------------------------------------------------------------

LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, in the middle of a failover
    asyncpg.InternalClientError,  # used between the server's last words and the end of the connection
)
"""The connection is gone, about to be, or leads to the wrong server."""

UNAVAILABLE = (
    *LOST,
    asyncpg.OperatorInterventionError,  # a statement timeout, a shutdown, a start that is under way
    asyncpg.InsufficientResourcesError,  # too many connections, no memory, no disk
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,  # a deadlock: burial locks a replica and then its chats, its claim the reverse
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidCachedStatementError,  # a migration changed a table; the next transaction prepares anew
)
NOT_OURS = (
    asyncpg.InsufficientPrivilegeError,  # since Postgres 15 only a database's owner may create tables in it
    asyncpg.DuplicateTableError,  # somebody else's table has the name of one of ours
)
UNSTORABLE = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)


@contextmanager
def _reporting_closed(connection: asyncpg.Connection) -> Iterator[None]:
    """asyncpg has one error for a closed connection and for wrong use of it; tell them apart."""
    try:
        yield
    except asyncpg.InterfaceError as error:
        if connection.is_closed():
            raise ConnectionResetError("the connection was closed") from error
        raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except UNAVAILABLE as error:
        raise StoreUnavailable(f"Postgres: {error or type(error).__name__}") from error
    except NOT_OURS as error:
        raise SchemaError(f"Postgres: {error}; give chatcluster a database of its own, that its user owns") from error
    except UNSTORABLE as error:
        raise InvalidRequest("the text has a character that cannot be stored, such as NUL") from error
