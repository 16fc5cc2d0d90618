"""A client that talks: it sends, queues, interrupts, promotes, edits and deletes, in a seeded mix.

Each text is unique in the run, and orders an answer whose words are its own: so an answer can be told to
belong to its message, and be predicted to the last byte.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio
from checker import Checker, Kind, Violation, Write

from chaos.api import Answer, Api, Json
from chaos.families import SHARE, family_orders
from chaos.options import Options
from chaos.reader import Reader
from chaos.record import Record
from chaos.tools import CLIENT_TOOLS, SERVERS, orders
from chatcluster.llm.simulator.script import expected_text

QUEUE_MAX = 4
"""Queued messages of a chat beyond which the writer waits for rest."""
REST_SECONDS_MAX = 60.0
PAUSE_SECONDS = (0.05, 1.0)
SERVER_ERRORS = range(500, 600)
OPERATIONS = ("send", "queue", "interrupt", "interrupting_send", "promote", "edit", "delete")
"""What a mix can name."""


class Writer:
    """One client's conversation, in one chat. ``reader`` tells it what the chat is doing."""

    def __init__(
        self, name: str, api: Api, checker: Checker, record: Record, options: Options, draw: random.Random
    ) -> None:
        self.chat = ""
        self.acknowledged = 0
        self.refused = 0
        self.tries = 0
        self.name = name
        self._api = api
        self._checker = checker
        self._record = record
        self._options = options
        self._draw = draw
        self._count = 0
        self._reader: Reader | None = None
        operations: tuple[Callable[[], Awaitable[None]], ...] = (
            self._send,
            self._queue,
            self._interrupt,
            self._interrupting_send,
            self._promote,
            self._edit,
            self._delete,
        )
        self._operations = dict(zip(OPERATIONS, operations, strict=True))

    async def create(self, home: Api) -> None:
        """Begin the conversation, at replicas that know all that it is to have. Raises ``RuntimeError`` if that is
        refused."""
        text, expected = self._text()
        began = trio.current_time()
        body: Json = {"content": text}
        if self._options.load.tools:
            body |= {"tools": CLIENT_TOOLS, "mcp_servers": list(SERVERS), "agents": True}
        answer = await (home if self._options.load.tools else self._api).write("POST", "/chats", body)
        if answer.status != 201:
            raise RuntimeError(f"no chat could be created: {answer.status} {answer.body}")
        self.chat = answer.body["id"]
        self._wrote("create", began, answer, text=text, expected=expected)

    async def run(self, reader: Reader, mix: dict[str, float], ending: trio.Event) -> None:
        """Write about ``options.load.turns`` messages, or until ``ending``."""
        self._reader = reader
        while self._count < self._options.load.turns and not ending.is_set():
            operation = self._draw.choices(list(mix), list(mix.values()))[0]
            if len(reader.subscriber.queue) >= QUEUE_MAX:
                await self.rest()
            await self._operations[operation]()
            with trio.move_on_after(self._draw.uniform(*PAUSE_SECONDS)):
                await ending.wait()

    async def rest(self) -> None:
        """Wait until the chat has nothing to do, but not for ever."""
        await self._until(
            lambda reader: reader.subscriber.status in ("waiting", "error") and not reader.subscriber.queue
        )

    async def _until(self, condition: Callable[[Reader], bool], seconds: float = REST_SECONDS_MAX) -> None:
        assert self._reader is not None
        with trio.move_on_after(seconds):
            while not condition(self._reader):
                await self._reader.progress.wait()

    # --- operations ---------------------------------------------------------------------------

    async def _send(self) -> None:
        """The plain case: a question when the last one is answered."""
        await self.rest()
        await self._post("send", "queue")

    async def _queue(self) -> None:
        await self._post("send", "queue")

    async def _interrupting_send(self) -> None:
        await self._wait_for_words()
        await self._post("interrupting_send", "interrupt")

    async def _interrupt(self) -> None:
        await self._wait_for_words()
        began = trio.current_time()
        self._wrote("interrupt", began, await self._api.write("POST", f"/chats/{self.chat}/interrupt"))

    async def _promote(self) -> None:
        """Two messages into the queue, and the last one before all others."""
        await self._post("send", "queue")
        queued_id = await self._post("send", "queue")
        if queued_id is not None:
            await self._wait_for_words()
            path = f"/chats/{self.chat}/queue/{queued_id}/promote"
            began = trio.current_time()
            self._wrote("promote", began, await self._api.write("POST", path), target=queued_id)

    async def _delete(self) -> None:
        queued_id = await self._post("send", "queue")
        if queued_id is not None:
            await trio.sleep(self._draw.uniform(0, 0.5))
            began = trio.current_time()
            answer = await self._api.write("DELETE", f"/chats/{self.chat}/queue/{queued_id}")
            self._wrote("delete", began, answer, target=queued_id)

    async def _edit(self) -> None:
        """Another question in the place of the last one."""
        assert self._reader is not None
        users = [message.id for message in self._reader.subscriber.messages.held.values() if message.role == "user"]
        if not users:
            return
        target = max(users)
        text, expected = self._text()
        began = trio.current_time()
        answer = await self._api.write("PATCH", f"/chats/{self.chat}/messages/{target}", {"content": text})
        self._wrote("edit", began, answer, text=text, expected=expected, target=target)

    async def _wait_for_words(self) -> None:
        """Until something has been said of the answer under way."""
        await self._until(lambda reader: reader.subscriber.streaming, seconds=self._draw.uniform(0.2, 2.0))
        await trio.sleep(self._draw.uniform(0, 0.5))

    # --- requests -----------------------------------------------------------------------------

    async def _post(self, op: str, busy: str) -> int | None:
        """Send a message; its ID in the queue if it went there."""
        text, expected = self._text()
        began = trio.current_time()
        body: Json = {"content": text, "busy": busy}
        answer = await self._api.write("POST", f"/chats/{self.chat}/messages", body)
        return self._wrote(op, began, answer, text=text, expected=expected).queued_id

    def _text(self) -> tuple[str, str | None]:
        """A question, and the whole answer to it."""
        self._count += 1
        word = f"{self.name}q{self._count}x"
        options = self._options
        tokens = round(self._draw.uniform(*options.load.answer_seconds) * options.load.tokens_per_second)
        called, steps = (orders(self._draw, confusing=not options.cluster.beside) if options.load.tools else ""), 2
        if called and self._draw.random() < SHARE:
            called, steps = family_orders(self._draw, word), 3
        words = f"word={word} tokens={tokens} tps={options.load.tokens_per_second:g}"
        expected = expected_text(f"[[{words}]]") if options.load.predictable else None
        text = f"Question {word} [[{words}{f' step={steps}' if called else ''}]]{called}{self._failure(tokens)}"
        return text, expected

    def _failure(self, tokens: int) -> str:
        """A block that has the answer break off, the first time; often none."""
        if not self._options.load.failing or self._draw.random() >= self._options.load.failing:
            return ""
        return f" [[cut_after={self._draw.randint(1, max(1, tokens))} times=1]]"

    def _wrote(
        self,
        op: str,
        began: float,
        answer: Answer,
        *,
        text: str = "",
        expected: str | None = None,
        target: int | None = None,
    ) -> Write:
        write = Write(
            chat=self.chat,
            op=op,
            began=began,
            ended=float("inf") if answer.status is None else trio.current_time(),
            status=answer.status,
            text=text,
            expected=expected,
            target=target,
            message_id=_id_in(answer, "message") if op != "promote" else None,
            queued_id=_id_in(answer, "queued"),
        )
        self._checker.wrote(write)
        self.acknowledged += write.acknowledged and bool(text)
        self.refused += answer.status is not None and not write.acknowledged
        self.tries += answer.tries
        self._note(write, answer, trio.current_time() - began)
        if answer.status in SERVER_ERRORS:
            self._checker.report(Violation(Kind.SERVER_ERROR, self.chat, f"{op}: {answer.status} {answer.body}", began))
        return write

    def _note(self, write: Write, answer: Answer, seconds: float) -> None:
        self._record.note(
            chat=self.chat,
            write=write.op,
            text=write.text,
            target=write.target,
            status=answer.status,
            code=answer.code,
            message=write.message_id,
            queued=write.queued_id,
            tries=answer.tries,
            seconds=round(seconds, 4),
        )


def _id_in(answer: Answer, name: str) -> int | None:
    found = answer.body.get(name)
    return found["id"] if isinstance(found, dict) else None
