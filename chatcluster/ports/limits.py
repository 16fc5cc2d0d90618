"""How much users may spend, and how much they have.

A limit is for a period of UTC (a day, a week from Monday, a month), in micros, in tokens, or in both. For each period
the user's own limit counts; without one the least of those of the user's groups; without those the deployment's
default. A limit that has neither number says that there is none, whatever stands behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from chatcluster.errors import UsageLimitExceeded
from chatcluster.ports.accounts import Account
from chatcluster.usage import Micros

LIMITS_CHANNEL = "limits"


class Subject(StrEnum):
    DEFAULT = "default"
    GROUP = "group"
    USER = "user"


class Period(StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class LimitPlace(NamedTuple):
    """``name``: of the group or the user, empty for the default."""

    subject: Subject
    name: str
    period: Period


class Limit(msgspec.Struct, frozen=True):
    subject: Subject
    name: str
    period: Period
    cost_micros: Micros | None = None
    tokens: Micros | None = None

    @property
    def place(self) -> LimitPlace:
        return LimitPlace(self.subject, self.name, self.period)


class Member(msgspec.Struct, frozen=True):
    group: str
    user: str


class Allowance(msgspec.Struct, frozen=True):
    """The limit that counts for a user in a period, and what is spent of it."""

    period: Period
    resets_at: datetime
    cost_micros: int | None
    tokens: int | None
    spent_micros: int
    spent_tokens: int

    @property
    def excess(self) -> UsageLimitExceeded | None:
        """What to say if nothing is left: a limit is reached when as much is spent."""
        for kind, limit, spent in (
            ("cost_micros", self.cost_micros, self.spent_micros),
            ("tokens", self.tokens, self.spent_tokens),
        ):
            if limit is not None and spent >= limit:
                return _excess(self, kind, limit, spent)
        return None


def _excess(allowance: Allowance, kind: str, limit: int, spent: int) -> UsageLimitExceeded:
    resets_at = allowance.resets_at.isoformat().replace("+00:00", "Z")
    said = f"{spent} of {limit} tokens" if kind == "tokens" else f"{spent / 1e6:.2f} of {limit / 1e6:.2f}"
    return UsageLimitExceeded(
        f"the limit of this {allowance.period} is used up: {said}; there is room again from {resets_at} on",
        kind=kind,
        period=str(allowance.period),
        limit=limit,
        spent=spent,
        resets_at=resets_at,
    )


def excess_of(allowances: Sequence[Allowance]) -> UsageLimitExceeded | None:
    """The excess of the allowance that is used up for longest; None if none is."""
    spent = [(allowance.resets_at, excess) for allowance in allowances if (excess := allowance.excess) is not None]
    return max(spent, key=lambda one: one[0])[1] if spent else None


class Limits(Protocol):
    async def limits(self) -> tuple[Limit, ...]:
        """All limits, in the order of their places."""
        ...

    async def put(self, limit: Limit, by: Account) -> None:
        """Set the limit, in the place of one that is there. Raises ``NotFound`` for an unknown user."""
        ...

    async def remove(self, place: LimitPlace, by: Account) -> bool:
        """False if there is none."""
        ...

    async def members(self) -> tuple[Member, ...]:
        """The members of all groups, in order."""
        ...

    async def add_member(self, member: Member, by: Account) -> None:
        """Add a member; a repeat changes nothing. Raises ``NotFound`` for an unknown user."""
        ...

    async def remove_member(self, member: Member, by: Account) -> bool: ...

    async def any(self) -> bool:
        """Whether there is any limit."""
        ...

    async def add_up(self) -> bool:
        """Prepare what ``allowances`` tells, so that it costs the same however much was spent. True: there is more of
        it to do. Whether it is ever called changes no answer."""
        ...

    async def allowances(self, owner_id: UUID) -> tuple[Allowance, ...]:
        """The allowances of this user, one for each period that is limited."""
        ...


class LimitCheck(Protocol):
    async def excess(self, owner_id: UUID) -> UsageLimitExceeded | None:
        """Why this user may spend nothing now; None if the user may, or if that cannot be looked up."""
        ...


class Unlimited:
    """A ``LimitCheck`` where there are no limits."""

    async def excess(self, _: UUID) -> UsageLimitExceeded | None:
        return None


UNLIMITED = Unlimited()
