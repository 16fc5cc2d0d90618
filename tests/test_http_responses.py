"""A response as bytes: how its end is said, and that an application cannot say one thing and send another."""

from __future__ import annotations

import h11
import pytest

from chatcluster.web.http.request_head import RequestHead, parse_head
from chatcluster.web.http.response import JOINED_BYTES_MAX, BadResponse, Response, go_on, refusal

LENGTH_2 = [(b"content-length", b"2")]


def asked(method: str = "GET", version: str = "1.1", fields: str = "") -> RequestHead:
    return parse_head(f"{method} / HTTP/{version}\r\nHost: x\r\n{fields}\r\n".encode())


def said(request: RequestHead, status: int, headers: list[tuple[bytes, bytes]], *pieces: bytes) -> bytes:
    response = Response(request)
    data = response.start(status, headers)
    for piece in pieces:
        data += b"".join(response.write(piece, more=True))
    data += b"".join(response.write(b"", more=False))
    assert response.complete
    return data


def heard(data: bytes, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes, bool]:
    """What a client makes of it, and whether it may use the connection again."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    head = connection.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    if event is h11.NEED_DATA:
        connection.receive_data(b"")
        event = connection.next_event()
    assert isinstance(event, h11.EndOfMessage)
    return head.status_code, dict(head.headers), body, connection.their_state is h11.DONE


@pytest.mark.parametrize(
    ("request_head", "headers", "framing", "stays"),
    [
        (asked(), LENGTH_2, (b"content-length", b"2"), True),
        (asked(), [], (b"transfer-encoding", b"chunked"), True),
        (asked(version="1.0"), LENGTH_2, (b"content-length", b"2"), False),
        (asked(version="1.0"), [], (b"connection", b"close"), False),
        (asked(fields="Connection: close\r\n"), [], (b"transfer-encoding", b"chunked"), False),
        (asked(), [*LENGTH_2, (b"connection", b"close")], (b"connection", b"close"), False),
    ],
)
def test_a_client_knows_where_the_body_ends_and_whether_it_may_ask_again(
    request_head: RequestHead, headers: list[tuple[bytes, bytes]], framing: tuple[bytes, bytes], stays: bool
) -> None:
    status, told, body, may_ask = heard(said(request_head, 200, headers, b"o", b"", b"k"))
    assert (status, body, may_ask) == (200, b"ok", stays)
    assert framing in told.items()
    assert b"date" in told


@pytest.mark.parametrize("headers", [LENGTH_2, []])
def test_an_answer_to_head_has_the_head_of_the_others_and_no_body(headers: list[tuple[bytes, bytes]]) -> None:
    data = said(asked("HEAD"), 200, headers, b"ok")
    assert data.endswith(b"\r\n\r\n")
    status, told, body, may_ask = heard(data, "HEAD")
    assert (status, body, may_ask) == (200, b"", True)
    assert told.get(b"content-length") == (b"2" if headers else None)


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_that_has_no_body_has_none(status: int) -> None:
    assert heard(said(asked(), status, []))[1:] == heard(said(asked(), status, [], b"ok"))[1:]
    assert b"chunked" not in said(asked(), status, [])


def test_head_and_body_of_a_known_length_go_out_together_and_a_large_body_is_not_copied() -> None:
    response = Response(asked())
    assert response.start(200, LENGTH_2) == b""
    assert len(response.write(b"ok", more=False)) == 1
    large = b"x" * (JOINED_BYTES_MAX + 1)
    response = Response(asked())
    response.start(200, [(b"content-length", b"%d" % len(large))])
    assert response.write(large, more=False)[1] is large


def test_what_an_application_says_of_the_connection_is_the_servers_to_say() -> None:
    data = said(asked(), 200, [(b"Transfer-Encoding", b"gzip"), (b"Connection", b"keep-alive, upgrade")], b"ok")
    _, told, body, may_ask = heard(data)
    assert (told[b"transfer-encoding"], body, may_ask) == (b"chunked", b"ok", True)
    assert b"connection" not in told


@pytest.mark.parametrize(
    "field",
    [(b"x-a", b"a\r\nx-b: b"), (b"x-a", b"a\nb"), (b"x-a", b"a\rb"), (b"x-a", b"a\0b"), (b"x-a: a\r\nx-b", b"b")],
)
def test_no_field_can_be_read_as_several(field: tuple[bytes, bytes]) -> None:
    response = Response(asked())
    with pytest.raises(BadResponse):
        response.start(200, [field])
    assert not response.started
    assert heard(b"".join(response.failed()))[::2] == (500, b"")


@pytest.mark.parametrize("pieces", [[b"o"], [b"okay"], [b"ok", b"ay"], []])
def test_a_body_of_another_length_than_was_said_is_left_unfinished(pieces: list[bytes]) -> None:
    with pytest.raises(BadResponse):
        said(asked(), 200, LENGTH_2, *pieces)


def test_nothing_is_said_twice() -> None:
    response = Response(asked())
    with pytest.raises(BadResponse):
        response.write(b"ok", more=False)
    with pytest.raises(BadResponse):
        response.start(101, [])
    response.start(200, LENGTH_2)
    with pytest.raises(BadResponse):
        response.start(200, LENGTH_2)
    response.write(b"ok", more=False)
    with pytest.raises(BadResponse):
        response.write(b"ok", more=False)


@pytest.mark.parametrize(
    ("version", "headers", "is_endless", "looks_complete"),
    [
        ("1.1", [], True, False),
        ("1.0", [], True, True),
        ("1.1", LENGTH_2, False, False),
        ("1.0", LENGTH_2, False, True),
    ],
)
def test_it_is_known_which_response_would_look_complete_if_it_were_cut(
    version: str, headers: list[tuple[bytes, bytes]], is_endless: bool, looks_complete: bool
) -> None:
    response = Response(asked(version=version))
    assert (response.is_endless, response.looks_complete_and_is_not) == (False, False)
    response.start(200, headers)
    assert (response.is_endless, response.looks_complete_and_is_not) == (is_endless, looks_complete)
    response.write(b"ok", more=False)
    assert (response.is_endless, response.looks_complete_and_is_not) == (False, False)


def test_what_the_server_says_by_itself() -> None:
    assert heard(refusal(400, b"{}"))[::2] == (400, b"{}")
    assert not heard(refusal(400, b"{}"))[3]
    assert heard(b"".join(Response(asked()).failed()))[::2] == (500, b"")
    assert go_on().startswith(b"HTTP/1.1 100 ")
