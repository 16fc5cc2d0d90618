"""The provider's side of the Chat Completions wire, for the simulator: pure bytes, no clock but a label's.

``read_question`` understands a request, ``Answer`` renders a ``Script`` as the events of a stream or as
one body. An event is built from prepared bytes around the JSON of its text, because this is done for
every token of every simulated chat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import msgspec

from chatcluster.errors import InvalidRequest
from chatcluster.llm.simulator.script import Script

MODEL_DEFAULT = "simulated"
MODELS = {
    "object": "list",
    "data": [{"id": MODEL_DEFAULT, "object": "model", "created": 0, "owned_by": "chatcluster"}],
}

_ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "invalid_request"),
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    503: ("server_error", "server_is_overloaded"),
    529: ("overloaded_error", "overloaded_error"),
}

_encode = msgspec.json.Encoder().encode


class MalformedQuestion(InvalidRequest):
    """The request's body is not a Chat Completions request."""


class _Message(msgspec.Struct):
    role: str
    content: Any = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        if not isinstance(self.content, list):
            return ""
        texts = (part.get("text") for part in self.content if isinstance(part, dict))
        return "\n\n".join(text for text in texts if isinstance(text, str))


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Question(msgspec.Struct):
    """A request. Raises nothing for fields that it does not know."""

    messages: list[_Message]
    model: str = MODEL_DEFAULT
    stream: bool = False
    stream_options: _StreamOptions | None = None

    @property
    def prompt(self) -> str:
        """The text of the last user message."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")

    @property
    def conversation(self) -> list[tuple[str, str]]:
        """All messages up to the last user message: what is the same in every attempt at answering it."""
        said = [(message.role, message.text) for message in self.messages]
        while said and said[-1][0] != "user":
            said.pop()
        return said

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


_question_decoder = msgspec.json.Decoder(Question)


def read_question(body: bytes) -> Question:
    """Raises ``MalformedQuestion``."""
    try:
        return _question_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedQuestion(str(error)) from None


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    kind, _ = _ERRORS.get(status, ("server_error" if status >= 500 else "invalid_request_error", ""))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def failure_body(script: Script) -> dict[str, Any]:
    """The body for a status that the prompt ordered."""
    status = script.fail or 500
    code = script.code or _ERRORS.get(status, ("", "server_error"))[1]
    body = error_body(status, code, f"simulated failure {status}")
    if code == "insufficient_quota":
        body["error"]["type"] = code
    return body


class Answer:
    """One answer, as the bytes that go on the wire."""

    def __init__(self, script: Script, prompt: str, question: Question) -> None:
        self.script = script
        self._text_count, self._text = script.text(prompt)
        self._reasoning_count = script.reasoning_count
        self._question = question
        self._head = {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": question.model,
        }
        self._content_event = self._event_builder("content")
        self._reasoning_event = self._event_builder("reasoning" if script.odd else "reasoning_content")
        self.ending, limit = script.ending()
        self.sent_count = min(limit, self._reasoning_count + self._text_count)
        """Tokens that go out before the ending."""

    def prelude(self) -> bytes:
        if self.script.empty and not self.script.odd:
            return b""
        role = self._event(self._choice({"role": "assistant", "content": ""}))
        if not self.script.odd:
            return role
        filtered = {"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
        return b"".join((
            b": SIMULATOR PROCESSING\r\n\r\n",
            self._event(filtered),
            role,
            b"event: message\nid: 1\nretry: 10\n",
            self._event({**self._choice({"content": None, "tool_calls": None}), "timings": {"n": 1.5}, "x": [{}]}),
        ))  # fmt: skip

    def token_event(self, index: int) -> bytes:
        """Token ``index`` of the answer, reasoning first."""
        text_index = index - self._reasoning_count
        if text_index < 0:
            return self._reasoning_event(f"r{index} ")
        event = self._content_event(self._text(text_index))
        if self.script.odd and text_index % 3 == 0:
            return b": still here\n\n" + event + self._event({"choices": [], "usage": None})
        return event

    def error_event(self) -> bytes:
        code = self.script.code or "server_error"
        error = {"message": "simulated failure in mid-stream", "code": int(code) if code.isdecimal() else code}
        return _sse({"error": error})

    def final_events(self) -> bytes:
        finish = self._event(self._choice({}, self.script.finish))
        usage = self._event({"choices": [], "usage": self._usage()})
        if self.script.odd:
            return finish + usage + b": bye\n\n"
        return finish + (usage if self._question.wants_usage else b"") + b"data: [DONE]\n\n"

    def whole(self) -> dict[str, Any]:
        """The body of an answer that was not asked for as a stream."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(map(self._text, range(self._text_count)))}
        if self._reasoning_count:
            message["reasoning_content"] = "".join(f"r{index} " for index in range(self._reasoning_count))
        choice = {"index": 0, "message": message, "finish_reason": self.script.finish}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._usage()}

    def _usage(self) -> dict[str, Any]:
        asked = sum(len(text.split()) for _, text in self._question.conversation)
        answered = self._reasoning_count + self._text_count
        return {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
            "completion_tokens_details": {"reasoning_tokens": self._reasoning_count},
        }

    def _choice(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    def _event(self, chunk: dict[str, Any]) -> bytes:
        return _sse({**self._head, **chunk})

    def _event_builder(self, key: str) -> Callable[[str], bytes]:
        before, after = self._event(self._choice({key: "@"})).split(b'"@"')
        return lambda text: before + _encode(text) + after


def _sse(value: Any) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"
