"""Answers that a client has already: it names their tags, and is told that nothing has changed."""

from __future__ import annotations

from typing import Annotated

from litestar.params import HeaderParameter

IfNoneMatch = Annotated[
    str | None, HeaderParameter(name="If-None-Match", description="The `ETag` of what one has: 304 if it is the same")
]


def is_known(tag: str, if_none_match: str | None) -> bool:
    """Whether ``tag``, with its quotes, is among those that a client names, weak or not; ``*`` is any."""
    return if_none_match is not None and (tag in if_none_match or if_none_match.strip() == "*")
