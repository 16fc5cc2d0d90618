"""Whole conversations on each wire, against the simulated provider, which is as strict as the strictest: steps with
tools, reasoning, images in results, interrupts, edits, lost results, summaries in the place of the history, answers
that another owner goes on with. Not one request is refused, in any of them, and the vendors' types take them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter
from told_histories import require_taken

from chatcluster.content import SummaryPart
from chatcluster.context import INSTRUCTION, SUMMARY_CALL, kept_of, prompt_of
from chatcluster.errors import ProviderError
from chatcluster.llm.conversation import DocumentPart, SentPart
from chatcluster.llm.failures import Provider
from chatcluster.llm.simulator import completions, messages, responses
from chatcluster.llm.simulator.answer import Answer
from chatcluster.llm.simulator.front import Front
from chatcluster.llm.simulator.question import RefusedQuestion
from chatcluster.llm.simulator.script import Script, Words, read_script
from chatcluster.llm.simulator.summaries import asks_for_summary
from chatcluster.llm.sse import EventDecoder
from chatcluster.llm.wire import Route
from chatcluster.llm.wires import WIRES
from chatcluster.models import Kind, ModelOptions, PrefixDialect
from chatcluster.parts import (
    ImagePart,
    JsonPart,
    Message,
    OpaquePart,
    Part,
    Parts,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    joined,
    text_of,
)
from chatcluster.ports import Delta, Finished, ModelRequest, ToolSpec

FRONTS: dict[Kind, Front] = {
    Kind.OPENAI: completions.FRONT,
    Kind.ANTHROPIC: messages.FRONT,
    Kind.RESPONSES: responses.FRONT,
}
OPTIONS = {
    Kind.OPENAI: ModelOptions(temperature=0.5, prefix=PrefixDialect.PREFIX),
    Kind.ANTHROPIC: ModelOptions(thinking_tokens=2000),
    Kind.RESPONSES: ModelOptions(reasoning_effort="low"),
}
TOOLS = (ToolSpec("look", "Looks.", {"type": "object", "properties": {}}), ToolSpec("draw", "", {}))
IMAGE = ImagePart("image/png", "iVBORw0KGgo=")
DOCUMENT = DocumentPart("plan.pdf", "application/pdf", "JVBERi0xLjcK")
STEPS_MAX = 4
CONVERSATIONS = 1000
JUDGED = 0.2
"""So many of the conversations are judged by the vendors' types as well, which takes its time."""
VENDORS_TYPES: dict[Kind, TypeAdapter[Any]] = {
    Kind.OPENAI: TypeAdapter(CompletionCreateParamsStreaming),
    Kind.ANTHROPIC: TypeAdapter(MessageCreateParamsStreaming),
    Kind.RESPONSES: TypeAdapter(ResponseCreateParamsStreaming),
}


class Conversation:
    """A chat as it grows, with the history that is kept of it."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self.draw = random.Random(seed)
        self.judged = self.draw.random() < JUDGED
        self.route = Route(kind=kind, server=Provider("test.example"), model="m", options=OPTIONS[kind])
        self.history: list[Message] = []
        self.asked = 0
        self.tools: tuple[ToolSpec, ...] = TOOLS
        self.summaries = self.continued = 0
        if self.draw.random() < 0.5:
            self._add(Role.SYSTEM, (TextPart("Be kind."),))

    def turn(self) -> None:
        """A message of a person, and what comes of it. Between turns the tools may change."""
        self._change_the_past()
        if self.draw.random() < 0.15 and self.history and self.history[-1].role is not Role.SYSTEM:
            self._summarise()
        if self.draw.random() < 0.2:
            self.tools = self.draw.choice((TOOLS, TOOLS[:1], ()))
        media = self.draw.choice(((IMAGE,), (DOCUMENT, IMAGE))) if self.draw.random() < 0.1 else ()
        self._add(Role.USER, (*media, TextPart(self._prompt())))
        for _ in range(STEPS_MAX):
            if not self._step():
                return

    def _prompt(self) -> str:
        orders = ["[[tokens=3]]"]
        for step in range(1, self.draw.randint(1, 3)):
            orders += [f"[[step={step} call={self._call()}]]" for _ in range(self.draw.randint(1, 3))]
            if self.draw.random() < 0.3:
                orders.append(f"[[step={step} say=Let me see.]]")
        if self.draw.random() < 0.6:
            orders.append("[[reasoning=2]]")
        if self.draw.random() < 0.2:
            orders.append("[[source=https://a.example/ A title]]")
        return f"Question {self.draw.random()} {' '.join(orders)}"

    def _call(self) -> str:
        name = self.draw.choice(("look", "draw", "unknown"))
        arguments = self.draw.choice(("{}", '{"a": 1, "b": "long enough for pieces"}', "broken", ""))
        return f"{name} {arguments}"

    def _step(self) -> bool:
        """Ask once; whether the turn goes on."""
        parts, reason = self.ask()
        if reason == "interrupted" and self.draw.random() < 0.6:
            parts, reason = self._taken_over(parts)
        if reason == "interrupted" and self.draw.random() < 0.5:
            parts = tuple(part for part in parts if not isinstance(part, ToolCallPart))
        self._add(Role.ASSISTANT, parts, reason)
        calls = [part for part in parts if isinstance(part, ToolCallPart)]
        self._answer(calls)
        return bool(calls) and reason != "interrupted"

    def _taken_over(self, parts: Parts) -> tuple[Parts, str]:
        """The owner died in mid-answer: the next one goes on from the words that there are, or asks anew."""
        words = text_of(parts)
        can_go_on = self.route.kind is Kind.OPENAI and all(isinstance(part, TextPart) for part in parts)
        begun = words if can_go_on and words.strip() else ""
        self.continued += bool(begun)
        more, reason = self.ask(begun=begun)
        return (joined([*parts, *more]) if begun else more), reason

    def _summarise(self) -> None:
        """As the owner of a chat does it: the same tools, none of which may be called, and a request for a summary."""
        said, _ = self.ask(summary=True)
        kept = kept_of(self.history)
        call = ToolCallPart(f"{SUMMARY_CALL}_{len(self.history)}", SUMMARY_CALL, "{}")
        summary = SummaryPart(text_of(said) or "so far", tuple(message.id for message in kept), 0, 0)
        self._add(Role.ASSISTANT, (call,), "tool_calls")
        self._add(Role.TOOL, (ToolResultPart(call.id, "summarised"), summary))
        self.summaries += 1

    def _answer(self, calls: list[ToolCallPart]) -> None:
        """The results come in any order, in one message or in several, and now and then one is lost."""
        self.draw.shuffle(calls)
        results = [ToolResultPart(call.id, self._content(), self.draw.random() < 0.2) for call in calls]
        results = [result for result in results if self.draw.random() < 0.95]
        if self.draw.random() < 0.5 and results:
            self._add(Role.TOOL, tuple(results))
        else:
            for result in results:
                self._add(Role.TOOL, (result,))

    def _content(self) -> str | tuple[TextPart | ImagePart | JsonPart, ...]:
        return self.draw.choice((
            "", "words", (IMAGE,), (TextPart("Here:"), IMAGE, IMAGE), (JsonPart('{"a":1}'),), (TextPart(" "),), ()
        ))  # fmt: skip

    def _change_the_past(self) -> None:
        """A person edits an earlier message: it and all behind it are gone."""
        users = [at for at, message in enumerate(self.history) if message.role is Role.USER]
        if users and self.draw.random() < 0.2:
            del self.history[self.draw.choice(users) :]

    def _add(self, role: Role, parts: tuple[SentPart, ...], reason: str | None = None) -> None:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        message = Message(len(self.history) + 1, role, (), 1, at, reason)
        self.history.append(msgspec.structs.replace(message, parts=parts))

    def ask(self, *, begun: str = "", summary: bool = False) -> tuple[Parts, str]:
        """The answer to the history, interrupted anywhere now and then; the rest of one that was ``begun``; or a
        ``summary`` of it."""
        self.asked += 1
        wire, front = WIRES[self.route.kind], FRONTS[self.route.kind]
        messages = prompt_of(self.history)
        if summary:
            asking = msgspec.structs.replace(messages[-1], role=Role.USER, parts=(TextPart(INSTRUCTION),))
            messages = (*messages, asking)
        request = ModelRequest(UUID(int=1), messages, tools=self.tools, begun=begun, may_call_tools=not summary)
        body = b"".join(wire.body(request, self.route))
        if self.judged:
            require_taken(VENDORS_TYPES[self.route.kind], msgspec.json.decode(body))
        question = front.read_question(body, wire.headers(self.route))
        script = read_script(question.prompt, Script(), step=question.step)
        if asks_for_summary(question.prompt):
            script = Script(words=Words(say=question.summary))
        answer = Answer(script, question)
        rendered = front.rendered(answer)
        events = [rendered.prelude(), *map(rendered.token_event, range(answer.count)), rendered.final_events()]
        sent = self.draw.randrange(len(events)) if self.draw.random() < 0.2 else len(events)
        return self._heard(events[:sent], request)

    def _heard(self, events: Iterable[bytes], request: ModelRequest) -> tuple[Parts, str]:
        sse, decoder = EventDecoder(self.route.server), WIRES[self.route.kind].decoder(request, self.route)
        said: list[Part] = []
        for event in events:
            for payload in sse.feed(event):
                for told in decoder.feed(payload or b""):
                    if isinstance(told, Delta):
                        said.append(told.part)
                    elif isinstance(told, Finished):
                        return joined(said), told.reason
        return joined(said), "interrupted"


@pytest.mark.parametrize("kind", FRONTS)
@settings(max_examples=CONVERSATIONS, deadline=None)
@given(st.integers(0, 2**32))
def test_not_one_request_of_any_conversation_is_refused(kind: Kind, seed: int) -> None:
    conversation = Conversation(kind, seed)
    for _ in range(conversation.draw.randint(1, 5)):
        conversation.turn()
    assert conversation.asked


def test_the_conversations_have_what_they_are_to_have() -> None:
    """Else they would prove nothing."""
    for kind in FRONTS:
        parts: list[Part] = []
        reasons = set()
        continued = 0
        for seed in range(50):
            conversation = Conversation(kind, seed)
            for _ in range(4):
                conversation.turn()
            parts += [part for message in conversation.history for part in message.parts]
            continued += conversation.continued
            reasons |= {message.finish_reason for message in conversation.history}
        assert {"stop", "tool_calls", "interrupted"} <= reasons
        assert any(isinstance(part, OpaquePart) for part in parts)
        assert any(isinstance(part, ToolResultPart) and IMAGE in part.content for part in parts)
        assert any(isinstance(part, SummaryPart) for part in parts)
        assert continued or kind is not Kind.OPENAI


@pytest.mark.parametrize("kind", [Kind.ANTHROPIC, Kind.RESPONSES])
def test_reasoning_behind_other_tools_stays_here(kind: Kind) -> None:
    """It would be refused, now and in each turn to come."""
    conversation = Conversation(kind, 3)
    wire = WIRES[kind]
    while not any(isinstance(part, OpaquePart) for message in conversation.history for part in message.parts):
        conversation.turn()
    request = ModelRequest(UUID(int=1), tuple(conversation.history), tools=conversation.tools)
    other = msgspec.structs.replace(request, tools=(ToolSpec("new", "", {}),))
    assert b"sealed-" in b"".join(wire.body(request, conversation.route))
    assert b"sealed-" not in b"".join(wire.body(other, conversation.route))


@pytest.mark.parametrize("kind", [Kind.ANTHROPIC, Kind.RESPONSES])
def test_a_changed_past_under_sealed_reasoning_is_refused(kind: Kind) -> None:
    conversation = Conversation(kind, 3)
    conversation.history = []
    conversation._add(Role.USER, (TextPart("Hi [[reasoning=2 tokens=1]]"),))
    conversation.draw = random.Random(1)
    parts: Parts = ()
    while not any(isinstance(part, TextPart) for part in parts):
        parts, reason = conversation.ask()
    conversation._add(Role.ASSISTANT, parts, reason)
    conversation._add(Role.USER, (TextPart("And? [[tokens=1]]"),))
    conversation.ask()
    changed = msgspec.structs.replace(conversation.history[0], parts=(TextPart("Ho"),))
    conversation.history[0] = changed
    with pytest.raises(RefusedQuestion, match=r"bound to a different conversation|could not be verified"):
        conversation.ask()


def test_errors_of_the_wires_are_the_providers_own() -> None:
    """The same fault, as each wire tells it, is judged alike."""
    kinds = set()
    for kind, front in FRONTS.items():
        conversation = Conversation(kind, 1)
        conversation.history = []
        conversation._add(Role.USER, (TextPart("[[error_after=1 code=overloaded_error]]"),))
        wire = WIRES[kind]
        request = ModelRequest(UUID(int=1), tuple(conversation.history))
        question = front.read_question(
            b"".join(wire.body(request, conversation.route)), wire.headers(conversation.route)
        )
        rendered = front.rendered(Answer(read_script(question.prompt, Script()), question))
        with pytest.raises(ProviderError) as caught:
            conversation._heard([rendered.prelude(), rendered.token_event(0), rendered.error_event()], request)
        kinds.add((caught.value.kind, caught.value.retryable))
    assert kinds == {("overloaded", True)}
