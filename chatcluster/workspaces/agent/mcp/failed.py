"""How a server fails."""

from __future__ import annotations

WORDS_MAX = 400


class ServerFailed(Exception):
    """The server cannot be had, or is gone: in words for people, of a bounded length."""

    def __init__(self, words: str) -> None:
        super().__init__(words[:WORDS_MAX])


class CallRefused(Exception):
    """The server says that it does not do that: its words. The session goes on."""

    def __init__(self, words: str) -> None:
        super().__init__(words[:WORDS_MAX])
