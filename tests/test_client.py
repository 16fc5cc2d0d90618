"""The Python client: it resumes, repeats what it may repeat, and says when the request is wrong."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from web_world import ScriptedSubscriber, World, serving, unknown_chat

from chatcluster import events
from chatcluster.client import STREAM_SECONDS, ApiError, Client, StreamEvent, Unreachable, Unusable
from chatcluster.client import events as client_events
from chatcluster.errors import ConfigError
from chatcluster.events import HistoryResetEvent, StatusEvent, TitleEvent
from chatcluster.http_client import http_client
from chatcluster.parts import Cursor, PartFrame, Position, TextPart, encode, parse_cursor
from chatcluster.subscriber import Cut

Answer = Callable[[httpx.Request], httpx.Response]


def part(seq: int, text: str) -> bytes:
    body = events.named("part", encode(PartFrame(1, TextPart(text))))
    return events.with_id(Cursor(1, Position(1, seq)), body)


def title(version: int, text: str) -> bytes:
    return events.with_id(Cursor(version, Position(1, 9)), events.body(TitleEvent(text)))


def texts(received: list[StreamEvent]) -> list[str]:
    return [item.event.part.text for item in received if isinstance(item.event, PartFrame)]  # type: ignore[union-attr]


async def take(client: Client, chat_id: str, count: int, cursor: str | None = None) -> list[StreamEvent]:
    """The first ``count`` events of a stream."""
    received: list[StreamEvent] = []
    async with aclosing(client.stream(chat_id, cursor)) as stream:
        with trio.fail_after(60):
            async for item in stream:
                received.append(item)
                if len(received) == count:
                    break
    return received


async def feed(reader: ScriptedSubscriber, *scripted: bytes | Exception) -> None:
    for event in scripted:
        await reader.events.send(event)


class TestStream:
    async def test_an_abrupt_end_is_resumed_at_the_cursor_of_the_last_whole_event(self) -> None:
        """P3: nothing twice, nothing missing; half an event is no event."""
        world = World()
        async with serving(world), Client(world.url, await world.token()) as client:
            chat = await client.create("hello")

            async def script() -> None:
                await feed(await world.feeds.next_reader(), part(1, "a"), part(2, "b"), part(3, "c")[:-20], Cut("slow"))
                await feed(await world.feeds.next_reader(), part(3, "c"), Cut("slow"))
                await feed(await world.feeds.next_reader(), part(4, "d"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(script)
                received = await take(client, chat["id"], 4)
            assert texts(received) == ["a", "b", "c", "d"]
            assert [str(cursor) for cursor in world.feeds.cursors] == ["0.0-0", "1.1-2", "1.1-3"]
            assert parse_cursor(received[-1].cursor) == Cursor(1, Position(1, 4))

    async def test_it_starts_at_the_cursor_that_it_is_given(self) -> None:
        world = World()
        async with serving(world), Client(world.url, await world.token()) as client, trio.open_nursery() as nursery:
            chat = await client.create("hello")

            async def script() -> None:
                await feed(await world.feeds.next_reader(), title(8, "t"))

            nursery.start_soon(script)
            await take(client, chat["id"], 1, "7.2-5")
            assert world.feeds.cursors == [Cursor(7, Position(2, 5))]

    async def test_events_of_a_kind_that_it_does_not_know_are_passed_over(self) -> None:
        world = World()
        async with serving(world), Client(world.url, await world.token()) as client, trio.open_nursery() as nursery:
            chat = await client.create("hello")
            unknown = events.with_id(Cursor(2, Position(0, 0)), events.named("fireworks", b'{"type":"fireworks"}'))

            async def script() -> None:
                await feed(await world.feeds.next_reader(), unknown, title(3, "with \u2028 in it"))

            nursery.start_soon(script)
            (only,) = await take(client, chat["id"], 1)
            assert only.event == TitleEvent("with \u2028 in it")

    async def test_leaving_its_loop_early_closes_the_connection(self) -> None:
        world = World()
        async with serving(world), Client(world.url, await world.token()) as client, trio.open_nursery() as nursery:
            chat = await client.create("hello")

            async def script() -> None:
                await feed(await world.feeds.next_reader(), title(1, "a"), title(2, "b"))

            nursery.start_soon(script)
            await take(client, chat["id"], 1)
            with trio.fail_after(60):
                await world.feeds.readers[0].left.wait()

    async def test_a_stream_that_is_refused_is_an_error_with_the_apis_code(self) -> None:
        world = World()
        async with serving(world), Client(world.url, await world.token()) as client:
            chat = await client.create("hello")
            for chat_id, cursor, code in (
                (unknown_chat(), None, "chat_not_found"),
                (chat["id"], "x", "invalid_cursor"),
            ):
                with pytest.raises(ApiError) as raised:
                    await take(client, chat_id, 1, cursor)
                assert raised.value.code == code

    async def test_the_watch_says_when_it_has_missed_something(self) -> None:
        world = World()
        async with serving(world), Client(world.url, await world.token()) as client, trio.open_nursery() as nursery:

            async def script() -> None:
                created = b'event: created\ndata: {"type":"created","chat":{}}\n\n'
                await feed(await world.watches.next_reader(), created, Cut("slow"))
                await feed(await world.watches.next_reader(), created)

            nursery.start_soon(script)
            kinds: list[str] = []
            async with aclosing(client.watch()) as stream:
                with trio.fail_after(60):
                    async for event in stream:
                        kinds.append(event["type"])
                        if len(kinds) == 3:
                            break
            assert kinds == ["created", "reconnected", "created"]


class ScriptedServer:
    """Answers in turn; records the requests and when they came."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.times: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times.append(trio.current_time())
        answer = self.answers.pop(0) if self.answers else httpx.Response(503)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self) -> Client:
        return Client("http://cluster", "ccl_x", transport=httpx.MockTransport(self))

    @property
    def waits(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


def sse(*bodies: bytes) -> httpx.Response:
    """A stream that ends cleanly, as through a proxy that hides the break."""
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=b"".join(bodies))


class TestBackoff:
    async def test_it_doubles_up_to_two_seconds_and_starts_anew_with_the_first_event(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        failures: list[httpx.Response | Exception] = [httpx.ConnectError("refused") for _ in range(8)]
        server = ScriptedServer(*failures, sse(title(1, "a")), sse(title(2, "b")))
        async with server.client() as client:
            received = await take(client, unknown_chat(), 2)
        assert [item.event for item in received] == [TitleEvent("a"), TitleEvent("b")]
        bounds = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 0.05]
        assert all(bound / 2 <= wait <= bound for wait, bound in zip(server.waits, bounds, strict=True))
        assert "last-event-id" not in server.requests[0].headers
        assert server.requests[-1].headers["last-event-id"] == "1.1-9"

    async def test_a_clean_end_and_an_error_of_the_servers_are_resumed_as_well(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        server = ScriptedServer(sse(), httpx.Response(502), httpx.Response(500), sse(title(1, "a")))
        async with server.client() as client:
            assert len(await take(client, unknown_chat(), 1)) == 1

    @pytest.mark.parametrize("kind", ["watch", "stream", "ask"])
    async def test_what_is_no_event_stream_is_not_asked_for_for_ever(
        self, kind: str, autojump_clock: trio.testing.MockClock
    ) -> None:
        """The page of a proxy, say, which wants a sign-in and answers 200."""
        server = ScriptedServer(*[httpx.Response(200, html="<html>sign in</html>") for _ in range(3)])
        async with server.client() as client:
            chat = unknown_chat()
            opened: dict[str, Callable[[], AsyncIterator[object]]] = {
                "watch": client.watch,
                "stream": lambda: client.stream(chat),
                "ask": lambda: client.ask(chat),
            }
            with pytest.raises(ApiError, match="is no chatcluster"):
                await anext(opened[kind]())
        assert len(server.requests) == 1

    async def test_the_server_may_ask_for_a_longer_wait(self, autojump_clock: trio.testing.MockClock) -> None:
        server = ScriptedServer(httpx.Response(429, headers={"Retry-After": "7"}), sse(title(1, "a")))
        async with server.client() as client:
            await take(client, unknown_chat(), 1)
        assert server.waits == pytest.approx([7.0])


class TestRequests:
    async def test_a_write_is_repeated_under_one_key_until_it_is_answered(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        """P1: sent once, however often it had to be tried."""
        answer = httpx.Response(201, json={"message": {"id": 1}})
        server = ScriptedServer(httpx.ReadError("reset"), httpx.Response(503), answer)
        async with server.client() as client:
            assert await client.send(unknown_chat(), "x") == {"message": {"id": 1}}
            assert len({request.headers["idempotency-key"] for request in server.requests}) == 1

    @pytest.mark.parametrize("answer", [httpx.ReadError("reset"), httpx.ReadTimeout(""), httpx.Response(503)])
    async def test_a_write_that_the_server_does_not_know_again_is_tried_once(
        self, answer: httpx.Response | Exception, autojump_clock: trio.testing.MockClock
    ) -> None:
        server = ScriptedServer(answer, httpx.Response(201, json={}))
        async with server.client() as client:
            with pytest.raises((Unreachable, ApiError)):
                await client.sign_in_code()
        assert [("idempotency-key" in request.headers) for request in server.requests] == [False]

    async def test_a_write_that_did_not_get_there_is_repeated_whatever_it_is(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        server = ScriptedServer(
            httpx.ConnectError("refused"),
            httpx.ConnectTimeout(""),
            httpx.Response(429),
            httpx.Response(201, json={"code": "x"}),
        )
        async with server.client() as client:
            assert await client.sign_in_code() == {"code": "x"}

    @pytest.mark.parametrize("lost", [httpx.ReadError("reset"), httpx.Response(503)])
    async def test_a_deletion_whose_answer_is_lost_is_done_when_there_is_nothing_to_delete_any_more(
        self, lost: httpx.Response | Exception, autojump_clock: trio.testing.MockClock
    ) -> None:
        gone = httpx.Response(404, json={"error": {"code": "chat_not_found", "message": "m"}})
        async with ScriptedServer(lost, gone).client() as client:
            await client.delete(unknown_chat())
        for first in (gone, httpx.Response(429), httpx.ConnectError("refused")):
            async with ScriptedServer(first, gone).client() as client:
                with pytest.raises(ApiError, match="chat_not_found"):
                    await client.delete(unknown_chat())

    async def test_two_sends_have_two_keys_unless_the_caller_gives_them_one(self) -> None:
        server = ScriptedServer(*[httpx.Response(201, json={}) for _ in range(3)])
        async with server.client() as client:
            await client.send(unknown_chat(), "x")
            await client.send(unknown_chat(), "x")
            await client.send(unknown_chat(), "x", key="mine")
        keys = [request.headers["idempotency-key"] for request in server.requests]
        assert len(set(keys)) == 3
        assert keys[2] == "mine"

    async def test_it_gives_up_after_a_while(self, autojump_clock: trio.testing.MockClock) -> None:
        server = ScriptedServer()
        async with server.client() as client:
            with pytest.raises(Unreachable):
                await client.me()
        assert trio.current_time() - server.times[0] == pytest.approx(30)

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (httpx.Response(409, json={"error": {"code": "queue_full", "message": "m"}}), "queue_full"),
            (httpx.Response(500, json={"error": {"code": "internal", "message": "m"}}), "internal"),
            (httpx.Response(404, text="<html>a proxy's page</html>"), "unknown"),
            (httpx.Response(404, json=[]), "unknown"),
            (httpx.Response(200, text="<html>some other server</html>"), "unknown"),
            (httpx.Response(301, headers={"Location": "https://cluster/"}), "unknown"),
            (httpx.Response(304), "unknown"),
        ],
    )
    async def test_a_refusal_is_raised_at_once_with_its_code(self, answer: httpx.Response, code: str) -> None:
        server = ScriptedServer(answer)
        async with server.client() as client:
            with pytest.raises(ApiError) as raised:
                await client.send(unknown_chat(), "x")
        assert (raised.value.code, raised.value.status) == (code, answer.status_code)
        assert len(server.requests) == 1

    async def test_every_call_reaches_its_route(self) -> None:
        world = World()
        async with serving(world), Client(world.url, await world.token(admin=True)) as client:
            chat = await client.create("hello", title="t")
            queued = [(await client.send(chat["id"], text))["queued"]["id"] for text in ("a", "b")]
            await client.promote(chat["id"], queued[1])
            await client.delete_queued(chat["id"], queued[0])
            history = await client.history(chat["id"])
            await client.edit(chat["id"], history[0]["id"], "other")
            assert (await client.messages(chat["id"], limit=1))["messages"][0]["parts"][0]["text"] == "other"
            assert (await client.interrupt(chat["id"]))["status"] == "interrupting"
            assert (await client.update(chat["id"], title="new"))["title"] == "new"
            assert (await client.chat(chat["id"]))["title"] == "new"
            assert [item["id"] for item in (await client.chats(archived=False, limit=5))["chats"]] == [chat["id"]]
            assert (await client.me())["admin"] is True
            assert await client.replicas() == []


def test_of_what_a_chat_waits_for_it_knows_what_it_can_tell() -> None:
    """A later version may wait for what this one has no word for."""
    call = {"call_id": "a", "name": "mail", "arguments": "{}", "digest": "d", "deadline": "2026-01-01T00:00:00Z"}
    calls = [{**call, "kind": "approval", "weight": 7}, {**call, "call_id": "b", "kind": "oracle"}]
    event = client_events.decode_event("action_required", json.dumps({"type": "action_required", "calls": calls}))
    assert isinstance(event, events.ActionRequiredEvent)
    assert [(action.call_id, action.kind) for action in event.calls] == [("a", "approval")]


def test_the_events_that_it_knows_are_those_that_the_server_sends() -> None:
    sent = {"attempt", "resumed", "part"} | {kind.__struct_config__.tag for kind in events.Event.__args__}
    assert sent == client_events.EVENT_TYPES
    for event in (StatusEvent("running", False, 1, None), HistoryResetEvent()):
        kind: Any = type(event).__struct_config__.tag
        assert client_events.decode_event(kind, encode(event).decode()) == event


class TestSecretsAndAddresses:
    """What no request can carry is said when the client is made, and not after half a minute, or never."""

    async def test_the_end_of_a_line_in_a_file_is_no_part_of_them(self) -> None:
        world = World()
        async with serving(world), Client(f" {world.url}/\n", f"{await world.token()}\r\n") as client:
            assert (await client.me())["name"] == "ada"

    @pytest.mark.parametrize(
        "token",
        [
            *("", " \n", "ccl_\u00fc", "ccl_a\nccl_b", "ccl_a ccl_b", "ccl_\u200b", "a\0b"),
            *("'ccl_a'", '"ccl_a"', "CHATCLUSTER_TOKEN=ccl_a", "<token>", None, b"ccl_a"),
        ],
    )
    def test_a_token_that_is_none_is_refused_at_once(self, token: Any) -> None:
        with pytest.raises(ConfigError, match=r"^token must be") as raised:
            Client("http://cluster", token)
        assert "ccl_" not in str(raised.value)

    @pytest.mark.parametrize(
        "base_url",
        [
            *("http://a\nb", "http://cluster?x=1", "http://cluster#x", "http://cl\u00fcster", None),
            *("http://ada:secret@cluster", "http://cluster/api/v1/"),
        ],
    )
    def test_an_address_with_more_than_an_address_is_refused_at_once(self, base_url: Any) -> None:
        with pytest.raises(ConfigError, match=r"^base_url must be"):
            Client(base_url, "ccl_x")

    async def test_so_are_a_key_and_a_cursor(self) -> None:
        async with ScriptedServer().client() as client:
            for text in ("two\nlines", "\u00fc"):
                with pytest.raises(ConfigError, match=r"^key must be"):
                    await client.send(unknown_chat(), "x", key=text)
                with pytest.raises(ConfigError, match=r"^cursor must be"):
                    await take(client, unknown_chat(), 1, text)


class TestWhatCannotGetBetter:
    @pytest.mark.parametrize("reading", [True, False])
    async def test_a_certificate_that_is_not_accepted_is_said_at_once(self, reading: bool) -> None:
        refused = httpx.ConnectError("tls")
        refused.__cause__ = OSError()
        refused.__cause__.__context__ = ssl.SSLCertVerificationError(1, "certificate has expired")
        server = ScriptedServer(refused)
        async with server.client() as client:
            with pytest.raises(Unusable, match="certificate"):
                await (client.me() if reading else take(client, unknown_chat(), 1))
        assert len(server.requests) == 1

    @pytest.mark.parametrize("error", [httpx.LocalProtocolError("x"), httpx.UnsupportedProtocol("x")])
    async def test_nor_is_a_request_that_cannot_be_written(self, error: Exception) -> None:
        async with ScriptedServer(error).client() as client:
            with pytest.raises(Unusable, match="cannot be sent"):
                await client.me()

    async def test_a_stream_that_nothing_answers_gives_up_and_says_why(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        server = ScriptedServer(*[httpx.ConnectError("connection refused") for _ in range(1000)])
        async with server.client() as client:
            with pytest.raises(Unreachable, match="connection refused"):
                await take_patiently(client)
        assert trio.current_time() - server.times[0] == pytest.approx(STREAM_SECONDS)

    async def test_a_stream_that_is_answered_now_and_then_goes_on(self, autojump_clock: trio.testing.MockClock) -> None:
        server = ScriptedServer()
        for number in range(3):
            server.answers += [httpx.ConnectError("refused") for _ in range(100)] + [sse(title(number + 1, "t"))]
        async with server.client() as client:
            assert len(await take_patiently(client, 3)) == 3
        assert trio.current_time() - server.times[0] > STREAM_SECONDS


async def take_patiently(client: Client, count: int = 1) -> list[StreamEvent]:
    """As ``take``, for as long as it takes."""
    received: list[StreamEvent] = []
    async with aclosing(client.stream(unknown_chat())) as stream:
        async for item in stream:
            received.append(item)
            if len(received) == count:
                break
    return received


class TestNewerServers:
    async def test_a_part_of_an_unknown_kind_is_passed_over_and_the_message_around_it_is_not(self) -> None:
        frame = events.with_id(Cursor(1, Position(1, 1)), events.named("part", NEW_PART))
        message = events.with_id(Cursor(2, Position(1, 2)), events.named("message", NEW_MESSAGE))
        queue = events.with_id(Cursor(3, Position(1, 2)), events.named("queue", NEW_QUEUE))
        server = ScriptedServer(sse(frame, message, queue))
        async with server.client() as client:
            first, second = await take(client, unknown_chat(), 2)
        assert first.event.message.parts == (TextPart("hello"),)  # type: ignore[union-attr]
        assert second.event.queue[0].parts == ()  # type: ignore[union-attr]
        assert second.cursor == "3.1-2"

    @pytest.mark.parametrize("data", ["[]", "1", "{}", '{"type": "message"}', '{"type": "message", "message": 1}'])
    async def test_an_event_that_is_no_event_is_passed_over(self, data: str) -> None:
        assert client_events.decode_event("message", data) is None


NEW_PART = b'{"type":"part","attempt":1,"part":{"type":"hologram","depth":3}}'
NEW_MESSAGE = (
    b'{"type":"message","message":{"id":1,"role":"assistant","revision":2,"created_at":"2026-01-01T00:00:00Z",'
    b'"parts":[{"type":"hologram"},{"type":"text","text":"hello"}]}}'
)
NEW_QUEUE = (
    b'{"type":"queue","queue":[{"id":1,"created_at":"2026-01-01T00:00:00Z","parts":[{"type":"hologram","depth":3}]}]}'
)


@pytest.mark.parametrize("base_url", ["", "cluster", "localhost:8000", "ftp://cluster", "http://"])
def test_an_address_that_is_none_is_refused_at_once(base_url: str) -> None:
    """Tried again like a server that is away, it would be tried for ever."""
    with pytest.raises(ConfigError, match="base_url must be a URL"):
        Client(base_url, "ccl_x")


class TestProxies:
    """Of the environment: for other machines, and not for this one."""

    @pytest.mark.parametrize(
        ("url", "is_here"),
        [
            ("http://127.0.0.1:8000", True),
            ("http://127.3.2.1", True),
            ("HTTP://localhost:8000", True),
            ("http://[::1]:8000", True),
            ("https://localhost", False),  # certificates of the environment count, and so do its proxies
            ("http://10.0.0.1:8000", False),
            ("http://localhost.example", False),
        ],
    )
    async def test_what_is_on_this_machine_is_reached_directly(
        self, monkeypatch: pytest.MonkeyPatch, url: str, is_here: bool
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, "http://proxy.example:3128")
        async with http_client(url) as client:
            assert client.trust_env is not is_here

    @pytest.mark.parametrize("proxy", ["socks5://proxy.example", "gopher://proxy.example", "http://proxy:port"])
    def test_one_that_cannot_be_used_is_a_wrong_setting(self, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
        monkeypatch.setenv("ALL_PROXY", proxy)
        with pytest.raises(ConfigError, match="the proxy of HTTP_PROXY"):
            Client("https://cluster", "ccl_x")
        Client("http://localhost:8000", "ccl_x")
