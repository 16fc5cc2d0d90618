"""Model servers as they are, on real sockets: old HTTP, odd bodies, dead connections, certificates. Each ends in the
answer, or in an error that says what the server said and what to do."""

from __future__ import annotations

import gzip
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from settings_model import settings_model
from test_llm_client import EVENT_STREAM, KEY, WHOLE, answer, failure, model_of, read_request, saying

from chatcluster.config import Settings
from chatcluster.errors import ConfigError, ProviderError
from chatcluster.http_client import PEER_SILENCE_MS_MAX, http_client, http_transport
from chatcluster.llm.client import HttpModel
from chatcluster.llm.connection_errors import translate
from chatcluster.llm.failures import Provider
from chatcluster.llm.wire import Route
from chatcluster.parts import TextPart

Talk = Callable[[trio.SocketStream], Awaitable[None]]
CERTIFICATE = Path(__file__).parent / "localhost.pem"
DONE = b"data: [DONE]\n\n"


def response(head: str, body: bytes) -> bytes:
    return head.replace("\n", "\r\n").encode() + b"\r\n" + body


async def said_by(nursery: trio.Nursery, talk: Talk) -> str:
    async with await model_of(nursery, talk) as model:
        parts, _ = await answer(model, "hi")
    nursery.cancel_scope.cancel()
    (text,) = parts
    assert isinstance(text, TextPart)
    return text.text


# --- connections ------------------------------------------------------------------------------


class KeptConnections:
    """A server that answers the first request of each connection, and breaks a further one as it is told to."""

    def __init__(self, *, resets: bool = False, answers: int = 1) -> None:
        self.requests = 0
        self.connections = 0
        self._resets = resets
        self._answers = answers

    async def __call__(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        for _ in range(self._answers):
            await self._answer(stream)
        await read_request(stream)
        self.requests += 1
        if self._resets:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async def _answer(self, stream: trio.SocketStream) -> None:
        await read_request(stream)
        self.requests += 1
        head = f"HTTP/1.1 200 OK\ncontent-type: text/event-stream\ncontent-length: {len(WHOLE + DONE)}\n"
        await stream.send_all(response(head, WHOLE + DONE))


@pytest.mark.parametrize("resets", [False, True])
async def test_a_kept_connection_that_turns_out_dead_costs_no_attempt(nursery: trio.Nursery, resets: bool) -> None:
    server = KeptConnections(resets=resets)
    async with await model_of(nursery, server) as model:
        await answer(model, "hi")
        await answer(model, "hi again")
        assert (server.connections, server.requests) == (2, 3), "the second request went out twice, at once"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("resets", [False, True])
async def test_a_request_on_a_connection_of_its_own_is_not_repeated(nursery: trio.Nursery, resets: bool) -> None:
    """The server has seen it, and may have begun: another attempt is the runner's decision."""
    server = KeptConnections(resets=resets, answers=0)
    async with await model_of(nursery, server) as model:
        error = await failure(model, "hi")
    nursery.cancel_scope.cancel()
    assert (error.kind, error.retryable, server.requests) == ("generic", True, 1)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no bound on silence of a peer")
async def test_the_kernel_watches_the_models_connections(nursery: trio.Nursery) -> None:
    """A firewall that forgets a connection, or a host that is cut off, costs two seconds."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, saying("HTTP/1.1 200 OK\ncontent-length: 2\n", b"ok"), listeners)
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    client = http_client(url, transport=http_transport(url))
    async with client, client.stream("POST", url, content=b"") as response:
        connected = response.extensions["network_stream"].get_extra_info("socket")
        silence_ms = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        probed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    nursery.cancel_scope.cancel()
    assert (silence_ms, probed) == (PEER_SILENCE_MS_MAX, 1)
    assert silence_ms == 2000


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("HTTP/1.0 200 OK\ncontent-type: text/event-stream\n", WHOLE),
        ("HTTP/1.1 200 OK\nconnection: close\ncontent-type: text/event-stream\n", WHOLE + DONE),
        ("HTTP/1.1 201 Created\ncontent-type: text/event-stream; charset=utf-8\n", WHOLE),
        ("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\ncontent-type: text/event-stream\n", WHOLE),
        (f"{EVENT_STREAM}transfer-encoding: chunked\n", b"%x;name=value\r\n%b\r\n0\r\n\r\n" % (len(WHOLE), WHOLE)),
        (f"{EVENT_STREAM}transfer-encoding: chunked\n", b"%x\r\n%b\r\n0\r\nx-a: b\r\n\r\n" % (len(WHOLE), WHOLE)),
        ("HTTP/1.1 200 OK\n", WHOLE),
        ("HTTP/1.1 200 OK\ncontent-type: text/plain\n", b"\xef\xbb\xbf" + WHOLE),
        (f"{EVENT_STREAM}content-encoding: gzip\n", gzip.compress(WHOLE, mtime=0)),
        (f"{EVENT_STREAM}content-encoding: deflate\n", zlib.compress(WHOLE)),
        ("HTTP/1.1 200 OK\ncontent-type: text/plain\n", b'\n{"choices":[{"message":{"content":"Hi"}}]}'),
        ("HTTP/1.1 200 OK\n", b'{\n"choices":\n[{"message":{"content":"Hi"}}]}'),
        ("HTTP/1.1 200 OK\ncontent-type: application/x-ndjson\n", b'{"choices":[{"message":{"content":"Hi"}}]}\n'),
        (EVENT_STREAM, b'{"choices":[{"message":{"content":"Hi"}}]}'),
    ],
)
async def test_an_answer_is_taken_in_every_wrapping(nursery: trio.Nursery, head: str, body: bytes) -> None:
    assert await said_by(nursery, saying(head, body)) == "Hi"


def chunked(body: bytes) -> bytes:
    return b"".join(b"1\r\n%c\r\n" % byte for byte in body)


COMMENTS = b": wait\n" * 10_000
WHOLE_CHUNK = b"%x\r\n%b\r\n" % (len(WHOLE + DONE), WHOLE + DONE)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (f"{EVENT_STREAM}transfer-encoding: chunked\n", chunked(COMMENTS + WHOLE) + b"0\r\n\r\n"),
        (f"{EVENT_STREAM}content-encoding: gzip\n", gzip.compress(COMMENTS * 50 + WHOLE, mtime=0)),
        (f"{EVENT_STREAM}content-encoding: gzip\n", gzip.compress(b"\n" * 3_900_000 + WHOLE, mtime=0)),
        (EVENT_STREAM, COMMENTS * 10 + WHOLE),
        ("HTTP/1.1 100 Continue\n\n" * 30_000 + EVENT_STREAM, WHOLE),
        (f"{EVENT_STREAM}transfer-encoding: chunked\n", WHOLE_CHUNK + b"1;\r\n:\r\n" * 90_000 + b"0\r\n\r\n"),
    ],
    ids=[
        "very many chunks",
        "very much in little",
        "very many lines",
        "no chunks",
        "very many heads",
        "behind its end",
    ],
)
async def test_p10_others_have_their_turn_while_very_much_comes_at_once(
    nursery: trio.Nursery, head: str, body: bytes
) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    nursery.start_soon(take_turns)
    assert await said_by(nursery, saying(head, body)) == "Hi"
    assert turns > 50


async def test_a_refusal_before_the_request_is_sent_is_read(nursery: trio.Nursery) -> None:
    """A proxy that finds a request too large says so, and closes, while the request is still on its way."""

    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        body = b'{"error":{"message":"at most 1 MB"}}'
        await stream.send_all(response(f"HTTP/1.1 413 Too Large\ncontent-length: {len(body)}\n", body))
        await stream.send_eof()
        while await stream.receive_some():
            pass

    async with await model_of(nursery, talk) as model:
        error = await failure(model, "x" * (4 << 20))
    nursery.cancel_scope.cancel()
    assert (error.kind, error.retryable) == ("context_overflow", False)
    assert "at most 1 MB" in error.message


@pytest.mark.parametrize(
    ("head", "body", "kind", "retryable", "says"),
    [
        ("200 OK", b"<html><title>Sign in</title>", "config", False, "a web page (Sign in)"),
        ("200 OK\ncontent-type: text/plain", b"\n<!doctype html><h1>Hello</h1>", "config", False, "llm-base-url"),
        ("200 OK\ncontent-encoding: br", b"?", "config", False, "compressed (br)"),
        ("200 OK\ncontent-encoding: gzip", b"no gzip", "generic", True, "cannot be decompressed"),
        ("200 OK\ncontent-type: text/event-stream", b"upstream broke\n", "generic", True, "upstream broke"),
        ("200 OK\ncontent-type: text/event-stream", b'{\n"error":{\n"code":429}}', "rate_limit", True, "429"),
        ("200 OK\ncontent-type: text/event-stream", b"", "stream_incomplete", True, "in the middle"),
        ("204 No Content", b"", "stream_incomplete", True, "in the middle"),
        ("200 OK\ncontent-type: application/json", b"", "stream_incomplete", True, "in the middle"),
        ("200 OK\ncontent-type: application/json", b"Busy", "generic", True, "Busy"),
        ("429 Slow\ncontent-length: 99", b'{"error":{"message":"slow do', "rate_limit", True, "slow do"),
        ("307 Moved\nlocation: https://b.example/v1", b"", "config", False, "https://b.example/v1"),
        ("400 Bad\x20Request", b"plain \x00\x1b[1mwords", "config", False, "plain [1mwords"),
    ],
)
async def test_a_failure_says_what_the_server_said(
    nursery: trio.Nursery, head: str, body: bytes, kind: str, retryable: bool, says: str
) -> None:
    async with await model_of(nursery, saying(f"HTTP/1.1 {head}\n", body)) as model:
        error = await failure(model, "hi")
    nursery.cancel_scope.cancel()
    assert (error.kind, error.retryable) == (kind, retryable)
    assert says in error.message


async def test_the_request_goes_where_the_base_url_says(nursery: trio.Nursery) -> None:
    requests: list[bytes] = []

    async def talk(stream: trio.SocketStream) -> None:
        requests.append(await read_request(stream))
        await stream.send_all(response(EVENT_STREAM, WHOLE))

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, talk, listeners)
    host = f"user:pass%40word@127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    url = f"http://{host}/my models/d/?api-version=2026-01-01"
    async with settings_model(Settings.of(llm_base_url=url, llm_api_key=KEY, llm_model="m")) as model:
        await answer(model, "hi")
        assert "user" not in repr(model)
    nursery.cancel_scope.cancel()
    lines = requests[0].lower().split(b"\r\n")
    assert lines[0] == b"post /my%20models/d/chat/completions?api-version=2026-01-01 http/1.1"
    assert b"api-key: " + KEY.encode() in lines
    assert any(line.startswith(b"authorization: basic ") for line in lines), "a password in the URL goes first"


# --- certificates and proxies -----------------------------------------------------------------


async def secured(nursery: trio.Nursery) -> int:
    """The port of a server with a certificate that it has given itself, for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    async def talk(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.do_handshake()
            await stream.receive_some()
            await stream.send_all(response(EVENT_STREAM, WHOLE))
        except trio.BrokenResourceError:
            return

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, talk, listeners)
    inner = listeners[0].transport_listener
    assert isinstance(inner, trio.SocketListener)
    return int(inner.socket.getsockname()[1])


def model_at(url: str) -> HttpModel:
    return settings_model(Settings.of(llm_base_url=url, llm_api_key=KEY, llm_model="m"))


async def test_a_certificate_is_refused_with_its_fault_and_what_to_do(nursery: trio.Nursery) -> None:
    async with model_at(f"https://localhost:{await secured(nursery)}/v1") as model:
        error = await failure(model, "hi")
    nursery.cancel_scope.cancel()
    assert (error.kind, error.retryable) == ("config", False)
    assert "is not trusted: self-signed certificate" in error.message
    assert "SSL_CERT_FILE" in error.message


async def test_a_certificate_of_ones_own_is_trusted_by_naming_it(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    port = await secured(nursery)
    async with model_at(f"https://localhost:{port}/v1") as model:
        parts, _ = await answer(model, "hi")
    async with model_at(f"https://127.0.0.1:{port}/v1") as model:
        error = await failure(model, "hi")
    nursery.cancel_scope.cancel()
    assert parts == (TextPart("Hi"),)
    assert "certificate is not valid for '127.0.0.1'" in error.message
    assert "llm-base-url has to name the host" in error.message


@pytest.mark.parametrize(
    ("code", "words", "advice"),
    [
        (10, "certificate has expired", "renewed"),
        (9, "certificate is not yet valid", "clock"),
        (20, "unable to get local issuer certificate", "SSL_CERT_FILE"),
        (62, "Hostname mismatch", "llm-base-url"),
    ],
)
def test_each_fault_of_a_certificate_has_its_advice(code: int, words: str, advice: str) -> None:
    fault = ssl.SSLCertVerificationError(1, "certificate verify failed")
    fault.verify_code, fault.verify_message = code, words
    outer = ConnectionError()
    outer.__cause__ = fault
    error = translate(Provider("test.example"), outer)
    assert (error.kind, error.retryable) == ("config", False)
    assert words in error.message
    assert advice in error.message


async def test_a_server_that_speaks_plain_http_is_told_from_one_that_is_away(nursery: trio.Nursery) -> None:
    async def hang_up_on_garbage(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    plain = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, hang_up_on_garbage, plain)
    port = plain[0].socket.getsockname()[1]
    async with model_at(f"https://127.0.0.1:{port}/v1") as model:
        error = await failure(model, "hi")
    nursery.cancel_scope.cancel()
    assert (error.kind, error.retryable) == ("config", False)
    assert "http:// instead of https://" in error.message


@pytest.mark.parametrize(
    ("url", "key"),
    [("http://[", "k"), ("http://h:port/", "k"), ("ftp://h/", "k"), ("", "k"), ("\0", "k"), ("http://h/\x00", "k"),
     ("http://127.0.0.1:9/v1", "\u20ac")],
)  # fmt: skip
async def test_what_is_stored_of_a_server_and_is_no_address_or_no_key_is_its_configuration(url: str, key: str) -> None:
    """P10: by whatever way it came there. It is no error of ours, and is not tried again."""
    route = Route(server=Provider("theirs"), base_url=url, api_key=key, model="m")
    async with HttpModel(lambda _: route, concurrent=1) as model:
        error = await failure(model, "hi")
    assert (error.kind, error.retryable) == ("config", False)


async def test_a_refused_connection_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with model_at(f"http://127.0.0.1:{unused.getsockname()[1]}/v1") as model:
            error = await failure(model, "hi")
    assert error.message.endswith("Connection refused")
    assert error.retryable


def test_certificates_that_cannot_be_read_are_named_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty").write_text("")
    for path in ("/nowhere", str(tmp_path / "empty")):
        monkeypatch.setenv("SSL_CERT_FILE", path)
        with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
            http_transport("https://host.example/v1")


@pytest.mark.parametrize(
    ("exempt", "asked"), [("", ["connect model.example:443 http/1.1"]), ("model.example", []), ("*", [])]
)
async def test_the_environments_proxy_is_asked_for_other_machines(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, exempt: str, asked: list[str]
) -> None:
    requests: list[str] = []

    async def refuse(stream: trio.SocketStream) -> None:
        requests.append((await stream.receive_some()).decode().lower().split("\r\n")[0])
        await stream.send_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, refuse, listeners)
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    monkeypatch.setenv("no_proxy", exempt)

    async def lookup_fails(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("trio.open_tcp_stream", lookup_fails) if exempt else None
    async with model_at("https://model.example/v1") as model:
        with pytest.raises(ProviderError) as caught:
            await answer(model, "hi")
    nursery.cancel_scope.cancel()
    assert requests == asked
    assert ("proxy" in caught.value.message) is bool(asked)
    assert caught.value.retryable
