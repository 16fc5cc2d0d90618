"""Chats that may be what ended their owners: how many deaths make one, and for how long it has its owner for itself."""

from __future__ import annotations

SUSPECTED_TAKEOVERS = 3
"""A chat of which so many tenures in a row did not end in order may be what ended them."""

SUSPECTED_SECONDS = 2.0
"""The longest time for which an owner takes no other suspect beside one: if it dies meanwhile, it was that chat."""


def alone_seconds(takeovers: int) -> float:
    """For how long a suspect in so many tenures has its owner for itself.

    An eighth of ``SUSPECTED_SECONDS`` at first, because those that wait for it are suspected with it and most are
    innocent, and twice as long with each further death, which tells those that kill slowly.
    """
    return SUSPECTED_SECONDS * 2.0 ** min(0, takeovers - SUSPECTED_TAKEOVERS - 4)
