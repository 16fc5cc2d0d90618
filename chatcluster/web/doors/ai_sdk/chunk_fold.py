"""A turn as chunks of a UI message stream. Pure: a mapping of its steps (``steps.py``).

A call of the client's tools is run by the client as soon as its input is told. So a client that comes back is told
the input only once it is sure that the call waits; of a call that was answered before it is told input and output
alone.

Only what versions 6 and 7 of the client both know is used. What the client has from an attempt that came to nothing
stays in its message, since no chunk takes a part back. Behind it comes a ``data-restarted`` part: what stands between
that and the ``step-start`` before it is no part of the answer.

A client may send by itself as soon as all calls of its last step have their outputs (``sendAutomaticallyWhen``). An
answer that is stopped behind such a step has begun the next one: otherwise that client would send, be told of the
stop, and send again, without end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from chatcluster.chat import DENIED_TEXT
from chatcluster.json_bounds import bounded
from chatcluster.parts import (
    UNDECODABLE,
    JsonPart,
    NoticePart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolProgressPart,
    ToolResultPart,
)
from chatcluster.ports import Action
from chatcluster.turn_log import Told, UpToDate
from chatcluster.usage import Usage
from chatcluster.web.doors.approvals import Approval, SignIn
from chatcluster.web.doors.chunks import arguments_of, pieces
from chatcluster.web.doors.steps import (
    Answered,
    Aside,
    Asked,
    Begun,
    Called,
    Cited,
    Closed,
    Ending,
    Happened,
    Opened,
    Over,
    Restarted,
    Spoke,
    StepBegun,
    StepEnded,
    Steps,
)

Chunk = dict[str, Any]
REASONS = {"stop": "stop", "length": "length", "content_filter": "content-filter", "tool_calls": "tool-calls"}


class ChunkFold:
    """``tell`` it what happens."""

    def __init__(
        self, message_id: str, client_tools: frozenset[str], metadata: dict[str, Any], *, anew: bool = False
    ) -> None:
        """``client_tools`` are the names of those that the client runs. ``anew``: it was told of some of it before."""
        self._message_id = message_id
        self._client_tools = client_tools
        self._metadata = metadata
        self._steps = Steps()
        self._is_live = not anew
        self._held: dict[str, Chunk] = {}
        """By call: what has the client run it."""
        self._unasked: set[str] = set()
        """The calls that were told, and their user was not asked about."""
        self._is_behind_results = False

    @property
    def is_over(self) -> bool:
        return self._steps.is_over

    def tell(self, told: Told) -> Iterator[Chunk]:
        """The chunks that follow from it."""
        for happened in self._steps.tell(told):
            yield from self._chunks(happened)
        if isinstance(told, UpToDate):
            self._is_live = True
            yield from self._held.values()
            self._held.clear()

    def _chunks(self, happened: Happened) -> Iterator[Chunk]:
        match happened:
            case Begun():
                yield {"type": "start", "messageId": self._message_id, "messageMetadata": self._metadata}
            case StepBegun():
                self._is_behind_results = False
                yield {"type": "start-step"}
            case StepEnded():
                yield {"type": "finish-step"}
            case Opened(number, voice):
                yield {"type": f"{voice}-start", "id": str(number)}
            case Spoke(number, voice, text):
                yield {"type": f"{voice}-delta", "id": str(number), "delta": text}
            case Closed(number, voice):
                yield {"type": f"{voice}-end", "id": str(number)}
            case Restarted():
                yield {"type": "data-restarted", "data": {}}
            case Cited(source):
                yield source_part(source)
            case Called(call):
                yield from self._called(call)
            case Answered(result):
                self._held.pop(result.call_id, None)
                if is_denied(result) and result.call_id in self._unasked:
                    yield from self._request(result.call_id, result.call_id)
                self._is_behind_results = True
                yield answered(result)
            case Asked(action) if action.call_id in self._held:
                yield self._held.pop(action.call_id)
            case Asked(action) if action.kind == "approval":
                yield from self._request(action.call_id, Approval(action.call_id, action.digest).id)
            case Asked(action) if action.kind == "sign_in":
                told = SignIn.of(action.name).told(action.name)
                yield {"type": "data-sign-in", "id": action.call_id, "data": told}
            case Asked(action) if action.kind == "question":
                yield {"type": "data-question", "id": action.call_id, "data": question(action)}
            case Aside(part):
                yield aside(part)
            case Over():
                if happened.ending is Ending.STOPPED and self._is_behind_results:
                    yield {"type": "start-step"}
                yield over(happened)

    def _request(self, call_id: str, approval_id: str) -> Iterator[Chunk]:
        """To approve a call. One that was denied was asked for, and its part has to name that."""
        self._unasked.discard(call_id)
        yield {"type": "tool-approval-request", "approvalId": approval_id, "toolCallId": call_id}

    def _called(self, call: ToolCallPart) -> Iterator[Chunk]:
        self._unasked.add(call.id)
        named: Chunk = {"toolCallId": call.id, "toolName": call.name, "dynamic": True}
        if call.name not in self._client_tools:
            named["providerExecuted"] = True
        yield {"type": "tool-input-start", **named}
        for piece in pieces(arguments_of(call)):
            yield {"type": "tool-input-delta", "toolCallId": call.id, "inputTextDelta": piece}
        available: Chunk = {"type": "tool-input-available", **named, "input": input_of(call)}
        if self._is_live or call.name not in self._client_tools:
            yield available
        else:
            self._held[call.id] = available


def source_part(source: SourcePart) -> Chunk:
    """As a chunk, and as the part that the client makes of it. A client shows each ID once: so it is the address."""
    named = {} if source.title is None else {"title": source.title}
    return {"type": "source-url", "sourceId": source.url, "url": source.url, **named}


def question(action: Action) -> Chunk:
    """What the server of a tool asks the user. The SDK has no part to answer it with: the API of the chats does."""
    asked = msgspec.to_builtins(action.questions or ())
    answered_at = f"/tool-calls/{action.call_id}/answer"
    return {"toolName": action.name, "questions": asked, "digest": action.digest, "answerAt": answered_at}


def input_of(call: ToolCallPart) -> Any:
    """The arguments; as the model wrote them, where that is no JSON."""
    return decoded(arguments_of(call))


def decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(bounded(text.encode()))
    except UNDECODABLE:
        return text


def output_of(result: ToolResultPart) -> Any:
    """A text or a value where the result is one, else its pieces."""
    if len(result.content) == 1:
        match result.content[0]:
            case TextPart(text=text):
                return text
            case JsonPart(json=text):
                return decoded(text)
    return msgspec.to_builtins(result.content)


def is_denied(result: ToolResultPart) -> bool:
    return result.is_error and result.text.startswith(DENIED_TEXT)


def answered(result: ToolResultPart) -> Chunk:
    if is_denied(result):
        return {"type": "tool-output-denied", "toolCallId": result.call_id}
    if result.is_error:
        return {"type": "tool-output-error", "toolCallId": result.call_id, "errorText": result.text}
    return {"type": "tool-output-available", "toolCallId": result.call_id, "output": output_of(result), "dynamic": True}


def aside(part: ToolProgressPart | NoticePart) -> Chunk:
    if isinstance(part, ToolProgressPart):
        data = {"toolCallId": part.call_id, "progress": part.progress, "total": part.total, "message": part.message}
        return {"type": "data-tool-progress", "id": part.call_id, "data": data, "transient": True}
    return {"type": "data-notice", "data": msgspec.to_builtins(part), "transient": True}


def over(end: Over) -> Chunk:
    match end.ending:
        case Ending.FAILED:
            return {"type": "error", "errorText": end.text, "code": end.code}
        case Ending.STOPPED:
            return {"type": "abort", "reason": end.text}
    reason = REASONS.get(end.reason or "", "other")
    return {"type": "finish", "finishReason": reason, "messageMetadata": {"usage": usage_of(end.usage)}}


def usage_of(usage: Usage | None) -> Chunk:
    taken, given = (usage.input_tokens or 0, usage.output_tokens or 0) if usage is not None else (0, 0)
    return {"inputTokens": taken, "outputTokens": given, "totalTokens": taken + given}
