"""Names have nothing that cannot be seen, and a text that shows nothing is an empty one."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from chatcluster.texts import is_blank, is_visible, visible

DRAWN_FORMATS = {
    *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD,
}  # fmt: skip
"""Of category Cf, and yet drawn: they stand around or below digits."""


def of_categories(*categories: str) -> list[str]:
    every = map(chr, range(sys.maxunicode + 1))
    return [c for c in every if unicodedata.category(c) in categories and ord(c) not in DRAWN_FORMATS]


def test_nothing_that_is_invisible_or_turns_the_direction_is_part_of_a_name() -> None:
    for character in of_categories("Cc", "Cf", "Cs", "Zl", "Zp", "Co"):
        assert not is_visible(f"a{character}b"), ascii(character)
        assert not is_visible(character), ascii(character)


@pytest.mark.parametrize("filler", "\u034f\u115f\u1160\u17b4\u2800\u3164\uffa0\ufe00\ufe0f\U000e0100\u180b")
def test_nor_are_letters_and_symbols_that_are_drawn_as_nothing(filler: str) -> None:
    assert unicodedata.category(filler) in ("Mn", "Lo", "So")
    assert not is_visible(f"a{filler}b")
    assert is_blank(filler)


@pytest.mark.parametrize(
    "name",
    [
        "Ada Lovelace",
        "e\u0301tude",  # a letter and its accent
        "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc",  # Persian needs the non-joiner between letters
        "\u0915\u094d\u200d\u0937",  # and Hindi the joiner
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family of three
        "\u2764\ufe0f\u200d\U0001f525",  # a heart on fire
        "\U0001f9d4\U0001f3fd\u200d\u2642\ufe0f",  # with a tone of skin
        "1\ufe0f\u20e3",  # the key of a phone
        "\u845b\U000e0100\u57ce",  # a Japanese name in its own form
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # the flag of Scotland
        "\U0001faef",  # a picture of a later Unicode than this Python knows, perhaps
        "\u05d0\u05d1\u05d2 abc",  # right to left by its letters, and not by a control character
        "\u0600\u0661",
    ],
)
def test_what_a_script_or_a_picture_needs_is_let_through(name: str) -> None:
    assert is_visible(name)
    assert visible(name) == name
    assert not is_blank(name)


@pytest.mark.parametrize(
    "name",
    [
        "ad\u200dmin",
        "ad\u200cmin",
        "admin\ufe0f",
        "\u0646\u200c",
        "\u0646\u200c\u200c\u0627",
        "\U0001f468\u200d",
        "\U0001f3f4\U000e0067\U000e0062",
        "a\U000e0061\U000e007f",
        "\u202egpj.exe",
        "a\u2066b\u2069",
        "a\u2028b",
        "\ufeffa",
        "\ufffe",
        "\u0378",
    ],
)
def test_and_nowhere_else(name: str) -> None:
    assert not is_visible(name)


@pytest.mark.parametrize(
    "text", ["", " \t\r\n", "\u200b\u2060", "\u3000\u00a0", "\0", "\ufe0f" * 1000, "\u200b" * 300_000]
)
def test_a_text_that_shows_nothing_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", [".", "\u200b.", "\u0301", "\ue000", " " * 1000 + "x"])
def test_a_text_that_shows_anything_is_not(text: str) -> None:
    assert not is_blank(text)


def test_a_default_title_is_what_can_be_seen_of_it() -> None:
    assert visible("\u202ea\u2028b\u200b ") == "ab"
    assert visible("\u200b") == ""
