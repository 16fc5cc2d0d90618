"""The provider's side of the Responses wire, for the simulator: pure bytes.

Each event has a number. The same answer is put on the wire in the same events each time, so whoever attaches to one in
the background, ``after`` a number, gets those behind it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from chatcluster.llm.simulator.answer import Answer, Block, Kind
from chatcluster.llm.simulator.completions import error_body, failure_body
from chatcluster.llm.simulator.front import Front, seal, sse
from chatcluster.llm.simulator.media import text_files
from chatcluster.llm.simulator.question import Question, RefusedQuestion, Spoken
from chatcluster.llm.simulator.responses_rules import Request, check, media_in

Json = dict[str, Any]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_decoder = msgspec.json.Decoder(Request)


def read_question(body: bytes, _: Mapping[str, str]) -> Question:
    """Raises ``RefusedQuestion``."""
    try:
        request = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedQuestion(str(error)) from None
    sealed = check(request)
    spoken = tuple(_spoken(request))
    return Question(
        spoken=spoken,
        media=(*map(str, media_in(request)), *map(str, text_files(one.text for one in spoken))),
        request=body,
        model=request.model,
        streams=request.stream,
        may_call=request.tool_choice != "none",
        sealed=sealed,
        in_background=request.background,
        output_tokens_max=sys.maxsize if request.max_output_tokens is None else request.max_output_tokens,
    )


def _spoken(request: Request) -> Iterator[Spoken]:
    names: dict[str, str] = {}
    for item in request.input:
        match item.get("type", "message"):
            case "function_call":
                names[item["call_id"]] = item["name"]
                yield Spoken("call", item["arguments"], item["name"])
            case "function_call_output":
                yield Spoken("result", _text_of(item["output"]), names.get(item["call_id"], ""))
            case "message":
                yield Spoken(item["role"], _text_of(item["content"]))


def _text_of(content: str | list[Json]) -> str:
    if isinstance(content, str):
        return content
    return "\n\n".join(block["text"] for block in content if isinstance(block.get("text"), str))


class Rendered:
    """One answer, as the bytes that go on the wire. Nothing is said of events up to number ``after``."""

    def __init__(self, answer: Answer, *, after: int = -1) -> None:
        self._answer = answer
        self._script = answer.script
        self._after = after
        self._number = 0
        self._items = [self._item(number, block) for number, block in enumerate(answer.blocks)]

    def prelude(self) -> bytes:
        begun = self._response("in_progress", [])
        return self._events(*({"type": f"response.{kind}", "response": begun} for kind in ("created", "in_progress")))

    def token_event(self, index: int) -> bytes:
        number, inner = self._answer.place(index)
        block, item = self._answer.blocks[number], self._items[number]
        at = {"item_id": item["id"], "output_index": number}
        events: list[Json] = []
        if inner == 0:
            events.append({"type": "response.output_item.added", "output_index": number, "item": _begun(item)})
        if text := block.token(inner):
            events.append(_delta(block.kind) | at | {"delta": text})
        if inner == block.count - 1:
            if block.kind is Kind.CALL:
                done = {"type": "response.function_call_arguments.done", "arguments": block.whole, "name": block.name}
                events.append(done | at)
            for place, cited in enumerate(self._annotations(block)):
                told = {"annotation": cited, "annotation_index": place, "content_index": 0}
                events.append({"type": "response.output_text.annotation.added"} | at | told)
            events.append({"type": "response.output_item.done", "output_index": number, "item": item})
        return self._events(*events)

    def error_event(self) -> bytes:
        code = self._script.faults.code or "server_error"
        return self._events({"type": "error", "code": code, "message": "simulated failure in mid-stream"})

    def final_events(self) -> bytes:
        whole = self.whole()
        return self._events({"type": f"response.{whole['status']}", "response": whole})

    def whole(self) -> Json:
        reason = _INCOMPLETE.get(self._script.finish)
        response = self._response("incomplete" if reason else "completed", self._items)
        asked, answered = self._answer.question.words, self._answer.count
        return response | {
            "incomplete_details": {"reason": reason} if reason else None,
            "usage": {
                "input_tokens": asked,
                "input_tokens_details": {"cached_tokens": self._answer.number, "cache_write_tokens": 0},
                "output_tokens": answered,
                "output_tokens_details": {"reasoning_tokens": self._answer.reasoning_count},
                "total_tokens": asked + answered,
            },
        }

    def _response(self, status: str, output: list[Json]) -> Json:
        return {
            "id": f"resp_{self._answer.id}",
            "object": "response",
            "status": status,
            "model": self._answer.question.model,
            "output": output,
            "error": None,
        }

    def _item(self, number: int, block: Block) -> Json:
        match block.kind:
            case Kind.REASONING:
                summary = [{"type": "summary_text", "text": block.whole}]
                sealed = seal(self._answer.question.sealed, summary)
                name = f"rs_{self._answer.id}"
                return {"id": name, "type": "reasoning", "summary": summary, "encrypted_content": sealed}
            case Kind.TEXT:
                content = [{"type": "output_text", "text": block.whole, "annotations": self._annotations(block)}]
                name = f"msg_{self._answer.id}"
                return {"id": name, "type": "message", "role": "assistant", "status": "completed", "content": content}
            case _:
                call = {"call_id": block.id, "name": block.name, "arguments": block.whole}
                return {"id": f"fc_{number}_{self._answer.id}", "type": "function_call", "status": "completed", **call}

    def _annotations(self, block: Block) -> list[Json]:
        if block.kind is not Kind.TEXT:
            return []
        at = {"type": "url_citation", "start_index": 0, "end_index": len(block.whole)}
        return [at | {"url": source.url, "title": source.title} for source in self._script.sources]

    def _events(self, *events: Json) -> bytes:
        said = b""
        for event in events:
            if self._number > self._after:
                said += sse(event | {"sequence_number": self._number}, named=True)
            self._number += 1
        return said


def _begun(item: Json) -> Json:
    blank: Json = {"summary": [], "content": [], "arguments": "", "encrypted_content": None}
    return {key: blank.get(key, value) for key, value in item.items()}


def _delta(kind: Kind) -> Json:
    match kind:
        case Kind.REASONING:
            return {"type": "response.reasoning_summary_text.delta", "summary_index": 0}
        case Kind.TEXT:
            return {"type": "response.output_text.delta", "content_index": 0, "logprobs": []}
        case _:
            return {"type": "response.function_call_arguments.delta"}


FRONT = Front(read_question, Rendered, error_body, failure_body)
