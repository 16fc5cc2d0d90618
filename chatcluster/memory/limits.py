"""``Limits`` on a ``MemoryDatabase``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from chatcluster.errors import NotFound
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.ports import Account
from chatcluster.ports.limits import Allowance, Limit, LimitPlace, Member, Period, Subject
from chatcluster.usage import bill_of


class MemoryLimits:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._tables = database.kept.limits
        self._link = link or Link()

    async def limits(self) -> tuple[Limit, ...]:
        async with self._link.crossing("limits"):
            return tuple(limit for _, limit in sorted(self._tables.limits.items()))

    async def put(self, limit: Limit, by: Account) -> None:
        async with self._link.crossing("put_limit"):
            if limit.subject is Subject.USER:
                self._user_id(limit.name)
            self._tables.limits[limit.place] = limit
            details = {"period": limit.period, "cost_micros": limit.cost_micros, "tokens": limit.tokens}
            self._database.record(by, "limit.set", f"{limit.subject} {limit.name}".strip(), details)

    async def remove(self, place: LimitPlace, by: Account) -> bool:
        async with self._link.crossing("remove_limit"):
            is_removed = self._tables.limits.pop(place, None) is not None
            if is_removed:
                target = f"{place.subject} {place.name}".strip()
                self._database.record(by, "limit.remove", target, {"period": place.period})
            return is_removed

    async def members(self) -> tuple[Member, ...]:
        async with self._link.crossing("members"):
            return tuple(sorted(self._tables.members, key=lambda member: (member.group, member.user)))

    async def add_member(self, member: Member, by: Account) -> None:
        async with self._link.crossing("add_member"):
            self._user_id(member.user)
            self._tables.members.add(member)
            self._database.record(by, "group.add", member.group, {"user": member.user})

    async def remove_member(self, member: Member, by: Account) -> bool:
        async with self._link.crossing("remove_member"):
            is_removed = member in self._tables.members
            if is_removed:
                self._tables.members.remove(member)
                self._database.record(by, "group.remove", member.group, {"user": member.user})
            return is_removed

    async def any(self) -> bool:
        async with self._link.crossing("any_limit"):
            return bool(self._tables.limits)

    async def add_up(self) -> bool:
        return False  # nothing here is slow

    async def allowances(self, owner_id: UUID) -> tuple[Allowance, ...]:
        async with self._link.crossing("allowances"):
            found = (self._allowance(owner_id, period) for period in Period)
            return tuple(allowance for allowance in found if allowance is not None)

    def _user_id(self, name: str) -> UUID:
        for account in self._database.accounts.values():
            if account.name == name:
                return account.user_id
        raise NotFound(f"there is no user {name}", user=name)

    def _allowance(self, owner_id: UUID, period: Period) -> Allowance | None:
        limits = self._counting(owner_id, period)
        cost_micros, tokens = (_least(getattr(limit, kind) for limit in limits) for kind in ("cost_micros", "tokens"))
        if cost_micros is None and tokens is None:
            return None
        begins, resets_at = bounds_of(period, self._database.now())
        rows = self._database.kept.usage.values()
        spent = bill_of(row.spent for row in rows if row.owner_id == owner_id and row.at >= begins)
        return Allowance(period, resets_at, cost_micros, tokens, spent.cost_micros or 0, spent.tokens)

    def _counting(self, owner_id: UUID, period: Period) -> list[Limit]:
        """A user comes before groups, and those before the default."""
        account = self._database.accounts.get(owner_id)
        name = None if account is None else account.name
        groups = {member.group for member in self._tables.members if member.user == name}
        of_period = [limit for limit in self._tables.limits.values() if limit.period is period]
        own = [limit for limit in of_period if limit.subject is Subject.USER and limit.name == name]
        of_groups = [limit for limit in of_period if limit.subject is Subject.GROUP and limit.name in groups]
        return own or of_groups or [limit for limit in of_period if limit.subject is Subject.DEFAULT]


def bounds_of(period: Period, now: datetime) -> tuple[datetime, datetime]:
    """When the period of this moment began, and when the next one does."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case Period.DAY:
            return today, today + timedelta(days=1)
        case Period.WEEK:
            monday = today - timedelta(days=today.weekday())
            return monday, monday + timedelta(days=7)
        case Period.MONTH:
            first = today.replace(day=1)
            return first, (first + timedelta(days=32)).replace(day=1)


def _least(numbers: Iterable[int | None]) -> int | None:
    return min((number for number in numbers if number is not None), default=None)
