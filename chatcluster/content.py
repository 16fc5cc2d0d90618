"""What a message says: the kinds of parts, and how the deltas of an answer become the parts of its message. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from uuid import UUID

import msgspec


class TextPart(msgspec.Struct, tag="text", frozen=True):
    text: str


class ReasoningPart(msgspec.Struct, tag="reasoning", frozen=True, omit_defaults=True):
    """``duration_ms``: how long was thought, where somebody heard all of it. It needs no version of its own: a
    replica or client that does not know it shows the same words."""

    text: str
    duration_ms: int | None = None


class ToolCallPart(msgspec.Struct, tag="tool_call", frozen=True, omit_defaults=True):
    """A call that the model asks for.

    ``id`` is ours: given when the call first appears, and never used for another one. ``provider_id`` is what the
    model's server calls it. ``arguments`` is the JSON text as the model wrote it; while it is still being written, the
    part says what is there of it, and ``ToolArgumentsPart``s bring the rest.
    """

    id: str
    name: str
    arguments: str
    provider_id: str | None = None


class ImagePart(msgspec.Struct, tag="image", frozen=True):
    """``data`` is base64."""

    media_type: str
    data: str


class FilePart(msgspec.Struct, tag="file", frozen=True):
    """A file that a user sent along. Its bytes are kept apart (``ports/files.py``); this tells of them."""

    file_id: UUID
    name: str
    media_type: str
    size_bytes: int


class JsonPart(msgspec.Struct, tag="json", frozen=True):
    """A structured value, as JSON text."""

    json: str


class ResourcePart(msgspec.Struct, tag="resource", frozen=True, omit_defaults=True):
    """What a tool refers to by its address, with the text of it where that came along."""

    uri: str
    name: str | None = None
    media_type: str | None = None
    text: str | None = None


ResultContent = TextPart | ImagePart | JsonPart | ResourcePart


class ToolResultPart(msgspec.Struct, tag="tool_result", frozen=True):
    """The one result of a call. A plain text is short for a list with that text in it."""

    call_id: str
    content: str | tuple[ResultContent, ...]
    is_error: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.content, str):
            msgspec.structs.force_setattr(self, "content", (TextPart(self.content),))

    @property
    def text(self) -> str:
        """What the result says in words, images and their like aside."""
        return "".join(_text_of_result(piece) for piece in self.content if not isinstance(piece, str))


def _text_of_result(piece: ResultContent) -> str:
    match piece:
        case TextPart(text=text):
            return text
        case JsonPart(json=text):
            return text
        case ResourcePart(text=str() as text):
            return text
        case _:
            return ""


class OpaquePart(msgspec.Struct, tag="opaque", frozen=True, omit_defaults=True):
    """What only the provider understands, kept verbatim and in order, and never shown: signatures and their like.

    ``data`` is the provider's JSON. It goes back to that provider, for that model, and to no other; where the provider
    binds it to what the prompt begins with (system text, tools), ``prefix`` stands for that, and it goes back behind
    the same alone.
    """

    provider: str
    model: str
    kind: str
    data: str
    prefix: str = ""


class SourcePart(msgspec.Struct, tag="source", frozen=True, omit_defaults=True):
    """Where the provider found, when it searched the web, what the text before it says. No model is given it: the
    provider has its own form of it, as an ``OpaquePart``."""

    url: str
    title: str | None = None


class SummaryPart(msgspec.Struct, tag="summary", frozen=True, omit_defaults=True):
    """What the model alone is given in the place of all messages before it, but of those that it ``keeps``.

    ``kept_bytes``: what those count for. ``steps``: the model's responses in the turn under way that are in it.
    ``tight``: it is the so many-th summary in a row that left no headroom.
    """

    text: str
    keeps: tuple[int, ...] = ()
    kept_bytes: int = 0
    steps: int = 0
    tight: int = 0


class ToolArgumentsPart(msgspec.Struct, tag="tool_arguments", frozen=True):
    """On the stream alone: more of the arguments of a call that has begun."""

    call_id: str
    text: str


class ToolProgressPart(msgspec.Struct, tag="tool_progress", frozen=True, omit_defaults=True):
    """On the stream alone: how far a running call is, in a unit of the tool's own."""

    call_id: str
    progress: float
    total: float | None = None
    message: str | None = None


class ToolOutputPart(msgspec.Struct, tag="tool_output", frozen=True):
    """On the stream alone: what a running call has printed, from byte ``offset`` of its output up to ``end``. Where
    pieces overlap they say the same; where there is a gap something was left out, which the result has."""

    call_id: str
    offset: int
    end: int
    text: str


class NoticePart(msgspec.Struct, tag="notice", frozen=True, omit_defaults=True):
    """On the stream alone: what the turn goes on without. ``source`` names it: a server of tools, say."""

    code: str
    message: str
    source: str | None = None


Part = (
    TextPart
    | ReasoningPart
    | ToolCallPart
    | ToolResultPart
    | ImagePart
    | FilePart
    | OpaquePart
    | SourcePart
    | SummaryPart
    | ToolArgumentsPart
    | ToolProgressPart
    | ToolOutputPart
    | NoticePart
)
Parts = tuple[Part, ...]

STREAMED_ONLY = (ToolArgumentsPart, ToolProgressPart, ToolOutputPart, NoticePart)
"""Parts that no message has."""

HIDDEN = (OpaquePart, SummaryPart)
"""Parts that are in history for the model alone, and never shown."""

CITATIONS = "citations"
"""The kind of opaque part that says of the text before it what it cites. It parts no text."""

UNSEEN = (ReasoningPart, SourcePart, *HIDDEN, *STREAMED_ONLY)
"""What is not part of an answer to look at."""

CONTENT_VERSION = 5
"""Of what this version of chatcluster can read. 1: text, reasoning, calls, and results that are one text. 2: all but
what follows. 3: files and summaries. 4: calls that have waited for an answer of the user. 5: sources."""
QUESTIONS_VERSION = 4


def content_version_of(parts: Iterable[Part]) -> int:
    """The lowest version of chatcluster's content that has all of these parts."""
    return max(map(_version_of, parts), default=1)


def _version_of(part: Part) -> int:
    match part:
        case TextPart() | ReasoningPart() | ToolCallPart():
            return 1
        case FilePart() | SummaryPart():
            return 3
        case SourcePart():
            return 5
        case _:
            return 2


def seen(parts: Parts) -> Parts:
    """The parts that are not hidden; the same tuple if none is. Texts that cite are one with what follows; what is said
    before and behind a search, say, are two."""
    if not has_hidden(parts):
        return parts
    joined_up = coalesced(part for part in parts if not (isinstance(part, OpaquePart) and part.kind == CITATIONS))
    return tuple(part for part in joined_up if not isinstance(part, HIDDEN))


def has_hidden(parts: Parts) -> bool:
    return any(isinstance(part, HIDDEN) for part in parts)


def files_in(parts: Iterable[Part]) -> tuple[UUID, ...]:
    """The files that are sent along, each once."""
    return tuple(dict.fromkeys(part.file_id for part in parts if isinstance(part, FilePart)))


def text_of(parts: Iterable[Part]) -> str:
    """The visible text of a message: its text parts joined."""
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def strings_of(part: msgspec.Struct) -> Iterator[str]:
    """All that a part holds in strings: what it takes in memory and on the wire, and little else."""
    for value in msgspec.structs.astuple(part):
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            for piece in value:
                if isinstance(piece, msgspec.Struct):
                    yield from strings_of(piece)


def is_visible(parts: Iterable[Part]) -> bool:
    """Whether there is something to see: a call, a result, or a character of text that is more than space."""
    for part in parts:
        if isinstance(part, TextPart):
            if any(mark != " " and mark.isprintable() for mark in part.text):
                return True
        elif not isinstance(part, UNSEEN):
            return True
    return False


def storable(text: str) -> str:
    """``text`` with U+FFFD for what neither Postgres nor JSON can hold: NUL, and halves of surrogate pairs."""
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd")


def coalesced(deltas: Iterable[Part]) -> list[Part]:
    """The same deltas, with neighbours of one kind of text, or of one call's arguments, as one."""
    parts: list[Part] = []
    for _, run in groupby(deltas, key=_kind_of_text):
        first, *rest = run
        if rest and isinstance(first, TextPart | ReasoningPart | ToolArgumentsPart):
            text = first.text + "".join(delta.text for delta in rest if isinstance(delta, type(first)))
            whole = msgspec.structs.replace(first, text=text)
            parts.append(_measured(whole, rest) if isinstance(whole, ReasoningPart) else whole)
        else:
            parts.extend((first, *rest))
    return parts


def _measured(thought: ReasoningPart, rest: Iterable[Part]) -> ReasoningPart:
    """It took as long as it and the ``rest`` of it did together, as far as those were measured."""
    lengths = [part.duration_ms for part in (thought, *rest) if isinstance(part, ReasoningPart) and part.duration_ms]
    return msgspec.structs.replace(thought, duration_ms=sum(lengths)) if lengths else thought


def _kind_of_text(part: Part) -> object:
    return part.call_id if isinstance(part, ToolArgumentsPart) else type(part)


def joined(deltas: Iterable[Part]) -> Parts:
    """The deltas of an attempt as the parts of its message: neighbours of one kind of text are one, a call has all of
    its arguments, and what is on the stream alone is left out."""
    arguments: dict[str, list[str]] = {}
    parts: list[Part] = []
    for delta in deltas:
        if isinstance(delta, ToolArgumentsPart):
            arguments.setdefault(delta.call_id, []).append(delta.text)
        elif not isinstance(delta, STREAMED_ONLY):
            parts.append(delta)
    return tuple(_with_arguments(part, arguments) for part in coalesced(parts))


def _with_arguments(part: Part, more: dict[str, list[str]]) -> Part:
    if not isinstance(part, ToolCallPart) or part.id not in more:
        return part
    return msgspec.structs.replace(part, arguments="".join((part.arguments, *more[part.id])))
