"""The request of the Messages wire: ``request_body`` turns a ``ModelRequest`` into bytes, in slices. Pure.

What is sent of a history is decided by ``conversation.py``; what is particular here:

* System texts before the conversation are ``system``. Messages of one role are one message of blocks. It begins with a
  user's, and the results of a step are the first blocks of the message behind it.
* Blocks that only the server understands (thinking with its signature, its own tools and their results) go back to it
  verbatim, in their places, if they came from this model of this server; thinking also only behind the same system text
  and tools, for it is signed together with them. Others, and reasoning without a signature,
  stay here. A use of a server's tool without its result, or the reverse, stays as well: the server would refuse both,
  unless it has just stopped there itself, to be asked to go on (``PAUSED``).
* Where a step under way was made without thinking, by another model, say, the server would not take the request with
  thinking turned on: it is left out until the turn is over.
* Four marks tell the server what to keep of the prompt: behind the tools, the system text, and the last two messages of
  the user's side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from chatcluster.content import CITATIONS
from chatcluster.llm.anthropic_tools import MARK, member_of, offers_set, wire_call, wire_tools
from chatcluster.llm.computer_toolset import SET
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
from chatcluster.llm.wire import Route, is_for, with_extra, with_prefix
from chatcluster.parts import (
    PAUSED,
    UNDECODABLE,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    encode,
)
from chatcluster.ports import ModelRequest

OUTPUT_TOKENS_DEFAULT = 32_000
THINKING_TOKENS_MIN = 1024
THINKING = frozenset({"thinking", "redacted_thinking"})
CONTAINER = "container"
"""The kind of opaque part that names where the server runs its tools; it is no block."""
BEGINNING = "(The conversation begins with an answer.)"
IMAGE_NOTE = ""
MARKED_MESSAGES = 2
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class _Named(msgspec.Struct):
    """What is looked at of a block that only the server understands."""

    type: str = ""
    id: str | None = None
    tool_use_id: str | None = None


_named_decoder = msgspec.json.Decoder(_Named)


class Group(NamedTuple):
    """A message as it goes on the wire: results first."""

    role: Role
    results: tuple[AnsweredCall, ...]
    said: list[Utterance]


@dataclass
class _Plan:
    """What has to be known of a conversation before its first byte is sent."""

    system: list[Message] = field(default_factory=list)
    said: list[Utterance] = field(default_factory=list)
    messages: list[Group] = field(default_factory=list)
    """The messages as they go on the wire."""
    uses: set[str] = field(default_factory=set)
    """IDs of the server's own calls, and of those that have their results."""
    results: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    """IDs of the server's own calls that it has just stopped at."""
    container: str | None = None
    lacks_thinking: bool = False
    has_set: bool = False
    """Calls of the screen are said in the provider's words."""
    has_calls: bool = False

    def takes(self, block: _Named | None) -> bool:
        """Whether the server takes the block: it is one, and not half of a pair."""
        if block is None or not block.type:
            return False
        if block.tool_use_id is not None:
            return block.tool_use_id in self.uses
        return block.id is None or block.id in self.results | self.paused


def request_body(request: ModelRequest, route: Route) -> Iterator[bytes]:
    """The body of a streaming request for the next assistant message."""
    return slices(_pieces(request, with_prefix(request, route)))


def _pieces(request: ModelRequest, route: Route) -> Iterator[bytes]:
    plan = _Plan(has_set=offers_set(request, route))
    yield from _planned(plan, request.messages, route)
    yield encode(_parameters(route, plan))[:-1]
    yield from wire_tools(request, route, has_calls=plan.has_calls)
    yield from _wire_system(plan.system)
    yield b',"messages":['
    yield from _wire_messages(plan, route)
    yield b"]}"


def _parameters(route: Route, plan: _Plan) -> dict[str, Any]:
    options = route.options
    output_tokens = route.output_tokens_max or OUTPUT_TOKENS_DEFAULT
    parameters: dict[str, Any] = {"model": route.model, "max_tokens": output_tokens, "stream": True}
    if options.temperature is not None:
        parameters["temperature"] = options.temperature
    if options.reasoning_effort is not None:
        parameters["output_config"] = {"effort": options.reasoning_effort}
        parameters["thinking"] = {"type": "adaptive", "display": "summarized"}
    if options.thinking_tokens is not None and output_tokens > THINKING_TOKENS_MIN:
        budget = max(THINKING_TOKENS_MIN, min(options.thinking_tokens, output_tokens - 1))
        parameters["thinking"] = {"type": "enabled", "budget_tokens": budget, "display": "summarized"}
        if plan.lacks_thinking:
            del parameters["thinking"]
    if plan.container is not None:
        parameters["container"] = plan.container
    return with_extra(parameters, options)


def _wire_system(messages: list[Message]) -> Iterator[bytes]:
    if not messages:
        return
    blocks = chain.from_iterable(_text_blocks(message.parts) for message in messages)
    yield b',"system":['
    yield from _joined_blocks(blocks, marked=True)
    yield b"]"


# --- what is there ----------------------------------------------------------------------------


def _planned(plan: _Plan, history: tuple[Message, ...], route: Route) -> Iterator[bytes]:
    """Fill in the plan; an empty piece for each message that was looked at."""

    def says_more(message: Message) -> bool:
        return any(_is_block(part, route) for part in message.parts)

    is_paused = bool(history) and history[-1].finish_reason == PAUSED and says_more(history[-1])
    for said in conversation(history, _CALL_ID, says_more, goes_on=is_paused):
        yield b""
        if said is not None:
            _take(plan, said, route)
    for said in plan.said:
        yield b""
        if _says_something(said, plan, route):
            _group(plan.messages, said)
    if plan.messages and plan.messages[-1].said[-1].calls:
        plan.messages.append(Group(Role.USER, plan.messages[-1].said[-1].calls, []))


def _group(groups: list[Group], said: Utterance) -> None:
    """Neighbours of one role are one message, and results begin the message behind their calls."""
    role = said.message.role
    results = groups[-1].said[-1].calls if groups else ()
    if results and role is not Role.USER:
        groups.append(Group(Role.USER, results, []))
    elif groups and groups[-1].role is role and not results:
        groups[-1].said.append(said)
        return
    groups.append(Group(role, results if role is Role.USER else (), [said]))


def _says_something(said: Utterance, plan: _Plan, route: Route) -> bool:
    if said.calls or said.has_text or said.has_media:
        return True
    return bool(_sent_blocks(said.message.parts, plan, route))


def _sent_blocks(parts: tuple[Part, ...], plan: _Plan, route: Route) -> set[int]:
    """Which of the parts are blocks that go back. Thinking that led to nothing is none: the server would refuse it."""
    sent: set[int] = set()
    is_followed = False
    for at in range(len(parts) - 1, -1, -1):
        part = parts[at]
        if isinstance(part, OpaquePart):
            if not _is_block(part, route) or not plan.takes(_read_named(part)):
                continue
            if part.kind in THINKING and not is_followed:
                continue
            sent.add(at)
        elif not (isinstance(part, ToolCallPart) or (isinstance(part, TextPart) and not is_blank(part.text))):
            continue
        is_followed = True
    return sent


def _take(plan: _Plan, said: Utterance, route: Route) -> None:
    message = said.message
    plan.paused.clear()
    if message.role is Role.SYSTEM and not plan.said:
        plan.system.append(message)
        return
    plan.said.append(said)
    if message.role is Role.USER:
        plan.lacks_thinking = False
    if message.role is not Role.ASSISTANT:
        return
    kinds = {part.kind for part in message.parts if isinstance(part, OpaquePart) and is_for(part, route)}
    if said.calls:
        plan.has_calls = True
        plan.lacks_thinking = plan.lacks_thinking or not kinds & THINKING
    if kinds - THINKING:
        _take_server_blocks(plan, message, route)


def _take_server_blocks(plan: _Plan, message: Message, route: Route) -> None:
    for part in message.parts:
        if not isinstance(part, OpaquePart) or not is_for(part, route):
            continue
        block = _read_named(part)
        if part.kind == CONTAINER:
            plan.container = None if block is None else block.id
        elif block is not None and block.tool_use_id is not None:
            plan.results.add(block.tool_use_id)
        elif block is not None and block.id is not None:
            plan.uses.add(block.id)
            if message.finish_reason == PAUSED:
                plan.paused.add(block.id)


def _read_named(part: OpaquePart) -> _Named | None:
    try:
        return _named_decoder.decode(part.data)
    except UNDECODABLE:
        return None


def _is_block(part: Part, route: Route) -> bool:
    return isinstance(part, OpaquePart) and is_for(part, route) and part.kind not in (CONTAINER, CITATIONS)


# --- messages ---------------------------------------------------------------------------------


def _wire_messages(plan: _Plan, route: Route) -> Iterator[bytes]:
    """Pieces of the JSON of a list's items. The results of a step begin the message behind it."""
    groups = plan.messages
    if not groups or groups[0].role is Role.ASSISTANT:
        yield b'{"role":"user","content":[{"type":"text","text":%s}]}' % encode(BEGINNING)
        yield b"," if groups else b""
    users = [at for at, group in enumerate(groups) if group.role is Role.USER]
    comma = b""
    for at, group in enumerate(groups):
        yield b'%s{"role":"%s","content":[' % (comma, group.role.value.encode())
        comma = b","
        blocks = chain(
            chain.from_iterable(_result_block(call, plan) for call in group.results),
            chain.from_iterable(_blocks_of(one, plan, route) for one in group.said),
        )
        yield from _joined_blocks(blocks, marked=at in users[-MARKED_MESSAGES:])
        yield b"]}"


def _joined_blocks(pieces: Iterable[bytes | None], *, marked: bool) -> Iterator[bytes]:
    """Blocks as the items of a list. ``None`` in ``pieces`` stands for the end of each."""
    is_first, is_open = True, False
    for piece in pieces:
        if piece is None:
            is_open = True
            continue
        if is_open:
            yield b"},"
            is_open = False
        yield piece
        is_first = False
    if not is_first:
        yield MARK + b"}" if marked else b"}"


def _blocks_of(said: Utterance, plan: _Plan, route: Route) -> Iterator[bytes | None]:
    if said.message.role is not Role.ASSISTANT:
        yield from _text_blocks(said.message.parts)
        return
    calls = iter(said.calls)
    parts = said.message.parts
    sent = _sent_blocks(parts, plan, route)
    for at, part in enumerate(parts):
        if isinstance(part, TextPart):
            yield from _text_block(part.text, _citations_behind(parts, at, route))
        elif isinstance(part, ToolCallPart):
            yield from _call_block(next(calls), plan)
        elif isinstance(part, OpaquePart) and at in sent:
            yield from encoded_text(part.data.encode()[:-1])
            yield None


def _citations_behind(parts: tuple[Part, ...], at: int, route: Route) -> bytes:
    behind = parts[at + 1] if at + 1 < len(parts) else None
    if not isinstance(behind, OpaquePart) or behind.kind != CITATIONS or not is_for(behind, route):
        return b""
    return b',"citations":' + behind.data.encode()


def _text_blocks(parts: Iterable[SentPart]) -> Iterator[bytes | None]:
    for part in parts:
        if isinstance(part, TextPart):
            yield from _text_block(part.text)
        elif isinstance(part, ImagePart):
            yield from _image_block(part)
        elif isinstance(part, DocumentPart):
            yield from _document_block(part)


def _text_block(text: str, more: bytes = b"") -> Iterator[bytes | None]:
    if is_blank(text):
        return
    yield b'{"type":"text","text":"'
    yield from text_pieces(text)
    yield b'"' + more
    yield None


def _image_block(image: ImagePart) -> Iterator[bytes | None]:
    yield b'{"type":"image","source":{"type":"base64","media_type":%s,"data":"' % encode(image.media_type)
    yield from text_pieces(image.data)
    yield b'"}'
    yield None


def _document_block(document: DocumentPart) -> Iterator[bytes | None]:
    yield b'{"type":"document","title":%s,"source":{"type":"base64",' % encode(document.name)
    yield b'"media_type":%s,"data":"' % encode(document.media_type)
    yield from text_pieces(document.data)
    yield b'"}'
    yield None


def _call_block(call: AnsweredCall, plan: _Plan) -> Iterator[bytes | None]:
    yield from encoded_text(encode(wire_call(call, member_of(call) if plan.has_set else None))[:-1])
    yield None


def _result_block(call: AnsweredCall, plan: _Plan) -> Iterator[bytes | None]:
    is_of_set = plan.has_set and member_of(call) is not None
    yield b'{"type":"tool_result","tool_use_id":%s' % encode(call.id)
    yield b',"toolset_name":%s,"content":[' % encode(SET) if is_of_set else b',"content":['
    text = "".join(result_texts(call, IMAGE_NOTE))
    if call.images and text == EMPTY_RESULT:
        text = ""
    elif is_blank(text):
        text = EMPTY_RESULT
    yield from _joined_blocks(chain(_text_block(text), *map(_image_block, call.images)), marked=False)
    yield b'],"is_error":true' if call.is_error else b"]"
    yield None
