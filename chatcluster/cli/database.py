"""Which database a command means that works on one without a replica."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from chatcluster.config import Settings, env_name, from_environment
from chatcluster.errors import ConfigError
from chatcluster.local.local_cluster import read_cluster, read_encryption_keys
from chatcluster.setting_checks import flag_name


def database_settings(data_dir: Path, flags: dict[str, Any]) -> Settings:
    """Settings with a database: the one that is given, or that of the cluster on this machine, with its keys."""
    settings = from_environment(os.environ, **flags)
    if not settings.servers.database_url and (local := read_cluster(data_dir)):
        return settings.but(
            database_url=local.database_url,
            redis_url=settings.servers.redis_url or local.redis_url,
            encryption_keys=settings.storage.encryption_keys or read_encryption_keys(data_dir),
        )
    require(settings, "database_url")
    return settings


def require(settings: Settings, *names: str) -> None:
    """Raises ``ConfigError`` for those that are not given."""
    missing = [name for name in names if not settings.value(name)]
    if missing:
        wanted = " and ".join(f"--{flag_name(name)} (or {env_name(name)})" for name in missing)
        raise ConfigError(f"give {wanted}")
