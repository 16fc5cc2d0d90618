"""The sockets to Postgres: plain, TLS, and broken."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
import trio
from postgres_sessions import LossyLink, open_session, socket_path, wait_until

from chatcluster.config import Settings
from chatcluster.errors import StoreRefused, StoreUnavailable
from chatcluster.postgres import Connection, Database, open_database
from chatcluster.postgres.statements import AsyncpgConnection

pytestmark = pytest.mark.postgres

CERTIFICATE = Path(__file__).parent / "localhost.pem"
SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])
LARGE = 4 * 1024 * 1024


async def backend(connection: Connection) -> int:
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid


async def echo(connection: Connection, size: int) -> str:
    """There and back more than sockets hold."""
    text: str = await connection.fetchval("SELECT $1::text", "x" * size)
    return text


async def take_long(connection: Connection) -> None:
    await connection.execute("SELECT pg_sleep(60)")


SLEEPS = "EXISTS (SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active')"


class TlsDoor:
    """A way to the server that speaks TLS as Postgres does: on request, with its answer, or from the first byte."""

    def __init__(self, url: str, answer: bytes = b"S") -> None:
        self._url = urlsplit(url)
        self._server = socket_path(url)
        self._answer = answer
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(CERTIFICATE)

    @asynccontextmanager
    async def listening(self, parameters: str) -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, self._serve, [listener])
            port = listener.socket.getsockname()[1]
            yield f"postgresql://{self._url.username or 'chatcluster'}@localhost:{port}{self._url.path}?{parameters}"
            nursery.cancel_scope.cancel()

    async def _serve(self, client: trio.SocketStream) -> None:
        async with client:
            first = await client.socket.recv(1, trio.socket.MSG_PEEK)
            if first != b"\x16":  # no handshake
                assert await client.receive_some(8) == SSL_REQUEST
                await client.send_all(self._answer)
            if self._answer == b"":
                return
            stream = client if self._answer == b"N" else trio.SSLStream(client, self._context, server_side=True)
            try:
                await self._forward(cast(trio.SocketStream, stream))
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _forward(self, client: trio.abc.Stream) -> None:
        async with await trio.open_unix_socket(str(self._server)) as server, trio.open_nursery() as nursery:

            async def pump(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
                while data := await source.receive_some(65536):
                    await sink.send_all(data)
                nursery.cancel_scope.cancel()

            nursery.start_soon(pump, client, server)
            nursery.start_soon(pump, server, client)


TRUST = f"sslrootcert={CERTIFICATE}"


@pytest.mark.parametrize(
    "parameters",
    [f"sslmode=verify-full&{TRUST}", f"sslmode=verify-full&{TRUST}&sslnegotiation=direct", "sslmode=prefer"],
)
async def test_statements_and_their_cancellation_pass_through_tls(empty_database_url: str, parameters: str) -> None:
    async with (
        TlsDoor(empty_database_url).listening(parameters) as url,
        open_database(Settings(database_url=url)) as database,
        open_database(Settings(database_url=empty_database_url)) as beside,
        open_session(beside) as observer,
        open_session(database) as session,
    ):
        pid = await database.autocommit(backend)
        assert await database.transaction(echo, LARGE) == "x" * LARGE
        assert await session.run(echo, LARGE) == "x" * LARGE
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.transaction, take_long)
            await wait_until(observer, SLEEPS)
            nursery.cancel_scope.cancel()
        await wait_until(observer, f"NOT {SLEEPS}")
        assert await database.autocommit(backend) == pid


async def test_a_certificate_that_nobody_vouches_for_is_refused(empty_database_url: str) -> None:
    async with (
        TlsDoor(empty_database_url).listening("sslmode=verify-full&sslrootcert=system") as url,
        open_database(Settings(database_url=url)) as database,
    ):
        with pytest.raises(StoreRefused, match="certificate"):
            await database.autocommit(backend)


@pytest.mark.parametrize("answer", [b"N", b"", b"E", b"S\0"])
async def test_a_server_that_will_not_speak_tls_is_unavailable(empty_database_url: str, answer: bytes) -> None:
    """What comes behind its answer is no part of it: somebody on the way may have put it there."""
    async with (
        TlsDoor(empty_database_url, answer).listening("sslmode=require") as url,
        open_database(Settings(database_url=url)) as database,
    ):
        with pytest.raises(StoreUnavailable):
            await database.autocommit(backend)


async def test_a_server_without_tls_is_spoken_to_plainly_where_that_will_do(empty_database_url: str) -> None:
    async with (
        TlsDoor(empty_database_url, b"N").listening("sslmode=prefer") as url,
        open_database(Settings(database_url=url)) as database,
    ):
        assert await database.transaction(echo, LARGE) == "x" * LARGE


async def test_more_than_sockets_hold_passes(empty_database_url: str) -> None:
    async with (
        LossyLink(empty_database_url).listening() as url,
        open_database(Settings(database_url=url)) as database,
    ):
        assert await database.transaction(echo, LARGE) == "x" * LARGE


async def test_a_statement_whose_connection_is_ended_here_fails_at_once(empty_database_url: str) -> None:
    """As one is that was found dead in silence."""
    async with open_database(Settings(database_url=empty_database_url)) as database:

        async def lose(connection: Connection) -> None:
            assert isinstance(connection, AsyncpgConnection)
            nursery.start_soon(end, connection)
            await take_long(connection)

        async def end(connection: AsyncpgConnection) -> None:
            await trio.testing.wait_all_tasks_blocked()
            connection.terminate()

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                with pytest.raises(StoreUnavailable):
                    await database.transaction(lose)
        assert await database.autocommit(backend) > 0


async def test_a_connection_that_ended_while_it_was_idle_is_passed_over_before_anything_is_sent(
    empty_database_url: str,
) -> None:
    async with open_database(Settings(database_url=empty_database_url)) as database, open_session(database) as observer:
        pid, generation = await database.autocommit(backend), database.generation
        await wait_until(observer, f"pg_terminate_backend({pid}, 5000)")
        assert await database.look_and_write(backend, write) != pid
        assert database.generation > generation


async def write(connection: Connection, seen: int) -> int:
    assert await backend(connection) == seen
    return seen


async def test_a_statement_that_fails_before_it_is_sent_fails_alone(database: Database) -> None:
    async def ask_wrongly(connection: Connection) -> None:
        await connection.fetchval("SELECT $1::int", "no number")

    pid = await database.autocommit(backend)
    with pytest.raises(Exception, match="no number"):
        await database.autocommit(ask_wrongly)
    assert await database.autocommit(backend) == pid


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    async with open_database(Settings(database_url=empty_database_url)) as database:
        yield database
