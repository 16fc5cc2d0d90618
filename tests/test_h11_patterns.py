"""P10: what others say in HTTP is read once, whatever it is, and is understood as ever."""

from __future__ import annotations

import re
from typing import Any

import h11
import pytest
from h11._abnf import chunk_header, header_field
from hypothesis import given
from hypothesis import strategies as st

from chatcluster.h11_patterns import REPLACED, read_in_one_go

BLANKS = b" " * 90_000
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def in_one_go() -> None:
    read_in_one_go()


@pytest.mark.parametrize(
    "said",
    [
        HEAD + b"X:" + BLANKS + b"\0\r\n\r\n",
        HEAD + b"X: a" + BLANKS + b"\0\r\n\r\n",
        HEAD + b"X:" + b" \t" * 45_000 + b"\x0b\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;" + BLANKS + b"\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5" + BLANKS + b";\n\r\n",
    ],
    ids=["value", "behind a value", "both blanks", "extension", "size"],
)
def test_blanks_without_end_are_read_once(said: bytes) -> None:
    """Patterns that try every place for the end of them take half a minute for one of these."""
    for _ in range(50):
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=100 << 10)
        connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(said)
        with pytest.raises(h11.RemoteProtocolError):
            read_all(connection)


def read_all(connection: h11.Connection) -> None:
    while connection.next_event() is not h11.NEED_DATA:
        pass


def found_by(pattern: re.Pattern[bytes], line: bytes) -> Any:
    match = pattern.fullmatch(line)
    return match and {name: value for name, value in match.groupdict().items() if name != "chunk_ext"}


PIECES = st.sampled_from(
    [b"a", b"Z", b"5", b":", b";", b" ", b"\t", b"  ", b"\0", b"\x0b", b"\r", b"\n", b"\xe9", b"="]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_a_line_says_what_it_says_to_h11(line: bytes) -> None:
    readers: Any = vars(h11)["_readers"]
    for said in (line, b"X:" + line):
        assert found_by(readers.header_field_re, said) == found_by(re.compile(header_field.encode()), said)
    for said in (line + b"\r\n", b"5;" + line + b"\r\n"):
        if said.count(b"\r\n") == 1:  # h11 gives one line
            assert found_by(readers.chunk_header_re, said) == found_by(re.compile(chunk_header.encode()), said)


def test_the_patterns_of_this_version_are_the_known_ones() -> None:
    for known, _ in REPLACED.values():
        assert any(known in pattern.encode() for pattern in (header_field, chunk_header))
