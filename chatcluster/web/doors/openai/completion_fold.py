"""A turn as a chat completion: chunks while it streams, or one object at the end. Pure.

Chunks have no numbers, and nothing that was sent can be taken back. So an attempt that comes to nothing is made good by
the next one if that says the same again, as far as it was sent; the rest goes on from there, and the client notices
nothing. If it says something else, the stream ends with an error: a repeat with the same ``Idempotency-Key`` is told
the whole answer.

The words of all steps of the turn are one content; calls that the cluster runs are not told of. If one of those waits
for a person, this API has no word for it: the completion ends with an error that says what is to be done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chatcluster.parts import (
    Message,
    ReasoningPart,
    Role,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    text_of,
)
from chatcluster.ports import Action
from chatcluster.turn_log import Attempted, Awaiting, Ended, Rested, Told, Withdrawn
from chatcluster.usage import added
from chatcluster.web.doors.approvals import SignIn
from chatcluster.web.doors.chunks import arguments_of
from chatcluster.web.doors.openai.error_form import Formed, formed
from chatcluster.web.doors.voices import Citation

Chunk = dict[str, Any]
RESTARTED = "the answer was begun anew, in other words; repeat the request with its Idempotency-Key to have all of it"
ACTION_REQUIRED = "action_required"
REASONS = {"length": "length", "content_filter": "content_filter"}
STATUSES = {ACTION_REQUIRED: 409, "rate_limit": 429}
"""Of failures that have another one than 500, here or in ``error_form.py``. A person who has to do something is none,
and no repeat helps: it is a conflict, as elsewhere."""


class CompletionFold:
    def __init__(self, head: dict[str, Any], client_tools: frozenset[str], *, include_usage: bool = False) -> None:
        """``head``: ``id``, ``created`` and ``model``."""
        self._head = head
        self._client_tools = client_tools
        self._include_usage = include_usage
        self._has_begun = False
        self._sent: list[str] = []
        """What was sent of the step under way."""
        self._heard: int | None = None
        """While its attempt says again what was sent: how much of that it has said."""
        self._content: list[str] = []
        self._thoughts: list[str] = []
        self._annotations: list[dict[str, Any]] = []
        self._calls: list[dict[str, Any]] = []
        self._waits_for: set[str] = set()
        """Calls that the cluster runs."""
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        self.failure: Formed | None = None
        self.is_over = False

    def completion(self) -> dict[str, Any]:
        """The whole, when it is over."""
        content = "".join(self._content) or None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self._annotations:
            message["annotations"] = self._annotations
        if self._thoughts:
            message["reasoning_content"] = "".join(self._thoughts)
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": _counts(self._usage)}

    @property
    def _reason(self) -> str:
        return "tool_calls" if self._calls else REASONS.get(self._finish_reason or "", "stop")

    def tell(self, told: Told) -> Iterator[Chunk]:
        """The chunks that follow from it."""
        if not self._has_begun:
            self._has_begun = True
            yield self._chunk({"role": "assistant", "content": ""})
        if self.is_over:
            return
        match told:
            case Attempted():
                self._heard = 0 if self._sent else None
            case TextPart(text=text):
                yield from self._hear(text)
            case ReasoningPart(text=text) if text and self._heard is None:
                yield self._chunk({"reasoning_content": text})
            case Message(role=Role.ASSISTANT):
                yield from self._commit(told)
            case Message(role=Role.TOOL):
                self._waits_for -= {part.call_id for part in told.parts if isinstance(part, ToolResultPart)}
                yield from self._end_if_called()
            case Awaiting(actions=actions):
                yield from self._wait([action for action in actions if action.kind != "client"])
            case Ended(turn=turn, error=error) if turn.outcome == "error":
                text = error.message if error is not None else f"the turn failed: {turn.code}"
                yield from self._fail(text, turn.code or "server_error")
            case Ended() | Rested():
                yield from self._end()
            case Withdrawn():
                yield from self._fail("the message was edited", "withdrawn")

    def _wait(self, actions: list[Action]) -> Iterator[Chunk]:
        """The chat waits for people, who are asked elsewhere."""
        if not actions:
            return
        waiting = ", ".join(map(_waiting, actions))
        how = "Answer on the page or by the API, then repeat the request with its Idempotency-Key to have all of it"
        yield from self._fail(f"the chat waits for a person: {waiting}. {how}", ACTION_REQUIRED)

    def _hear(self, text: str) -> Iterator[Chunk]:
        """Words of the attempt under way: send what is new of them."""
        if self._heard is not None:
            heard, sent = self._heard, self._sent_text()
            if not text.startswith(sent[heard : heard + len(text)]):
                yield from self._fail(RESTARTED, "answer_restarted")
                return
            is_behind = heard + len(text) < len(sent)
            self._heard = heard + len(text) if is_behind else None
            text = text[len(sent) - heard :]
        if text:
            self._sent.append(text)
            yield self._chunk({"content": text})

    def _sent_text(self) -> str:
        """Joined once, as each word that is said again is looked for in it."""
        self._sent[:] = ["".join(self._sent)]
        return self._sent[0]

    def _commit(self, message: Message) -> Iterator[Chunk]:
        """The step's words are those of the message: send what is new of them."""
        text = text_of(message.parts)
        self._heard = 0
        yield from self._hear(text)
        if not self.is_over and self._heard is not None:  # more was sent than it says
            yield from self._fail(RESTARTED, "answer_restarted")
        if self.is_over:
            return
        annotations = [*self._cited(message)]
        if annotations:
            self._annotations.extend(annotations)
            yield self._chunk({"annotations": annotations})
        self._content.append(text)
        self._thoughts.extend(part.text for part in message.parts if isinstance(part, ReasoningPart))
        self._sent, self._heard = [], None
        self._usage = added(self._usage, message.usage)
        self._finish_reason = message.finish_reason
        for part in message.parts:
            if isinstance(part, ToolCallPart) and part.name in self._client_tools:
                yield self._call(part)
            elif isinstance(part, ToolCallPart):
                self._waits_for.add(part.id)
        yield from self._end_if_called()

    def _cited(self, message: Message) -> Iterator[dict[str, Any]]:
        """The sources of the step's words, each with its place in the content."""
        at = sum(map(len, self._content))
        for part in message.parts:
            if isinstance(part, TextPart):
                at += len(part.text)
            elif isinstance(part, SourcePart):
                yield {"type": "url_citation", "url_citation": Citation(at, part).annotation}

    def _call(self, part: ToolCallPart) -> Chunk:
        call = {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": arguments_of(part)}}
        self._calls.append(call)
        return self._chunk({"tool_calls": [{"index": len(self._calls) - 1, **call}]})

    def _end_if_called(self) -> Iterator[Chunk]:
        if self._calls and not self._waits_for:
            yield from self._end()

    def _end(self) -> Iterator[Chunk]:
        self.is_over = True
        yield self._chunk({}, self._reason)
        if self._include_usage:
            yield {**self._chunk({}), "choices": [], "usage": _counts(self._usage)}

    def _fail(self, text: str, code: str) -> Iterator[Chunk]:
        self.is_over = True
        self.failure = formed(STATUSES.get(code, 500), {"message": text, "code": code}, {})
        yield {"error": self.failure.error}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> Chunk:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice], "usage": None}


def _waiting(action: Action) -> str:
    where = f", POST {SignIn.of(action.name).begins_at} begins it" if action.kind == "sign_in" else ""
    return f"{action.name} ({action.call_id}: {action.kind}{where})"


def _counts(usage: Usage | None) -> dict[str, Any]:
    taken, given = (usage.input_tokens or 0, usage.output_tokens or 0) if usage is not None else (0, 0)
    cached, thought = (usage.cached_input_tokens or 0, usage.reasoning_tokens or 0) if usage is not None else (0, 0)
    return {
        "prompt_tokens": taken,
        "completion_tokens": given,
        "total_tokens": taken + given,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
