"""What the decoders of all wires share: signs of life, IDs of calls, and answers that are none. Pure."""

from __future__ import annotations

import re
from typing import TypeVar
from uuid import uuid4

import msgspec

from chatcluster.errors import ProviderError
from chatcluster.json_bounds import bounded
from chatcluster.llm.chunks import parse_with_effort
from chatcluster.llm.failures import Provider
from chatcluster.parts import UNDECODABLE, Usage
from chatcluster.ports import Finished, KeepAlive, ModelEvent, Progress

KEEP_ALIVE = KeepAlive()
PROGRESS = Progress()
MODEL_CHARACTERS_MAX = 200
PROVIDER_ID_CHARACTERS_MAX = 256
KEPT_CHARACTERS_MAX = 4 << 20
"""What a decoder keeps of one answer: calls, and blocks that are told when they are whole."""
BLOCK_CHARACTERS = 2000
"""What a call or block counts for, its texts aside: so there are some thousands at most."""

_ANSWER_ID = re.compile(r"[\x21-\x7e]+")

T = TypeVar("T")


def new_call_id() -> str:
    return f"call_{uuid4().hex}"


def read_event(decoder: msgspec.json.Decoder[T], payload: bytes, server: Provider) -> T:
    """The event in ``payload``; raises ``ProviderError`` for what is none."""
    try:
        return decoder.decode(bounded(payload))
    except UNDECODABLE:
        pass
    try:
        return msgspec.convert(parse_with_effort(payload), decoder.type)
    except (ValueError, *UNDECODABLE) as error:
        raise unreadable(server, payload, error) from None


def unreadable(server: Provider, payload: bytes, error: Exception) -> ProviderError:
    text = payload[:200].decode("utf-8", "replace")
    return server.error(f"{server.name} sent a chunk that cannot be read ({error}): {text}", "generic", retryable=True)


def cut_answer(server: Provider) -> ProviderError:
    """The body ended, and the answer had not."""
    return server.error(
        f"{server.name} ended the stream in the middle of its answer", "stream_incomplete", retryable=True
    )


def endless_answer(server: Provider) -> ProviderError:
    return server.error(f"{server.name} sent tool calls without an end", "generic")


def nameless_call(server: Provider) -> ProviderError:
    return server.error(f"{server.name} asked for a tool call without a name", "generic", retryable=True)


def kept_id(value: object) -> str | None:
    """The ID that a server gave to a call, where it can be kept."""
    return value if isinstance(value, str) and 0 < len(value) <= PROVIDER_ID_CHARACTERS_MAX else None


def is_answer_id(value: object) -> bool:
    """Whether it can be kept, and the answer asked for again."""
    return _ANSWER_ID.fullmatch(kept_id(value) or "") is not None


def empty_answer(server: Provider, reason: str, *, has_said_something: bool, why: str = "") -> ProviderError:
    """The answer is complete, and there is nothing to see in it: no call, and no character that can be seen."""
    detail = f": {why}" if why else ""
    if reason == "content_filter":
        return server.error(f"{server.name}'s content filter blocked the answer{detail}", "content_filter")
    if reason == "length":  # the next attempt would cost the same, for nothing
        return server.error(
            f"{server.name} reached its limit of length before it had said anything; raise the limit, or reason less",
            "empty_answer",
        )
    what = "nothing but reasoning or space" if has_said_something else "an empty answer"
    return server.error(f"{server.name} sent {what} (finish reason {reason})", "empty_answer", retryable=True)


class CutBefore:
    """The events of an answer that was at its limit with the words that it was begun with: nobody is asked for more."""

    def __init__(self) -> None:
        self._is_told = False

    def __aiter__(self) -> CutBefore:
        return self

    async def __anext__(self) -> ModelEvent:
        if self._is_told:
            raise StopAsyncIteration
        self._is_told = True
        return Finished("length", Usage(input_tokens=0, output_tokens=0))
