"""How many of a replica's places the chats of one user may take: what every ``Store`` goes by in a claim.

A chat keeps its place for as long as its model takes, or its provider has it wait. So whoever has many leaves some
places to others: a user gets no more who has ``TIMES_MAX`` times as many as are free. One alone leaves an eighth of a
replica's places, and the next one some of those. Where several have fewer than that each, all are taken: then the turns
between users say who is next. A replica with fewer than ``TIMES_MAX + 1`` places has none to leave.
"""

from __future__ import annotations

from chatcluster.config import SLOTS_PER_KEPT

TIMES_MAX = SLOTS_PER_KEPT - 1


def places_left(free: int, held: int) -> int:
    """How many more a user gets who holds so many, where so many are free."""
    return max(0, (TIMES_MAX * free - held + TIMES_MAX) // (TIMES_MAX + 1))
