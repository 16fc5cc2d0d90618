"""The link with which `chatcluster up` lets a browser in."""

from __future__ import annotations

from chatcluster import tokens
from chatcluster.config import Settings
from chatcluster.postgres import open_database
from chatcluster.postgres.sessions import PostgresSessions


async def sign_in_path(settings: Settings, token: str) -> str | None:
    """The page's address, from its ``/`` on, with a code that signs a browser in as the token's user, once. None if the
    token is not valid (any more)."""
    parsed = tokens.parse(token)
    code = tokens.generate_secret()
    async with open_database(settings) as database:
        sessions = PostgresSessions(database)
        if parsed is None or await sessions.add_code(code.digest, token_id=parsed.token_id) is None:
            return None
    return f"/#code={code.plaintext}"
