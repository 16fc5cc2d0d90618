"""Who is asking: bearer tokens and the cookies of sessions, checked against the database once in five seconds each.

The database is authoritative. A token that it accepted stands in a small cache for ``CACHE_SECONDS``, so that
the hot path costs no transaction. A revocation is announced on ``TOKENS_CHANNEL``: every replica then forgets
its whole cache, and open event streams ask again. Where the announcement is lost, the cache's age bounds how
long a revoked token still opens a door; a ``GAP`` in the channel counts as an announcement. Open event streams
ask once in a while besides.

A token that expires is refused at once: it leaves the cache then, and open streams ask again. A token may have scopes:
which one it needs is an option of each router (``SCOPE``).

Only accepted tokens are cached: a wrong one cannot push a right one out, and a checksum keeps most nonsense
away from the database. Tokens that are well formed and wrong cost a look-up each; an address has a rate of those
(``auth_failures_per_second``), and over it is refused (``TooMany``) with any token that was not accepted here before.
So users go on whose requests come through the same proxy as somebody's guesses.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import trio
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Middleware, Receive, Scope, Send

from chatcluster import tokens
from chatcluster.config import Settings
from chatcluster.errors import (
    Forbidden,
    InvalidCode,
    InvalidSession,
    OutOfScope,
    StoreUnavailable,
    TooMany,
    Unauthenticated,
)
from chatcluster.ports import TOKENS_CHANNEL, Account, Accounts, PubSub, Sessions, TokenScope
from chatcluster.web.http.connections import counted_address
from chatcluster.web.http.exchange import BY_ANYBODY
from chatcluster.web.sessions import READING, cookie, require_own_page, site_of
from chatcluster.web.shares import Buckets, Shares

OPEN = "open"
"""An option of routes that let in, and so are for everybody."""
SCOPE = "scope"
"""An option of routers and routes: what a token has to have for them; None: nothing besides being valid."""
CACHE_SECONDS = 5.0
CACHE_TOKENS_MAX = 10_000
LOOK_UPS_MAX = 4
"""So many look-ups at a time: after a revocation all open streams ask at once, and commits need connections too."""
LOOK_UP_WAIT_SECONDS_MAX = 10.0
FAILURES_BURST_SECONDS = 10.0
FAILURES_RETRY_SECONDS = 5


class _Accepted(NamedTuple):
    """A token that the database accepted: it need not be asked ``until`` then, and by itself it ``ends_at`` then."""

    account: Account
    until: float
    ends_at: float


class Authenticator:
    """Of tokens and sessions. ``revocations`` grows with every announcement, so an event stream that compares it knows
    when to ask again."""

    def __init__(
        self, accounts: Accounts, pubsub: PubSub, settings: Settings, *, sessions: Sessions | None = None
    ) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._pubsub = pubsub
        rate = settings.http.auth_failures_per_second
        self._failures = Buckets(per_second=rate, burst=FAILURES_BURST_SECONDS * rate)
        self._cache: OrderedDict[bytes, _Accepted] = OrderedDict()
        self._places = trio.Semaphore(LOOK_UPS_MAX)
        self.revocations = 0

    async def run(self) -> None:
        """Forget the cache whenever a token is revoked, on whatever replica. Runs until cancelled."""
        async with self._pubsub.subscribe(TOKENS_CHANNEL) as announcements:
            while True:
                self._forget()
                await announcements.receive()

    async def authenticate(self, token: tokens.Credential | None, *, address: str | None = None) -> Account:
        """The account of a token, or of a session. Raises ``Unauthenticated``, in the same words whatever is wrong, and
        ``TooMany``."""
        account = None if token is None else self._remembered(token) or await self._admitted(token, address)
        if account is None and isinstance(token, tokens.SessionKey):
            raise InvalidSession("the session has ended; sign in again")
        if account is None:
            raise Unauthenticated("the token is not valid (any more)")
        return account

    async def redeem(self, code_digest: bytes | None, secret_digest: bytes, *, address: str | None) -> Account:
        """Open a session with a code, which is used up. Raises ``InvalidCode``, and ``TooMany``."""
        self.require_trust(address)
        account = None
        if code_digest is not None and self._sessions is not None:
            await self._take_place()
            try:
                account = await self._sessions.redeem(code_digest, secret_digest)
            finally:
                self._places.release()
        if account is None:
            self.distrust(address)
            raise InvalidCode("the code was used, has expired, or is none; `chatcluster link` makes a new one")
        return account

    async def close(self, key: tokens.SessionKey, *, address: str | None) -> bool:
        """End a session; whether there was one. It is a look-up like any other. Raises ``TooMany``."""
        if self._sessions is None:
            return False
        counted = None if key.digest in self._cache else address
        self.require_trust(counted)
        await self._take_place()
        try:
            was_open = await self._sessions.close(key.digest)
        finally:
            self._places.release()
        if not was_open:
            self.distrust(counted)
        return was_open

    def require_trust(self, address: str | None) -> None:
        """Raises ``TooMany`` where too much that nobody knows has come from there."""
        if address is not None and self._failures.is_empty(address):
            raise TooMany("too many tokens from this address are not valid", retry_after_seconds=FAILURES_RETRY_SECONDS)

    def distrust(self, address: str | None) -> None:
        """It sent what nobody knows. Raises ``TooMany``."""
        if address is not None:
            self._failures.take(address)

    def _remembered(self, token: tokens.Credential) -> Account | None:
        cached = self._cache.get(token.digest)
        return cached.account if cached is not None and cached.until > trio.current_time() else None

    async def _admitted(self, token: tokens.Credential, address: str | None) -> Account | None:
        """The account of a token that has to be looked up, where its address may have that."""
        counted = None if token.digest in self._cache else address
        self.require_trust(counted)
        account = await self._look_up(token)
        if account is None:
            self.distrust(counted)
        return account

    async def _look_up(self, token: tokens.Credential) -> Account | None:
        await self._take_place()
        try:
            return self._remembered(token) or await self._ask_database(token)  # it was asked about while we waited
        finally:
            self._places.release()

    async def _take_place(self) -> None:
        try:
            self._places.acquire_nowait()  # unlike ``acquire`` no switch of tasks
        except trio.WouldBlock:
            await self._wait_for_place()

    async def _wait_for_place(self) -> None:
        with trio.move_on_after(LOOK_UP_WAIT_SECONDS_MAX):
            await self._places.acquire()
            return
        raise StoreUnavailable(f"the token could not be looked up within {LOOK_UP_WAIT_SECONDS_MAX:g} s")

    async def _ask_database(self, token: tokens.Credential) -> Account | None:
        revocations = self.revocations
        if isinstance(token, tokens.ParsedToken):
            account = await self._accounts.authenticate(token.token_id, token.digest)
        else:
            account = None if self._sessions is None else await self._sessions.authenticate(token.digest)
        if account is None:
            self._cache.pop(token.digest, None)
        elif revocations == self.revocations:
            self._remember(token, account)
        return account

    def seconds_left(self, token: tokens.Credential) -> float:
        """Until a token that was accepted expires, as far as that is known."""
        cached = self._cache.get(token.digest)
        return math.inf if cached is None else cached.ends_at - trio.current_time()

    def _remember(self, token: tokens.Credential, account: Account) -> None:
        now, left = trio.current_time(), account.expires_in_seconds
        ends_at = math.inf if left is None else now + left
        self._cache[token.digest] = _Accepted(account, min(now + CACHE_SECONDS, ends_at), ends_at)
        self._cache.move_to_end(token.digest)
        while len(self._cache) > CACHE_TOKENS_MAX:
            self._cache.popitem(last=False)

    def _forget(self) -> None:
        """What was accepted stays known as such, and has to be asked about."""
        for digest, accepted in self._cache.items():
            self._cache[digest] = accepted._replace(until=-math.inf)
        self.revocations += 1


Check = Callable[[Scope, BaseRouteHandler], None]
"""Raises ``CallerError`` for a request that the route does not take."""


def authentication(authenticator: Authenticator, shares: Shares, public_url: str, *checks: Check) -> Middleware:
    """Middleware that lets in requests with a valid token or session, each in its user's turn, with ``scope["user"]``.

    ``checks`` come after that, before the route. They are no guards of litestar's, which copies the route's handler for
    each of those, in each request.

    A function, because litestar copies a router's middleware deeply, and the cache must not be copied.
    """

    def middleware(app: ASGIApp) -> ASGIApp:
        async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
            handler = scope["route_handler"]
            if handler.opt.get(OPEN):
                _check(scope, handler)
                cast(Any, scope["extensions"])[BY_ANYBODY]()
                await app(scope, receive, send)
                return
            token = credential_in(scope, public_url)
            account = await authenticator.authenticate(token, address=address_in(scope))
            scope["user"], scope["auth"] = account, token
            await shares.enter(account.user_id)
            try:
                _check(scope, handler)
                await app(scope, receive, send)
            finally:
                shares.leave(account.user_id)

        return authenticated

    def _check(scope: Scope, handler: BaseRouteHandler) -> None:
        for check in checks:
            check(scope, handler)

    return middleware


def address_in(scope: Scope) -> str | None:
    """What a request's failures count for."""
    client = scope["client"]
    return None if client is None else counted_address(client[0])


def credential_in(scope: Scope, public_url: str) -> tokens.Credential | None:
    """The token of an ``Authorization: Bearer`` header, None if it is none of ours; without such a header the cookie's.

    Raises ``Unauthenticated`` if there is neither, and ``CrossOrigin`` for what a cookie may not do from elsewhere.
    """
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, text = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return tokens.parse(text.strip())
    site = site_of(scope, public_url)
    key = cookie(scope, site)
    if key is None:
        raise Unauthenticated("send a token: Authorization: Bearer ccl_…")
    if scope["type"] == ScopeType.HTTP and scope["method"] not in READING:
        require_own_page(scope, site, public_url)
    return key


async def require_admin(connection: ASGIConnection[Any, Account, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: what follows is for administrators. Asynchronous, so that litestar does not call it in a thread."""
    if not connection.user.admin:
        raise Forbidden("this is for administrators")


def require_scope_of(scope: Scope, handler: BaseRouteHandler) -> None:
    """A check: the token is good for this route. Routes for administrators have a scope of their own."""
    if handler.opt.get(OPEN):
        return
    wanted = TokenScope.ADMIN if require_admin in (handler.guards or ()) else handler.opt[SCOPE]
    if wanted is not None:
        require_scope(scope["user"], wanted)


def require_scope(account: Account, scope: TokenScope) -> None:
    """Raises ``OutOfScope``."""
    if not account.may(scope):
        has = ", ".join(account.scopes or ())
        raise OutOfScope(f"this needs a token with the scope {scope}; yours has {has}", scope=scope.value)
