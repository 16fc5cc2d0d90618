"""What callers send: the bodies of requests, decoded strictly and checked before anything is written.

Unknown fields, wrong types and NUL characters (which Postgres stores in no text) are refused with a message
that names the place. ``content`` is a string, or a list of parts ``{"type": "text", "text": …}``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatcluster.chat import Busy
from chatcluster.errors import InvalidRequest, TooLarge
from chatcluster.parts import Parts, TextPart
from chatcluster.texts import checked_line, is_blank, visible

TITLE_CHARS_MAX = 200
DEFAULT_TITLE_CHARS_MAX = 80
DEFAULT_TITLE_WORDS = 6
MODEL_CHARS_MAX = 200
CONTENT_PARTS_MAX = 1000


class InputText(msgspec.Struct, tag="text", frozen=True, forbid_unknown_fields=True):
    """A piece of text in a user's message."""

    text: str


class InputTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool that the client runs itself. ``parameters`` is the JSON schema of an object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


Content = str | list[InputText]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON object that has the declared fields and no others."""


class CreateChat(Body, frozen=True, kw_only=True):
    """A new chat, and the message that starts it, if there is one already."""

    content: Annotated[Content | UnsetType, Meta(description="The first message: text, or a list of text parts")] = (
        UNSET
    )
    title: Annotated[str | None, Meta(description="Default: the first words of the content")] = None
    model: Annotated[str | None, Meta(description="Default: what the deployment is set to")] = None
    system_prompt: str | None = None
    tools: Annotated[list[InputTool], Meta(description="Tools that the client runs itself")] = []
    mcp_servers: Annotated[list[str], Meta(description="The slugs of the servers whose tools the chat has")] = []
    agents: Annotated[
        bool | None, Meta(description="Whether it may have sub-agents; null: as the deployment is set")
    ] = None


class PatchChat(Body, frozen=True, kw_only=True):
    """What is left away stays as it is."""

    title: str | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    tools: list[InputTool] | UnsetType = UNSET
    mcp_servers: list[str] | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    agents: Annotated[
        bool | UnsetType | None, Meta(description="Whether it may have sub-agents; null: as the deployment is set")
    ] = UNSET
    model: Annotated[
        str | UnsetType | None, Meta(description="Of the messages from now on; null: what the deployment is set to")
    ] = UNSET


class SendMessage(Body, frozen=True, kw_only=True):
    """A message to a chat."""

    content: Content
    busy: Annotated[Busy, Meta(description="If the chat is busy: wait in the queue, interrupt, or steer")] = Busy.QUEUE
    model: Annotated[str | None, Meta(description="Who answers this message. Default: the chat's model")] = None
    mcp_servers: Annotated[list[str] | None, Meta(description="The chat's servers of tools from now on")] = None


class EditMessage(Body, frozen=True, kw_only=True):
    """What takes the place of a user's message, and of everything that came after it."""

    content: Content
    model: Annotated[str | None, Meta(description="Who answers. Default: as for the replaced message")] = None


class EditQueuedMessage(Body, frozen=True, kw_only=True):
    """What takes the place of a message that waits in the queue."""

    content: Content
    model: Annotated[str | None, Meta(description="Who answers. Default: as for the replaced message")] = None


class SignIn(Body, frozen=True, kw_only=True):
    """One of the two."""

    token: str | UnsetType = UNSET
    code: Annotated[str | UnsetType, Meta(description="As `chatcluster link` prints it; it works once")] = UNSET


class CreateToken(Body, frozen=True, kw_only=True):
    """A token for a user, who is created if there is none of that name."""

    user: str
    name: str = ""
    admin: Annotated[bool, Meta(description="Rights of a new user; those of an existing one stay")] = False
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


B = TypeVar("B")


def decode(body: bytes, kind: type[B]) -> B:
    """The body as a ``kind``; raises ``InvalidRequest`` that says what is wrong, and where."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None


def content_parts(content: Content, *, bytes_max: int) -> Parts:
    """``content`` as a message's parts. Raises ``InvalidRequest``, or ``TooLarge`` above ``bytes_max``."""
    texts = [content] if isinstance(content, str) else [part.text for part in content]
    if len(texts) > CONTENT_PARTS_MAX:
        raise InvalidRequest(f"content has more than {CONTENT_PARTS_MAX} parts")
    if all(map(is_blank, texts)):
        raise InvalidRequest("content must not be empty: it has nothing that can be seen")
    if sum(len(text.encode()) for text in texts) > bytes_max:
        raise TooLarge(f"content is larger than {bytes_max} bytes", bytes_max=bytes_max)
    return tuple(TextPart(storable("content", text)) for text in texts)


def default_title(parts: Parts) -> str:
    """A chat's title until it gets a better one: the first words of its first message."""
    words = " ".join(part.text for part in parts if isinstance(part, TextPart)).split()
    title = " ".join(words[:DEFAULT_TITLE_WORDS])[:DEFAULT_TITLE_CHARS_MAX].strip()
    return visible(title) or "New chat"


def checked_title(title: str) -> str:
    return checked_line("title", title, chars_max=TITLE_CHARS_MAX)


def checked_search(words: str | None) -> str | None:
    """None where nothing is looked for."""
    if words is None or is_blank(words):
        return None
    if len(words) > TITLE_CHARS_MAX:
        raise InvalidRequest(f"q is longer than {TITLE_CHARS_MAX} characters")
    return storable("q", words)


def checked_model(model: str | None) -> str | None:
    return None if model is None else checked_line("model", model, chars_max=MODEL_CHARS_MAX)


def checked_prompt(prompt: str, *, bytes_max: int) -> str:
    if len(prompt.encode()) > bytes_max:
        raise TooLarge(f"system_prompt is larger than {bytes_max} bytes", bytes_max=bytes_max)
    return storable("system_prompt", prompt)


def storable(field: str, text: str) -> str:
    """``text``. Raises ``InvalidRequest`` if Postgres cannot keep it."""
    if "\0" in text:
        raise InvalidRequest(f"{field} must not contain NUL characters")
    return text
