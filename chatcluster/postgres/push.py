"""``Push`` on Postgres. The notices are written by a trigger on the turns that end; see the migration."""

from __future__ import annotations

from uuid import UUID

from chatcluster.ports.push import NOTICE_SECONDS_MAX, SUBSCRIPTIONS_MAX, PushNotice, Subscription
from chatcluster.postgres import Connection, Database, Row
from chatcluster.postgres.queries import load_queries

SQL = load_queries("push.sql")


class PostgresPush:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def subscribe(self, subscription: Subscription) -> Subscription:
        return await self._database.transaction(_subscribe, subscription)

    async def unsubscribe(self, user_id: UUID, subscription_id: UUID) -> bool:
        return await self._database.autocommit(_unsubscribe, user_id, subscription_id)

    async def subscriptions(self, user_id: UUID) -> tuple[Subscription, ...]:
        return await self._database.autocommit(_subscriptions, user_id)

    async def claim(self, *, limit: int, seconds: float) -> tuple[PushNotice, ...]:
        return await self._database.transaction(_claim, limit, seconds)

    async def told(self, notice_id: int) -> None:
        await self._database.autocommit(_write, "delete_notice", notice_id)

    async def postpone(self, notice_id: int, *, seconds: float) -> None:
        await self._database.autocommit(_write, "postpone", notice_id, seconds)

    async def forget(self, subscription_id: UUID) -> None:
        await self._database.autocommit(_write, "forget", subscription_id)


async def _subscribe(connection: Connection, new: Subscription) -> Subscription:
    values = (new.id, new.user_id, new.token_id, new.endpoint, new.p256dh, new.auth)
    row = await connection.fetchrow(SQL["subscribe"], *values)
    assert row is not None, "it is inserted, or takes another one's place"
    await connection.execute(SQL["keep_newest"], new.user_id, SUBSCRIPTIONS_MAX)
    return _subscription(row)


async def _unsubscribe(connection: Connection, user_id: UUID, subscription_id: UUID) -> bool:
    return await connection.fetchval(SQL["unsubscribe"], user_id, subscription_id) is not None


async def _subscriptions(connection: Connection, user_id: UUID) -> tuple[Subscription, ...]:
    return tuple(map(_subscription, await connection.fetch(SQL["list_subscriptions"], user_id)))


async def _claim(connection: Connection, limit: int, seconds: float) -> tuple[PushNotice, ...]:
    await connection.execute(SQL["delete_late"], NOTICE_SECONDS_MAX)
    rows = await connection.fetch(SQL["claim"], limit, seconds)
    return tuple(
        PushNotice(
            id=row["notice_id"],
            subscription=_subscription(row),
            chat_id=row["chat_id"],
            title=row["title"],
            outcome=row["outcome"],
            attempts=row["attempts"],
        )
        for row in rows
    )


async def _write(connection: Connection, query: str, *args: object) -> None:
    await connection.execute(SQL[query], *args)


def _subscription(row: Row) -> Subscription:
    return Subscription(**{name: row[name] for name in Subscription.__struct_fields__})
