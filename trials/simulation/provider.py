"""The provider: every answer is made of words that are said once in a run, so that nothing can be mistaken for another.

An answer begins with its own number and the message that it answers. It stalls, fails, breaks off, asks for a
tool, or is just slow, as the seed has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from random import Random
from uuid import UUID

import trio

from chatcluster.context import INSTRUCTION
from chatcluster.errors import ProviderError
from chatcluster.models import Continuation
from chatcluster.parts import Message, ReasoningPart, Role, TextPart, ToolArgumentsPart, ToolCallPart, Usage, text_of
from chatcluster.ports import Delta, Finished, KeepAlive, ModelEvent, ModelRequest
from simulation.families import agents_in, asked_of_agents
from simulation.harmed import Harmed, Misbehaviour
from simulation.questions import ASKING
from simulation.seeding import Temper
from simulation.tools import CLIENT_TOOL, TRACKED_TOOL

STALL_SECONDS = 60.0
SIGN_SECONDS = 0.2
ASKED_FOR = (
    *("look", "put", "put", "put", "buy", "buy", "buy", "buy", "ask", "ask", "count", "count", "kill"),
    *(CLIENT_TOOL, CLIENT_TOOL, "nothing of the kind"),
)


class Answer:
    """One call of the model by a worker. ``question`` is the ID of the message that it answers."""

    def __init__(self, number: int, worker_id: UUID | None, chat_id: UUID, question: int) -> None:
        self.number = number
        self.worker_id = worker_id
        self.chat_id = chat_id
        self.question = question
        self.said = ""
        self.whole = False
        self.taken = False
        """Its end was heard by the one who asked, with what it cost."""

    def __repr__(self) -> str:
        return f"<Answer {self.number} to {self.question}{'' if self.whole else ' (partial)'}>"


class Provider:
    """``caller`` is who calls right now; ``on_word`` hears of each piece at the moment at which it is taken,
    ``on_prompt`` of what is asked."""

    def __init__(
        self,
        temper: Temper,
        draw: Random,
        harmed: Harmed,
        *,
        caller: Callable[[], UUID | None],
        on_word: Callable[[Answer], None],
        on_prompt: Callable[[UUID, Sequence[Message]], None],
    ) -> None:
        self.temper = temper
        self.answers: list[Answer] = []
        self.under_way: dict[UUID, Answer] = {}
        """The newest of each chat that has not ended."""
        self._counts: Counter[UUID] = Counter()
        self._harmed = harmed
        self._draw = draw
        self._caller = caller
        self._on_word = on_word
        self._on_prompt = on_prompt
        self._summaries = 0

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        if text_of(request.messages[-1].parts) == INSTRUCTION:
            async with aclosing(self._summary(request.chat_id)) as summary:
                yield summary
            return
        self._on_prompt(request.chat_id, request.messages)
        question = next(message.id for message in reversed(request.messages) if message.role is Role.USER)
        answer = Answer(len(self.answers) + 1, self._caller(), request.chat_id, question)
        self.answers.append(answer)
        self.under_way[request.chat_id] = answer
        self._counts[request.chat_id] += 1
        words = self._words(answer, agents_in(request.messages))
        try:
            yield words
        finally:
            if self.under_way.get(request.chat_id) is answer:
                del self.under_way[request.chat_id]
            await words.aclose()

    def continuation(self, request: ModelRequest) -> Continuation:
        """See ``ports.Model``: every answer is asked for anew."""
        return Continuation.NONE

    async def cancel(self, request: ModelRequest) -> None:
        """See ``ports.Model``: there is nothing to cancel."""

    def count_of(self, chat_id: UUID) -> int:
        """How many answers the chat was given."""
        return self._counts[chat_id]

    async def _misbehave(self, chat_id: UUID) -> AsyncGenerator[ModelEvent, None]:
        while misbehaviour := self._harmed.models.get(chat_id):
            if misbehaviour is Misbehaviour.GARBAGE:
                raise ProviderError("this is no answer of a model", kind="bad_response", retryable=True)
            await trio.sleep(SIGN_SECONDS)
            if misbehaviour is Misbehaviour.KEEP_ALIVE:
                yield KeepAlive()

    async def _words(self, answer: Answer, agents: list[str]) -> AsyncGenerator[ModelEvent, None]:
        temper, draw = self.temper, self._draw
        async for sign in self._misbehave(answer.chat_id):
            yield sign
        await trio.sleep(self._seconds(temper.first_seconds))
        self._may_fail()
        if draw.random() < 0.2:
            self._on_word(answer)
            yield Delta(ReasoningPart(f"r{answer.number}"))
        yield self._word(answer, f"<{answer.number} to {answer.question}>")
        for index in range(draw.randrange(temper.words_max)):
            if draw.random() < temper.pause:
                await trio.sleep(self._seconds(temper.pause_seconds))
            if draw.random() < 0.05:
                yield KeepAlive()
            self._may_fail()
            if draw.random() < temper.stall:
                await trio.sleep(STALL_SECONDS)
            if draw.random() < temper.cut:
                return
            filling = "x" * (4000 if draw.random() < temper.long_word else 0)
            yield self._word(answer, f" {answer.number}w{index}{filling}")
        if draw.random() < temper.calls:
            async for piece in self._calls(answer, agents):
                yield piece
            yield self._finished(answer, "tool_calls")
            return
        answer.whole = True
        yield self._finished(answer, "stop")

    def _finished(self, answer: Answer, reason: str) -> Finished:
        """The end, and what it cost: its own number stands for that, so that no two cost the same."""
        answer.taken = True
        return Finished(reason, Usage(answer.number, 1))

    async def _summary(self, chat_id: UUID) -> AsyncGenerator[ModelEvent, None]:
        """As unreliable as any answer."""
        async for sign in self._misbehave(chat_id):
            yield sign
        await trio.sleep(self._seconds(self.temper.first_seconds))
        self._may_fail()
        self._summaries += 1
        yield Delta(TextPart(f"summary {self._summaries}"))
        if self._draw.random() < self.temper.cut:
            return
        yield Finished("stop")

    async def _calls(self, answer: Answer, agents: list[str]) -> AsyncGenerator[ModelEvent, None]:
        """One call or some, in one piece or in several, and now and then a wrong one."""
        draw = self._draw
        for number in range(draw.choice((1, 1, 2, 3, 12))):
            call_id, name = f"call-{answer.number}-{number}", draw.choice(ASKED_FOR)
            arguments = draw.choice((*['{"n": 1}'] * 8, "{", "{}"))
            if self.temper.agents and draw.random() < self.temper.agents:
                name, arguments = asked_of_agents(draw, call_id, agents)
            elif self.temper.tracked and draw.random() < self.temper.tracked:
                name = TRACKED_TOOL
            elif self.temper.questions and draw.random() < self.temper.questions:
                name, arguments = draw.choice(ASKING), '{"n": 1}'
            self._on_word(answer)
            if draw.random() < 0.5:
                yield Delta(ToolCallPart(call_id, name, arguments))
                continue
            yield Delta(ToolCallPart(call_id, name, ""))
            await trio.sleep(draw.expovariate(1 / 0.02))
            self._may_fail()
            self._on_word(answer)
            yield Delta(ToolArgumentsPart(call_id, arguments))

    def _seconds(self, mean: float) -> float:
        return min(self._draw.expovariate(1 / mean), self.temper.pause_seconds_max)

    def _word(self, answer: Answer, word: str) -> Delta:
        answer.said += word
        self._on_word(answer)
        return Delta(TextPart(word))

    def _may_fail(self) -> None:
        temper, draw = self.temper, self._draw
        if draw.random() < temper.fail:
            retryable = draw.random() < temper.retryable
            asked = draw.choice([None, None, 0.0, 0.7])
            raise ProviderError(
                "the provider is unwell", kind="overloaded", retryable=retryable, retry_after_seconds=asked
            )
