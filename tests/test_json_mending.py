"""What no text can hold costs the character, and not the document."""

from __future__ import annotations

import msgspec
import pytest

from chatcluster.json_mending import decoded, mended


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'"cut \ud83d"', "cut \ufffd"),
        (rb'"\ud83dx"', "\ufffdx"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\uD83D\n"', "\ufffd\n"),
        (rb'{"\udfff": [1]}', {"\ufffd": [1]}),
        (b'"caf\xe9"', "caf\ufffd"),
        (b'"\xed\xa0\xbd"', "\ufffd\ufffd\ufffd"),
        (b'\xef\xbb\xbf{"a": "\xc3\xa9"}', {"a": "\xe9"}),
    ],
)
def test_what_no_text_can_hold_is_replaced(data: bytes, value: object) -> None:
    assert decoded(data) == value


@pytest.mark.parametrize(
    "data", [rb'"\ud83d\ude00"', rb'"\\ud83d"', rb'"\\\\ud83d \" \u00e9"', '"\U0001f600"'.encode(), rb'"\ufffd"']
)
def test_what_is_sound_stays(data: bytes) -> None:
    assert mended(data) == data


@pytest.mark.parametrize("data", [b"", b"{", b'"\\ud83', b"\xff", b'"\\'])
def test_what_is_no_json_is_refused_as_ever(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decoded(data)
