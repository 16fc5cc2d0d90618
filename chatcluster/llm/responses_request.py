"""The request of the Responses wire: ``request_body`` turns a ``ModelRequest`` into bytes, in slices. Pure.

Nothing is left with the server (``store: false``), but for an answer in the background, which it has to keep to go on
with it. So the whole conversation is sent each time, as a row of items; what is sent of a history is decided by
``conversation.py``. What is particular here:

* Calls and their results are items of their own: all calls of a step, then all results, in call order. What an answer
  said behind a call, as other vendors' models do, comes behind the results.
* Reasoning comes encrypted, and goes back verbatim, in its place, if it came from this model of this server, behind the
  same system text and tools. It has to be followed by what it led to: where that is missing, because an interrupt came
  between, it stays here.
* A request that attaches to an answer has no body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from chatcluster.llm.chunks import is_json_object
from chatcluster.llm.conversation import (
    EMPTY_RESULT,
    AnsweredCall,
    DocumentPart,
    SentPart,
    Utterance,
    conversation,
    is_blank,
    result_texts,
)
from chatcluster.llm.slices import encoded_text, slices, text_pieces
from chatcluster.llm.wire import SEARCH, Route, is_for, listed_tools, search_settings, with_extra, with_prefix
from chatcluster.parts import ImagePart, Message, OpaquePart, Part, Role, TextPart, ToolCallPart, encode
from chatcluster.ports import ModelRequest, ToolSpec

REASONING = "reasoning"
ENCRYPTED = "reasoning.encrypted_content"
_WITHOUT_REASONING = re.compile(r"(ft:|.*/)?(gpt-3|gpt-4|chatgpt)")
"""Models that refuse to be asked for encrypted reasoning, as far as they are known: others say so."""
_CALL_ID = re.compile(r"[\x21-\x7e]{1,64}")


def request_body(request: ModelRequest, route: Route) -> Iterator[bytes]:
    """The body of a streaming request for the next assistant message; nothing where an answer is attached to."""
    if request.attach is not None:
        return iter(())
    route = with_prefix(request, route)
    return slices(
        chain(
            (encode(_parameters(request, route))[:-1],),
            listed_tools(request, _wire_tool, _search(request, route)),
            (b',"input":[',),
            _listed(_items(request.messages, route)),
            (b"]}",),
        )
    )


def _parameters(request: ModelRequest, route: Route) -> dict[str, Any]:
    options = route.options
    parameters: dict[str, Any] = {"model": route.model, "stream": True, "store": route.in_background}
    if route.in_background:
        parameters["background"] = True
    if tells_reasoning(request, route):
        parameters["include"] = [ENCRYPTED]
    if route.output_tokens_max is not None:
        parameters["max_output_tokens"] = route.output_tokens_max
    if options.temperature is not None:
        parameters["temperature"] = options.temperature
    if options.reasoning_effort is not None:
        parameters["reasoning"] = {"effort": options.reasoning_effort, "summary": "auto"}
    return with_extra(parameters, options)


def tells_reasoning(request: ModelRequest, route: Route) -> bool:
    return not (request.is_plain or _WITHOUT_REASONING.match(route.model))


def _wire_tool(tool: ToolSpec) -> dict[str, Any]:
    wire: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description:
        wire["description"] = tool.description
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return wire | {"parameters": parameters, "strict": False}


def _search(request: ModelRequest, route: Route) -> Iterator[dict[str, Any]]:
    if (settings := search_settings(request, route)) is not None:
        yield {"type": SEARCH, **settings}


def _listed(pieces: Iterator[bytes | None]) -> Iterator[bytes]:
    """Items as those of a list. ``None`` in ``pieces`` stands for the end of each."""
    is_between = False
    for piece in pieces:
        if piece is None:
            is_between = True
        elif piece and is_between:
            yield b"," + piece
            is_between = False
        else:
            yield piece


def _items(history: tuple[Message, ...], route: Route) -> Iterator[bytes | None]:
    def says_more(message: Message) -> bool:
        return bool(_sent_items(message.parts, route))

    for said in conversation(history, _CALL_ID, says_more):
        if said is None:
            yield b""
        elif said.message.role is Role.ASSISTANT:
            yield from _answer(said, route)
        else:
            yield b'{"role":"%s","content":[' % said.message.role.value.encode()
            yield from _listed(_blocks(said.message.parts))
            yield b"]}"
            yield None


def _answer(said: Utterance, route: Route) -> Iterator[bytes | None]:
    calls, calls_left = iter(said.calls), len(said.calls)
    sent = _sent_items(said.message.parts, route)
    behind: list[Part] = []
    for at, part in enumerate(said.message.parts):
        if isinstance(part, ToolCallPart):
            yield from encoded_text(encode(_wire_call(next(calls))))
            yield None
            calls_left -= 1
        elif isinstance(part, TextPart) or at in sent:
            is_behind = calls_left < len(said.calls) and (not calls_left or isinstance(part, TextPart))
            if is_behind:
                behind.append(part)
            else:
                yield from _said(part)
    for call in said.calls:
        yield b'{"type":"function_call_output","call_id":%s,"output":' % encode(call.id)
        yield from _output(call)
        yield b"}"
        yield None
    for part in behind:
        yield from _said(part)


def _said(part: Part) -> Iterator[bytes | None]:
    """A text, or an item of this model's that goes back to it."""
    if isinstance(part, OpaquePart):
        yield from encoded_text(part.data.encode())
        yield None
    elif isinstance(part, TextPart) and not is_blank(part.text):
        yield b'{"type":"message","role":"assistant","content":"'  # llama.cpp does not know it by its role
        yield from text_pieces(part.text)
        yield b'"}'
        yield None


def _sent_items(parts: tuple[Part, ...], route: Route) -> set[int]:
    """Which of the parts are items of this model's that go back to it. Reasoning that led to nothing is none; and where
    reasoning stays here, as it was behind another prompt, so does what it led to: a search, which has to follow it."""
    sent: set[int] = set()
    if any(isinstance(part, OpaquePart) and part.kind == REASONING and not is_for(part, route) for part in parts):
        return sent
    is_followed = False
    for at in range(len(parts) - 1, -1, -1):
        part = parts[at]
        if isinstance(part, OpaquePart):
            if not is_for(part, route) or not is_json_object(part.data) or (part.kind == REASONING and not is_followed):
                continue
            sent.add(at)
        elif not (isinstance(part, ToolCallPart) or (isinstance(part, TextPart) and not is_blank(part.text))):
            continue
        is_followed = True
    return sent


def _wire_call(call: AnsweredCall) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _output(call: AnsweredCall) -> Iterator[bytes]:
    texts = chain(("Error: ",) if call.result is not None and call.result.is_error else (), result_texts(call, ""))
    if not call.images:
        yield b'"'
        for text in texts:
            yield from text_pieces(text)
        yield b'"'
        return
    text = "".join(texts)
    shown = () if text == EMPTY_RESULT or is_blank(text) else (TextPart(text),)
    yield b"["
    yield from _listed(_blocks((*shown, *call.images)))
    yield b"]"


def _blocks(parts: tuple[SentPart, ...]) -> Iterator[bytes | None]:
    for part in parts:
        if isinstance(part, TextPart) and not is_blank(part.text):
            yield b'{"type":"input_text","text":"'
            yield from text_pieces(part.text)
            yield b'"}'
            yield None
        elif isinstance(part, ImagePart):
            yield b'{"type":"input_image","detail":"auto","image_url":"data:'
            yield from text_pieces(f"{part.media_type};base64,")
            yield from text_pieces(part.data)
            yield b'"}'
            yield None
        elif isinstance(part, DocumentPart):
            yield b'{"type":"input_file","filename":%s,"file_data":"data:' % encode(part.name)
            yield from text_pieces(f"{part.media_type};base64,")
            yield from text_pieces(part.data)
            yield b'"}'
            yield None
