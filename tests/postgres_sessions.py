"""Sessions beside the code under test: to hold locks, to look at what waits, to lose a connection on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio

from chatcluster.postgres import Connection, Database, Row, Session


async def execute(session: Session, query: str, *arguments: object) -> None:
    async def run(connection: Connection) -> None:
        await connection.execute(query, *arguments)

    await session.run(run)


async def fetchval(session: Session, query: str, *arguments: object) -> Any:
    async def run(connection: Connection) -> Any:
        return await connection.fetchval(query, *arguments)

    return await session.run(run)


async def fetch(session: Session, query: str, *arguments: object) -> list[Row]:
    async def run(connection: Connection) -> list[Row]:
        return list(await connection.fetch(query, *arguments))

    return await session.run(run)


@asynccontextmanager
async def open_session(database: Database, purpose: str = "test", *, lasting: bool = False) -> AsyncIterator[Session]:
    session = database.session(purpose, lasting=lasting)
    try:
        yield session
    finally:
        await session.aclose()


async def wait_until(session: Session, condition: str) -> None:
    """Return when the SQL condition holds. The server looks every 2 ms, and its statement timeout is the limit."""
    await execute(
        session,
        f"DO $$ BEGIN WHILE NOT ({condition}) LOOP PERFORM pg_sleep(0.002), pg_stat_clear_snapshot(); END LOOP; END $$",
    )


async def wait_blocked(session: Session, count: int = 1) -> None:
    """Return when so many others wait for a lock."""
    await wait_until(session, f"(SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted) >= {count}")


def as_role(url: str, role: str) -> str:
    """The same database for another role."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{role}@{host}").geturl()


def socket_path(url: str) -> Path:
    """The Unix socket of the server that ``url`` leads to."""
    query = parse_qs(urlsplit(url).query)
    return Path(query["host"][0]) / f".s.PGSQL.{query.get('port', ['5432'])[0]}"


class LossyLink:
    """A way to the server that breaks once, at a word: before it gets there, or before its answer gets back.

    Or it is cut: nothing gets through any more, and nobody is told. Or it forgets: so it is for the connections that
    there are, and new ones work. The server notices what the client closes, as by its keepalives, or never.
    """

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._server = socket_path(url)
        self._word: bytes | None = None
        self._delivers = False
        self._answering = False
        self._cut = False
        self._generation = 0
        self._server_notices = True

    def forget(self, *, server_notices: bool = True) -> None:
        self._generation += 1
        self._server_notices = server_notices

    def cut(self) -> None:
        self._cut = True

    def break_at(self, word: str, *, delivered: bool) -> None:
        """Break at the next ``word`` from a client; ``delivered`` tells whether the server still gets it."""
        self._word, self._delivers = word.encode(), delivered

    @property
    def broke(self) -> bool:
        return self._word is None and not self._answering

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The URL of the same database over this link."""
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(partial(trio.serve_listeners, self._serve_until_gone, [listener]))
            port = listener.socket.getsockname()[1]
            yield f"postgresql://{self._url.username or 'chatcluster'}@127.0.0.1:{port}{self._url.path}"
            nursery.cancel_scope.cancel()

    async def _serve_until_gone(self, client: trio.SocketStream) -> None:
        try:
            await self._serve(client)
        except* trio.BrokenResourceError:
            pass  # either side hung up on what was on its way

    async def _serve(self, client: trio.SocketStream) -> None:
        generation = self._generation
        async with client, await trio.open_unix_socket(self._server) as server, trio.open_nursery() as nursery:
            nursery.start_soon(self._forward_answers, server, client, nursery.cancel_scope, generation)
            async for data in client:
                if self._cut or generation != self._generation:
                    continue
                if self._word is not None and self._word in data:
                    self._word = None
                    if not self._delivers:
                        break
                    self._answering = True
                await server.send_all(data)
            if generation != self._generation and not self._server_notices:
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()

    async def _forward_answers(
        self, server: trio.SocketStream, client: trio.SocketStream, scope: trio.CancelScope, generation: int
    ) -> None:
        async for data in server:
            if self._cut or generation != self._generation:
                continue
            if self._answering:
                self._answering = False
                break
            await client.send_all(data)
        scope.cancel()
