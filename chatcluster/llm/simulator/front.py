"""What a simulated wire is: how a request is read, and how an answer and a failure are put on it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import msgspec

from chatcluster.llm.simulator.answer import Answer
from chatcluster.llm.simulator.question import Question
from chatcluster.llm.simulator.script import Faults

_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode


class Rendered(Protocol):
    """One answer as the bytes that go on the wire: called once for each, in order."""

    def prelude(self) -> bytes: ...
    def token_event(self, index: int) -> bytes: ...
    def error_event(self) -> bytes: ...
    def final_events(self) -> bytes: ...

    def whole(self) -> dict[str, Any]:
        """The body of an answer that was not asked for as a stream."""
        ...


class Front(NamedTuple):
    read_question: Callable[[bytes, Mapping[str, str]], Question]
    """Makes a question from body and headers. Raises ``RefusedQuestion``."""
    rendered: Callable[[Answer], Rendered]
    error_body: Callable[[int, str, str], dict[str, Any]]
    failure_body: Callable[[Faults], dict[str, Any]]
    """The body for a status that the prompt ordered."""


def sse(value: dict[str, Any], *, named: bool = False) -> bytes:
    """An event, under the name of its type where the wire has such."""
    event = b"data: " + _encode(value) + b"\n\n"
    return b"event: " + str(value["type"]).encode() + b"\n" + event if named else event


def seal(*bound: Any) -> str:
    """What only this server can have made for these values: it fits nothing else."""
    return "sealed-" + blake2b(_canonical(bound), digest_size=24).hexdigest()
