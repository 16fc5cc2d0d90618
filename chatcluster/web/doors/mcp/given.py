"""What the tools take: their arguments, decoded strictly. What they are for is said here, for models to read. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from chatcluster.web.api.bodies import CreateChat, SendMessage
from chatcluster.web.api.tool_bodies import InputResult

WAIT_SECONDS_MAX = 50.0
WAIT_SECONDS_DEFAULT = 30.0
PAGE_MESSAGES_MAX = 100
PAGE_CHATS_MAX = 100

ChatId = Annotated[str, Meta(description="The chat_id that chat_create or chats_list gave")]
Key = Annotated[
    str | None,
    Meta(description="Any text of your own. A repeat with the same key and arguments does nothing, and answers alike"),
]


class Given(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of a call: those that are declared, and no others."""


class CreateArguments(CreateChat, frozen=True, kw_only=True):
    idempotency_key: Key = None


class SendArguments(SendMessage, frozen=True, kw_only=True):
    chat_id: ChatId
    idempotency_key: Key = None


class WaitArguments(Given, frozen=True, kw_only=True):
    chat_id: ChatId
    cursor: Annotated[
        str | None, Meta(description="What was said after it is told. Default: from the last user's message on")
    ] = None
    timeout: Annotated[float, Meta(ge=0, le=WAIT_SECONDS_MAX, description="Seconds, 50 at most")] = WAIT_SECONDS_DEFAULT


class ReadArguments(Given, frozen=True, kw_only=True):
    chat_id: ChatId
    after: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="In order from the message behind this ID on")
    ] = None
    before: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Those before this ID. Default: the newest ones")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MESSAGES_MAX)] = 20


class InterruptArguments(Given, frozen=True, kw_only=True):
    chat_id: ChatId
    idempotency_key: Key = None


class Approval(Given, frozen=True, kw_only=True):
    """Whether a call may be run that waits for an approval."""

    call_id: str
    approve: bool
    digest: Annotated[str | None, Meta(description="That of the action, so that nothing else is approved")] = None
    reason: Annotated[str | None, Meta(description="Of a denial: what the model is told")] = None


class AnswerArguments(Given, frozen=True, kw_only=True):
    chat_id: ChatId
    results: Annotated[list[InputResult], Meta(description="Of calls of kind client: what your tools gave")] = []
    approvals: Annotated[list[Approval], Meta(max_length=64, description="Of calls of kind approval")] = []
    idempotency_key: Key = None


class ArchiveArguments(Given, frozen=True, kw_only=True):
    chat_id: ChatId
    archived: Annotated[bool, Meta(description="false takes it out of the archive")] = True


class ListArguments(Given, frozen=True, kw_only=True):
    archived: bool = False
    query: Annotated[str | None, Meta(description="Only chats with these words in their title")] = None
    after: Annotated[str | None, Meta(description="The chat_id of the last one of the page before")] = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_CHATS_MAX)] = 20


class ModelsArguments(Given, frozen=True, kw_only=True):
    pass
