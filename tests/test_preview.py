"""The answer under way, for readers that join it: at any moment, after any frame, under any version."""

from __future__ import annotations

from chatcluster import events
from chatcluster.parts import START, Cursor, Frame, FrameKind, Position
from chatcluster.preview import PAGE_BYTES, PAGE_FRAMES, Joined, Preview


def frame_of(seq: int, data: bytes | None = None) -> Frame:
    return Frame(Position(1, seq), FrameKind.PART, b"%d;" % seq if data is None else data)


def preview_of(count: int) -> Preview:
    preview = Preview()
    for seq in range(count):
        preview.add(frame_of(seq))
    return preview


def encoded(version: int, seqs: range) -> bytes:
    return b"".join(events.of_frame(Cursor(version, Position(1, seq)), frame_of(seq)) for seq in seqs)


def frames(joined: Joined, position: Position, version: int) -> bytes:
    """All pages."""
    said = b""
    while True:
        page, position = joined.after(position, version)
        said += page
        if position == joined.last:
            return said


def test_who_joins_gets_the_frames_of_that_moment_and_those_that_come_later_are_not_among_them() -> None:
    preview = preview_of(3)
    joined = preview.now()
    preview.add(frame_of(3))
    later = preview.now()
    assert frames(joined, START, 7) == encoded(7, range(3))
    assert frames(later, START, 7) == encoded(7, range(4))
    assert frames(joined, START, 7) == encoded(7, range(3))
    assert (joined.last, later.last) == (Position(1, 2), Position(1, 3))


def test_who_comes_back_gets_what_follows_its_cursor() -> None:
    joined = preview_of(5).now()
    for seq in range(5):
        assert frames(joined, Position(1, seq), 7) == encoded(7, range(seq + 1, 5))
    assert frames(joined, Position(2, 0), 7) == b""


def test_cursors_name_the_version_in_which_one_joins() -> None:
    joined = preview_of(3).now()
    assert [frames(joined, START, version) for version in (7, 8, 7)] == [encoded(v, range(3)) for v in (7, 8, 7)]


def test_readers_who_join_at_one_moment_share_the_bytes() -> None:
    joined = preview_of(1000).now()
    assert joined.after(START, 7)[0] is joined.after(START, 7)[0]


def test_there_may_be_none() -> None:
    joined = Preview().now()
    assert frames(joined, START, 7) == b""
    assert joined.last == START


def test_p10_a_long_answer_is_joined_in_pages_of_bounded_count_and_size() -> None:
    """However many frames it has, and however large they are: encoding a page is a bounded piece of work."""
    small, large = preview_of(10 * PAGE_FRAMES).now(), Preview()
    for seq in range(50):
        large.add(frame_of(seq, b"x" * (PAGE_BYTES // 10)))
    large.add(frame_of(50, b"x" * 2 * PAGE_BYTES))
    for joined in (small, large.now()):
        position, pages = START, 0
        while position != joined.last:
            page, position = joined.after(position, 7)
            pages += 1
            assert len(page) <= 3 * PAGE_BYTES
            assert page.count(b"id: ") <= PAGE_FRAMES
        assert pages >= 6
    assert frames(small, START, 7) == encoded(7, range(10 * PAGE_FRAMES))
