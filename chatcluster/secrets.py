"""Secrets at rest: what is stored encrypted, so that a copy of the database gives nothing away.

A secret is **sealed** with AES-256-GCM under a fresh nonce, and bound to its place: a sealed value that is copied to
another row or column does not open there. ``CHATCLUSTER_ENCRYPTION_KEYS`` has the keys, separated by commas; the first
one seals, all of them open. A sealed value names its key, by the first bytes of the key's digest.

To change the key: put a new one in front and restart the replicas, run ``chatcluster secrets rotate``, which seals
everything anew that another key sealed, then drop the old one.

What happens on failure: without keys nothing can be sealed (``NoEncryptionKeys``: one clear error, and nothing is
written). What no key opens, or was tampered with, is ``SecretUnreadable``; it costs the one thing that it was for.

A secret is never logged and never returned: people see its last four characters, if it is long enough, and its date.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chatcluster.errors import ConfigError, NoEncryptionKeys, SecretUnreadable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
FORM = b"\x01"
"""The first byte of every sealed value: how the rest is to be read."""
KEY_ID_BYTES = 4
HEAD_BYTES = len(FORM) + KEY_ID_BYTES
SHOWN_CHARS = 4
SHOWN_FROM_CHARS = 12
"""A shorter secret is not shown in part: four characters would be too much of it."""


class Keyring:
    """The keys of a deployment. Without any it opens and seals nothing."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        if keys:  # it takes 7 MB, which those without secrets do without
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        self._ciphers = [(FORM + hashlib.sha256(key).digest()[:KEY_ID_BYTES], AESGCM(key)) for key in keys]

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._ciphers)} keys>"

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """The keys of ``CHATCLUSTER_ENCRYPTION_KEYS``. Raises ``ConfigError``, which repeats none of them."""
        return cls([_key(word.strip(), number) for number, word in enumerate(text.split(","), 1) if text.strip()])

    def require_keys(self) -> None:
        """Raises ``NoEncryptionKeys`` if there are none."""
        self._first()

    @property
    def head(self) -> bytes:
        """What begins each value that the first key has sealed. Raises ``NoEncryptionKeys``."""
        return self._first()[0]

    def seal(self, secret: bytes, place: str) -> bytes:
        """``secret``, to be stored at ``place``. Raises ``NoEncryptionKeys``."""
        head, cipher = self._first()
        nonce = os.urandom(NONCE_BYTES)
        return head + nonce + cipher.encrypt(nonce, secret, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """What was sealed for ``place``. Raises ``SecretUnreadable``."""
        from cryptography.exceptions import InvalidTag

        nonce, rest = sealed[HEAD_BYTES : HEAD_BYTES + NONCE_BYTES], sealed[HEAD_BYTES + NONCE_BYTES :]
        for head, cipher in self._ciphers:
            if sealed.startswith(head):
                try:
                    return cipher.decrypt(nonce, rest, place.encode())
                except (InvalidTag, ValueError):
                    continue
        raise SecretUnreadable(
            f"the secret at {place} cannot be decrypted: CHATCLUSTER_ENCRYPTION_KEYS lacks its key, or it was changed"
        )

    def resealed(self, sealed: bytes, place: str) -> bytes:
        """The secret, sealed under the first key. Raises ``SecretUnreadable`` and ``NoEncryptionKeys``."""
        return self.seal(self.open(sealed, place), place)

    def _first(self) -> tuple[bytes, AESGCM]:
        if not self._ciphers:
            raise NoEncryptionKeys(
                "secrets cannot be stored: set CHATCLUSTER_ENCRYPTION_KEYS on every replica "
                "(`chatcluster secrets new-key` makes a key)"
            )
        return self._ciphers[0]


def place_of(table: str, column: str, *row: object) -> str:
    """What a sealed value in this row and column is bound to."""
    return "/".join((f"{table}.{column}", *map(str, row)))


def new_key() -> str:
    """A key as it stands in ``CHATCLUSTER_ENCRYPTION_KEYS``."""
    return b64encode(os.urandom(KEY_BYTES)).decode()


def last_four(secret: str) -> str:
    """As much of a secret as may be shown."""
    return secret[-SHOWN_CHARS:] if len(secret) >= SHOWN_FROM_CHARS else ""


def _key(word: str, number: int) -> bytes:
    try:
        key = b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"encryption-keys: key {number} is not {KEY_BYTES} bytes in base64; `chatcluster secrets new-key` makes one"
        )
    return key
