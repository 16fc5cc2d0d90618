"""What ``/readyz`` of a replica looks at: Postgres and its schema, which are conditions, and Redis, which is none.

Where Postgres has too few connections for all replicas, it says how many this one may have, which is no condition.
A replica that drains is not ready, whatever else holds. Each look is bounded by the caller; a Redis that hangs has a
bound of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from chatcluster.errors import ConfigError, SchemaError, StoreUnavailable
from chatcluster.postgres import Database
from chatcluster.postgres.migrate import check_schema
from chatcluster.redis.health import RedisHealth

REDIS_CHECK_SECONDS = 0.5


class Readiness:
    def __init__(self, database: Database, redis: RedisHealth, draining: Callable[[], bool]) -> None:
        self._database = database
        self._redis = redis
        self._draining = draining

    @property
    def draining(self) -> bool:
        return self._draining()

    async def check(self) -> dict[str, str]:
        checks = {"postgres": "ok", "schema": "ok", "redis": "ok"}
        if (shortage := self._database.share.shortage) is not None:
            checks["connections"] = f"few: {shortage}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._check_database, checks)
            nursery.start_soon(self._check_redis, checks)
        return checks

    async def _check_database(self, checks: dict[str, str]) -> None:
        try:
            await check_schema(self._database)
        except (SchemaError, ConfigError) as error:
            checks["schema"] = str(error)
        except StoreUnavailable as error:
            checks["postgres"] = str(error)

    async def _check_redis(self, checks: dict[str, str]) -> None:
        """It is no condition, so a Redis that hangs must not use up the time of those that are."""
        checks["redis"] = "degraded: no answer in time"
        with trio.move_on_after(REDIS_CHECK_SECONDS):
            checks["redis"] = await self._redis.check()
