"""Encrypt the secrets in a database anew. It works on the database itself, so it needs no running replica."""

from __future__ import annotations

from chatcluster.config import Settings
from chatcluster.postgres import open_database
from chatcluster.postgres.sealed import Rotated, rotate
from chatcluster.secrets import Keyring


async def rotate_secrets(settings: Settings) -> Rotated:
    """Seal every secret with the first of ``settings.storage.encryption_keys``. Raises ``NoEncryptionKeys``."""
    keyring = Keyring.parse(settings.storage.encryption_keys)
    async with open_database(settings) as database:
        return await rotate(database, keyring)
