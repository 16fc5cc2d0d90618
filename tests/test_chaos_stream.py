"""The chaos script's readers tell how a connection ended: a broken one is resumed, a clean end is a violation (P3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from chaos.stream import BrokenOff, open_stream

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"a\r\nevent: a\n\n\r\n"
END = b"0\r\n\r\n"


@asynccontextmanager
async def server(*pieces: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Says ``pieces`` to everyone, and hangs up. Its URL, and what it was asked."""
    asked: list[bytes] = []

    async def answer(connection: trio.SocketStream) -> None:
        asked.append(await connection.receive_some())
        for piece in pieces:
            await connection.send_all(piece)
        await connection.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer, 0)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", asked
        nursery.cancel_scope.cancel()


async def test_events_follow_each_other_until_the_connection_breaks() -> None:
    async with server(HEAD + EVENT) as (url, asked), open_stream(url, "chat-1", "secret", "3.1-2", ()) as stream:
        assert stream.status == 200
        assert await stream.receive() == [b"event: a"]
        with pytest.raises(BrokenOff, match="end"):
            await stream.receive()
        assert not stream.is_whole
    assert asked[0].startswith(b"GET /api/v1/chats/chat-1/stream HTTP/1.1\r\n")
    assert b"\r\nLast-Event-ID: 3.1-2\r\n" in asked[0]


async def test_a_clean_end_is_told_from_a_broken_one() -> None:
    async with server(HEAD + EVENT + END) as (url, _), open_stream(url, "chat-1", "secret", "", ()) as stream:
        assert not stream.is_whole, "there are blocks to take"
        assert await stream.receive() == [b"event: a"]
        assert stream.is_whole


async def test_a_refusal_is_no_stream() -> None:
    refusal = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
    async with server(refusal) as (url, _), open_stream(url, "chat-1", "secret", "", ()) as stream:
        assert (stream.status, stream.refusal) == (503, "busy")


async def test_nobody_there_is_a_connection_that_is_broken() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(BrokenOff, match="no connection"):
            async with open_stream(url, "chat-1", "secret", "", ()):
                pass


async def test_who_does_not_answer_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as listener:
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        with pytest.raises(BrokenOff, match="no answer"):
            async with open_stream(url, "chat-1", "secret", "", ()):
                pass
