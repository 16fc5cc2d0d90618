"""The provider's side of the Chat Completions wire, for the simulator: pure bytes.

``read_question`` understands a request, and refuses what ``completions_rules.py`` finds in it; ``Rendered`` puts an
``Answer`` on the wire, as the events of a stream or as one body. An event is built from prepared bytes around the JSON
of its text, because this is done for every token of every simulated chat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from chatcluster.llm.simulator.answer import Answer, Block, Kind
from chatcluster.llm.simulator.completions_rules import Request, check, media_in
from chatcluster.llm.simulator.front import Front, sse
from chatcluster.llm.simulator.media import text_files
from chatcluster.llm.simulator.question import MODEL_DEFAULT, Question, RefusedQuestion, Spoken
from chatcluster.llm.simulator.said import Faults

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

NO_HEADERS: Mapping[str, str] = {}
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Request)


def read_question(body: bytes, _: Mapping[str, str] = NO_HEADERS) -> Question:
    """Raises ``RefusedQuestion``."""
    try:
        request = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedQuestion(str(error)) from None
    check(request)
    spoken = tuple(_spoken(request))
    return Question(
        spoken=spoken,
        media=(*map(str, media_in(request)), *map(str, text_files(one.text for one in spoken))),
        request=body,
        model=request.model or MODEL_DEFAULT,
        streams=request.stream,
        wants_usage=request.stream_options is not None and request.stream_options.include_usage,
        may_call=request.tool_choice != "none",
        begun=request.begun,
        output_tokens_max=request.output_tokens_max,
    )


def _spoken(request: Request) -> list[Spoken]:
    spoken: list[Spoken] = []
    names: dict[str, str] = {}
    for message in request.messages:
        if message.role == "tool":
            spoken.append(Spoken("result", message.text, names.get(message.tool_call_id or "", "")))
            continue
        if message.text or not message.calls:
            spoken.append(Spoken(message.role, message.text))
        for call in message.calls:
            names[call.id] = call.function.name
            spoken.append(Spoken("call", call.function.arguments, call.function.name))
    return spoken


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    kind, _ = _ERRORS.get(status, ("server_error" if status >= 500 else "invalid_request_error", ""))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def failure_body(faults: Faults) -> dict[str, Any]:
    """The body for a status that the prompt ordered."""
    status = faults.fail or 500
    code = faults.code or _ERRORS.get(status, ("", "server_error"))[1]
    body = error_body(status, code, f"simulated failure {status}")
    if code == "insufficient_quota":
        body["error"]["type"] = code
    return body


class Rendered:
    """One answer, as the bytes that go on the wire."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._script = answer.script
        self._head = {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": answer.question.model,
        }
        self._content_event = self._event_builder("content")
        self._reasoning_event = self._event_builder("reasoning" if self._script.odd else "reasoning_content")

    def prelude(self) -> bytes:
        if self._script.faults.empty and not self._script.odd:
            return b""
        role = self._event(self._choice({"role": "assistant", "content": ""}))
        if not self._script.odd:
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
        """Token ``index`` of the answer."""
        number, inner = self._answer.place(index)
        block = self._answer.blocks[number]
        if block.kind is Kind.REASONING:
            return self._reasoning_event(block.token(inner))
        if block.kind is Kind.CALL:
            return self._call_event(block, inner)
        event = self._content_event(block.token(inner))
        if self._script.odd and inner % 3 == 0:
            return b": still here\n\n" + event + self._event({"choices": [], "usage": None})
        return event

    def _call_event(self, block: Block, inner: int) -> bytes:
        piece: dict[str, Any] = {"index": self._answer.calls.index(block)}
        if self._script.odd:  # as some local servers do: without an index, whole, and all at once
            if inner:
                return b": still here\n\n"
            return self._event(self._choice({"tool_calls": [_whole_call(block)]}))
        if inner == 0:
            piece |= {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": ""}}
        else:
            piece |= {"function": {"arguments": block.token(inner)}}
        return self._event(self._choice({"tool_calls": [piece]}))

    def error_event(self) -> bytes:
        code = self._script.faults.code or "server_error"
        error = {"message": "simulated failure in mid-stream", "code": int(code) if code.isdecimal() else code}
        return sse({"error": error})

    def final_events(self) -> bytes:
        cited = self._annotations()
        finish = self._event(self._choice({"annotations": cited})) if cited else b""
        finish += self._event(self._choice({}, self._finish))
        usage = self._event({"choices": [], "usage": self._usage()})
        if self._script.odd:
            return finish + usage + b": bye\n\n"
        return finish + (usage if self._answer.question.wants_usage else b"") + b"data: [DONE]\n\n"

    def whole(self) -> dict[str, Any]:
        """The body of an answer that was not asked for as a stream."""
        said = {kind: "".join(block.whole for block in self._answer.blocks if block.kind is kind) for kind in Kind}
        calls = [_whole_call(block) for block in self._answer.calls]
        message: dict[str, Any] = {"role": "assistant", "content": said[Kind.TEXT]}
        if said[Kind.REASONING]:
            message["reasoning_content"] = said[Kind.REASONING]
        if calls:
            message["tool_calls"] = calls
        if cited := self._annotations():
            message["annotations"] = cited
        choice = {"index": 0, "message": message, "finish_reason": self._finish}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._usage()}

    @property
    def _finish(self) -> str:
        return "tool_calls" if self._answer.calls and self._script.finish == "stop" else self._script.finish

    def _annotations(self) -> list[dict[str, Any]]:
        at = {"start_index": 0, "end_index": 0}
        cited = [at | {"url": source.url, "title": source.title} for source in self._script.sources]
        return [{"type": "url_citation", "url_citation": one} for one in cited]

    def _usage(self) -> dict[str, Any]:
        asked, answered = self._answer.question.words, self._answer.count
        number = self._answer.number
        return {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
            **({"prompt_tokens_details": {"cached_tokens": number}} if number else {}),
            "completion_tokens_details": {"reasoning_tokens": self._answer.reasoning_count},
        }

    def _choice(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    def _event(self, chunk: dict[str, Any]) -> bytes:
        return sse({**self._head, **chunk})

    def _event_builder(self, key: str) -> Callable[[str], bytes]:
        before, after = self._event(self._choice({key: "@"})).split(b'"@"')
        return lambda text: before + _encode(text) + after


def _whole_call(block: Block) -> dict[str, Any]:
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": block.whole}}


FRONT = Front(read_question, Rendered, error_body, failure_body)
