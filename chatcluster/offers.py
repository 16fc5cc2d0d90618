"""Places of this replica for chats that a user is about to wake.

A message to a chat at rest makes it claimable, and as a rule the replica that took the message claims it. As two
transactions that is a commit, a wake-up and a round trip before the model is asked. So where the replica has a place it
**offers** it beforehand: the transaction that stores the message may claim the chat with it (``Store.apply``), under
the conditions of every claim, and its answer begins the tenure. Where it does not, nothing was done but what was asked
for, and the chat is claimed as ever.

The database is authoritative: it says whether the chat was claimed, for which worker, in which epoch. An offer is
**out** from before the transaction until its answer, and good for as long as a claim may take; it counts as a place
taken. While it is out and good, the chat is no stray (``tenures.py``): its claim may be on its way.

What happens on failure:

* the answer is lost, or comes when the offer is not good any more: nobody begins the tenure. The heartbeat finds the
  chat, if it is ours at all, and gives it back; a repeat of the request is told what the first one did;
* the replica drains: it offers nothing more, and does not leave while good offers are out. What is granted by then
  is begun, and given back at once, like any tenure;
* the lease is lost: nothing is begun. What was claimed belongs to a worker that is buried;
* the answer comes so late that another tenure of the chat began here meanwhile: the newer one stays. (Epochs tell that
  only of claims while the offer was out: a failover may give them again.)
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType
from uuid import UUID

import trio

from chatcluster.ports import Chat, Claimed

Begin = Callable[[Claimed, trio.Nursery], None]


class Offer:
    """A place for one chat at the worker ``worker_id``, for the length of the block."""

    def __init__(self, offers: Offers, chat_id: UUID, worker_id: UUID, good_until: float) -> None:
        self.chat_id = chat_id
        self.worker_id = worker_id
        self._offers = offers
        self.passed_by = 0
        """The epoch of a tenure of the chat that began here while this was out."""
        self._good_until = good_until

    def __repr__(self) -> str:
        return f"<Offer of {self.worker_id} to {self.chat_id}>"

    def __enter__(self) -> Offer:
        self._offers.went_out(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._offers.came_back(self)

    @property
    def is_good(self) -> bool:
        return trio.current_time() < self._good_until

    def take(self, claimed: Claimed) -> bool:
        """Begin the tenure that the transaction claimed; whether it has begun."""
        return self.is_good and claimed.chat.epoch > self.passed_by and self._offers.begin(claimed)


class Offers:
    """The offers of one incarnation. ``begin`` starts a tenure in a nursery, ``wake`` has the claimer look again. The
    last ``kept`` places are not offered: which user may have them depends on shares, which only a claim knows."""

    def __init__(
        self,
        worker_id: UUID,
        *,
        good_seconds: float,
        free_slots: Callable[[], int],
        kept: int,
        begin: Begin,
        wake: Callable[[], None],
    ) -> None:
        self._worker_id = worker_id
        self._good_seconds = good_seconds
        self._free_slots = free_slots
        self._kept = kept
        self._begin = begin
        self._wake = wake
        self._runners: trio.Nursery | None = None
        """While tenures may begin there."""
        self._context = copy_context()
        """The context of a replica's tasks: a tenure is no part of the request that it begins with."""
        self._out: list[Offer] = []
        self._promised = 0
        self._trusted_until = 0.0
        self._ended = trio.Event()
        self._came_back = trio.Event()

    def __repr__(self) -> str:
        return f"<Offers {len(self._out)} out, {self.places} places left>"

    @property
    def places(self) -> int:
        """How many chats more may be taken up."""
        return max(0, self._free_slots() - len(self._out) - self._promised)

    def promise(self, places: int) -> None:
        """A claim that is on its way may fill so many places; none, once it is answered."""
        self._promised = places

    def trust(self, began: float) -> None:
        """The lease was renewed, by a request that began then."""
        self._trusted_until = began + self._good_seconds

    def is_out_to(self, chat_id: UUID) -> bool:
        """Whether what the database says of the chat's owner may be answered here, any moment."""
        return any(offer.chat_id == chat_id and offer.is_good for offer in self._out)

    def tenure_began(self, chat: Chat) -> None:
        """The tenure's claim may have come after one that an offer that is still out was taken with."""
        for offer in self._out:
            if offer.chat_id == chat.id:
                offer.passed_by = chat.epoch

    def make(self, chat_id: UUID) -> Offer | None:
        """None where there is no place, or the lease is not sound."""
        now = trio.current_time()
        if self._runners is None or self._ended.is_set() or self.places <= self._kept or now >= self._trusted_until:
            return None
        return Offer(self, chat_id, self._worker_id, now + self._good_seconds)

    async def keep(self, runners: trio.Nursery) -> None:
        """Let tenures begin in ``runners``, where this runs, until ``end``; and then until no good offer is out."""
        self._runners, self._context = runners, copy_context()
        try:
            await self._ended.wait()
            while any(offer.is_good for offer in self._out):
                with trio.move_on_after(self._good_seconds):
                    await self._came_back.wait()
        finally:
            self._runners = None  # ``runners`` is open still

    def end(self) -> None:
        """Offer nothing more."""
        self._ended.set()

    def close(self) -> None:
        """Begin nothing more either."""
        self.end()
        self._runners = None

    # by each offer

    def went_out(self, offer: Offer) -> None:
        self._out.append(offer)

    def came_back(self, offer: Offer) -> None:
        """A claimer that found no place meanwhile looks again."""
        was_full = self.places <= self._kept
        self._out.remove(offer)
        self._came_back.set()
        self._came_back = trio.Event()
        if was_full and self.places > 0:
            self._wake()

    def begin(self, claimed: Claimed) -> bool:
        if self._runners is None:
            return False
        self._context.run(self._begin, claimed, self._runners)
        return True
