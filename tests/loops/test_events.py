"""Events as they go over the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from chat_values import chat_at_work

from chatcluster import events
from chatcluster.chat import ErrorInfo, Retry
from chatcluster.parts import Cursor, Message, Position, QueuedMessage, Role, TextPart, encode
from loops.reader import parse_events

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CURSOR = Cursor(12, Position(3, 4))
WORKER = UUID(int=7)
CHAT = chat_at_work(worker_id=WORKER, epoch=3, snapshot_version=12, history_version=10, attempt=1)

EVERY_EVENT: list[events.Event] = [
    events.StatusEvent("running", False, 3, WORKER),
    events.MessageEvent(Message(1, Role.USER, (TextPart("line one\nline two\r\n\n"),), 1, NOW)),
    events.HistoryResetEvent(),
    events.QueueEvent((QueuedMessage(2, (TextPart("next"),), NOW),)),
    events.QueueEvent(()),
    events.RetryEvent(1, 1000, "busy", "overloaded", NOW),
    events.ErrorEvent(ErrorInfo("auth", "the key is wrong")),
    events.TitleEvent("Greetings"),
]


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: type(event).__name__)
def test_an_event_is_id_type_and_one_line_of_json_that_names_the_type_again(event: events.Event) -> None:
    """Whatever the text says: no line break of it reaches the framing."""
    data = events.with_id(CURSOR, events.body(event))
    id_line, type_line, data_line, *end = data.split(b"\n")
    assert id_line == b"id: 12.3-4"
    assert end == [b"", b""]
    payload = msgspec.json.decode(data_line.removeprefix(b"data: "))
    assert type_line.decode() == f"event: {payload['type']}"
    (read,) = parse_events(data)
    assert read.data == payload


def test_an_event_under_another_id_is_the_same_event() -> None:
    data = events.with_id(CURSOR, events.body(EVERY_EVENT[1]))
    later = Cursor(12, Position(3, 9))
    assert events.moved(later, data) == events.with_id(later, events.body(EVERY_EVENT[1]))


def test_a_frames_bytes_are_sent_as_they_are() -> None:
    """Encoded once, by the producer."""
    data = encode({"type": "part", "attempt": 1, "part": {"type": "text", "text": "é"}})
    assert events.named("part", data) == b"event: part\ndata: " + data + b"\n\n"


def test_a_runnable_chat_without_owner_is_shown_as_pending() -> None:
    shown = events.status_event(msgspec.structs.replace(CHAT, worker_id=None))
    assert (shown.status, shown.worker_id) == ("pending", None)
    assert events.status_event(CHAT).status == "running"


def test_there_is_a_retry_or_an_error_only_where_the_chat_has_one() -> None:
    assert events.retry_event(CHAT) is None
    assert events.error_event(CHAT) is None
    retrying = msgspec.structs.replace(CHAT, retry=Retry(2, 4000, "busy", "rate_limit", "openai", 429), retry_at=NOW)
    assert events.retry_event(retrying) == events.RetryEvent(2, 4000, "busy", "rate_limit", NOW, "openai", 429)
    error = ErrorInfo("auth", "the key is wrong")
    assert events.error_event(msgspec.structs.replace(CHAT, last_error=error)) == events.ErrorEvent(error)
