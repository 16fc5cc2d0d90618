"""Where the MCP process connects to, and how much it takes."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpcore2
import httpx2
import pytest
import trio
from httpcore2 import AsyncNetworkBackend, AsyncNetworkStream
from mcp import MCPError
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, REQUEST_TIMEOUT

from chatcluster.tools import mcp_http
from chatcluster.tools.mcp_addresses import is_forbidden
from chatcluster.tools.mcp_failures import failed_call
from chatcluster.tools.mcp_http import (
    BODY_BYTES_MAX,
    PIECE_BYTES,
    QUICK,
    STAGGER_SECONDS,
    BodyTooLarge,
    ForbiddenAddress,
    GuardedBackend,
    PromptStream,
)
from chatcluster.tools.mcp_met import Refusals, Sent
from chatcluster.tools.mcp_process import fetch
from chatcluster.tools.mcp_wire import CALL_ID_META, Failed, Fetch, Trouble

FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "100.100.100.200",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
]
ALLOWED = ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "fd00::1", "1.1.1.1", "2606:4700::1111"]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_nobody_is_sent_to_where_clouds_hand_out_credentials(address: str) -> None:
    assert is_forbidden(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_servers_of_the_own_network_and_of_the_world_are_let_through(address: str) -> None:
    assert not is_forbidden(address)


class Network(AsyncNetworkBackend):
    """Each address says by its name how it answers."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    async def connect_tcp(self, host: str, *_: Any, **__: Any) -> AsyncNetworkStream:
        self.tried.append(host)
        if host.startswith("10."):
            await trio.sleep_forever()
        if host.startswith("127."):
            raise httpcore2.ConnectError(f"{host} refuses")
        return Wire(Kernel())


async def connected(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> Sequence[str]:
    """What was tried until there was a connection."""

    async def looked_up(*_: Any) -> list[str]:
        return list(addresses)

    monkeypatch.setattr(mcp_http, "_addresses_of", looked_up)
    backend, network = GuardedBackend(), Network()
    monkeypatch.setattr(backend, "_backend", network)
    await backend.connect_tcp("tools.example", 443, timeout=10.0)
    return network.tried


SILENT, REFUSES, ANSWERS, FORBIDS = "10.0.0.1", "127.0.0.1", "1.1.1.1", "169.254.169.254"


@pytest.mark.parametrize(
    ("addresses", "seconds"),
    [
        ((ANSWERS, SILENT), 0.0),
        ((SILENT, ANSWERS), STAGGER_SECONDS),
        ((REFUSES, ANSWERS), 0.0),
        ((REFUSES, SILENT, SILENT, ANSWERS), 2 * STAGGER_SECONDS),
    ],
)
async def test_an_address_that_says_nothing_costs_the_others_no_time(
    addresses: tuple[str, ...], seconds: float, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    """As in a network that lets no IPv6 out, and says so to nobody."""
    began_at = trio.current_time()
    tried = await connected(monkeypatch, *addresses)
    assert trio.current_time() - began_at == pytest.approx(seconds)
    assert tuple(tried) == addresses[: addresses.index(ANSWERS) + 1]


async def test_nobody_is_sent_to_a_forbidden_address_of_a_name_that_has_others(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    assert await connected(monkeypatch, FORBIDS, SILENT, ANSWERS) == [SILENT, ANSWERS]
    with pytest.raises(ForbiddenAddress):
        await connected(monkeypatch, FORBIDS)
    with pytest.raises(httpcore2.ConnectError, match="refuses"):
        await connected(monkeypatch, REFUSES, REFUSES)
    with pytest.raises(httpcore2.ConnectTimeout):
        await connected(monkeypatch, SILENT)


# --- how soon ---------------------------------------------------------------------------------


class Kernel:
    """A socket that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def setsockopt(self, *option: int) -> None:
        self.asked.append(option)


class Wire(AsyncNetworkStream):
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return b"HTTP/1.1 200 OK"

    async def start_tls(self, *_: Any, **__: Any) -> AsyncNetworkStream:
        return Wire(self._kernel)

    def get_extra_info(self, info: str) -> Any:
        return self._kernel if info == "socket" else None


@pytest.mark.skipif(QUICK is None, reason="the system acknowledges when it likes")
async def test_what_a_server_sent_is_acknowledged_at_once_so_that_it_sends_the_rest() -> None:
    """P4: a server that writes head and body apart takes 40 ms longer without that, and a takeover asks it thrice."""
    kernel = Kernel()
    stream: AsyncNetworkStream = PromptStream(Wire(kernel))
    await stream.read(100)
    assert kernel.asked == [(socket.IPPROTO_TCP, QUICK, 1)]
    stream = await stream.start_tls(ssl.create_default_context())
    await stream.read(100)
    assert len(kernel.asked) == 2, "each time: it is forgotten with the next sending"


# --- how much it takes ------------------------------------------------------------------------


class Sending(httpx2.AsyncByteStream):
    def __init__(self, *chunks: bytes) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


async def pieces(
    monkeypatch: pytest.MonkeyPatch, encoding: str, *chunks: bytes, media_type: str = "application/json"
) -> list[int]:
    """The sizes of the pieces in which this body comes to who asked for it."""

    async def answer(request: httpx2.Request, _: object) -> httpx2.Response:
        headers = {"content-encoding": encoding, "content-type": media_type}
        return httpx2.Response(200, headers=headers, stream=Sending(*chunks), request=request)

    monkeypatch.setattr(mcp_http, "_answer", answer)
    async with mcp_http.client({}, Refusals()).stream("GET", "http://server/") as response:
        return [len(piece) async for piece in response.aiter_bytes()]


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_what_comes_compressed_is_taken_out_in_pieces_and_counts_by_what_is_in_it(
    monkeypatch: pytest.MonkeyPatch, encoding: str, pack: Any
) -> None:
    """P10: sixteen mebibytes of it may be sixteen gibibytes, and would be the end of the process that all share."""
    body = pack(b"x" * 1_000_000)
    assert sum(await pieces(monkeypatch, encoding, body[:7], body[7:])) == 1_000_000
    assert max(await pieces(monkeypatch, encoding, body)) <= PIECE_BYTES
    with pytest.raises(BodyTooLarge):
        await pieces(monkeypatch, encoding, pack(bytes(2 * BODY_BYTES_MAX)))


@pytest.mark.parametrize("end", ["\n\n", "\r\r", "\r\n\r\n"])
@pytest.mark.parametrize("cut", [0, 1, 3])
async def test_a_stream_of_events_has_no_end_wherever_its_pieces_do(
    monkeypatch: pytest.MonkeyPatch, end: str, cut: int
) -> None:
    event = b"data: " + b"x" * (BODY_BYTES_MAX // 4)
    chunks = [event + end.encode()[:cut], end.encode()[cut:]] * 6
    stream = [chunk for chunk in chunks if chunk]
    assert sum(await pieces(monkeypatch, "identity", *stream, media_type="text/event-stream")) > BODY_BYTES_MAX
    with pytest.raises(BodyTooLarge):
        await pieces(monkeypatch, "identity", *([event] * 6), media_type="text/event-stream")


@pytest.mark.parametrize(
    ("encoding", "body"), [("br", b"x"), ("zstd", b"x"), ("gzip, gzip", b"x"), ("gzip", b"no gzip")]
)
async def test_what_cannot_be_taken_out_is_an_answer_of_a_server_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, encoding: str, body: bytes
) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await pieces(monkeypatch, encoding, body)


# --- what became of a call --------------------------------------------------------------------


class NoRoom(httpx2.AsyncByteStream):
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise BodyTooLarge("too much comes in at the same time")


async def test_p10_what_there_is_no_room_for_costs_its_own_request_and_not_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where some servers send all that is held at a time, and one is asked about its sign-ins."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=NoRoom()))
    monkeypatch.setattr(mcp_http, "client", lambda *_: httpx2.AsyncClient(transport=transport))
    told = await fetch(Fetch(7, "GET", "http://tools.example/"))
    assert isinstance(told, Failed)
    assert (told.id, told.trouble) == (7, Trouble.TOO_LARGE)


def message(method: str, call_id: str) -> bytes:
    params = {"name": "count", "arguments": {"_meta": {CALL_ID_META: "no"}}, "_meta": {CALL_ID_META: call_id}}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def test_a_request_is_of_the_call_that_it_names_and_of_no_other() -> None:
    refusals = Refusals()
    with refusals.call("a") as first, refusals.call("b") as second:
        assert refusals.sent_by(message("tools/call", "a")) == [first]
        assert refusals.sent_by(message("tools/call", "b")) == [second]
        assert not refusals.sent_by(message("notifications/cancelled", "a"))
        assert refusals.sent_by(b'{"jsonrpc":"2.0","id":1,"result":{"action":"decline"}}') == ()


def test_a_request_that_cannot_be_read_may_be_of_every_call() -> None:
    refusals = Refusals()
    with refusals.call("a") as first, refusals.call("b") as second:
        assert refusals.sent_by(b"\xff") == [first, second]


def test_no_request_is_sent_for_a_call_that_is_over() -> None:
    refusals = Refusals()
    with refusals.call("a"):
        pass
    assert refusals.sent_by(message("tools/call", "a")) is None


def sent(*became: int | Exception) -> Sent:
    """A call whose requests were answered with these statuses, or failed so."""
    sent = Sent()
    for each in became:
        sent.begin()
        if isinstance(each, Exception):
            sent.note_error(each)
        elif each >= 300:
            sent.note_status(httpx2.Response(each))
    return sent


CLOSED = MCPError(CONNECTION_CLOSED, "Connection closed")
BROKE = MCPError(INTERNAL_ERROR, "it broke")
NO_CONNECTION = httpx2.ConnectError("refused")
NO_SESSION = MCPError(-32000, "Bad Request: No valid session ID provided")


@pytest.mark.parametrize(
    ("became", "error", "trouble"),
    [
        ((401,), BROKE, Trouble.UNAUTHORIZED),
        ((403,), CLOSED, Trouble.UNAUTHORIZED),
        ((404,), MCPError(INTERNAL_ERROR, "Session terminated"), Trouble.SESSION_LOST),
        ((400,), NO_SESSION, Trouble.SESSION_LOST),
        ((400,), MCPError(-32000, "Bad Request: Server not initialized"), Trouble.SESSION_LOST),
        ((NO_CONNECTION,), CLOSED, Trouble.UNREACHABLE),
        ((), CLOSED, Trouble.SESSION_LOST),
    ],
)
def test_a_call_was_not_run_if_each_of_its_requests_was_refused_before_it_began(
    became: tuple[int | Exception, ...], error: Exception, trouble: Trouble
) -> None:
    assert failed_call(1, error, sent(*became)).trouble is trouble


@pytest.mark.parametrize(
    ("became", "error"),
    [
        ((200,), CLOSED),
        ((200,), NO_CONNECTION),
        ((200,), MCPError(REQUEST_TIMEOUT, "too long")),
        ((200, 401), BROKE),
        ((200, 400), NO_SESSION),
        ((200, NO_CONNECTION), CLOSED),
        ((502,), BROKE),
        ((httpx2.ReadError("reset"),), CLOSED),
    ],
)
def test_a_call_that_failed_otherwise_may_have_been_run(became: tuple[int | Exception, ...], error: Exception) -> None:
    assert failed_call(1, error, sent(*became)).trouble is Trouble.BROKEN


@pytest.mark.parametrize("text", ["the session of this user has ended", "the database server not initialized yet"])
def test_a_refusal_that_speaks_of_a_session_of_its_own_is_one_of_the_tool(text: str) -> None:
    refusal = MCPError(-32602, text)
    assert failed_call(1, refusal, sent(400)).trouble is Trouble.REFUSED


@pytest.mark.parametrize(
    ("said", "is_of_the_tool"),
    [
        ("Unknown tool: read", True),
        ("MCP error -32602: Tool read.all not found", True),
        ("Tool not found", True),
        ("No such tool", True),
        ("The tool could not be found", True),
        ("Error executing tool read: customer not found", False),
        ("The tool has not found the file", False),
    ],
)
def test_a_tool_that_is_not_there_is_another_thing_than_what_a_tool_did_not_find(
    said: str, is_of_the_tool: bool
) -> None:
    trouble = failed_call(1, MCPError(-32602, said), sent(200)).trouble
    assert trouble is (Trouble.UNKNOWN_TOOL if is_of_the_tool else Trouble.REFUSED)
