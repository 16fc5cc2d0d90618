"""What ``/readyz`` looks at: whether a replica can be of use to those whom a load balancer would send to it.

Postgres and its schema are conditions. Redis is none, as everything goes on without it: how it does is told.
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
    """``draining`` tells whether the replica is on its way out."""

    def __init__(self, database: Database, redis: RedisHealth, draining: Callable[[], bool]) -> None:
        self._database = database
        self._redis = redis
        self._draining = draining

    @property
    def draining(self) -> bool:
        return self._draining()

    async def check(self) -> dict[str, str]:
        checks = {"postgres": "ok", "schema": "ok", "redis": "ok"}
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
