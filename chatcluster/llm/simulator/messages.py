"""The provider's side of the Messages wire, for the simulator: pure bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chatcluster.llm.simulator.answer import Answer, Block, Kind
from chatcluster.llm.simulator.front import Front, seal, sse
from chatcluster.llm.simulator.media import text_files
from chatcluster.llm.simulator.messages_rules import Request, check, media_in
from chatcluster.llm.simulator.question import Question, RefusedQuestion, Spoken
from chatcluster.llm.simulator.said import Faults
from chatcluster.llm.simulator.screen_rules import SET, members_of

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "pause": "pause_turn"}
_decoder = msgspec.json.Decoder(Request)


def read_question(body: bytes, headers: Mapping[str, str]) -> Question:
    """Raises ``RefusedQuestion``."""
    try:
        request = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedQuestion(str(error)) from None
    sealed = check(request, headers)
    spoken = tuple(_spoken(request))
    return Question(
        spoken=spoken,
        media=(*map(str, media_in(request)), *map(str, text_files(one.text for one in spoken))),
        request=body,
        model=request.model,
        streams=request.stream,
        may_call=request.may_call,
        members=members_of(request.tools or ()),
        sealed=sealed,
        output_tokens_max=request.max_tokens,
    )


def _spoken(request: Request) -> list[Spoken]:
    spoken: list[Spoken] = []
    names: dict[str, str] = {}
    for message in request.messages:
        texts = [block["text"] for block in message.blocks if block["type"] == "text"]
        for block in message.blocks:
            if block["type"] == "tool_use":
                names[block["id"]] = block["name"]
                spoken.append(Spoken("call", msgspec.json.encode(block["input"]).decode(), block["name"]))
            elif block["type"] == "tool_result":
                spoken.append(Spoken("result", _result_text(block), names.get(block["tool_use_id"], "")))
        if texts:
            at = -sum(block["type"] == "tool_use" for block in message.blocks) or len(spoken)
            spoken.insert(at, Spoken(message.role, "\n\n".join(texts)))
    return spoken


def _result_text(block: dict[str, Any]) -> str:
    content = block.get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(inner["text"] for inner in content if inner.get("type") == "text")


def error_body(status: int, _: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": _ERRORS.get(status, "api_error"), "message": message}}


def failure_body(faults: Faults) -> dict[str, Any]:
    body = error_body(faults.fail or 500, "", f"simulated failure {faults.fail or 500}")
    if faults.code:
        body["error"]["details"] = {"error_code": faults.code}
    return body


class Rendered:
    """One answer, as the bytes that go on the wire."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._script = answer.script

    def prelude(self) -> bytes:
        usage = self._asked | {"output_tokens": 1}
        message = {**self._message([]), "stop_reason": None, "usage": usage}
        return self._event({"type": "message_start", "message": message})

    def token_event(self, index: int) -> bytes:
        number, inner = self._answer.place(index)
        block = self._answer.blocks[number]
        events: list[dict[str, Any]] = []
        if inner == 0:
            events.append({"type": "content_block_start", "index": number, "content_block": self._begun(block)})
        events.append({"type": "content_block_delta", "index": number, "delta": _delta(block, inner)})
        if inner == block.count - 1:
            if block.kind is Kind.REASONING:
                signed = {"type": "signature_delta", "signature": self._signature(block)}
                events.append({"type": "content_block_delta", "index": number, "delta": signed})
            for citation in self._citations(block):
                cited = {"type": "citations_delta", "citation": citation}
                events.append({"type": "content_block_delta", "index": number, "delta": cited})
            events.append({"type": "content_block_stop", "index": number})
        if self._script.odd and inner % 3 == 0:
            events = [{"type": "ping"}, {"type": "brand_new", "x": [{}]}, *events]
        return b"".join(map(self._event, events))

    def error_event(self) -> bytes:
        error = {"type": self._script.faults.code or "api_error", "message": "simulated failure in mid-stream"}
        return self._event({"type": "error", "error": error})

    def final_events(self) -> bytes:
        delta = {"stop_reason": self._reason, "stop_sequence": None}
        usage = {"output_tokens": self._answer.count}
        ending = self._event({"type": "message_delta", "delta": delta, "usage": usage})
        return ending + self._event({"type": "message_stop"})

    def whole(self) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        for block in self._answer.blocks:
            match block.kind:
                case Kind.REASONING:
                    thought = {"type": "thinking", "thinking": block.whole, "signature": self._signature(block)}
                    content.append(thought)
                case Kind.TEXT:
                    cited = self._citations(block)
                    content.append({"type": "text", "text": block.whole} | ({"citations": cited} if cited else {}))
                case Kind.CALL:
                    content.append(self._begun(block) | {"input": msgspec.Raw(block.whole_arguments)})
        usage = self._asked | {"output_tokens": self._answer.count}
        return self._message(content) | {"stop_reason": self._reason, "usage": usage}

    @property
    def _asked(self) -> dict[str, int]:
        number, asked = self._answer.number, {"input_tokens": self._answer.question.words}
        return asked | {"cache_read_input_tokens": number} if number else asked

    @property
    def _reason(self) -> str:
        if self._answer.calls and self._script.finish == "stop":
            return "tool_use"
        return _REASONS.get(self._script.finish, self._script.finish)

    def _citations(self, block: Block) -> list[dict[str, Any]]:
        if block.kind is not Kind.TEXT:
            return []
        found = {"type": "web_search_result_location", "encrypted_index": "simulated", "cited_text": ""}
        return [found | {"url": source.url, "title": source.title} for source in self._script.sources]

    def _begun(self, block: Block) -> dict[str, Any]:
        is_of_set = block.kind is Kind.CALL and block.name in self._answer.question.members
        return _content_block(block) | ({"toolset_name": SET} if is_of_set else {})

    def _signature(self, block: Block) -> str:
        return seal(self._answer.question.sealed, block.whole)

    def _message(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"msg_{self._answer.id}",
            "type": "message",
            "role": "assistant",
            "model": self._answer.question.model,
            "content": content,
            "stop_sequence": None,
        }

    def _event(self, value: dict[str, Any]) -> bytes:
        return sse(value, named=True)


def _content_block(block: Block) -> dict[str, Any]:
    match block.kind:
        case Kind.REASONING:
            return {"type": "thinking", "thinking": "", "signature": ""}
        case Kind.TEXT:
            return {"type": "text", "text": ""}
        case _:
            return {"type": "tool_use", "id": block.id.replace("call_", "toolu_"), "name": block.name, "input": {}}


def _delta(block: Block, inner: int) -> dict[str, Any]:
    match block.kind:
        case Kind.REASONING:
            return {"type": "thinking_delta", "thinking": block.token(inner)}
        case Kind.TEXT:
            return {"type": "text_delta", "text": block.token(inner)}
        case _:
            return {"type": "input_json_delta", "partial_json": block.token(inner)}


FRONT = Front(read_question, Rendered, error_body, failure_body)
