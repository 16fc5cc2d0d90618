"""What of a model's answer is a title: one line that can be seen, bare, and not too long."""

from __future__ import annotations

import pytest

from chatcluster.title_text import FALLBACK, TITLE_CHARS_MAX, first_words, title_in


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("The colour of the sky", "The colour of the sky"),
        ('"The colour of the sky."\n\nIt is blue.', "The colour of the sky"),
        ("Title: **Blue skies**", "Blue skies"),
        ("# Blue  \t skies", "Blue skies"),
        ("\n \u200b\n«Ciel bleu»", "Ciel bleu"),
        ("a\u202eb\u0000c", "abc"),
        ("Warum? Darum!", "Warum? Darum!"),
        ("<think>\nA title, hm.\n</think>\n\nBlue skies", "Blue skies"),
        ("<think>\nA title, hm.", None),
        ("", None),
        (' "" \n***\n', None),
    ],
)
def test_a_title_is_bare(answer: str, title: str | None) -> None:
    assert title_in(answer) == title


@pytest.mark.parametrize("answer", ["word " * 100, "w" * 1000, "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 60])
def test_a_title_is_short(answer: str) -> None:
    title = title_in(answer)
    assert title is not None
    assert len(title) <= TITLE_CHARS_MAX


def test_until_there_is_a_better_one_the_first_words_are_the_title() -> None:
    assert first_words(" one two  three\nfour five six seven ") == "one two three four five six"
    assert first_words("\u200b") == FALLBACK
