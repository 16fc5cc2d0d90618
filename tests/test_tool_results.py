"""Results of tools: what the model is given of them, and how it reads the rest."""

from __future__ import annotations

import pytest

from chatcluster.parts import ImagePart, JsonPart, NewMessage, ResourcePart, ResultContent, TextPart, ToolResultPart
from chatcluster.tool_results import KEPT_BYTES_MAX, SHOWN_BYTES_MAX, piece_of, refused, taken

PICTURE = ImagePart("image/png", "aGk=")


def result_of(message: NewMessage) -> ToolResultPart:
    (part,) = message.parts
    assert isinstance(part, ToolResultPart)
    return part


def test_a_short_result_is_given_as_it_is() -> None:
    content: tuple[ResultContent, ...] = (
        TextPart("a"),
        JsonPart('{"b":1}'),
        ResourcePart("file:///c", text="c"),
        PICTURE,
    )
    message, whole = taken("call", content, is_error=False, bytes_max=1000)
    assert result_of(message) == ToolResultPart("call", content)
    assert whole is None


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_of_a_long_one_the_model_gets_head_and_tail_cut_between_characters(character: str, shift: int) -> None:
    text = "b" + "x" * shift + character * SHOWN_BYTES_MAX + "e"
    message, whole = taken("call_1", (TextPart(text),), is_error=True, bytes_max=KEPT_BYTES_MAX)
    part = result_of(message)
    assert part.is_error
    head, note, tail = part.text.split("\n\n")
    assert len(part.text.encode()) <= SHOWN_BYTES_MAX
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) > 1
    assert len(tail) > 1
    assert whole == text.encode()
    left_out = len(text.encode()) - len(head.encode()) - len(tail.encode())
    assert f"{left_out} of {len(whole)} bytes" in note
    assert f'read_result with call_id "call_1" and offset {len(head.encode())}' in note


def test_the_longest_result_that_is_given_whole() -> None:
    assert taken("call", (TextPart("x" * SHOWN_BYTES_MAX),), is_error=False, bytes_max=KEPT_BYTES_MAX).whole is None
    assert taken("call", (TextPart("x" * (SHOWN_BYTES_MAX + 1)),), is_error=False, bytes_max=KEPT_BYTES_MAX).whole


def test_all_text_of_a_long_result_is_kept_and_images_are_not_cut() -> None:
    long = "x" * SHOWN_BYTES_MAX
    content = (JsonPart('{"a":1}'), PICTURE, ResourcePart("file:///b"), TextPart(long))
    message, whole = taken("call", content, is_error=False, bytes_max=KEPT_BYTES_MAX)
    assert whole == f'{{"a":1}}\nfile:///b\n{long}'.encode()
    assert result_of(message).content[1:] == (PICTURE,)


@pytest.mark.parametrize(("tools_own", "limit"), [(100, 100), (KEPT_BYTES_MAX * 2, KEPT_BYTES_MAX)])
def test_too_much_is_an_error_that_says_what_to_do(tools_own: int, limit: int) -> None:
    message, whole = taken("call", (TextPart("x" * (limit + 1)),), is_error=False, bytes_max=tools_own)
    assert result_of(message).is_error
    assert f"more than {limit} bytes" in result_of(message).text
    assert whole is None


def test_what_cannot_be_stored_gets_no_further() -> None:
    message, _ = taken("call", (TextPart("a\0b\ud800c"), JsonPart('"\0"')), is_error=False, bytes_max=1000)
    assert result_of(message).text == 'a\ufffdb\ufffdc"\ufffd"'
    assert result_of(refused("call", "\0")).text == "\ufffd"


def test_notes_stand_before_the_result_and_are_none_of_it() -> None:
    """They are ours: a tool that may say little does not say less for them, and what is read on is what it said."""
    notes = ("again", "with \0" + "x" * 100)
    message, _ = taken("call", (TextPart("a"),), is_error=False, bytes_max=1, notes=notes)
    assert result_of(message).content == (TextPart("[again]\n"), TextPart(f"[with \ufffd{'x' * 100}]\n"), TextPart("a"))
    long = "y" * (SHOWN_BYTES_MAX + 1)
    message, whole = taken("call", (TextPart(long),), is_error=False, bytes_max=KEPT_BYTES_MAX, notes=notes)
    assert (result_of(message).content[0], whole) == (TextPart("[again]\n"), long.encode())
    message, whole = taken("call", (TextPart("ab"),), is_error=False, bytes_max=1, notes=notes)
    assert ("again" in result_of(message).text, "more than 1 bytes" in result_of(message).text) == (True, True)


@pytest.mark.parametrize(
    "content",
    [
        (TextPart("語" * (KEPT_BYTES_MAX // 2)),),
        (TextPart("x" * (KEPT_BYTES_MAX // 2)),) * 2,
        (TextPart("\0" * (KEPT_BYTES_MAX // 2)),),
        (TextPart("x" * KEPT_BYTES_MAX), TextPart("")),
    ],
    ids=["wide characters", "joined by a line", "replaced", "one and a line"],
)
def test_what_is_more_in_bytes_than_in_characters_is_too_much(content: tuple[ResultContent, ...]) -> None:
    """No store keeps it: the commit of it would end the turn."""
    message, whole = taken("call", content, is_error=False, bytes_max=KEPT_BYTES_MAX)
    assert (result_of(message).is_error, whole) == (True, None)
    assert f"more than {KEPT_BYTES_MAX} bytes" in result_of(message).text


def test_as_much_as_may_be_kept_is() -> None:
    content = (TextPart("x" * KEPT_BYTES_MAX),)
    assert len(taken("call", content, is_error=False, bytes_max=KEPT_BYTES_MAX).whole or b"") == KEPT_BYTES_MAX


def test_pieces_read_one_after_the_other_are_the_whole() -> None:
    whole = ("aé€😀" * 50).encode()
    offset, text = 0, ""
    while offset < len(whole):
        piece = piece_of(whole[offset : offset + 7], offset, len(whole))
        head, _, body = piece.partition("]\n")
        assert head.startswith(f"[bytes {offset} to ")
        offset = int(head.split(" to ")[1].split()[0])
        text += body
    assert text == whole.decode()
    assert "which is the end" in head


def test_a_piece_that_begins_within_a_character_begins_with_the_next() -> None:
    whole = "€uro".encode()
    assert piece_of(whole[1:], 1, len(whole)) == "[bytes 3 to 6 of 6, which is the end]\nuro"
