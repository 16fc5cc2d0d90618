"""Whether a user may spend more: asked before each message, and between the steps of a turn.

Who is authoritative: the rows of limits, and what is booked. Whether there is any limit at all is kept here, read when
the replica begins, when a change is announced, and every ``POLL_SECONDS``: without one, nothing is asked. Messages that
are sent at once may all find the last of what is left: a limit is overrun by what is under way when it is reached.

Where there are limits, some replica adds up what was spent every ``ADD_UP_SECONDS``: then a look-up has little to do.

What happens on failure: where a look-up fails, or takes longer than ``LOOKUP_SECONDS_MAX``, the message passes, with an
event. What cannot be added up is tried again the next time; until then look-ups take longer, and tell the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable, UsageLimitExceeded
from chatcluster.ports import Account, PubSub
from chatcluster.ports.limits import LIMITS_CHANNEL, Limit, LimitPlace, Limits, Member, excess_of
from chatcluster.ports.usage import UsageBook
from chatcluster.pubsub import read_again

POLL_SECONDS = 5.0
LOOKUP_SECONDS_MAX = 2.0
ADD_UP_SECONDS = 60.0


class SpendingLimits:
    """``run`` keeps it up to date."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._is_limited = False

    def __repr__(self) -> str:
        return f"<SpendingLimits {'some' if self._is_limited else 'none'}>"

    async def excess(self, owner_id: UUID) -> UsageLimitExceeded | None:
        """See ``ports.limits.LimitCheck``."""
        if not self._is_limited:
            return None
        try:
            with trio.fail_after(LOOKUP_SECONDS_MAX):
                return excess_of(await self._limits.allowances(owner_id))
        except (StoreUnavailable, trio.TooSlowError) as error:
            telemetry.event("limits.unknown", error=repr(error))
            return None

    async def run(self, pubsub: PubSub) -> None:
        """Read, and read again. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_again, pubsub, LIMITS_CHANNEL, POLL_SECONDS, self._read)
            while True:
                await trio.sleep(ADD_UP_SECONDS)
                await self._add_up()

    async def _add_up(self) -> None:
        try:
            while self._is_limited and await self._limits.add_up():
                pass
        except StoreUnavailable as error:
            telemetry.event("limits.not_added_up", error=repr(error))

    async def _read(self) -> None:
        try:
            self._is_limited = await self._limits.any()
        except StoreUnavailable as error:
            telemetry.event("limits.unknown", error=repr(error))


class LimitAdministration:
    """Change, then tell: what administrators do to limits and groups."""

    def __init__(self, limits: Limits, publish: Callable[[str, bytes], None]) -> None:
        self._limits = limits
        self._publish = publish

    async def limits(self) -> tuple[Limit, ...]:
        return await self._limits.limits()

    async def members(self) -> tuple[Member, ...]:
        return await self._limits.members()

    async def put(self, limit: Limit, by: Account) -> None:
        """Raises ``NotFound`` for an unknown user."""
        await self._limits.put(limit, by)
        self._publish(LIMITS_CHANNEL, b"")

    async def remove(self, place: LimitPlace, by: Account) -> bool:
        is_removed = await self._limits.remove(place, by)
        self._publish(LIMITS_CHANNEL, b"")
        return is_removed

    async def add_member(self, member: Member, by: Account) -> None:
        """Raises ``NotFound`` for an unknown user."""
        await self._limits.add_member(member, by)

    async def remove_member(self, member: Member, by: Account) -> bool:
        return await self._limits.remove_member(member, by)


@dataclass(frozen=True)
class Spending:
    """What models cost, and how much of it anybody may have."""

    usage: UsageBook
    limits: LimitAdministration
