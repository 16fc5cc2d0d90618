"""A history as model servers accept it, whatever it has been through: ``conversation``. Pure.

A history may be old, of another server's model, edited, interrupted, or damaged. What comes out of it for every wire:

* Messages with nothing to send are left out: no text, no image or document, no call. Reasoning and its like are
  the wire's matter.
* Each call has exactly one result, and it stands with its call. The first result between the call and the next answer
  counts; a call without one gets ``OUTCOME_UNKNOWN``; results without a call, further ones and late ones are left out.
* An answer at the end, which another server wanted to go on with (``PAUSED``), is followed by a word that asks to:
  models refuse a conversation that ends with their own words, or have nothing to say to it.
* The ID of a call is the server's own, or else ours, or else made of ours: fit for the wire, and never used twice.
* Names have the characters that all servers take. Arguments that are no JSON object are an empty one (``arguments``),
  because servers parse them and would refuse the whole request for good.

The same history always gives the same conversation, so what a server keeps of a prompt stays good. A message is looked
at when it is its turn, and ``None`` says that one was passed over: so the caller's work between two looks is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from chatcluster.llm.chunks import is_json_object
from chatcluster.parts import (
    PAUSED,
    ImagePart,
    JsonPart,
    Message,
    Part,
    ResourcePart,
    ResultContent,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

GO_ON = "(Go on.)"
OUTCOME_UNKNOWN = "The outcome of this call is unknown."
EMPTY_RESULT = "(empty)"
NAME_CHARACTERS_MAX = 64
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


class DocumentPart(msgspec.Struct, frozen=True):
    """A PDF on its way to a model: no message has one. ``data`` is base64."""

    name: str
    media_type: str
    data: str


SentPart = Part | DocumentPart
"""What a message says where files are in it."""


class AnsweredCall(NamedTuple):
    """A call with what the wire says of it. ``result`` is None where nobody knows the outcome."""

    id: str
    name: str
    call: ToolCallPart
    result: ToolResultPart | None

    @property
    def arguments(self) -> str:
        """The text of a JSON object."""
        return self.call.arguments if is_json_object(self.call.arguments) else "{}"

    @property
    def images(self) -> list[ImagePart]:
        pieces = () if self.result is None else self.result.content
        return [piece for piece in pieces if isinstance(piece, ImagePart)]

    @property
    def is_error(self) -> bool:
        return self.result is None or self.result.is_error


class Utterance(NamedTuple):
    """A message that is to be sent."""

    message: Message
    calls: tuple[AnsweredCall, ...] = ()

    @property
    def has_media(self) -> bool:
        parts: tuple[SentPart, ...] = self.message.parts
        return self.message.role is Role.USER and any(isinstance(part, ImagePart | DocumentPart) for part in parts)

    @property
    def has_text(self) -> bool:
        return has_text(self.message)


def conversation(
    history: Sequence[Message],
    fit_ids: re.Pattern[str],
    says_more: Callable[[Message], bool] = lambda _: False,
    *,
    goes_on: bool = False,
) -> Iterator[Utterance | None]:
    """What is to be sent of a history, in order, and None for each message that is not.

    ``fit_ids`` matches the IDs of calls that the server takes; those made here have 37 characters, letters, digits and
    ``_``. ``says_more`` tells of an answer without text and calls whether the wire sends it nevertheless. ``goes_on``:
    the server knows the answer at the end as its own to go on with.
    """
    taken: set[str] = set()
    is_sent = False
    for index, message in enumerate(history):
        calls = _calls_of(message)
        is_sent = bool(calls) or has_text(message) or Utterance(message).has_media or says_more(message)
        if calls:
            results = _results_after(history, index)
            yield Utterance(message, tuple(_answered(call, results, fit_ids, taken) for call in calls))
        elif is_sent and message.role is not Role.TOOL:
            yield Utterance(message)
        else:
            yield None  # results are taken where their calls are
    if is_sent and history[-1].finish_reason == PAUSED and not goes_on:
        yield Utterance(msgspec.structs.replace(history[-1], role=Role.USER, parts=(TextPart(GO_ON),)))


def has_text(message: Message) -> bool:
    return any(isinstance(part, TextPart) and not is_blank(part.text) for part in message.parts)


def is_blank(text: str) -> bool:
    """Nothing but space, which some servers refuse."""
    return not text or text.isspace()


def result_texts(call: AnsweredCall, image_note: str) -> Iterator[str]:
    """What a call's result says, line by line. ``image_note`` stands for each image; ``%d`` in it counts them."""
    if call.result is None:
        yield OUTCOME_UNKNOWN
        return
    images = 0
    is_empty = True
    for piece in call.result.content:
        text = _text_of(piece)
        if isinstance(piece, ImagePart):
            images += 1
            text = image_note.replace("%d", str(images))
        if text:
            yield text if is_empty else "\n" + text
            is_empty = False
    if is_empty:
        yield EMPTY_RESULT


def _text_of(piece: str | ResultContent) -> str:
    match piece:
        case TextPart(text=text):
            return text
        case JsonPart(json=text):
            return text
        case ResourcePart(uri=uri, name=name, text=text):
            label = f"[{name}: {uri}]" if name else f"[{uri}]"
            return f"{label}\n{text}" if text else label
        case _:
            return ""


def _calls_of(message: Message) -> list[ToolCallPart]:
    if message.role is not Role.ASSISTANT:
        return []
    return [part for part in message.parts if isinstance(part, ToolCallPart)]


def _results_after(history: Sequence[Message], index: int) -> dict[str, ToolResultPart]:
    """Results by call, from the message after ``index`` up to the next answer; the first of each counts."""
    results: dict[str, ToolResultPart] = {}
    for later in range(index + 1, len(history)):
        message = history[later]
        if message.role is Role.ASSISTANT:
            break
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                results.setdefault(part.call_id, part)
    return results


def _answered(
    call: ToolCallPart, results: dict[str, ToolResultPart], fit_ids: re.Pattern[str], taken: set[str]
) -> AnsweredCall:
    wire_id = _wire_id(call, fit_ids, taken)
    taken.add(wire_id)
    name = _NOT_IN_NAMES.sub("_", call.name)[:NAME_CHARACTERS_MAX] or "unnamed"
    return AnsweredCall(wire_id, name, call, results.get(call.id))


def _wire_id(call: ToolCallPart, fit_ids: re.Pattern[str], taken: set[str]) -> str:
    for known in (call.provider_id, call.id):
        if known and known not in taken and fit_ids.fullmatch(known):
            return known
    made_of = f"{call.id} {len(taken)}".encode("utf-8", "replace")
    return f"call_{blake2b(made_of, digest_size=16).hexdigest()}"
