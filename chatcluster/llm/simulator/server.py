"""``chatcluster simulate-llm``: a server that speaks all three wires, and fails on demand.

``POST /v1/chat/completions``, ``/v1/messages`` and ``/v1/responses`` (streaming or not), ``GET /v1/responses/{id}`` for
answers in the background, ``GET /v1/models``, ``GET /healthz`` (with counts). Any API key will do. What is answered is
decided by ``script.py``, whose directives a prompt can carry; this module puts it on the wire at the right time.

An answer in the background goes on whether its client stays or not. Nothing has to run for that: which of its tokens
are due at a moment follows from its beginning.

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
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import h11
import msgspec
import trio

from chatcluster.errors import ChatclusterError
from chatcluster.llm.simulator import completions, messages, responses
from chatcluster.llm.simulator import script as script_module
from chatcluster.llm.simulator.answer import Answer
from chatcluster.llm.simulator.connection import Asked, ClientGone, Connection
from chatcluster.llm.simulator.front import Front, Rendered
from chatcluster.llm.simulator.overflow import CUT, WAYS, TooLong, way_of
from chatcluster.llm.simulator.question import Question, RefusedQuestion
from chatcluster.llm.simulator.script import (
    DirectiveError,
    Ending,
    Script,
    has_times,
    read_script,
)
from chatcluster.llm.simulator.summaries import asks_for_summary

ATTEMPTS_REMEMBERED_MAX = 10_000
BACKGROUND_REMEMBERED_MAX = 1000
FRONTS = {
    "/v1/chat/completions": completions.FRONT,
    "/v1/messages": messages.FRONT,
    "/v1/responses": responses.FRONT,
}
ATTACH_PATH = "/v1/responses/resp_"
SILENCE_SECONDS = 3600.0
TOKENS_PER_WRITE_MAX = 64


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
    context_tokens: int = 0
    """Longer prompts are refused; 0: they may have any length."""
    too_long: str | None = None
    """How a prompt that is too long is refused: one of ``overflow.WAYS``, or ``cut``; else as is usual on its wire."""

    def script(self) -> Script:
        counts = self.tokens is not None or self.seed
        return Script(
            tokens=100 if self.tokens is None else self.tokens,
            tps=self.tokens_per_second,
            first_ms=self.first_token_ms,
            seed=self.seed,
            context=self.context_tokens,
            mode=self.mode or ("words" if counts else "markdown"),
        )


class _Cut(ChatclusterError):
    """The script wants the connection closed, as a crash would close it."""


def directives_help() -> str:
    """The directives that a prompt can carry, for ``--help``."""
    return inspect.cleandoc(script_module.__doc__ or "")


async def serve(options: SimulatorOptions, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled. ``task_status`` is given the base URL, ``http://host:port/v1``."""
    await Simulator(options).serve(task_status=task_status)


class _Underway(NamedTuple):
    """An answer, and when its first token is due: all others follow from that."""

    answer: Answer
    first_at: float


class Simulator:
    """The server, with counts that say what it is doing."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._options = options
        self._defaults = options.script()
        self._attempts: OrderedDict[bytes, int] = OrderedDict()
        self._background: OrderedDict[str, _Underway] = OrderedDict()
        self.connections = 0
        self.requests = 0
        self.generations = 0
        """Answers that were begun: to attach to one begins none."""
        self.streaming = 0
        """Answers that are being streamed now."""
        self.aborted = 0
        """Answers whose client left before the end."""
        self.overflows = 0
        """Prompts that were longer than the context."""
        self.summaries = 0

    def __repr__(self) -> str:
        return f"<Simulator {self.statistics()}>"

    def statistics(self) -> dict[str, int]:
        long_chats = {"overflows": self.overflows, "summaries": self.summaries} if self._options.context_tokens else {}
        return {
            "connections": self.connections,
            "requests": self.requests,
            "generations": self.generations,
            "streaming": self.streaming,
            "aborted": self.aborted,
            **long_chats,
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
            connection = Connection(stream)
            while await self._serve_request(connection):
                connection.next_request()
        except (ClientGone, _Cut):
            return
        finally:
            self.connections -= 1

    async def _serve_request(self, connection: Connection) -> bool:
        """Answer one request; False if no other can follow on this connection."""
        try:
            request = await connection.read_request()
            if request is None:
                return False
            self.requests += 1
            await self._route(connection, request)
        except h11.RemoteProtocolError as error:
            await connection.refuse(error.error_status_hint, str(error))
            return False
        return connection.is_reusable

    async def _route(self, connection: Connection, asked: Asked) -> None:
        front = FRONTS.get(asked.path)
        if asked.method == "POST" and front is not None:
            await self._complete(connection, front, asked)
        elif asked.method == "GET" and asked.path.startswith(ATTACH_PATH):
            await self._attach(connection, asked)
        elif (asked.method, asked.path) == ("GET", "/v1/models"):
            await connection.send_json(200, completions.MODELS)
        elif (asked.method, asked.path) == ("GET", "/healthz"):
            await connection.send_json(200, {"status": "ok", **self.statistics()})
        else:
            await connection.send_json(404, _not_found(f"there is no {asked.method} {asked.path}"))

    async def _complete(self, connection: Connection, front: Front, asked: Asked) -> None:
        try:
            question = front.read_question(asked.body, asked.headers)
            attempt = self._count_attempt(question) if has_times(question.prompt) else 1
            script = read_script(question.prompt, self._defaults, attempt, question.step)
        except (DirectiveError, RefusedQuestion) as error:
            await connection.send_json(400, front.error_body(400, "invalid_request", str(error)))
            return
        if asks_for_summary(question.prompt):
            script = replace(self._defaults, say=question.summary, reasoning=0, empty=False)
        if script.drop:
            raise _Cut
        too_long = self._too_long(script, question, asked.path)
        if too_long is not None:
            await connection.send_json(too_long.status, too_long.body)
            return
        if script.fail:
            headers = _retry_after_headers(script.retry_after)
            await connection.send_json(script.fail, front.failure_body(script), headers)
            return
        self.generations += 1
        self.summaries += asks_for_summary(question.prompt)
        if script.context:
            question = msgspec.structs.replace(question, words_max=script.context)
        underway = _Underway(Answer(script, question), trio.current_time() + script.first_ms / 1000)
        if question.in_background and not script.forget:
            self._remember(underway)
        if question.streams:
            await self._stream(connection, underway, front.rendered(underway.answer))
        else:
            await self._answer_at_once(connection, underway.answer, front.rendered(underway.answer))

    def _too_long(self, script: Script, question: Question, path: str) -> TooLong | None:
        """What is said if the prompt is too long. A server that cuts it says nothing."""
        is_too_long = 0 < script.context < question.words
        self.overflows += is_too_long
        way = script.too_long or self._options.too_long or way_of(path)
        is_ordered = bool(script.too_long) and not (script.context or question.is_summarised)
        return WAYS[way](question.words, script.context) if way != CUT and (is_too_long or is_ordered) else None

    def _remember(self, underway: _Underway) -> None:
        self._background[underway.answer.id] = underway
        if len(self._background) > BACKGROUND_REMEMBERED_MAX:
            self._background.popitem(last=False)

    async def _attach(self, connection: Connection, asked: Asked) -> None:
        """The same answer once more, from a number on: what is due of it at once, the rest at its pace."""
        underway = self._background.get(asked.path.removeprefix(ATTACH_PATH))
        after = asked.query.get("starting_after", "-1")
        if underway is None or asked.query.get("stream") != "true" or not after.removeprefix("-").isdecimal():
            said = f"Response with id '{asked.path.removeprefix(ATTACH_PATH)}' not found."
            await connection.send_json(404, _not_found(said))
            return
        later = underway._replace(answer=underway.answer.attached_to())
        await self._stream(connection, later, responses.Rendered(later.answer, after=int(after)))

    def _count_attempt(self, question: Question) -> int:
        """Which attempt at this prompt in this conversation this is, from 1."""
        key = hashlib.blake2b(question.conversation, digest_size=16).digest()
        attempt = self._attempts.pop(key, 0) + 1
        self._attempts[key] = attempt
        if len(self._attempts) > ATTEMPTS_REMEMBERED_MAX:
            self._attempts.popitem(last=False)
        return attempt

    async def _stream(self, connection: Connection, underway: _Underway, rendered: Rendered) -> None:
        self.streaming += 1
        try:
            await connection.start(200, [("content-type", "text/event-stream"), ("cache-control", "no-cache")])
            await self._send_tokens(connection, underway, rendered)
            await self._send_ending(connection, underway.answer, rendered)
        except ClientGone:
            self.aborted += 1
            raise
        finally:
            self.streaming -= 1

    async def _send_tokens(self, connection: Connection, underway: _Underway, rendered: Rendered) -> None:
        await connection.send(rendered.prelude())
        answer, first_at = underway
        script = answer.script
        interval = 1 / script.tps if script.tps else 0.0
        sent, count = 0, answer.sent_count
        while sent < count:
            due_at = first_at + sent * interval
            await connection.wait_until(due_at)
            late = int((trio.current_time() - due_at) / interval) if interval else TOKENS_PER_WRITE_MAX
            until = min(count, sent + 1 + min(late, TOKENS_PER_WRITE_MAX - 1))
            await connection.send(b"".join(map(rendered.token_event, range(sent, until))))
            sent = until

    async def _send_ending(self, connection: Connection, answer: Answer, rendered: Rendered) -> None:
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

    async def _answer_at_once(self, connection: Connection, answer: Answer, rendered: Rendered) -> None:
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


def _not_found(message: str) -> dict[str, Any]:
    return completions.error_body(404, "not_found", message)


def _retry_after_headers(retry_after: str) -> list[tuple[str, str]]:
    """``2`` and HTTP dates go into ``retry-after``, ``500ms`` into ``retry-after-ms``."""
    if not retry_after:
        return []
    if retry_after.endswith("ms"):
        return [("retry-after-ms", retry_after.removesuffix("ms"))]
    return [("retry-after", retry_after)]
