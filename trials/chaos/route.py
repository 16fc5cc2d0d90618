"""Where a reader connects, and when it moves on, by chance."""

from __future__ import annotations

import random
from typing import NamedTuple

from checker.history import PUBLIC

from chaos.fleet import Fleet, Replica

HOP_EVENTS_MEAN = 300
MOVE_EVENTS_MAX = 20
PRIVATE_SHARE = 0.25
"""How often a public reader takes a replica's own address instead."""


class Place(NamedTuple):
    """``replica`` is None behind the public port."""

    url: str
    name: str
    replica: Replica | None = None


class Route:
    """``away``: it keeps away from the chat's owner. ``front_only``: it knows no replica's own address."""

    def __init__(
        self, public_url: str, fleet: Fleet, draw: random.Random, *, away: bool, front_only: bool = False
    ) -> None:
        self.place = Place(public_url, PUBLIC)
        self._public = self.place
        self._fleet = fleet
        self._draw = draw
        self._away = away
        self._front_only = front_only
        self._hop_in = 0

    @property
    def is_at_its_end(self) -> bool:
        """Whether it is time to go somewhere else."""
        return self._hop_in <= 0

    def choose(self, owner: str | None) -> None:
        """The next place, for a while. ``owner`` is the worker that has the chat."""
        self.place = self._next(owner)
        self._hop_in = 1 + int(self._draw.expovariate(1 / HOP_EVENTS_MEAN))

    def _next(self, owner: str | None) -> Place:
        others = [replica for replica in self._fleet.replicas if not self._away or replica.worker_id != owner]
        if not others or self._front_only or not (self._away or self._draw.random() < PRIVATE_SHARE):
            return self._public
        replica = self._draw.choice(others)
        return Place(replica.url, replica.name, replica)

    def count(self, kind: str, owner: str | None) -> None:
        """An event was told. It is left soon if the owner turns out to be where we are, and we keep away."""
        self._hop_in -= 1
        replica = self.place.replica
        if kind == "status" and self._away and replica is not None and replica.worker_id == owner:
            self._hop_in = min(self._hop_in, self._draw.randint(1, MOVE_EVENTS_MAX))
