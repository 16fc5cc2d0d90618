"""How a text is cut to be typed: nothing is lost, and no piece wants more keys than there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatcluster.workspaces.agent.keyboard import CHARACTERS_MAX, TYPED_AT_ONCE, keys_for, pieces


@given(st.text(max_size=400))
def test_the_pieces_join_to_the_text_and_each_has_keys_for_what_is_odd_in_it(text: str) -> None:
    cut = list(pieces(text))
    assert "".join(piece.text for piece in cut) == text
    for piece in cut:
        assert 0 < len(piece.text) <= TYPED_AT_ONCE
        assert len(piece.odd) <= CHARACTERS_MAX
        assert {character for character in piece.text if not character.isascii()} <= set(piece.odd)


def test_what_every_keyboard_has_needs_no_keys() -> None:
    assert [piece.odd for piece in pieces("Ada\tLovelace\n" * 20)] == ["", "", ""]


def test_keys_are_named_as_the_server_names_them() -> None:
    assert keys_for("éд🙂")[-3:] == [str(0xE9), str(0x1000434), str(0x101F642)]
