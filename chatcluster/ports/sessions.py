"""Sessions of browsers: what a cookie stands for, and the codes that open one."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from chatcluster.ports.accounts import Account

CODE_SECONDS = 600.0
"""How long a code may wait to be used."""
SESSIONS_MAX = 100
"""Sessions, and codes, of one token. The oldest ones make room."""


class Sessions(Protocol):
    """A session belongs to the token that it was opened with, and ends with it: revoked, expired, deleted. It ends by
    itself at its absolute time, and when it was not used for the settings' idle time; when it was last used is known to
    a minute. What has ended does not exist for anybody here. Secrets and codes are known by their SHA-256 alone."""

    async def authenticate(self, secret_digest: bytes) -> Account | None:
        """The account of a session that there is, with the times at which it will end."""
        ...

    async def open(self, secret_digest: bytes, *, token_id: str) -> Account | None:
        """A new session of a token; None if that is not valid (any more)."""
        ...

    async def redeem(self, code_digest: bytes, secret_digest: bytes) -> Account | None:
        """A new session for a code, which is used up with it, also if many come with it at once. None if there is no
        such code (any more), it has expired, or its token is not valid any more."""
        ...

    async def close(self, secret_digest: bytes) -> bool:
        """Whether there was such a session; there is none now."""
        ...

    async def add_code(self, code_digest: bytes, *, token_id: str) -> datetime | None:
        """A code that opens one session of the token, until the time that is returned. None if the token is not valid
        (any more)."""
        ...
