"""``UsageBook`` on a ``MemoryDatabase``."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.tables import UsageKey, UsageRow
from chatcluster.ports.usage import GroupBy, UsageGroup, UsageQuery, UsageSums
from chatcluster.usage import Spent, bill_of


class MemoryUsage:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._link = link or Link()

    async def sums(self, query: UsageQuery, *, limit: int) -> UsageSums:
        async with self._link.crossing("sums"):
            groups: dict[str | None, list[Spent]] = defaultdict(list)
            for key, row in self._database.kept.usage.items():
                if query.since <= row.at < query.until and query.owner_id in (None, row.owner_id):
                    groups[self._group_of(query.group_by, key, row)].append(row.spent)
            total = bill_of(one for group in groups.values() for one in group)
            found = [UsageGroup(key, bill_of(group), self._name_of(query, key)) for key, group in groups.items()]
            found.sort(key=_by_cost if query.group_by in (GroupBy.CHAT, GroupBy.FAMILY) else _by_key)
            return UsageSums(total, tuple(found[:limit]), has_more=len(found) > limit)

    def _group_of(self, group_by: GroupBy, key: UsageKey, row: UsageRow) -> str | None:
        match group_by:
            case GroupBy.DAY:
                return row.at.date().isoformat()
            case GroupBy.MODEL:
                return row.spent.model
            case GroupBy.CHAT:
                return str(key.chat_id)
            case GroupBy.FAMILY:
                return str(row.root_id or key.chat_id)
            case GroupBy.USER:
                return str(row.owner_id)

    def _name_of(self, query: UsageQuery, key: str | None) -> str | None:
        if query.group_by in (GroupBy.CHAT, GroupBy.FAMILY):
            chat = self._database.chats.get(UUID(key))
            return None if chat is None else chat.title
        if query.group_by is GroupBy.USER:
            account = self._database.accounts.get(UUID(key))
            return None if account is None else account.name
        return None


def _by_key(group: UsageGroup) -> tuple[bool, str]:
    return (group.key is None, group.key or "")


def _by_cost(group: UsageGroup) -> tuple[bool, int, int, str]:
    cost = group.bill.cost_micros
    return (cost is None, -(cost or 0), -group.bill.attempts, group.key or "")
