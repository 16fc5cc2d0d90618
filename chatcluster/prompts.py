"""What a model is told before the conversation, in this order, with a blank line between two of them:

1. the deployment's system prompt;
2. the chat's own, which in previous versions was the chat's first message;
3. the instruction of a chat that belongs to another one, which is its first message;
4. the chat's servers of tools, by name, and what they say about themselves;
5. the place where the chat works, and the instructions that lie there;
6. the user's own, in a ``user-instructions`` element.

A blank text is none. All of it is one system text. Together with the tools that the model is told of it is the
**prefix** of a turn: made anew where a turn begins, and the same to its end, for each owner of the chat, since
providers bind what they keep, and sign, to the exact beginning. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import msgspec

from chatcluster.json_bounds import bounded
from chatcluster.parts import UNDECODABLE, Message, Role, TextPart, encode, text_of
from chatcluster.ports import ModelRequest, ToolSpec
from chatcluster.ports.prompts import ToldPrompts
from chatcluster.texts import is_blank

CREATED_AT = 1
"""The revision of a chat's first message, which no summary and nothing else has."""
SERVERS = "The names of some tools begin with that of the server which they come from:"


class Prefix(msgspec.Struct, frozen=True):
    """What the requests of one turn begin with."""

    system: str = ""
    tools: tuple[ToolSpec, ...] = ()


def kept_of(prefix: Prefix) -> tuple[str, bytes]:
    """The prefix as it is kept for the next owner of the chat, and before that its digest."""
    data = encode(prefix)
    return blake2b(data, digest_size=16).hexdigest(), data


_prefix_decoder = msgspec.json.Decoder(Prefix)


def prefix_in(data: bytes) -> Prefix | None:
    """The one that was kept; None where this version does not understand it."""
    try:
        return _prefix_decoder.decode(bounded(data, values_max=len(data)))
    except UNDECODABLE:
        return None


def system_text(
    messages: Sequence[Message],
    told: ToldPrompts,
    servers: Sequence[tuple[str, str]],
    places: Sequence[str] = (),
    *,
    is_agent: bool = False,
) -> str:
    """All that the model is told before the conversation. ``servers``: names, and what they say; ``places``: texts on
    where the chat works. ``is_agent``: the chat belongs to another one."""
    own, instruction = told.own or "", ""
    if _begins_with_text(messages):
        first = text_of(messages[0].parts)
        if is_agent:
            instruction = first
        elif told.own is None:
            own = first
    return "\n\n".join(_sections(told, own, instruction, servers, places))


def beginning_with(request: ModelRequest, prefix: Prefix) -> ModelRequest:
    """The request, beginning with that."""
    messages = request.messages
    if _begins_with_text(messages):
        messages = messages[1:]
    if prefix.system and messages:
        system = Message(0, Role.SYSTEM, (TextPart(prefix.system),), CREATED_AT, messages[0].created_at)
        messages = (system, *messages)
    return msgspec.structs.replace(request, messages=messages, tools=prefix.tools)


def _begins_with_text(messages: Sequence[Message]) -> bool:
    """In previous versions a chat's own prompt was its first message, as an agent's instruction is still."""
    return bool(messages) and messages[0].role is Role.SYSTEM and messages[0].revision == CREATED_AT


def _sections(
    told: ToldPrompts, own: str, instruction: str, servers: Sequence[tuple[str, str]], places: Sequence[str]
) -> Iterator[str]:
    for text in (told.system, own, instruction):
        if not is_blank(text):
            yield text.strip()
    if servers:
        yield "\n".join((SERVERS, *(_server(slug, text) for slug, text in servers)))
    yield from places
    if not is_blank(told.user):
        yield element("user-instructions", told.user)


def _server(slug: str, text: str) -> str:
    return f"* {slug}" if is_blank(text) else f"* {slug}\n{element('server-instructions', text)}"


def element(name: str, text: str) -> str:
    """The text cannot end the element that it stands in."""
    inside = text.strip().replace(f"</{name}", f"&lt;/{name}")
    return f"<{name}>\n{inside}\n</{name}>"
