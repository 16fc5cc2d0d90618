"""How a text is cut to be typed: nothing is lost, and no piece wants more keys than there are. What keys are called."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcluster.workspace_wire import Desktop
from chatcluster.workspaces.agent.desktop import _key, _type
from chatcluster.workspaces.agent.keyboard import CHARACTERS_MAX, TYPED_AT_ONCE, keys_for, pieces

NO_SCREEN: Any = None
"""Keys have no place on it."""


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


@pytest.mark.parametrize(
    ("text", "pressed"),
    [
        ("Ctrl+C", "ctrl+c"),
        ("CTRL + A", "ctrl+a"),
        ("ctrl+Shift+T", "ctrl+shift+t"),
        ("A", "A"),
        ("ctrl+ ", "ctrl+U0020"),
        ("f5", "F5"),
        ("alt+f4", "alt+F4"),
        ("PageDown", "Page_Down"),
        ("capslock", "Caps_Lock"),
        (" ", "U0020"),
    ],
)
def test_a_key_that_is_held_with_others_is_the_key_and_not_its_capital(text: str, pressed: str) -> None:
    ((*_, last),) = _key(NO_SCREEN, Desktop(action="key", text=text))
    assert last == pressed


def test_a_key_is_pressed_as_often_as_was_asked() -> None:
    ((*_, first, second),) = _key(NO_SCREEN, Desktop(action="key", text="shift+Tab", repeat=2))
    assert (first, second) == ("shift+Tab", "shift+Tab")


def test_every_end_of_a_line_is_typed_once() -> None:
    ((*_, typed),) = _type(NO_SCREEN, Desktop(action="type", text="a\r\nb\rc\nd"))
    assert typed == "a\nb\nc\nd"
