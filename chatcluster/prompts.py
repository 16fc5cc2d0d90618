"""What a model is told before the conversation, in this order, with a blank line between two of them:

1. the deployment's system prompt;
2. the chat's own, which in previous versions was the chat's first message;
3. the instruction of a chat that belongs to another one, which is its first message;
4. the chat's servers of tools, by name, and what they say about themselves;
5. the place where the chat works, and the instructions that lie there;
6. the user's own, in a ``user-instructions`` element.

A blank text is none. All of it is one system text, made anew when a replica takes the chat up; within a turn it stays
as it is, since providers bind what they keep, and sign, to the exact beginning. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from chatcluster.parts import Message, Role, TextPart, text_of
from chatcluster.ports import ModelRequest
from chatcluster.ports.prompts import ToldPrompts
from chatcluster.texts import is_blank

CREATED_AT = 1
"""The revision of a chat's first message, which no summary and nothing else has."""
SERVERS = "The names of some tools begin with that of the server which they come from:"


def with_prompts(
    request: ModelRequest,
    told: ToldPrompts,
    servers: Sequence[tuple[str, str]],
    places: Sequence[str] = (),
    *,
    is_agent: bool = False,
) -> ModelRequest:
    """The request, with all that the model is told at its beginning. ``servers``: names, and what they say; ``places``:
    texts on where the chat works. ``is_agent``: the chat belongs to another one."""
    messages = request.messages
    own, instruction = told.own or "", ""
    if messages and messages[0].role is Role.SYSTEM and messages[0].revision == CREATED_AT:
        first, messages = text_of(messages[0].parts), messages[1:]
        if is_agent:
            instruction = first
        elif told.own is None:
            own = first
    text = "\n\n".join(_sections(told, own, instruction, servers, places))
    if not text and messages is request.messages:
        return request
    if text and messages:
        system = Message(0, Role.SYSTEM, (TextPart(text),), CREATED_AT, messages[0].created_at)
        messages = (system, *messages)
    return msgspec.structs.replace(request, messages=messages)


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
