"""Positions, cursors, frames and the joining of deltas."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcluster.content import FilePart, SummaryPart
from chatcluster.errors import InvalidCursor
from chatcluster.parts import (
    BEGINNING,
    FRAME_KIND,
    START,
    AttemptFrame,
    CloseFrame,
    CommittedFrame,
    Cursor,
    EndedTurn,
    FrameBody,
    FrameKind,
    ImagePart,
    JsonPart,
    Message,
    NoticePart,
    OpaquePart,
    OpenFrame,
    PartFrame,
    Parts,
    Position,
    ReasoningPart,
    ResourcePart,
    ResumedFrame,
    Role,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    ToolProgressPart,
    ToolResultPart,
    TurnFrame,
    coalesced,
    content_version_of,
    decode_frame,
    decode_parts,
    encode,
    ends_group,
    frame,
    in_order,
    joined,
    pack_frame,
    parse_cursor,
    shown,
    text_of,
    unpack_frame,
)

repeatable = settings(deadline=None, derandomize=True)

NUMBERS = st.integers(0, 10**18 - 1)
PARTS = st.one_of(
    st.builds(TextPart, st.text()),
    st.builds(ReasoningPart, st.text(), st.none() | st.integers(1, 2**31)),
    st.builds(ToolCallPart, st.text(), st.text(), st.text()),
    st.builds(ToolResultPart, st.text(), st.text(), st.booleans()),
    st.builds(
        ToolResultPart,
        st.text(),
        st.lists(
            st.one_of(
                st.builds(TextPart, st.text()),
                st.builds(ImagePart, st.text(), st.text()),
                st.builds(JsonPart, st.text()),
                st.builds(ResourcePart, st.text(), st.text(), st.none(), st.text()),
            )
        ).map(tuple),
    ),
    st.builds(OpaquePart, st.text(), st.text(), st.text(), st.text()),
)
BODIES: tuple[FrameBody, ...] = (
    OpenFrame("worker", 3),
    TurnFrame(7, 3),
    AttemptFrame(2, 3),
    ResumedFrame(2, 3, 3, "attached", "1-7"),
    PartFrame(2, TextPart("a b\nc \u2028")),
    CommittedFrame(4),
    CloseFrame("waiting"),
)


# --- positions and cursors --------------------------------------------------------------------


@repeatable
@given(NUMBERS, NUMBERS)
def test_a_position_reads_back_and_is_ordered_by_tenure_first(epoch: int, seq: int) -> None:
    position = Position(epoch, seq)
    assert Position.parse(str(position)) == position
    assert position < Position(epoch, seq + 1) < Position(epoch + 1, 0)
    assert position >= START


@repeatable
@given(NUMBERS, NUMBERS, NUMBERS, st.none() | NUMBERS)
def test_a_cursor_reads_back(version: int, epoch: int, seq: int, message_id: int | None) -> None:
    """P3: what a client was given names the same point on every replica."""
    cursor = Cursor(version, Position(epoch, seq), message_id)
    assert parse_cursor(str(cursor)) == cursor


def test_cursors_look_as_documented() -> None:
    assert str(Cursor(12, Position(3, 45))) == "12.3-45"
    assert str(Cursor(12, Position(3, 45), 678)) == "12.3-45.678"
    assert str(BEGINNING) == "0.0-0"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "1.2",
        "1.2-",
        "-1.2-3",
        "1.2-3.",
        "1.2-3.4.5",
        "1.2-3\n4",
        "x",
        "1,2-3",
        "١.٢-٣",
        "1.2-" + "9" * 19,
        "9" * 9999,
    ],
)
def test_what_is_no_cursor_is_refused_without_being_repeated_at_length(text: str) -> None:
    with pytest.raises(InvalidCursor) as refused:
        parse_cursor(text)
    assert len(str(refused.value.details["cursor"])) <= 80


@repeatable
@given(st.text(max_size=30))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursor = parse_cursor(text)
    except InvalidCursor:
        return
    assert parse_cursor(str(cursor)) == cursor


# --- frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_frame_survives_the_wire_byte_for_byte(body: FrameBody) -> None:
    sent = frame(Position(3, 45), body)
    received = unpack_frame(pack_frame(sent))
    assert received == sent
    assert decode_frame(received.data) == body
    assert b"\n" not in sent.data, "a frame is one line of an event stream"


def test_every_kind_of_frame_has_a_body() -> None:
    assert {type(body) for body in BODIES} == set(FRAME_KIND)
    assert set(FRAME_KIND.values()) == set(FrameKind) - {FrameKind.UNKNOWN}


def test_the_data_of_a_part_is_what_a_subscriber_gets() -> None:
    data = frame(Position(1, 2), PartFrame(1, TextPart("hi"))).data
    assert msgspec.json.decode(data) == {"type": "part", "attempt": 1, "part": {"type": "text", "text": "hi"}}


@repeatable
@given(st.lists(PARTS))
def test_content_reads_back_exactly(parts: list[ToolCallPart]) -> None:
    assert decode_parts(encode(tuple(parts))) == tuple(parts)


# --- joining ----------------------------------------------------------------------------------


def test_neighbouring_deltas_of_one_kind_become_one_part() -> None:
    deltas = (
        ReasoningPart("let "),
        ReasoningPart("me see"),
        TextPart("The "),
        TextPart("answer"),
        ToolCallPart("1", "look", "{}"),
        ToolCallPart("2", "look", "{}"),
        TextPart("."),
    )
    assert joined(deltas) == (
        ReasoningPart("let me see"),
        TextPart("The answer"),
        ToolCallPart("1", "look", "{}"),
        ToolCallPart("2", "look", "{}"),
        TextPart("."),
    )
    assert joined(()) == ()


def test_a_thought_took_as_long_as_its_pieces_did_however_they_are_joined() -> None:
    deltas = [ReasoningPart("let "), ReasoningPart("me"), ReasoningPart("", 1200), ReasoningPart(" see", 30)]
    assert joined([*deltas, TextPart("a"), ReasoningPart("hm")]) == (
        ReasoningPart("let me see", 1230),
        TextPart("a"),
        ReasoningPart("hm"),
    )
    for place in range(len(deltas)):
        assert joined([*coalesced(deltas[:place]), *deltas[place:]]) == (ReasoningPart("let me see", 1230),)


def test_a_thought_says_nothing_of_a_duration_that_is_not_known() -> None:
    """What earlier versions wrote reads back, and they read what this one writes."""
    assert encode(ReasoningPart("hm")) == b'{"type":"reasoning","text":"hm"}'
    (read,) = decode_parts(b'[{"type":"reasoning","text":"hm","duration_ms":5,"later":1}]')
    assert read == ReasoningPart("hm", 5)


@repeatable
@given(st.lists(PARTS))
def test_joining_keeps_every_character_and_is_final(deltas: Parts) -> None:
    """P3: the texts of an attempt joined are the text of its message."""
    parts = joined(deltas)
    assert text_of(parts) == "".join(delta.text for delta in deltas if isinstance(delta, TextPart))
    assert joined(parts) == parts
    assert [part for part in parts if isinstance(part, ToolCallPart)] == [
        delta for delta in deltas if isinstance(delta, ToolCallPart)
    ]


def test_a_call_that_was_streamed_has_all_of_its_arguments() -> None:
    deltas = (
        TextPart("I "),
        ToolCallPart("1", "add", ""),
        ToolArgumentsPart("1", '{"a":'),
        ToolCallPart("2", "now", "{}"),
        ToolArgumentsPart("1", "1}"),
        ToolProgressPart("2", 0.5),
        NoticePart("tools_unavailable", "no tools of weather", "weather"),
        TextPart("look"),
    )
    calls = (ToolCallPart("1", "add", '{"a":1}'), ToolCallPart("2", "now", "{}"))
    assert joined(deltas) == (TextPart("I "), *calls, TextPart("look"))
    assert joined(coalesced(deltas)) == joined(deltas), "what is coalesced on the way loses nothing"


def test_texts_on_both_sides_of_what_is_on_the_stream_alone_are_one() -> None:
    assert joined((TextPart("a"), ToolProgressPart("1", 1.0), TextPart("b"))) == (TextPart("ab"),)


def test_a_result_in_plain_text_is_a_list_of_one() -> None:
    assert decode_parts(b'[{"type":"tool_result","call_id":"1","content":"ok"}]') == (ToolResultPart("1", "ok"),)
    assert ToolResultPart("1", "ok").content == (TextPart("ok"),)
    assert ToolResultPart("1", (TextPart("a"), ImagePart("image/png", "AA=="), JsonPart("[1]"))).text == "a[1]"


def test_the_version_of_content_is_the_lowest_that_has_its_parts() -> None:
    assert content_version_of((TextPart("a"), ReasoningPart("b"), ToolCallPart("1", "add", "{}"))) == 1
    assert content_version_of((ToolResultPart("1", "ok"),)) == 2
    assert content_version_of((ToolResultPart("1", "ok"), SummaryPart("what was said"))) == 3
    assert content_version_of((FilePart(UUID(int=1), "a", "image/png", 1), TextPart("a"))) == 3


def test_what_only_the_provider_understands_is_shown_to_nobody() -> None:
    message = Message(
        1, Role.ASSISTANT, (TextPart("a"), OpaquePart("p", "m", "k", "{}")), 1, datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert shown(message).parts == (TextPart("a"),)


def test_the_last_message_of_a_transaction_ends_its_group() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    messages = [Message(number, Role.USER, (), revision, at) for number, revision in enumerate((1, 1, 2, 3, 3))]
    assert [ends_group(messages, index, None) for index in range(5)] == [False, True, True, False, True]
    last = messages[-1].revision
    assert [ends_group(messages, 4, revision) for revision in (last, last + 1)] == [False, True]


def test_a_turn_that_is_told_as_of_a_later_version_is_told_behind_all_messages_that_are() -> None:
    """P3: its cursor says that they were told."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    first, turn, floor = Message(1, Role.USER, (), 1, at), EndedTurn(2, "finished", 5, revision=24), 10_024
    assert in_order([first], [turn], before=floor, floor=floor) == [first], "others are to come that count as of then"
    assert in_order([first], [turn], before=None, floor=floor) == [first, turn]
    assert in_order([first], [turn], before=25) == [first, turn]
