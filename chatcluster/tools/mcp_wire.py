"""What a replica and its MCP process say to each other: MessagePack, each message behind its length in four bytes.

Each request has a number, and gets one last reply: ``Opened``, ``Listed``, ``Called``, ``Fetched`` or ``Failed``.
Before it a call may say ``Progress``, and ``Asking``, which wants an ``Answer``; an opened session may say ``Changed``
and ``OneAtATime`` later, and ``Failed`` when it breaks.
``Cancel`` ends a request that is under way, and closes a session that was opened; nothing answers it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

from chatcluster.chat.questions import Question, Replies
from chatcluster.content import ResultContent

CALL_ID_META = "chatcluster/call-id"
"""The key of ``_meta`` at which a server finds the ID of the call: the same if the call is run again."""
TRACEPARENT_META = "traceparent"
"""The key of the span of the call, as the protocol has it; it is sent as the header of that name besides."""
LENGTH_BYTES = 4
FRAME_BYTES_MAX = 40 << 20
"""More than any reply has: a result is bounded by its tool's limit, and that by ``RESULT_BYTES_MAX``."""


class Trouble(StrEnum):
    """What kind of failure it is, which decides what is done about it, and what the model is told."""

    UNREACHABLE = "unreachable"
    """Nothing was sent, or no session came about."""
    UNAUTHORIZED = "unauthorized"
    """401 or 403. Of a call: its own request met that, and nothing was done."""
    SESSION_LOST = "session_lost"
    """The session is over, or the server does not know it any more: nothing was done."""
    BROKEN = "broken"
    """Something broke in the middle: what was done is unknown."""
    REFUSED = "refused"
    """The server says that it cannot do that."""
    UNKNOWN_TOOL = "unknown_tool"
    GARBAGE = "garbage"
    """The answer is none of the protocol."""
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    FORBIDDEN_ADDRESS = "forbidden_address"
    """The URL leads to an address that nobody may be sent to."""


MAY_GO_ON = (Trouble.BROKEN, Trouble.GARBAGE, Trouble.TIMEOUT)
"""Troubles of a call after which the server may still be at it."""


_UNKNOWN_TOOL = re.compile(
    r"unknown tool|no such tool|\btool(?: [^\s:]{1,130})? (?:is |was |could )?not (?:be )?found *(?:$|[.,:;!()])", re.I
)


def says_unknown_tool(text: str) -> bool:
    """Whether an error is about a tool that is not there, and not about what a tool did not find."""
    return _UNKNOWN_TOOL.search(text) is not None


class Open(msgspec.Struct, tag="open", frozen=True):
    """Make a session. ``follow``: have the server tell of changes of its list."""

    id: int
    url: str
    transport: str
    headers: dict[str, str]
    follow: bool = False


class ListTools(msgspec.Struct, tag="list", frozen=True):
    id: int
    session: int


class Call(msgspec.Struct, tag="call", frozen=True):
    id: int
    session: int
    name: str
    arguments: bytes
    """JSON: it has numbers that MessagePack has not."""
    meta: dict[str, str]
    content_bytes_max: int
    answers: bytes | None = None
    """JSON, of ``Replies``: to what the server asked before."""
    resume: str | None = None
    in_headers: bool = False
    """Some arguments are to stand in headers as well: which, the server's list says."""


class Answer(msgspec.Struct, tag="answer", frozen=True):
    """What the user says to an ``Asking`` of this number. Nothing answers it."""

    id: int
    session: int
    number: int
    replies: bytes
    """JSON, for the same reason."""


class Fetch(msgspec.Struct, tag="fetch", frozen=True):
    """A plain HTTP request, to an authorization server."""

    id: int
    method: str
    url: str
    headers: dict[str, str] = {}
    body: bytes = b""


class Cancel(msgspec.Struct, tag="cancel", frozen=True):
    id: int


Request = Open | ListTools | Call | Answer | Fetch | Cancel


class ListedTool(msgspec.Struct, frozen=True):
    name: str
    description: str
    schema: str
    """JSON, for the same reason."""
    read_only: bool = False
    idempotent: bool = False


class Opened(msgspec.Struct, tag="opened", frozen=True):
    id: int
    version: str
    """The version of the protocol."""
    name: str = ""
    instructions: str = ""
    one_at_a_time: bool = False
    """What the server asks the user does not say for which call: the session is to have one at a time."""


class Listed(msgspec.Struct, tag="listed", frozen=True):
    id: int
    tools: tuple[ListedTool, ...]
    left_out: int = 0
    """Tools that could not be taken: names that cannot be, or too much of everything."""
    seconds: float | None = None
    """How long the server says that it is good for."""


class Progress(msgspec.Struct, tag="progress", frozen=True):
    id: int
    progress: float
    total: float | None = None
    message: str | None = None


class Asking(msgspec.Struct, tag="asking", frozen=True):
    """The server of a call asks the user something, and holds the call meanwhile; or, without questions, no longer.
    ``questions`` is JSON."""

    id: int
    number: int
    questions: bytes


class Called(msgspec.Struct, tag="called", frozen=True):
    id: int
    content: tuple[ResultContent, ...]
    is_error: bool = False
    questions: bytes = b""
    """JSON. If there are any, there is no result yet: the server goes on from ``resume`` with the answers."""
    resume: str = ""


HELLO_ID = 0


class Changed(msgspec.Struct, tag="changed", frozen=True):
    """The server of this session has other tools now. Of ``HELLO_ID``: the process is there, it takes a while."""

    id: int


class OneAtATime(msgspec.Struct, tag="one_at_a_time", frozen=True):
    """The server of this session has asked the user something that does not say for which call."""

    id: int


class Fetched(msgspec.Struct, tag="fetched", frozen=True):
    id: int
    status: int
    headers: dict[str, str]
    body: bytes


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """``challenge`` is the ``WWW-Authenticate`` of a refusal."""

    id: int
    trouble: Trouble
    message: str = ""
    challenge: str = ""


Reply = Opened | Listed | Progress | Asking | Called | Changed | OneAtATime | Fetched | Failed

_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.json.Decoder(tuple[Question, ...])
_replies = msgspec.json.Decoder(Replies)
questions_of = _questions.decode
replies_of = _replies.decode


def frame(message: Request | Reply) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class Frames:
    """Messages out of a stream of bytes. Raises ``msgspec.MsgspecError`` for what is none."""

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that are whole with these bytes."""
        self._buffer += data
        start, there = 0, len(self._buffer)
        with memoryview(self._buffer) as view:
            while there - start >= LENGTH_BYTES:
                length = int.from_bytes(view[start : start + LENGTH_BYTES], "big")
                if length > FRAME_BYTES_MAX:
                    raise msgspec.DecodeError(f"a frame of {length} bytes")
                end = start + LENGTH_BYTES + length
                if there < end:
                    break
                yield self._decoder.decode(view[start + LENGTH_BYTES : end])
                start = end
        del self._buffer[:start]
