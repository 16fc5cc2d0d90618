"""A response's body, as a wire's decoder reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from chatcluster.llm.failures import Provider
from chatcluster.llm.sse import EventDecoder
from chatcluster.llm.wire import Decoder
from chatcluster.ports import KeepAlive, ModelEvent

SERVER = Provider("test.example", ("sk-very-secret-key",))


def numbered_call_ids() -> Callable[[], str]:
    """Our IDs of calls: ``new_1``, ``new_2``, and so on."""
    numbers = count(1)
    return lambda: f"new_{next(numbers)}"


def played(decoder: Decoder, body: bytes, *, bytes_at_a_time: int = 1 << 20) -> list[ModelEvent]:
    """All events of a response's body that arrives in pieces of the given size."""
    sse = EventDecoder(SERVER)
    events: list[ModelEvent] = []

    def take(payloads: Iterable[bytes | None]) -> None:
        for payload in payloads:
            events.extend([KeepAlive()] if payload is None else decoder.feed(payload))

    for start in range(0, len(body), bytes_at_a_time):
        take(sse.feed(body[start : start + bytes_at_a_time]))
    take(sse.finish())
    return events + decoder.end()
