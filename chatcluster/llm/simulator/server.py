"""``chatcluster simulate-llm``: a server that speaks the Chat Completions wire, and fails on demand.

``POST /v1/chat/completions`` (streaming or not), ``GET /v1/models``, ``GET /healthz`` (with counts). Any
API key will do. What is answered is decided by ``script.py``, whose directives a prompt can carry; this
module puts it on the wire at the right time.

One task serves one connection, HTTP/1.1 with keep-alive. Token *i* is due at ``start + first + i / tps``;
a stream that is late writes all due tokens at once, as separate events, so a busy machine changes the
grouping but neither the pace nor the text. While it waits, it watches the connection: a client that
goes away ends its stream at once, and ``Simulator.aborted`` counts it.

It uses h11 on trio directly, not an ASGI server: a cut connection, silence and an end of body without a
terminal event have to be exactly that on the wire, and each token costs less.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import h11
import msgspec
import trio

from chatcluster.errors import ChatclusterError
from chatcluster.llm.simulator import completions
from chatcluster.llm.simulator import script as script_module
from chatcluster.llm.simulator.answer import Answer
from chatcluster.llm.simulator.question import Question, RefusedQuestion
from chatcluster.llm.simulator.script import (
    DirectiveError,
    Ending,
    Script,
    has_times,
    read_script,
)

BODY_BYTES_MAX = 32 << 20
ATTEMPTS_REMEMBERED_MAX = 10_000
IDLE_SECONDS = 75.0
SEND_SECONDS = 60.0
SILENCE_SECONDS = 3600.0
TOKENS_PER_WRITE_MAX = 64
_RECEIVE_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True)
class SimulatorOptions:
    """How the server listens, and what an answer is like where its prompt does not say otherwise."""

    host: str = "127.0.0.1"
    port: int = 8200
    """0 picks a free one."""
    tokens_per_second: float = 50.0
    """0 is as fast as possible."""
    first_token_ms: float = 0.0
    tokens: int | None = None
    """A number has words counted, or drawn."""
    seed: int = 0
    """0 counts (``w0 w1 w2``); another number draws words from a small vocabulary."""
    mode: str | None = None
    """One of ``MODES``; None: Markdown, or words where their number or a seed is given."""

    def script(self) -> Script:
        counts = self.tokens is not None or self.seed
        return Script(
            tokens=100 if self.tokens is None else self.tokens,
            tps=self.tokens_per_second,
            first_ms=self.first_token_ms,
            seed=self.seed,
            mode=self.mode or ("words" if counts else "markdown"),
        )


class _ClientGone(ChatclusterError):
    """The client closed the connection, or takes nothing any more."""


class _Cut(ChatclusterError):
    """The script wants the connection closed, as a crash would close it."""


def directives_help() -> str:
    """The directives that a prompt can carry, for ``--help``."""
    return inspect.cleandoc(script_module.__doc__ or "")


async def serve(options: SimulatorOptions, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled. ``task_status`` is given the base URL, ``http://host:port/v1``."""
    await Simulator(options).serve(task_status=task_status)


class Simulator:
    """The server, with counts that say what it is doing."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._options = options
        self._defaults = options.script()
        self._attempts: OrderedDict[bytes, int] = OrderedDict()
        self.connections = 0
        self.requests = 0
        self.streaming = 0
        """Answers that are being streamed now."""
        self.aborted = 0
        """Answers whose client left before the end."""

    def __repr__(self) -> str:
        return f"<Simulator {self.statistics()}>"

    def statistics(self) -> dict[str, int]:
        return {
            "connections": self.connections,
            "requests": self.requests,
            "streaming": self.streaming,
            "aborted": self.aborted,
        }

    async def serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(self._options.port, host=self._options.host)
        port = listeners[0].socket.getsockname()[1]
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        task_status.started(f"http://{host}:{port}/v1")
        await trio.serve_listeners(self.serve_connection, listeners)

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """Answer one client until it goes or the script cuts it off. The caller closes the stream."""
        self.connections += 1
        try:
            connection = _Connection(stream)
            while await self._serve_request(connection):
                connection.next_request()
        except (_ClientGone, _Cut):
            return
        finally:
            self.connections -= 1

    async def _serve_request(self, connection: _Connection) -> bool:
        """Answer one request; False if no other can follow on this connection."""
        try:
            request = await connection.read_request()
            if request is None:
                return False
            self.requests += 1
            await self._route(connection, *request)
        except h11.RemoteProtocolError as error:
            await connection.refuse(error.error_status_hint, str(error))
            return False
        return connection.is_reusable

    async def _route(self, connection: _Connection, method: str, path: str, body: bytes) -> None:
        if (method, path) == ("POST", "/v1/chat/completions"):
            await self._complete(connection, body)
        elif (method, path) == ("GET", "/v1/models"):
            await connection.send_json(200, completions.MODELS)
        elif (method, path) == ("GET", "/healthz"):
            await connection.send_json(200, {"status": "ok", **self.statistics()})
        else:
            await connection.send_json(404, completions.error_body(404, "not_found", f"there is no {method} {path}"))

    async def _complete(self, connection: _Connection, body: bytes) -> None:
        try:
            question = completions.read_question(body)
            attempt = self._count_attempt(question) if has_times(question.prompt) else 1
            script = read_script(question.prompt, self._defaults, attempt, question.step)
        except (DirectiveError, RefusedQuestion) as error:
            await connection.send_json(400, completions.error_body(400, "invalid_request", str(error)))
            return
        if script.drop:
            raise _Cut
        answer = Answer(script, question)
        if script.fail:
            headers = _retry_after_headers(script.retry_after)
            await connection.send_json(script.fail, completions.failure_body(script), headers)
        elif question.streams:
            await self._stream(connection, answer, completions.Rendered(answer))
        else:
            await self._answer_at_once(connection, answer, completions.Rendered(answer))

    def _count_attempt(self, question: Question) -> int:
        """Which attempt at this prompt in this conversation this is, from 1."""
        key = hashlib.blake2b(question.conversation, digest_size=16).digest()
        attempt = self._attempts.pop(key, 0) + 1
        self._attempts[key] = attempt
        if len(self._attempts) > ATTEMPTS_REMEMBERED_MAX:
            self._attempts.popitem(last=False)
        return attempt

    async def _stream(self, connection: _Connection, answer: Answer, rendered: completions.Rendered) -> None:
        self.streaming += 1
        try:
            await connection.start(200, [("content-type", "text/event-stream"), ("cache-control", "no-cache")])
            await self._send_tokens(connection, answer, rendered)
            await self._send_ending(connection, answer, rendered)
        except _ClientGone:
            self.aborted += 1
            raise
        finally:
            self.streaming -= 1

    async def _send_tokens(self, connection: _Connection, answer: Answer, rendered: completions.Rendered) -> None:
        await connection.send(rendered.prelude())
        script = answer.script
        interval = 1 / script.tps if script.tps else 0.0
        first_at = trio.current_time() + script.first_ms / 1000
        sent, count = 0, answer.sent_count
        while sent < count:
            due_at = first_at + sent * interval
            await connection.wait_until(due_at)
            late = int((trio.current_time() - due_at) / interval) if interval else TOKENS_PER_WRITE_MAX
            until = min(count, sent + 1 + min(late, TOKENS_PER_WRITE_MAX - 1))
            await connection.send(b"".join(map(rendered.token_event, range(sent, until))))
            sent = until

    async def _send_ending(self, connection: _Connection, answer: Answer, rendered: completions.Rendered) -> None:
        match answer.ending:
            case Ending.CUT:
                raise _Cut
            case Ending.SILENCE:
                await connection.wait_until(trio.current_time() + SILENCE_SECONDS)
                raise _Cut
            case Ending.ERROR:
                await connection.send(rendered.error_event())
            case Ending.COMPLETE:
                await connection.send(rendered.final_events())
            case Ending.NO_END:
                pass
        await connection.end()

    async def _answer_at_once(self, connection: _Connection, answer: Answer, rendered: completions.Rendered) -> None:
        script = answer.script
        seconds = script.first_ms / 1000 + (answer.sent_count / script.tps if script.tps else 0.0)
        await connection.wait_until(trio.current_time() + seconds)
        match answer.ending:
            case Ending.COMPLETE:
                await connection.send_json(200, rendered.whole())
            case Ending.ERROR:
                await connection.send_json(500, completions.failure_body(script))
            case Ending.SILENCE:
                await connection.wait_until(trio.current_time() + SILENCE_SECONDS)
                raise _Cut
            case Ending.CUT | Ending.NO_END:
                raise _Cut


def _retry_after_headers(retry_after: str) -> list[tuple[str, str]]:
    """``2`` and HTTP dates go into ``retry-after``, ``500ms`` into ``retry-after-ms``."""
    if not retry_after:
        return []
    if retry_after.endswith("ms"):
        return [("retry-after-ms", retry_after.removesuffix("ms"))]
    return [("retry-after", retry_after)]


class _Connection:
    """HTTP/1.1 for one client: requests come in whole, responses go out as they are made."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=64 << 10)
        self._is_head = False

    @property
    def is_reusable(self) -> bool:
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def next_request(self) -> None:
        self._http.start_next_cycle()

    async def read_request(self) -> tuple[str, str, bytes] | None:
        """Method, path without query, and body; None when the client has no more to ask."""
        head: h11.Request | None = None
        body = bytearray()
        with trio.move_on_after(IDLE_SECONDS):
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    await self._receive()
                elif isinstance(event, h11.Request):
                    head = event
                    self._is_head = event.method == b"HEAD"
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > BODY_BYTES_MAX:
                        raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
                elif isinstance(event, h11.EndOfMessage) and head is not None:
                    path = head.target.decode("ascii", "replace").partition("?")[0]
                    return head.method.decode("ascii"), path, bytes(body)
                else:
                    return None
        return None

    async def _receive(self) -> None:
        """Hand more of the client's bytes to the parser, ``b""`` (its end of file) included."""
        if self._http.they_are_waiting_for_100_continue:
            await self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        try:
            self._http.receive_data(bytes(await self._stream.receive_some(_RECEIVE_BYTES)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise _ClientGone from None

    async def wait_until(self, when: float) -> None:
        """Sleep until the trio time ``when``; ends at once, with ``_ClientGone``, if the client goes."""
        if when <= trio.current_time():
            return
        with trio.move_on_at(when):
            while True:
                await self._receive()
                if self._http.trailing_data[1]:
                    raise _ClientGone

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        await self._write(self._http.send(h11.Response(status_code=status, headers=list(headers))))

    async def send(self, data: bytes) -> None:
        if data and not self._is_head:
            await self._write(self._http.send(h11.Data(data=data)))

    async def end(self) -> None:
        await self._write(self._http.send(h11.EndOfMessage()))

    async def send_json(self, status: int, value: Any, headers: Iterable[tuple[str, str]] = ()) -> None:
        body = msgspec.json.encode(value)
        fixed = [("content-type", "application/json"), ("content-length", str(len(body)))]
        await self.start(status, [*fixed, *headers])
        await self.send(body)
        await self.end()

    async def refuse(self, status: int, message: str) -> None:
        """Say what was wrong with a request that is not HTTP, if a response can still be sent."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self.send_json(
                status, completions.error_body(status, "bad_request", message), [("connection", "close")]
            )

    async def _write(self, data: bytes | None) -> None:
        try:
            with trio.fail_after(SEND_SECONDS):
                await self._stream.send_all(data or b"")
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise _ClientGone from None
