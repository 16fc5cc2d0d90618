"""The answer under way, for readers that join it: at any moment, after any frame, under any version."""

from __future__ import annotations

from chatcluster import events
from chatcluster.parts import START, Cursor, Position
from chatcluster.preview import Preview


def preview_of(count: int) -> Preview:
    preview = Preview()
    for seq in range(count):
        preview.add(Position(1, seq), b"%d;" % seq)
    return preview


def encoded(version: int, seqs: range) -> bytes:
    return b"".join(events.with_id(Cursor(version, Position(1, seq)), b"%d;" % seq) for seq in seqs)


def test_who_joins_gets_the_frames_of_that_moment_and_those_that_come_later_are_not_among_them() -> None:
    preview = preview_of(3)
    joined = preview.now()
    preview.add(Position(1, 3), b"3;")
    later = preview.now()
    assert joined.after(START, 7) == encoded(7, range(3))
    assert later.after(START, 7) == encoded(7, range(4))
    assert joined.after(START, 7) == encoded(7, range(3))
    assert (joined.last, later.last) == (Position(1, 2), Position(1, 3))


def test_who_comes_back_gets_what_follows_its_cursor() -> None:
    joined = preview_of(5).now()
    for seq in range(5):
        assert joined.after(Position(1, seq), 7) == encoded(7, range(seq + 1, 5))
    assert joined.after(Position(2, 0), 7) == b""


def test_cursors_name_the_version_in_which_one_joins() -> None:
    joined = preview_of(3).now()
    assert [joined.after(START, version) for version in (7, 8, 7)] == [encoded(v, range(3)) for v in (7, 8, 7)]


def test_readers_who_join_at_one_moment_share_the_bytes() -> None:
    joined = preview_of(1000).now()
    assert joined.after(START, 7) is joined.after(START, 7)


def test_there_may_be_none() -> None:
    joined = Preview().now()
    assert joined.after(START, 7) == b""
    assert joined.last == START
