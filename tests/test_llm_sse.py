"""Server-sent events, the receiving side: any grouping of the bytes gives the same payloads."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcluster.errors import ProviderError
from chatcluster.llm.failures import Provider
from chatcluster.llm.sse import EVENT_BYTES_MAX, EventDecoder

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
        (b"", []),
    ],
)
def test_the_standards_forms(body: bytes, expected: list[bytes | None]) -> None:
    assert payloads(body) == expected


@given(
    st.lists(st.sampled_from([b"data: x", b"data: y\n", b": c", b"\n", b"\r\n", b"id: 1", "data: ü".encode()])),
    st.lists(st.integers(0, 80)),
)
def test_grouping_does_not_matter(pieces: list[bytes], cuts: list[int]) -> None:
    body = b"".join(pieces)
    edges = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    chunks = [body[start:end] for start, end in pairwise(edges)]
    assert payloads(*chunks) == payloads(body)


@pytest.mark.parametrize("piece", [b"x" * (1 << 20), b"data: " + b"x" * (1 << 20) + b"\n"])
def test_an_event_has_a_limit(piece: bytes) -> None:
    """One endless line, or endlessly many lines of one event."""
    decoder = EventDecoder(PROVIDER)
    for _ in range(EVENT_BYTES_MAX // len(piece)):
        assert decoder.feed(piece) == []
    with pytest.raises(ProviderError, match="sent an event of more than") as caught:
        decoder.feed(piece * 2)
    assert caught.value.retryable
