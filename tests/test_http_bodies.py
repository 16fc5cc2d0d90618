"""The body of a streamed answer is what h11 makes of it, whoever reads it, and costs no more than its bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import h11
import httpcore
import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcluster.http_bodies import Network, plain_chunks
from chatcluster.http_client import http_client, http_transport

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
URL = "http://model.test/"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


PIECES = st.one_of(
    st.binary(min_size=1, max_size=40).map(chunk),
    st.sampled_from(
        [
            *(b"3;a=b\r\nabc\r\n", b"A\r\n0123456789\r\n", b"a\r\n0123456789\r\n", b"0000000003\r\nabc\r\n"),
            *(b"4\r\n\r\n\r\n\r\n", b"3\r\nabcd\r\n", b"3\r\nab\r\n", b"x\r\n", b"3 \r\nabc\r\n", b"3\nabc\n"),
            *(b"0\r\nTrailer: 1\r\n\r\n", b"\r\n", b"\n\r\n", b"-1\r\n", b"3\r\nabc5\r\nhello\r\n"),
        ]
    ),
)
ENDS = st.sampled_from([END, b""])
BODIES = st.builds(lambda pieces, end: b"".join(pieces) + end, st.lists(PIECES, max_size=8), ENDS)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def in_pieces(said: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(said)), len(said)]
    return [said[start:end] for start, end in pairwise(places)]


class _Told:
    """What came of a response: its body, and what was wrong in the end."""

    def __init__(self) -> None:
        self.body = b""
        self.error: type[Exception] | None = None


def client_of(pieces: Sequence[bytes], *, past: bool) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(verify=False)  # which is quick to make
    backend: httpcore.AsyncNetworkBackend = httpcore.AsyncMockBackend(list(pieces))
    if past:
        network = Network()
        network._network, backend = backend, network  # type: ignore[assignment]
    transport._pool._network_backend = backend
    return httpx.AsyncClient(transport=transport, trust_env=False)


async def read_by_httpx(response: httpx.Response, told: _Told) -> None:
    async for piece in response.aiter_raw():
        told.body += piece


async def read_past_it(response: httpx.Response, told: _Told) -> None:
    chunks = plain_chunks(response)
    while chunks is not None and (piece := await chunks.receive()):
        told.body += piece
    await read_by_httpx(response, told)


async def told_of(pieces: Sequence[bytes], read: Callable[[httpx.Response, _Told], Awaitable[None]]) -> _Told:
    told = _Told()
    async with client_of(pieces, past=read is read_past_it) as client:
        try:
            async with client.stream("POST", URL) as response:
                await read(response, told)
        except httpx.TransportError as error:
            told.error = type(error)
    return told


@settings(deadline=None)
@given(BODIES, CUTS)
def test_a_body_is_the_same_whoever_reads_it_and_however_it_comes(body: bytes, cuts: list[int]) -> None:
    pieces = in_pieces(HEAD + body, cuts)
    known, told = trio.run(told_of, pieces, read_by_httpx), trio.run(told_of, pieces, read_past_it)
    assert (told.body, told.error) == (known.body, known.error)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD + chunk(b"abc") + END,
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n5\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\n5\r\nhello",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"abc") + END,
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n" + chunk(b"abc") + END,
    ],
    ids=["hints first", "by its length", "by the end of the connection", "none", "an error", "bare line ends"],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_other_bodies_and_heads_are_read_as_ever(said: bytes, size: int) -> None:
    pieces = in_pieces(said, range(size, len(said), size))
    known, told = await told_of(pieces, read_by_httpx), await told_of(pieces, read_past_it)
    assert (told.body, told.error) == (known.body, known.error)
    assert known.error is None


async def test_what_is_here_is_given_out_before_its_chunk_is_whole() -> None:
    async with (
        client_of([HEAD, b"20\r\nhello", b" there"], past=True) as client,
        client.stream("POST", URL) as response,
    ):
        chunks = plain_chunks(response)
        assert chunks is not None
        assert [await chunks.receive(), await chunks.receive()] == [b"hello", b" there"]


async def test_an_end_that_came_with_the_last_chunk_is_not_waited_for() -> None:
    """All is here, so nobody waits for a server that has no more to say."""
    told = await told_of([HEAD + chunk(b"hello") + END], read_past_it)
    assert (told.body, told.error) == (b"hello", None)


async def test_h11_sees_the_head_and_the_end_alone_and_the_connection_is_kept(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, connections = 0, 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        while await stream.receive_some():
            await stream.send_all(HEAD)
            for _ in range(200):
                await stream.send_all(chunk(b"data: {}\n\n"))
            await stream.send_all(END)

    next_event = h11.Connection.next_event

    def counted(self: h11.Connection) -> object:
        nonlocal asked
        asked += 1
        return next_event(self)

    listeners = await nursery.start(trio.serve_tcp, serve, 0)
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
    monkeypatch.setattr(h11.Connection, "next_event", counted)
    async with http_client(url, transport=http_transport(url)) as client:
        for _ in range(2):
            async with client.stream("GET", url) as response:
                told = _Told()
                await read_past_it(response, told)
                assert told.body == b"data: {}\n\n" * 200
    assert connections == 1
    assert asked <= 2 * 8
    nursery.cancel_scope.cancel()


async def test_a_connection_on_which_something_came_unasked_is_not_used_again() -> None:
    said = b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\nan answer to nobody"
    async with client_of([said], past=True) as client:
        for _ in range(2):
            async with client.stream("POST", URL) as response:
                told = _Told()
                await read_past_it(response, told)
            assert (response.status_code, told.body) == (204, b"")
