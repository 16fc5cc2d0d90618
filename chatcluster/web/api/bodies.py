"""What callers send: the bodies of requests, decoded strictly and checked before anything is written.

Unknown fields, wrong types and NUL characters (which Postgres stores in no text) are refused with a message
that names the place. ``content`` is a string, or a list of parts ``{"type": "text", "text": …}`` and
``{"type": "file", "file_id": …}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatcluster.chat import Busy
from chatcluster.content import FilePart
from chatcluster.errors import InvalidRequest, TooLarge
from chatcluster.file_errors import FileNotFound
from chatcluster.json_bounds import bounded
from chatcluster.parts import Parts, TextPart
from chatcluster.texts import checked_line, is_blank
from chatcluster.title_text import first_words

TITLE_CHARS_MAX = 200
MODEL_CHARS_MAX = 200
CONTENT_PARTS_MAX = 1000
NO_FILES: Mapping[str, FilePart] = {}
_FIELD = re.compile(r"field `([^`]+)`")
_PLACE = re.compile(r" - at `(?:key in )?\$([^`]*)`")
"""As msgspec says what is wrong where: ``Expected `str`, got `int` - at `$.items[0].role` ``."""


class InputText(msgspec.Struct, tag="text", frozen=True, forbid_unknown_fields=True):
    """A piece of text in a user's message."""

    text: str


class InputFile(msgspec.Struct, tag="file", frozen=True, forbid_unknown_fields=True):
    """A file that was uploaded before."""

    file_id: str


class InputTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool that the client runs itself. ``parameters`` is the JSON schema of an object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


Content = str | list[InputText | InputFile]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON object that has the declared fields and no others."""


class CreateChat(Body, frozen=True, kw_only=True):
    """A new chat, and the message that starts it, if there is one already."""

    content: Annotated[
        Content | UnsetType, Meta(description="The first message: text, or a list of texts and files")
    ] = UNSET
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
    system_prompt: Annotated[
        str | UnsetType | None, Meta(description="From the chat's next turn on; null or blank: none")
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


class ForkChat(Body, frozen=True, kw_only=True):
    """Up to where a chat is copied."""

    message_id: Annotated[
        int | None, Meta(description="The last message of the fork, which ends a turn. Default: all whole turns")
    ] = None


class SignIn(Body, frozen=True, kw_only=True):
    """One of the two."""

    token: str | UnsetType = UNSET
    code: Annotated[str | UnsetType, Meta(description="As `chatcluster link` prints it; it works once")] = UNSET


class Prompt(Body, frozen=True, kw_only=True):
    """What models are told; null or blank is nothing."""

    prompt: str | None


class CreateToken(Body, frozen=True, kw_only=True):
    """A token for a user, who is created if there is none of that name."""

    user: str
    name: str = ""
    admin: Annotated[bool, Meta(description="Rights of a new user; those of an existing one stay")] = False
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    scopes: Annotated[
        list[str] | None, Meta(description="Where it lets in: chats, admin, openai, ai-sdk, ag-ui, mcp. Default: all")
    ] = None


B = TypeVar("B")


def decode(body: bytes, kind: type[B]) -> B:
    """The body as a ``kind``; raises ``InvalidRequest`` that says what is wrong, and where."""
    config = getattr(kind, "__struct_config__", None)
    try:
        if config is None or not config.forbid_unknown_fields:
            str(body, "utf-8")  # msgspec passes over what is in unknown fields, whatever bytes they are
        return msgspec.json.decode(bounded(body), type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error), **_place_in(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None


def _place_in(text: str) -> dict[str, str]:
    """Which parameter it is that a message of the decoder is about."""
    field, place = _FIELD.search(text), _PLACE.search(text)
    names = [found[1] for found in (place, field) if found is not None]
    param = ".".join(names).replace("[...]", "").strip(".")
    return {"param": param} if param else {}


def content_parts(content: Content, *, bytes_max: int, files: Mapping[str, FilePart] = NO_FILES) -> Parts:
    """``content`` as a message's parts; ``files`` are those that it names, by their IDs as they are written there.

    Raises ``InvalidRequest``, ``FileNotFound``, or ``TooLarge`` above ``bytes_max``.
    """
    given = [InputText(content)] if isinstance(content, str) else content
    if len(given) > CONTENT_PARTS_MAX:
        raise InvalidRequest(f"content has more than {CONTENT_PARTS_MAX} parts")
    texts = [part.text for part in given if isinstance(part, InputText)]
    if len(texts) == len(given) and all(map(is_blank, texts)):
        raise InvalidRequest("content must not be empty: it has nothing that can be seen")
    if sum(len(text.encode()) for text in texts) > bytes_max:
        raise TooLarge(f"content is larger than {bytes_max} bytes", bytes_max=bytes_max)
    return tuple(_part(part, files) for part in given)


def _part(part: InputText | InputFile, files: Mapping[str, FilePart]) -> TextPart | FilePart:
    if isinstance(part, InputText):
        return TextPart(storable("content", part.text))
    if part.file_id not in files:
        raise FileNotFound("there is no such file; upload it first", file_id=part.file_id[:80])
    return files[part.file_id]


def default_title(parts: Parts) -> str:
    """A chat's title until it gets a better one: the first words of its first message, or the name of its file."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    if all(map(is_blank, texts)):
        texts = [part.name for part in parts if isinstance(part, FilePart)]
    return first_words(" ".join(texts))


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


def checked_prompt(field: str, prompt: str | None, *, bytes_max: int) -> str:
    """What a model is told; empty for what is blank. Raises ``InvalidRequest``, or ``TooLarge`` above ``bytes_max``."""
    prompt = prompt or ""
    if len(prompt.encode("utf-8", "surrogatepass")) > bytes_max:
        raise TooLarge(f"{field} is larger than {bytes_max} bytes", bytes_max=bytes_max)
    prompt = storable(field, prompt)
    return "" if is_blank(prompt) else prompt


def storable(field: str, text: str) -> str:
    """``text``. Raises ``InvalidRequest`` if Postgres cannot keep it."""
    if "\0" in text:
        raise InvalidRequest(f"{field} must not contain NUL characters")
    return text
