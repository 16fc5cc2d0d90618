"""Tokens that carry the time at which they were said: ``"3642940630888 "``. Pure.

The time is nanoseconds of the monotonic clock, so it grows from token to token of an answer, and names the
token: one that a reader sees twice was doubled, one that it never sees was lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

_TEXT = b'"text":"'


def stamps_in(data: bytes) -> list[int]:
    """The stamps in the JSON of a part (or of a message): all tokens of its first text.

    Raises ``ValueError`` if there is anything but stamps in it.
    """
    start = data.find(_TEXT)
    if start < 0:
        return []
    start += len(_TEXT)
    return [int(token) for token in data[start : data.index(b'"', start)].split()]


class Account(NamedTuple):
    """What became of the tokens of an answer at one reader."""

    lost: int
    doubled: int
    disordered: int


def account(seen: Iterable[int], committed: Iterable[int], expected: int, *, away_at_end: bool = False) -> Account:
    """Compare the tokens that a reader saw, in order, with those of the message that they became.

    ``expected`` is how many tokens were ordered; a message that is shorter has lost some as well. A reader that was
    ``away_at_end`` got the end in the message, and not once more as parts.
    """
    seen = list(seen)
    once, message = set(seen), set(committed)
    last = max(seen, default=0) if away_at_end else float("inf")
    return Account(
        lost=sum(token <= last for token in message - once) + max(0, expected - len(message)),
        doubled=len(seen) - len(once),
        disordered=sum(after < before for before, after in pairwise(seen)),
    )
