"""What a model is given of a history, how long that is, and whether it has to be summarised first. Pure.

A **summary** is a part of the result of a call which the owner makes itself (``SUMMARY_CALL``). Readers are shown the
call and the result; the part in it is for the model alone. It takes the place of all messages before it, but of those
that it keeps: system texts, and what users said that no answer has ended yet. ``prompt_of`` is the history as the model
is given it.

How long that is, is told by the usage that the provider reported last, and by an estimate of what came since. There are
two bounds (``Window``): above the threshold a history is summarised; above the limit it cannot be sent. Where neither
is known, the provider says when a prompt is too long.

A summary that leaves no headroom is **tight**: what it keeps alone is above the threshold. After ``TIGHT_MAX`` of them
in a row the turn ends, as it does where there is nothing to summarise. So there is never a summary without an answer in
between, and no spiral.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from chatcluster.chat import ErrorInfo
from chatcluster.content import FilePart, SourcePart, SummaryPart
from chatcluster.file_types import IMAGES, PDF
from chatcluster.parts import (
    PAUSED,
    ImagePart,
    Message,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    encode,
    strings_of,
    text_of,
)
from chatcluster.ports import ToolSpec, Window
from chatcluster.ports.files import FILE_TEXT_BYTES_MAX

SUMMARY_CALL = "chat_summarized"
"""The name of the call that stands for a summary."""
TOKEN_BYTES = 3
"""An estimate that is rather too high: of English a token has four."""
IMAGE_TOKENS = 1600
PDF_TOKEN_BYTES = 32
"""A page of some 60 KB has about 2000."""
PDF_TOKENS_MAX = 100_000
MESSAGE_TOKENS = 4
"""What a message counts for besides its content."""
CUT_FACTOR = 2
"""Some servers silently cut a prompt that is too long. Then their count is below our estimate by this factor."""
KEPT_MESSAGES_MAX = 20
TIGHT_MAX = 2
TRANSCRIPT_SHARES = 8
"""In a history that is too long itself to be summarised, a message may have this part of the room."""

SUMMARY_REQUEST = "Summarize this conversation so that it can be continued from the summary alone."
INSTRUCTION = f"""\
{SUMMARY_REQUEST} The summary will take the place of all messages so far, and you will read nothing else of them. Keep \
what the user wants and has decided, facts, names, numbers, addresses and code that may be needed again, what was done \
and with which result, what failed, and what is still to be done, also for the message that is being answered. Leave \
out what is settled and of no further use. Write the summary and nothing else; call no tools."""
HEADING = """\
This is a summary of the conversation so far; it takes the place of the messages before it. What follows it was said \
after, or is not answered yet: go on from there, and do not do again what the summary says is done."""
LEFT_OUT = "(what came before is left out, as it is too long)"


class Source(StrEnum):
    """Why a history is summarised."""

    THRESHOLD = "threshold"
    OVERFLOW = "overflow"
    """The provider said that the prompt is too long."""
    MANUAL = "manual"


# --- the history as the model is given it -----------------------------------------------------


def summary_in(message: Message) -> SummaryPart | None:
    """The summary that the message has, if it is the result that stands for one."""
    if message.role is not Role.TOOL:
        return None
    return next((part for part in message.parts if isinstance(part, SummaryPart)), None)


def newest_summary(messages: Sequence[Message]) -> tuple[int, SummaryPart | None]:
    """The index of the newest message with a summary, and the summary; -1 and None if there is none."""
    for index in range(len(messages) - 1, -1, -1):
        summary = summary_in(messages[index])
        if summary is not None:
            return index, summary
    return -1, None


def prompt_of(messages: Sequence[Message]) -> tuple[Message, ...]:
    """What the model is given of a history: system texts, the newest summary, what it keeps, and what came since."""
    index, summary = newest_summary(messages)
    if summary is None:
        return tuple(messages)
    kept = [message for message in messages[:index] if message.id in summary.keeps]
    return (
        *(message for message in kept if message.role is Role.SYSTEM),
        _as_message(messages[index], summary),
        *(message for message in kept if message.role is not Role.SYSTEM),
        *messages[index + 1 :],
    )


def _as_message(message: Message, summary: SummaryPart) -> Message:
    text = f"{HEADING}\n\n{summary.text}"
    return msgspec.structs.replace(message, role=Role.USER, parts=(TextPart(text),), position=None)


def is_told_summary(message: Message) -> bool:
    """Whether the message of a prompt is what a summary was made into."""
    return message.role is Role.USER and text_of(message.parts).startswith(HEADING)


def kept_of(messages: Sequence[Message]) -> list[Message]:
    """What a summary of this history keeps: system texts, and what users said since the last answer that was whole."""
    unanswered: list[Message] = []
    for message in reversed(messages):
        if message.role is Role.USER and len(unanswered) < KEPT_MESSAGES_MAX:
            unanswered.append(message)
        elif is_whole(message):
            break
    return [*(message for message in messages if message.role is Role.SYSTEM), *reversed(unanswered)]


def is_whole(message: Message) -> bool:
    """Whether the message is an answer that ended its turn."""
    calls = any(isinstance(part, ToolCallPart) for part in message.parts)
    return message.role is Role.ASSISTANT and not calls and message.finish_reason != PAUSED


def has_whole_turn(messages: Sequence[Message]) -> bool:
    """Whether this end of a history has all that its last turn began with, and all that nothing answered."""
    return any(map(is_whole, messages)) and any(message.role is Role.USER for message in messages)


def has_news(messages: Sequence[Message]) -> bool:
    """Whether the model has said something since the newest summary: otherwise another one would be the same."""
    index, _ = newest_summary(messages)
    return any(message.role is Role.ASSISTANT for message in messages[index + 1 :])


# --- how long it is ---------------------------------------------------------------------------


def tokens_of_text(text: str) -> int:
    """An estimate of one text."""
    return _tokens_of_texts((text,))


def tokens_of(message: Message) -> int:
    """An estimate of one message."""
    return MESSAGE_TOKENS + sum(map(_tokens_of_part, message.parts))


def _tokens_of_part(part: Part) -> int:
    if isinstance(part, ImagePart):
        return IMAGE_TOKENS
    if isinstance(part, FilePart):
        return _tokens_of_file(part)
    if isinstance(part, SourcePart):
        return 0
    if isinstance(part, ToolResultPart):
        images = sum(isinstance(piece, ImagePart) for piece in part.content)
        texts = (piece for piece in part.content if not isinstance(piece, str | ImagePart))
        return IMAGE_TOKENS * images + sum(_tokens_of_texts(strings_of(piece)) for piece in texts)
    return _tokens_of_texts(strings_of(part))


def _tokens_of_file(file: FilePart) -> int:
    """The tokens of a file's bytes, which are not in the history."""
    if file.media_type in IMAGES:
        return IMAGE_TOKENS
    if file.media_type == PDF:
        return min(file.size_bytes // PDF_TOKEN_BYTES, PDF_TOKENS_MAX)
    return min(file.size_bytes, FILE_TEXT_BYTES_MAX) // TOKEN_BYTES


def _tokens_of_texts(texts: Iterable[str]) -> int:
    return sum(_bytes_of(text) for text in texts) // TOKEN_BYTES


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def tokens_of_summary(summary: SummaryPart, kept: Iterable[Message]) -> int:
    """The conversation right after it, without system texts."""
    return _bytes_of(HEADING + summary.text) // TOKEN_BYTES + sum(
        tokens_of(message) for message in kept if message.role is not Role.SYSTEM
    )


def tokens_of_tools(tools: Iterable[ToolSpec]) -> int:
    return sum(len(encode(tool)) for tool in tools) // TOKEN_BYTES


def unsendable_tokens(window: Window) -> int:
    """A history that is estimated to have more is above the limit, whatever the provider counts of it."""
    return CUT_FACTOR * window.limit_tokens


def tokens_of_prompt(prompt: Sequence[Message], estimates: Sequence[int], tools: int = 0) -> int:
    """How long a prompt is: what the provider said of the last answer, and what came since by ``estimates``, which has
    one for each message. ``tools`` are those of the tools."""
    estimated = tools + sum(estimates)
    for index in range(len(prompt) - 1, -1, -1):
        usage = prompt[index].usage
        if prompt[index].role is not Role.ASSISTANT or usage is None or not usage.input_tokens:
            continue
        if usage.input_tokens * CUT_FACTOR < tools + sum(estimates[:index]):
            return estimated
        said = estimates[index] if usage.output_tokens is None else usage.output_tokens
        return usage.input_tokens + said + sum(estimates[index + 1 :])
    return estimated


# --- what to do -------------------------------------------------------------------------------


def next_for(
    messages: Sequence[Message], tokens: int, window: Window | None, *, overflowed: bool
) -> Source | ErrorInfo | None:
    """What comes before the model is asked: a summary, the end of the turn, or nothing (None).

    ``tokens`` is the length of the prompt; ``overflowed``: the provider has said that it is too long.
    """
    if overflowed:
        return Source.OVERFLOW if has_news(messages) else too_long(tokens, None)
    if window is None or tokens <= window.threshold_tokens:
        return None
    index, summary = newest_summary(messages)
    if has_news(messages):
        return Source.THRESHOLD
    is_spiral = summary is not None and summary.tight >= TIGHT_MAX and index == len(messages) - 1
    return too_long(tokens, window) if is_spiral or tokens > window.limit_tokens else None


def too_long(tokens: int, window: Window | None) -> ErrorInfo:
    """The end of a turn whose prompt cannot be made shorter."""
    room = "" if window is None else f" of {window.limit_tokens}"
    return ErrorInfo(
        "context_overflow",
        f"the conversation is too long for the model, and a summary makes no room: some {tokens} tokens{room}; edit "
        "the last message to a shorter one, choose a model that takes more, or start a new chat",
    )


def transcript(prompt: Sequence[Message], room_tokens: int) -> str:
    """The newest of a history that is too long to be sent as it is, as one text: of a long message without its middle,
    of what came before the summary that there is already."""
    room_bytes = room_tokens * TOKEN_BYTES
    lines: list[str] = []
    before = next((text_of(message.parts) for message in prompt[:1] if is_told_summary(message)), "")
    if before:
        before = _shortened(before, room_bytes // 2) + "\n"
        room_bytes -= _bytes_of(before)
    for message in reversed(prompt[1:] if before else prompt):
        line = _shortened(f"{message.role}: {_words_of(message)}", room_bytes // TRANSCRIPT_SHARES)
        room_bytes -= _bytes_of(line)
        if room_bytes < 0:
            lines.append(LEFT_OUT)
            break
        lines.append(line)
    return before + "\n".join(reversed(lines))


def _words_of(message: Message) -> str:
    return " ".join(filter(None, map(_words_of_part, message.parts)))


def _words_of_part(part: Part) -> str:
    match part:
        case TextPart(text=text):
            return text
        case ToolCallPart(name=name, arguments=arguments):
            return f"(calls {name} {arguments})"
        case ToolResultPart():
            return f"(result: {part.text})"
        case ImagePart():
            return "(an image)"
        case _:
            return ""


def _shortened(text: str, bytes_max: int) -> str:
    """Head and tail of a text that is too long."""
    if _bytes_of(text) <= bytes_max:
        return text
    half = max(40, bytes_max // (2 * (1 if text.isascii() else 4)))
    return f"{text[:half]} … {text[-half:]}"
