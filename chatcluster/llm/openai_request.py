"""The request of the Chat Completions wire: ``request_body`` turns a ``ModelRequest`` into bytes, in slices. Pure.

A slice is a bounded piece of work, whatever the history is: the caller lets others run between two of them. No text is
copied but into its slice. What is sent of a history is decided by ``conversation.py``; what is particular here:

* Neighbours of one role are joined with a blank line, because some models refuse two user messages in a row.
* Results follow their calls, in call order. This wire has no images in them, so all images of a step follow in one user
  message, and the results say where they are. It has no mark for a failed call either, so its text says it.
* What a server hangs on a call (``extra_content``: Gemini's thought signatures) goes back to it with that call, as long
  as it is the same server and model. So does the reasoning of an answer that called tools, and of what is said behind
  it in the same turn, in the field that it came in, or as the list that the server made of it
  (``reasoning_details.py``): some refuse to go on without, in each turn to come. All other reasoning stays here.
* Gemini refuses a call of the turn under way without its signature, and DeepSeek and Moonshot one without reasoning. Of
  a step that another model made nobody has them: its first call gets the word that Google has for that, and its
  reasoning is said to be unknown.
* An answer that was begun (``ModelRequest.begun``) is the last message, marked in the server's dialect as one to go on
  with; of its limit is left what its words do not take.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from chatcluster.llm.conversation import (
    AnsweredCall,
    DocumentPart,
    SentPart,
    Utterance,
    conversation,
    is_blank,
    result_texts,
)
from chatcluster.llm.slices import encoded_text, slices, text_pieces
from chatcluster.llm.wire import (
    LIMIT_FIELDS,
    Route,
    is_for,
    listed_tools,
    output_tokens_left,
    search_settings,
    with_extra,
)
from chatcluster.models import PrefixDialect
from chatcluster.parts import UNDECODABLE, ImagePart, Message, OpaquePart, Part, ReasoningPart, Role, TextPart, encode
from chatcluster.ports import ModelRequest, ToolSpec

EXTRA_CONTENT = "extra_content"
"""The kind of the opaque parts of this wire, and the field that they come from."""
REASONING = "reasoning"
"""The kind that says in which field an answer with calls had its reasoning."""
REASONING_DETAILS = "reasoning_details"
"""The kind with that list, and its field."""
REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
"""The fields in which servers have what a model reasoned."""
BLANK_LINE = rb"\n\n"
"""A blank line as it stands in JSON."""
OPENAI_HOSTS = (".openai.com", ".openai.azure.com")
GEMINI_HOSTS = (".googleapis.com",)
REASONING_HOSTS = (".deepseek.com", ".moonshot.ai", ".moonshot.cn")
UNKNOWN_REASONING = "(unknown)"
UNSIGNED = msgspec.Raw(b'{"google":{"thought_signature":"skip_thought_signature_validator"}}')
IMAGE_NOTE = "[image %d of this result is in the message after the results]"
_PREFIX_MARKS = {
    PrefixDialect.PREFIX: b',"prefix":true',
    PrefixDialect.PREFIX_ECHOED: b',"prefix":true',
    PrefixDialect.PARTIAL: b',"partial":true',
}
_CALL_ID = re.compile(r"[\x21-\x7e]{1,40}")


class Extra(msgspec.Struct):
    """The data of an opaque part: what came with a call, verbatim. ``call_id`` is ours."""

    call_id: str
    extra_content: msgspec.Raw


class Details(msgspec.Struct):
    """The data of another one: what the server told of its reasoning, whole."""

    reasoning_details: msgspec.Raw


_extra_decoder = msgspec.json.Decoder(Extra)
_details_decoder = msgspec.json.Decoder(Details)


def request_body(request: ModelRequest, route: Route) -> Iterator[bytes]:
    """The body of a streaming request for the next assistant message."""
    return slices(
        chain(
            (encode(_parameters(request, route) | _to_go_on(request, route))[:-1],),
            listed_tools(request, _wire_tool),
            (b',"messages":[',),
            _wire_messages(request, route),
            _begun(request, route),
            (b"]}",),
        )
    )


def _parameters(request: ModelRequest, route: Route) -> dict[str, Any]:
    options = route.options
    parameters: dict[str, Any] = {"model": route.model, "stream": True}
    if route.include_usage:
        parameters["stream_options"] = {"include_usage": True}
    if route.output_tokens_max is not None and not options.extra_body.keys() & set(LIMIT_FIELDS):  # both are refused
        # OpenAI's newer models refuse the old name, and others do not know the new one
        is_openai = _host(route).endswith(OPENAI_HOSTS)
        parameters["max_completion_tokens" if is_openai else "max_tokens"] = route.output_tokens_max
    if options.temperature is not None:
        parameters["temperature"] = options.temperature
    if options.reasoning_effort is not None:
        parameters["reasoning_effort"] = options.reasoning_effort
    if request.may_call_tools and (settings := search_settings(request, route)) is not None:
        parameters["web_search_options"] = settings
    parameters = with_extra(parameters, options)
    if request.begun:
        parameters |= {name: output_tokens_left(request, route) for name in LIMIT_FIELDS if name in parameters}
    return parameters


def _host(route: Route) -> str:
    return urlsplit(route.base_url).hostname or ""


def _to_go_on(request: ModelRequest, route: Route) -> dict[str, Any]:
    if not request.begun or route.options.prefix is not PrefixDialect.CONTINUE_FINAL_MESSAGE:
        return {}
    return {"continue_final_message": True, "add_generation_prompt": False}


def _begun(request: ModelRequest, route: Route) -> Iterator[bytes]:
    """The answer as far as it was said, as the last message: the model goes on from there."""
    if not request.begun:
        return
    yield b',{"role":"assistant","content":"'
    yield from text_pieces(request.begun)
    yield b'"' + _PREFIX_MARKS.get(route.options.prefix, b"") + b"}"


def _wire_tool(tool: ToolSpec) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


class _Open(NamedTuple):
    """The message that is being written, while the content of the next one may be joined to it."""

    role: Role
    has_blocks: bool
    """Whether its content is a list of blocks; else it is one text."""

    def takes(self, said: Utterance) -> bool:
        return said.message.role is self.role and not said.calls and (self.has_blocks or not said.has_media)

    @property
    def ending(self) -> bytes:
        return b"]}" if self.has_blocks else b'"}'


def _wire_messages(request: ModelRequest, route: Route) -> Iterator[bytes]:
    """Pieces of the JSON of a list's items."""
    comma = b""
    is_open: _Open | None = None
    field = ""
    for said in conversation(request.messages, _CALL_ID, goes_on=bool(request.begun)):
        if said is None:
            yield b""
            continue
        if said.message.role is Role.USER:
            field = ""
        elif said.calls:
            field = _reasoning_field(said.message, route) or field
        if is_open is not None and is_open.takes(said):
            yield b"," if is_open.has_blocks else BLANK_LINE
        else:
            yield b"" if is_open is None else is_open.ending
            yield b'%s{"role":"%s"' % (comma, said.message.role.value.encode())
            if field and said.message.role is Role.ASSISTANT:
                yield from _wire_reasoning(said.message, route, field)
            yield b',"content":'
            comma = b","
            is_open = None if said.calls else _Open(said.message.role, said.has_media)
            yield b"" if is_open is None else b"[" if is_open.has_blocks else b'"'
        if is_open is not None:
            yield from _wire_blocks(said.message.parts) if is_open.has_blocks else _wire_texts(said.message)
            continue
        yield from _wire_step(said, route)
        if images := [image for call in said.calls for image in call.images]:
            yield b',{"role":"user","content":['
            yield from _wire_blocks(images)
            is_open = _Open(Role.USER, has_blocks=True)
    if is_open is not None:
        yield is_open.ending


def _wire_step(said: Utterance, route: Route) -> Iterator[bytes]:
    """The rest of an answer that calls tools, and what they say."""
    if said.has_text:
        yield b'"'
        yield from _wire_texts(said.message)
        yield b'"'
    else:
        yield b"null"
    yield b',"tool_calls":['
    extras = dict(_extras(said.message.parts, route))
    if not extras and _host(route).endswith(GEMINI_HOSTS):
        extras[said.calls[0].call.id] = UNSIGNED
    for number, call in enumerate(said.calls):
        yield b"," if number else b""
        yield from encoded_text(_wire_call(call, extras.get(call.call.id)))
    yield b"]}"
    for call in said.calls:
        yield b',{"role":"tool","tool_call_id":%s,"content":"' % encode(call.id)
        yield from _wire_result(call)
        yield b'"}'


def _reasoning_field(message: Message, route: Route) -> str:
    """The field in which the server wants to have back what it reasoned in this step; empty: it does not want it."""
    for part in message.parts:
        if isinstance(part, OpaquePart) and is_for(part, route):
            if part.kind == REASONING_DETAILS:
                return "reasoning"
            if part.kind == REASONING:
                return next((field for field in REASONING_FIELDS if f'"{field}"' in part.data), "")
    return REASONING_FIELDS[0] if _host(route).endswith(REASONING_HOSTS) else ""


def _wire_reasoning(message: Message, route: Route, field: str) -> Iterator[bytes]:
    for part in message.parts:
        if isinstance(part, OpaquePart) and part.kind == REASONING_DETAILS and is_for(part, route):
            with suppress(*UNDECODABLE):
                details = bytes(_details_decoder.decode(part.data).reasoning_details)
                yield from encoded_text(b',"reasoning_details":' + details)
                return
    texts = [part.text for part in message.parts if isinstance(part, ReasoningPart)]
    if not texts and _host(route).endswith(REASONING_HOSTS):
        texts = [UNKNOWN_REASONING]
    if texts:
        yield b',"%s":"' % field.encode()
        for text in texts:
            yield from text_pieces(text)
        yield b'"'


def _wire_texts(message: Message) -> Iterator[bytes]:
    for part in message.parts:
        if isinstance(part, TextPart):
            yield from text_pieces(part.text)


def _wire_blocks(parts: Iterable[SentPart]) -> Iterator[bytes]:
    """The items of a content that is a list."""
    comma = b""
    for part in parts:
        if isinstance(part, TextPart) and not is_blank(part.text):
            yield comma + b'{"type":"text","text":"'
            yield from text_pieces(part.text)
            yield b'"}'
        elif isinstance(part, ImagePart):
            yield comma + b'{"type":"image_url","image_url":{"url":"data:'
            yield from text_pieces(f"{part.media_type};base64,")
            yield from text_pieces(part.data)
            yield b'"}}'
        elif isinstance(part, DocumentPart):
            yield comma + b'{"type":"file","file":{"filename":%s,"file_data":"data:' % encode(part.name)
            yield from text_pieces(f"{part.media_type};base64,")
            yield from text_pieces(part.data)
            yield b'"}}'
        else:
            continue
        comma = b","


def _wire_result(call: AnsweredCall) -> Iterator[bytes]:
    if call.result is not None and call.result.is_error:
        yield b"Error: "
    for text in result_texts(call, IMAGE_NOTE):
        yield from text_pieces(text)


def _wire_call(call: AnsweredCall, extra: msgspec.Raw | None) -> bytes:
    wire: dict[str, Any] = {"id": call.id, "type": "function"}
    if extra is not None:
        wire[EXTRA_CONTENT] = extra
    return encode(wire | {"function": {"name": call.name, "arguments": call.arguments}})


def _extras(parts: Iterable[Part], route: Route) -> Iterator[tuple[str, msgspec.Raw]]:
    """What this server wants to have back with calls, by our IDs of them."""
    for part in parts:
        if isinstance(part, OpaquePart) and is_for(part, route) and part.kind == EXTRA_CONTENT:
            try:
                extra = _extra_decoder.decode(part.data)
            except UNDECODABLE:
                continue  # damaged: the server says what it thinks of a call without it
            yield extra.call_id, extra.extra_content
