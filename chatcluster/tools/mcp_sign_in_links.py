"""Links to sign-ins, for browsers, which cannot send a token of the API: as a notice in a chat shows them.

A link says for whom a sign-in begins, and where. It is sealed, and so is nobody's to make but the cluster's; it works
once and within ``TICKET_SECONDS``, on whatever replica. That it was used is a row among the logins.
"""

from __future__ import annotations

import hashlib
import time
from uuid import UUID

import msgspec

from chatcluster.errors import SecretUnreadable
from chatcluster.mcp_errors import LoginNotFound
from chatcluster.parts import UNDECODABLE
from chatcluster.ports import Grant, Login, McpServer, McpServers
from chatcluster.secrets import Keyring, place_of

TICKET_SECONDS = 3600.0
TICKET_PLACE = "mcp sign-in ticket"


class Ticket(msgspec.Struct, frozen=True):
    """What a link has in it."""

    server_id: UUID
    user_id: UUID
    expires_at: float


class SignInLinks:
    def __init__(self, servers: McpServers, keyring: Keyring, *, browsers_url: str) -> None:
        self._servers = servers
        self._keyring = keyring
        self._browsers_url = browsers_url

    def link(self, server: McpServer, user_id: UUID) -> str:
        """A link to open in a browser. Raises ``NoEncryptionKeys``."""
        ticket = Ticket(server.id, user_id, time.time() + TICKET_SECONDS)
        sealed = self._keyring.seal(msgspec.json.encode(ticket), TICKET_PLACE)
        return f"{self._browsers_url}/oauth/mcp/sign-in/{sealed.hex()}"

    async def use(self, text: str, ticket: Ticket) -> None:
        """Raises ``LoginNotFound`` if it was used before. Until it is too old, a row among the logins says so."""
        digest = hashlib.blake2b(bytes.fromhex(text), digest_size=32).digest()  # that no state has
        sealed = self._keyring.seal(b"", login_place(digest))
        used = Login(state_digest=digest, server_id=ticket.server_id, user_id=ticket.user_id, sealed=sealed)
        if not await self._servers.begin_login(used, seconds=2 * TICKET_SECONDS):
            raise LoginNotFound("this link to a sign-in was used already: ask for another one")

    def ticket(self, text: str) -> Ticket:
        """Raises ``LoginNotFound``."""
        try:
            sealed = bytes.fromhex(text)
            ticket = msgspec.json.decode(self._keyring.open(sealed, TICKET_PLACE), type=Ticket)
        except (ValueError, SecretUnreadable, *UNDECODABLE):
            raise LoginNotFound("this is no link to a sign-in") from None
        if ticket.expires_at < time.time():
            raise LoginNotFound("this link to a sign-in is too old: ask for another one")
        return ticket


def digest_of(state: str) -> bytes:
    """What a login is known by: its state itself is nowhere kept."""
    return hashlib.sha256(state.encode("utf-8", "replace")).digest()


def login_place(state_digest: bytes) -> str:
    """Where what a login holds is sealed for."""
    return place_of("mcp_logins", "sealed", state_digest.hex())


def grant_place(grant: Grant) -> str:
    """Where the tokens of a grant are sealed for."""
    return place_of("mcp_grants", "sealed", grant.server_id, grant.user_id)
