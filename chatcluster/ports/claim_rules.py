"""What every ``Store`` goes by in a claim: the shares of users, and the chats that may be what ended their owners.

A chat keeps its place for as long as its model takes, or its provider has it wait. So a user who has many leaves some
places to others: a user with ``TIMES_MAX`` times as many as are free gets no more. A user alone leaves an eighth of a
replica's places, and a second user some of those. Where several users have fewer than that each, all places are taken:
then the turns between users say whose chat is next. A replica with fewer than ``TIMES_MAX + 1`` places has none to
leave.

A chat of which many tenures in a row did not end in order is **suspected**: it has its owner for itself for a while, so
that an end of that owner tells of this chat alone.
"""

from __future__ import annotations

TIMES_MAX = 7

SUSPECTED_TAKEOVERS = 3
"""A chat of which so many tenures in a row did not end in order may be what ended them."""

SUSPECTED_SECONDS = 2.0
"""The longest time for which an owner takes no other suspect beside one: if it dies meanwhile, it was that chat."""


def kept_places(slots: int) -> int:
    """So many of ``slots`` are not for everybody: where no more are free, it matters how many each user has."""
    return slots // (TIMES_MAX + 1)


def places_left(free: int, held: int) -> int:
    """How many more places a user gets who holds ``held``, where ``free`` are free."""
    return max(0, (TIMES_MAX * free - held + TIMES_MAX) // (TIMES_MAX + 1))


def alone_seconds(takeovers: int) -> float:
    """For how long a suspect in so many tenures has its owner for itself.

    An eighth of ``SUSPECTED_SECONDS`` at first, because those that wait for it are suspected with it and most are
    innocent, and twice as long with each further death, which tells those that kill slowly.
    """
    return SUSPECTED_SECONDS * 2.0 ** min(0, takeovers - SUSPECTED_TAKEOVERS - 4)
