"""HTTP at the socket: what a client may send, in whatever pieces, and what an application may do meanwhile.

What is a request is for ``test_http_requests.py`` to say; here is what becomes of one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from litestar.types import Receive, Scope, Send
from test_web_server import exchange, read_all, serving_app, until_no_connection
from web_world import World, connect, read_until, serving

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
LAST = GET + b"Connection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


async def echo(scope: Any, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    """Says what it was asked, with how many pieces the body came in."""
    body, pieces, more = b"", 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, pieces, more = body + message["body"], pieces + 1, message["more_body"]
    said = b"<%b %b>" % (str(scope["method"]).encode(), body)
    headers = [(b"content-length", b"%d" % len(said)), (b"x-pieces", b"%d" % pieces)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said, "more_body": False})


async def test_bodies_end_where_they_say_and_the_next_request_begins_there() -> None:
    requests = [
        POST + b"Content-Length: 5\r\n\r\nhello",
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"Content-Length: 0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nend",
    ]
    expected = [b"<POST hello>", b"<POST hello>", b"<GET >", b"<POST >", b"<PUT end>"]
    async with serving_app(echo) as (_, url):
        said = await exchange(url, b"".join(requests[:1] + requests[2:]))
        assert [said.count(answer) for answer in expected] == [1, 1, 1, 1, 1]
        assert said.index(b"<POST hello>") < said.index(b"<GET >") < said.index(b"<POST >") < said.index(b"<PUT end>")
        async with await connect(url) as stream:
            for request, answer in zip(requests, expected, strict=True):
                for start in range(0, len(request), 7):
                    await stream.send_all(request[start : start + 7])
                    await trio.testing.wait_all_tasks_blocked()
                assert answer in await read_until(stream, b">")


@pytest.mark.parametrize("target", [b"http://x/livez", b"HTTP://x:80/livez?a=http://y/", b"/livez"])
async def test_a_target_may_be_the_whole_address(target: bytes) -> None:
    async def app(scope: Any, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"<{scope['path']}>".encode(), "more_body": False})

    async with serving_app(app) as (_, url):
        assert b"</livez>" in await exchange(url, b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)


async def test_what_comes_together_with_the_end_of_chunks_is_not_served_and_the_client_is_told() -> None:
    chunks = POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    async with serving_app(echo) as (_, url):
        said = await exchange(url, chunks + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"<POST hello>" in said
        assert b"<GET" not in said
        assert b"connection: close" in said.lower()


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (POST + b"Content-Length: 3, 4\r\n\r\nabcd", 400),
        (POST + b"Content-Length: +3\r\n\r\nabc", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3;" + b"a" * 200_000 + b"\r\nabc\r\n0\r\n\r\n", 431),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", 431),
        (GET + b"Content-Length : 3\r\n\r\nabc", 400),
        (GET + b"X: a\0b\r\n\r\n", 400),
        (GET + b"X: a\rY: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n X: a\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (GET + b"Host: y\r\n\r\n", 400),
    ],
    ids=lambda value: repr(value)[:100],
)
async def test_what_two_servers_could_understand_in_two_ways_is_refused_and_nothing_behind_it_is_served(
    said: bytes, status: int
) -> None:
    served = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal served
        served += scope["path"] == "/livez"
        await echo(scope, receive, send)

    async with serving_app(app) as (server, url):
        answer = await exchange(url, said + LAST)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b'"code":"invalid_request"' in answer
        assert served == 0
        await until_no_connection(server)


async def test_an_application_whose_body_turns_out_to_be_no_http_has_said_nothing() -> None:
    """It is told that the client left, and what it says to that goes nowhere."""
    events = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (event := await receive())["type"] != "http.disconnect":
            events.append(event["body"])  # type: ignore[typeddict-item]
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b"mine", "more_body": False})

    async with serving_app(app) as (_, url):
        said = await exchange(url, POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
        assert said.count(b"HTTP/1.1 400 ") == 1
        assert b"mine" not in said


async def test_who_waits_to_be_told_is_told_to_go_on() -> None:
    async with serving_app(echo) as (_, url), await connect(url) as stream:
        await stream.send_all(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"hello")
        assert b"<POST hello>" in await read_all(stream)


async def test_an_answer_to_head_says_the_length_and_the_next_request_is_served() -> None:
    async with serving(World()) as world:
        said = await exchange(world.url, GET.replace(b"GET", b"HEAD") + b"\r\n" + LAST)
        assert said.count(b"content-length: 18") == 2
        assert said.count(b"alive") == 1


async def test_what_is_asked_behind_the_last_request_is_not_served() -> None:
    async with serving(World()) as world:
        assert (await exchange(world.url, LAST + LAST)).count(b"HTTP/1.1 ") == 1


async def test_very_many_requests_at_once_are_answered_and_delay_no_other_connection() -> None:
    """P10"""
    async with serving(World()) as world, await connect(world.url) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, (GET + b"\r\n") * 500 + LAST)
        with trio.fail_after(60):
            others = await exchange(world.url, LAST)
            assert others.startswith(b"HTTP/1.1 200 ")
            assert (await read_all(stream)).count(b"HTTP/1.1 200 ") == 501


async def test_who_has_said_all_and_closes_his_side_gets_the_answer() -> None:
    async with serving(World()) as world, await connect(world.url) as stream:
        await stream.send_all(GET + b"\r\n")
        await stream.send_eof()
        assert b"alive" in await read_all(stream)


@pytest.mark.parametrize("body", [b"Content-Length: 5\r\n\r\nhel", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"])
async def test_who_closes_his_side_in_the_middle_of_a_body_is_told(body: bytes) -> None:
    async with serving(World()) as world, await connect(world.url) as stream:
        token = (await world.token()).encode()
        await stream.send_all(
            b"POST /api/v1/chats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + b"\r\n" + body
        )
        await stream.send_eof()
        said = await read_all(stream)
        assert said.startswith(b"HTTP/1.1 400 ")
        assert not world.database.chats


async def test_an_application_may_answer_before_it_reads() -> None:
    """What is here of the body is not lost by it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message["body"], message["more_body"]
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async with serving_app(app) as (_, url):
        said = await exchange(url, POST + b"Content-Length: 1000000\r\n\r\n" + b"~" * 1_000_000)
        assert said.count(b"~") == 1_000_000
        assert b"Connection: close" in said, "the rest might never have come"


async def test_an_application_can_wait_for_its_client_to_leave() -> None:
    left = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with serving_app(app) as (server, url):
        async with await connect(url) as stream:
            await stream.send_all(GET + b"\r\n" + b"GET")
            await trio.testing.wait_all_tasks_blocked()
            assert not left.is_set()
        with trio.fail_after(60):
            await left.wait()
        await until_no_connection(server)


async def test_who_waits_for_the_client_is_woken_by_the_end_of_the_answer() -> None:
    """And what the client said meanwhile is its next request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            await receive()
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            await echo(scope, nothing, send)

    async def nothing() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async with serving_app(app) as (_, url), await connect(url) as stream:
        await stream.send_all(GET + b"\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(LAST)
        with trio.fail_after(60):
            assert (await read_all(stream)).count(b"<GET >") == 2


async def test_an_application_that_says_nothing_is_a_failure_of_the_server() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    async with serving_app(app) as (_, url):
        assert (await exchange(url, GET + b"\r\n")).startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize(
    ("version", "headers"), [("1.1", [(b"content-length", b"9")]), ("1.1", []), ("1.0", [(b"content-length", b"9")])]
)
async def test_an_answer_that_is_left_unfinished_does_not_look_whole(
    version: str, headers: list[tuple[bytes, bytes]]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with serving_app(app) as (server, url):
        request = f"GET / HTTP/{version}\r\nHost: x\r\n\r\n".encode()
        if version == "1.0":
            with pytest.raises(trio.BrokenResourceError):
                await exchange(url, request)
        else:
            said = await exchange(url, request)
            assert b"half" in said
            assert not said.endswith(b"0\r\n\r\n")
        await until_no_connection(server)
