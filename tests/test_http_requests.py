"""What is a request, and where it ends. Whatever is understood here, h11 understands in the same way: two servers in a
row see the same requests. What h11 is lenient about may be refused; what clients do say is listed.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatcluster.web.http.request_body import TAKEN_BYTES_MAX, ChunkedBody, body_of
from chatcluster.web.http.request_head import HEAD_BYTES_MAX, NotHttp, head_end, parse_head

GET = b"GET /a?b HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Understood(NamedTuple):
    """What a server makes of some bytes: so much of a request, and what is left for the next one."""

    refused: int = 0
    """The status; 0 if it is HTTP so far."""
    line: tuple[str, bytes, str] | None = None
    """None while the head is not all there."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    closes: bool = False
    expects_continue: bool = False
    body: bytes = b""
    is_whole: bool = False
    is_last: bool = False
    """Where it ends within what came is not known."""
    rest: bytes = b""


def ours(data: bytes, piece_bytes: int = 1 << 20) -> Understood:
    """The bytes come in pieces of that size."""
    pieces = deque(data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes))
    buffer, searched_bytes, end = bytearray(), 0, -1
    said = Understood()
    try:
        while end < 0 and pieces:
            buffer += pieces.popleft()
            end, searched_bytes = head_end(buffer, searched_bytes), len(buffer)
        if end < 0:
            return said
        head = parse_head(bytes(buffer[:end]))
        del buffer[:end]
        said = said._replace(
            line=(head.method, head.target, head.version),
            headers=tuple(head.headers),
            closes=head.closes,
            expects_continue=head.expects_continue,
        )
        body, taken = body_of(head.body_bytes), b""
        while not body.complete:
            taken += (piece := body.take(buffer))
            if not piece and not body.complete:
                if not pieces:
                    break
                buffer += pieces.popleft()
    except NotHttp as error:
        return Understood(refused=error.status)
    return said._replace(
        body=taken, is_whole=body.complete, is_last=body.is_last, rest=bytes(buffer) + b"".join(pieces)
    )


def judged(data: bytes) -> Understood:
    """What h11 makes of them."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    connection.receive_data(data)
    said = Understood()
    try:
        while True:
            match connection.next_event():
                case h11.Request() as head:
                    closes = any(
                        word.strip().lower() == b"close"
                        for name, value in head.headers
                        if name == b"connection"
                        for word in value.split(b",")
                    )
                    said = said._replace(
                        line=(head.method.decode().upper(), bytes(head.target), head.http_version.decode()),
                        headers=tuple((bytes(name), bytes(value)) for name, value in head.headers),
                        closes=closes or head.http_version < b"1.1",
                        expects_continue=connection.they_are_waiting_for_100_continue,
                    )
                case h11.Data(data=piece):
                    said = said._replace(body=said.body + piece)
                case h11.EndOfMessage():
                    return said._replace(is_whole=True, rest=connection.trailing_data[0])
                case _:
                    return said if said.line is None else said._replace(rest=connection.trailing_data[0])
    except h11.RemoteProtocolError as error:
        return Understood(refused=error.error_status_hint)


def as_h11_says_it(said: Understood) -> Understood:
    headers = tuple((name, value.lower() if name == b"transfer-encoding" else value) for name, value in said.headers)
    return said._replace(headers=headers)


def require_agreement(data: bytes) -> Understood:
    """What we make of it, if h11 makes the same of it, and if it is the same however it comes."""
    found, expected = ours(data), judged(data)
    if found.is_last or not found.is_whole:
        found, expected = found._replace(rest=b""), expected._replace(rest=b"", is_last=found.is_last)
    assert found.refused or as_h11_says_it(found) == as_h11_says_it(expected)
    in_pieces = ours(data, piece_bytes=1 if len(data) < 1000 else 1000)
    assert without_end(in_pieces) == without_end(found), "however it comes"
    return found


def without_end(said: Understood) -> Understood:
    """What follows on a body in chunks is known where it comes by itself."""
    return said._replace(is_last=False, rest=b"")


FIELDS = [
    b"X-A: a", b"X-A:a", b"X-A:  a \t", b"X-A:", b"X-A:  ", b"X-A: a b", b"X-A: \xe4\xff", b"X-A: a\x01\x7f",
    b"X-A: a\x00b", b"X-A: a\rb", b"X-A: a\x0bb", b"X-A: a\x0cb", b"X-A: a\r", b"X-A : a", b" X-A: a", b"\tb", b"  ",
    b": a", b"X-A", b"X\x00A: a", b"X(A: a", b"X\xe4: a", b"X-A: a\r\n b", b"X-A: a\r\n\t \r\n b", b"X-A: a\n b",
    b"Host: y", b"Host:", b"Connection: close", b"Connection: foo, Close", b"Connection: keep-alive",
    b"Connection: foo\r\nConnection: close", b"Connection: upgrade\r\nUpgrade: h2c", b"Expect: 100-continue",
    b"Expect: 100-Continue", b"Expect: tea", b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 005",
    b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 5\r\nX-A: a\r\nContent-Length: 6",
    b"Content-Length: 5, 5", b"Content-Length: 5, 6", b"Content-Length: +5", b"Content-Length: -5",
    b"Content-Length: 0x5", b"Content-Length: 5_0", b"Content-Length:", b"Content-Length: 5 5",
    b"Content-Length: \xb2", b"Content-Length: 5.0", b"Content-Length: 5,", b"content-LENGTH: 5",
    b"Content-Length: " + b"9" * 20, b"Content-Length: " + b"9" * 21, b"Content-Length : 5", b"Content-Length: 5\r\n 0",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: CHUNKED", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding:",
    b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\n , identity", b"Transfer_Encoding: chunked", b"Trailer: x",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS, ids=repr)
def test_a_field_says_what_it_says_to_h11(field: bytes) -> None:
    for body in (b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"hellohello GET"):
        require_agreement(POST + field + b"\r\n\r\n" + body)
        require_agreement(POST + b"X-B: b\r\n" + field + b"\r\nX-C: c\r\n\r\n" + body)


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1", b"get / HTTP/1.1", b"GET /\xe4 HTTP/1.1", b"GET / HTTP/1.0", b"GET / HTTP/2.0",
        b"GET / HTTP/1.10", b"GET / HTTP/1", b"GET / http/1.1", b"GET /", b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1", b"\r\nGET / HTTP/1.1", b"\nGET / HTTP/1.1", b"GET\t/ HTTP/1.1", b"G(T / HTTP/1.1",
        b"GET /a b HTTP/1.1", b"GET http://y/a HTTP/1.1", b"OPTIONS * HTTP/1.1", b"CONNECT y:80 HTTP/1.1",
        b"PRI * HTTP/2.0", b"\x16\x03\x01", b"", b"GET /\x00 HTTP/1.1", b"GET / HTTP/1.1\r", b"HTTP/1.1 200 OK",
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_a_request_line_says_what_it_says_to_h11(line: bytes, end: bytes) -> None:
    require_agreement(line + end + b"Host: x" + end + end)
    require_agreement(line + end + end)
    require_agreement(line)


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello\r\n0\r\n\r\n", b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\nGET", b"5;a=b\r\nhello\r\n0;c\r\n\r\n",
        b"5 \t\r\nhello\r\n0\r\n\r\n", b"5 ;a\r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n",
        b"5\r\nhello\r\n0\r\n\n", b"5\r\nhello\r\n0\r\nX-A: a\r\n\r\nGET", b"5\r\nhello\r\n0\r\nX A\r\n\r\n",
        b"5\r\nhello\r\n0\r\n X-A: a\r\n\r\n", b"5\r\nhello\r\n0\r\nX-A: a\r\n b\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX-A: \x00\r\n\r\n", b"5\r\nhelloxx0\r\n\r\n", b"5\r\nhello\r", b"5\r\nhello\rx",
        b"5\r\nhello0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n", b"5_0\r\nhello\r\n0\r\n\r\n", b"\r\nhello\r\n0\r\n\r\n", b"g\r\nhello\r\n",
        b"f" * 20 + b"\r\nhello", b"f" * 21 + b"\r\nhello", b"0" * 19 + b"5\r\nhello\r\n0\r\n\r\n", b"00\r\n\r\nGET",
        b"5;\x00\r\nhello\r\n0\r\n\r\n", b"5;\n\r\nhello\r\n0\r\n\r\n", b"5;\r\r\nhello\r\n0\r\n\r\n", b"5", b"5\r",
        b"0\r\n",
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
def test_chunks_say_what_they_say_to_h11(body: bytes) -> None:
    require_agreement(CHUNKED + body)


TROUBLE = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"5", b"a", b"\x0b", b"\xff", b"",
     b"Content-Length: 3", b"Transfer-Encoding: chunked", b"chunked", b"Host: y", b"HTTP/1.1", b"Expect: 100-continue"]
)  # fmt: skip
WHOLE = st.sampled_from(
    [
        GET + b"X-A: a\r\n\r\n" + GET,
        POST + b"Content-Length: 5\r\n\r\nhello" + GET,
        CHUNKED + b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nX-B: b\r\n\r\n" + GET,
        b"POST / HTTP/1.0\nContent-Length: 5\n\nhello",
    ]
)


@settings(max_examples=100, deadline=None)
@given(WHOLE, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), TROUBLE), max_size=4))
@example(CHUNKED + b"0\r\n\r\n", [])
def test_whatever_is_done_to_a_request_it_says_what_it_says_to_h11(
    data: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    for place, removed, inserted in changes:
        place %= len(data) + 1
        data = data[:place] + inserted + data[place + removed :]
    require_agreement(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://y/a HTTP/1.1\r\nHost: y\r\n\r\n", GET + b"X-A:\r\nX-B: \xe4 \t\r\nX-C:c\r\n\r\n",
        GET + b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n\r\n",
        POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello", POST + b"content-length:0\r\n\r\n",
        POST + b"Transfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-A: a\r\n\r\n",
    ],
    ids=lambda data: repr(data[:60]),
)  # fmt: skip
def test_what_clients_do_say_is_understood(data: bytes) -> None:
    found = require_agreement(data)
    assert found.is_whole
    assert not found.refused
    assert not found.is_last


def test_requests_behind_chunks_that_come_with_them_are_not_served() -> None:
    """Where the chunks end within what came is not known: the client is told that the connection ends."""
    assert ours(CHUNKED + b"0\r\n\r\n" + GET + b"\r\n").is_last
    assert ours(CHUNKED + b"0\r\n\r\n" + b"\x16\x03").is_last


@pytest.mark.parametrize("said", [b"5;" + b"a" * 200_000, b"0\r\nX: " + b"a" * 200_000], ids=["extension", "trailer"])
@pytest.mark.parametrize("piece_bytes", [1 << 20, 1000])
def test_what_is_passed_over_has_a_limit(said: bytes, piece_bytes: int) -> None:
    assert ours(CHUNKED + said, piece_bytes).refused == 431


@pytest.mark.parametrize("order", [1, -1])
def test_a_length_and_chunks_together_are_refused(order: int) -> None:
    """A proxy that goes by the one, and a server that goes by the other, would see other requests."""
    fields = [b"Content-Length: 5", b"Transfer-Encoding: chunked"][::order]
    assert ours(POST + b"\r\n".join(fields) + b"\r\n\r\n0\r\n\r\n" + GET).refused == 400


@pytest.mark.parametrize("piece_bytes", [1 << 20, 1000])
def test_a_head_has_a_limit_however_it_comes(piece_bytes: int) -> None:
    room = HEAD_BYTES_MAX - len(GET + b"X: \r\n\r\n")
    assert not ours(GET + b"X: " + b"a" * room + b"\r\n\r\n", piece_bytes).refused
    assert ours(GET + b"X: " + b"a" * (room + 1) + b"\r\n\r\n", piece_bytes).refused == 431
    assert ours(GET + b"X: " + b"a" * 2 * HEAD_BYTES_MAX, piece_bytes).refused == 431


def test_p10_very_small_chunks_are_taken_a_few_at_a_time() -> None:
    body, buffer, sent = ChunkedBody(), bytearray(b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n"), len(b"1\r\na\r\n") * 20_000
    first = body.take(buffer)
    assert len(buffer) == sent + 5 - TAKEN_BYTES_MAX
    assert first + body.take(buffer) == b"a" * 20_000
    assert (body.complete, body.is_last) == (True, False)
    assert not buffer


@pytest.mark.parametrize(
    "said",
    [GET + b"X:" + b" " * 32_000 + b"\0\r\n\r\n", CHUNKED + b"5;" + b" " * 32_000 + b"\n\r\n"],
    ids=["head", "chunk"],
)
def test_p10_blanks_are_read_once(said: bytes) -> None:
    """A pattern that tries every place for the end of them takes seconds for each of these."""
    for _ in range(50):
        assert ours(said).refused == 400
