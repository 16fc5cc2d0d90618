"""What a text is made of: the one rule for names, and what counts as an empty text.

A **name** (of a user, a token, a chat, a model, a replica) is one line of text whose every character can be seen. Two
names that look alike would be two users; a character that turns the direction of writing makes a name look like
another one. So a name has none of these:

* control and format characters, line and paragraph separators, lone surrogates;
* letters and symbols that are drawn as nothing (fillers, the blank of Braille, variation selectors);
* characters of private use, and such as Unicode has not assigned: nobody knows what they look like. Blocks that
  Unicode keeps for pictures and ideographs are let through, because those of a later version are ordinary characters.

Invisible characters that a script or a picture needs are let through where they do their work, and nowhere else:
joiners between letters of scripts that join, and between pictures; a selector behind what it selects a form of; the
tags of a flag. A **content** may hold anything, but has to have something visible.

Pure: no I/O.
"""

from __future__ import annotations

import re
import unicodedata

from chatcluster.errors import InvalidRequest

_JOINING = (
    "\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\ua840-\ua87f\ua980-\ua9df"
    "\U00010ac0-\U00010aff\U00011000-\U00011fff\U0001e900-\U0001e95f"
)
_PICTURES = "\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\U0001f000-\U0001faff"
_SYMBOLS = rf"#*0-9\u00a9\u00ae\u203c\u2049\u2122\u2139\u3030\u303d\u3297\u3299{_PICTURES}"
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"

_MEANT = re.compile(
    rf"(?<=[{_JOINING}])[\u200c\u200d](?=[{_JOINING}])"
    rf"|(?<=[{_PICTURES}\ufe0f])\u200d(?=[{_PICTURES}])"
    rf"|(?<=[{_SYMBOLS}])[\ufe0e\ufe0f]"
    rf"|(?<=[{_IDEOGRAPHS}])[\ufe00-\ufe0f\U000e0100-\U000e01ef]"
    r"|(?<=[\u1800-\u18aa])[\u180b-\u180f]"
    r"|(?<=\U0001f3f4)[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f"
)
"""Invisible characters where they are meant."""

_UNSEEN = (
    "\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_PRIVATE = "\ue000-\uf8ff\U000f0000-\U0010ffff"

_NOT_IN_NAMES = re.compile(f"[{_UNSEEN}{_PRIVATE}]")
_NOTHING = re.compile(rf"[\s{_UNSEEN}]*")
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LATER_CHARACTERS = re.compile(f"[{_IDEOGRAPHS}\U0001f000-\U0001faff]")


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in ``text``."""
    return _NOTHING.fullmatch(text) is not None


def is_visible(text: str) -> bool:
    """Whether every character of a name can be seen, blanks aside."""
    bare = _MEANT.sub("", text)
    return _NOT_IN_NAMES.search(bare) is None and (bare.isascii() or not any(map(_is_unassigned, bare)))


def checked_line(field: str, text: str, *, chars_max: int) -> str:
    """A name without blanks around it. Raises ``InvalidRequest``, which names the ``field``, for what is none."""
    text = text.strip()
    if is_blank(text):
        raise InvalidRequest(f"{field} must not be empty")
    if len(text) > chars_max:
        raise InvalidRequest(f"{field} is longer than {chars_max} characters", chars_max=chars_max)
    if not is_visible(text):
        raise InvalidRequest(f"{field} must not contain characters that are invisible or control the text")
    return text


def visible(text: str) -> str:
    """``text`` without the characters that no name may have."""
    if is_visible(text):
        return text
    return "".join(c for c in text if _NOT_IN_NAMES.match(c) is None and not _is_unassigned(c)).strip()


def tame(text: str) -> str:
    """``text``, of whatever lines, without the characters that a terminal takes for commands."""
    return _COMMANDS.sub("", text)


def _is_unassigned(character: str) -> bool:
    return unicodedata.category(character) == "Cn" and _LATER_CHARACTERS.match(character) is None


def in_any_case(words: str) -> str:
    """A regular expression that is found wherever these words are, in whatever case. None of their characters means
    more than itself. It depends on nobody's locale, and has no repetition, so a look takes no long time."""
    return "".join(map(_in_any_case, words))


def _in_any_case(character: str) -> str:
    forms = sorted({character, character.lower(), character.upper(), character.casefold()})
    return re.escape(forms[0]) if len(forms) == 1 else f"(?:{'|'.join(map(re.escape, forms))})"
