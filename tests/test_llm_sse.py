"""Server-sent events, the receiving side: any grouping of the bytes gives the same payloads."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcluster.errors import ProviderError
from chatcluster.llm.failures import Provider
from chatcluster.llm.sse import EVENT_BYTES_MAX, STRAY_BYTES_MAX, ErrorPayload, EventDecoder

PROVIDER = Provider("test.example")


def payloads(*chunks: bytes) -> list[bytes | None]:
    decoder = EventDecoder(PROVIDER)
    found = [payload for chunk in chunks for payload in decoder.feed(chunk)]
    return found + decoder.finish()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\rdata: b\r\rdata: c\r\r", [b"a\nb", b"c"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b": comment\n\ndata: a\n\n:\n", [None, b"a", None]),
        (b"\n\n\nevent: nothing\n\n", []),
        (b"data: a", [b"a"]),
        (b"data\n\n", []),
        (b"data:\n\n", [b""]),
        (b"data: a\r\rdata: b\n\r\ndata: c\r\n\r", [b"a", b"b", b"c"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf: c\n\xef\xbb\xbfdata: a\n\n", [None, b"a"]),  # joined by a gateway: no word is lost
        (b"data: a\n\n\xef\xbb\xbf\xef\xbb\xbfevent: error\ndata: b\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbf", []),
        (b'{"a": 1}\n{"b":\n2}\n', [b'{"a": 1}']),
        (b"", []),
    ],
)
def test_the_standards_forms(body: bytes, expected: list[bytes | None]) -> None:
    assert payloads(body) == expected


@given(
    st.lists(
        st.sampled_from(
            [b"data: x", b"data: y\n", b": c", b"\n", b"\r", b"\r\n", b"id: 1", "data: ü".encode(), b"\xef\xbb\xbf"]
        )
    ),
    st.lists(st.integers(0, 80)),
)
def test_grouping_does_not_matter(pieces: list[bytes], cuts: list[int]) -> None:
    body = b"".join(pieces)
    edges = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    chunks = [body[start:end] for start, end in pairwise(edges)]
    assert payloads(*chunks) == payloads(body)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_an_event_is_told_with_its_last_byte_whatever_ends_its_lines(mark: bytes) -> None:
    for end in (b"\n", b"\r", b"\r\n"):
        decoder = EventDecoder(PROVIDER)
        body = mark + b"data: a" + end + end[:1]  # of a line end of two bytes, the first tells
        told = [decoder.feed(bytes([byte])) for byte in body]
        assert told[-1] == [b"a"]
        assert not any(told[:-1])


def test_an_event_that_is_called_an_error_is_told_as_such() -> None:
    decoder = EventDecoder(PROVIDER)
    error, other = decoder.feed(b"event: error\ndata: a\n\nevent: delta\ndata: b\n\n")
    assert (error, isinstance(error, ErrorPayload)) == (b"a", True)
    assert (other, isinstance(other, ErrorPayload)) == (b"b", False)


def test_what_is_no_event_is_kept_up_to_a_limit() -> None:
    decoder = EventDecoder(PROVIDER)
    assert decoder.feed(b"upstream error\n" + b"x" * 100_000 + b"\n" + b"y\n" * 100_000) == []
    assert decoder.stray_text.startswith(b"upstream error\nxxx")
    assert len(decoder.stray_text) < 3 * STRAY_BYTES_MAX


@pytest.mark.parametrize("piece", [b"x" * (1 << 20), b"data: " + b"x" * (1 << 20) + b"\n"])
def test_an_event_has_a_limit(piece: bytes) -> None:
    """One endless line, or endlessly many lines of one event."""
    decoder = EventDecoder(PROVIDER)
    for _ in range(EVENT_BYTES_MAX // len(piece)):
        assert decoder.feed(piece) == []
    with pytest.raises(ProviderError, match="sent an event of more than") as caught:
        decoder.feed(piece * 2)
    assert caught.value.retryable
