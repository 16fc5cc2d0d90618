"""What a session with a server is opened with: nothing, the secrets of its row, or tokens.

* **Secrets** (bearer, API key, headers) are decrypted when a session is made, and kept nowhere.
* **Client credentials:** the cluster's own token is in this replica's memory until ``SKEW_SECONDS`` before it ends.
* **OAuth per user:** the grant is read from the database for each session. It is refreshed ``SKEW_SECONDS`` before it
  ends, or when the server refuses it, by one replica: whoever has the claim on the row; the others use the old token
  to its end, and wait then for what that one gets. So a login survives an authorization server that is away for a
  moment. A refresh that has begun is not cancelled: its old token may be used up.

What happens on failure: a server that refuses is asked once more with fresh tokens; then ``SignInNeeded``, if a user
can do something about it, else ``McpFailed``. A grant that the authorization server does not accept is marked refused.
"""

from __future__ import annotations

import secrets as random_secrets
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

import msgspec
import trio
from msgspec.structs import replace

from chatcluster import telemetry
from chatcluster.errors import SecretUnreadable
from chatcluster.mcp_errors import LoginNotFound, SignInFailed, SignInOfAnother
from chatcluster.parts import UNDECODABLE
from chatcluster.ports import (
    ApiKeyAuth,
    BearerAuth,
    ClientCredentialsAuth,
    Grant,
    HeadersAuth,
    Login,
    McpServer,
    McpServers,
    OAuthAuth,
)
from chatcluster.secrets import Keyring, place_of
from chatcluster.tools import mcp_discovery, mcp_oauth
from chatcluster.tools.mcp_clients import OAuthClients
from chatcluster.tools.mcp_link import LinkSession, McpFailed, McpLink
from chatcluster.tools.mcp_oauth import OAuthClient, Refused, SignIn, TokenAnswer, Tokens
from chatcluster.tools.mcp_sign_in_links import SignInLinks, digest_of, grant_place, login_place
from chatcluster.tools.mcp_wire import Fetched, Trouble

SKEW_SECONDS = 10.0
REFRESH_SECONDS = 15.0
"""A refresh takes no longer: whoever has the claim is dead, or gave up."""
REFRESH_POLL_SECONDS = 0.1
LOGIN_SECONDS = 600.0
DISCOVERY_SECONDS = 20.0
"""Several requests, of which each has its own bound."""
STATE_BYTES = 32


class SignInNeeded(McpFailed):
    """The user has to sign in at the server, for the first time or again."""

    def __init__(self) -> None:
        super().__init__(Trouble.UNAUTHORIZED, "sign in first")


class _Presented(NamedTuple):
    """Headers, and the revision of the grant that they come from."""

    headers: dict[str, str]
    revision: int = 0


class Credentials:
    def __init__(self, servers: McpServers, keyring: Keyring, link: McpLink, *, browsers_url: str) -> None:
        self._servers = servers
        self._keyring = keyring
        self._link = link
        self.links = SignInLinks(servers, keyring, browsers_url=browsers_url)
        self.clients = OAuthClients(servers, self._link_fetch, browsers_url=browsers_url)
        self._own_tokens: dict[tuple[UUID, int], tuple[str, float]] = {}

    # sessions

    async def session(
        self, server: McpServer, user_id: UUID, *, changed: Callable[[], None] | None = None
    ) -> LinkSession:
        """A session as this user. Raises ``McpFailed``, ``SignInNeeded`` among them."""
        presented = await self._presented(server, user_id)
        try:
            return await self._open(server, presented, changed)
        except McpFailed as failure:
            if failure.trouble is not Trouble.UNAUTHORIZED:
                raise
            if not await self.renew(server, user_id, presented.revision, failure.challenge):
                raise
        try:
            return await self._open(server, await self._presented(server, user_id), changed)
        except McpFailed as failure:
            if failure.trouble is Trouble.UNAUTHORIZED and server.per_user:
                await self.refuse(server, user_id, failure.challenge)
            raise

    async def _open(self, server: McpServer, presented: _Presented, changed: Callable[[], None] | None) -> LinkSession:
        settings = server.settings
        return await self._link.open(settings.url, settings.transport, presented.headers, changed=changed)

    async def renew(self, server: McpServer, user_id: UUID, refused_revision: int, challenge: str) -> bool:
        """Get fresh tokens in the place of those that the server refused, as ``challenge`` says; False if that is no
        use. Where it asks for a wider scope, only the user can give it; a user who was asked for it is not asked again.

        ``refused_revision`` 0: whichever there are. Raises ``McpFailed``.
        """
        match server.settings.auth:
            case ClientCredentialsAuth():
                return self._own_tokens.pop((server.id, server.revision), None) is not None
            case OAuthAuth() if wider := mcp_discovery.wider_scope(challenge):
                if await self._widen(server, user_id, wider):
                    raise SignInNeeded
                return True  # the session may be older than the login
            case OAuthAuth():
                await self._fresh_grant(server, user_id, refused_revision)
                return True
            case _:
                return False

    async def refuse(self, server: McpServer, user_id: UUID, challenge: str) -> None:
        """The login is no good any more: raises ``SignInNeeded``, unless it is good for less than was asked for."""
        if mcp_discovery.wider_scope(challenge):
            return
        grant = await self._servers.grant(server.id, user_id)
        if grant is not None and not grant.refused:
            await self._servers.refuse_grant(grant)
        raise SignInNeeded

    async def _widen(self, server: McpServer, user_id: UUID, scope: str) -> bool:
        """Have the user asked for this scope as well: the login that there is will not do. False: it was asked for, so
        that to ask again would never end."""
        grant = await self._servers.grant(server.id, user_id)
        if grant is None or grant.refused:
            return True
        tokens = self._tokens(grant)
        if set(scope.split()) <= set(tokens.scope.split()):
            return False
        wanted = replace(tokens, wanted=mcp_discovery.both_scopes(tokens.wanted, scope))
        sealed = self._keyring.seal(msgspec.json.encode(wanted), grant_place(grant))
        if await self._servers.keep_grant(replace(grant, sealed=sealed)):
            await self._servers.refuse_grant(replace(grant, revision=grant.revision + 1))
        return True

    async def _wanted_scope(self, server: McpServer, user_id: UUID) -> str:
        """The scope that the last login had, with what was asked for since."""
        grant = await self._servers.grant(server.id, user_id)
        if grant is None:
            return ""
        try:
            tokens = self._tokens(grant)
            return mcp_discovery.both_scopes(tokens.scope, tokens.wanted)
        except McpFailed:
            return ""  # it cannot be read: the new login starts afresh

    async def _presented(self, server: McpServer, user_id: UUID) -> _Presented:
        match server.settings.auth:
            case BearerAuth():
                return _Presented(mcp_oauth.bearer(self.secrets_of(server).get("token", "")))
            case ApiKeyAuth(header=header):
                return _Presented({header: self.secrets_of(server).get("value", "")})
            case HeadersAuth(names=names):
                values = self.secrets_of(server)
                return _Presented({name: values.get(name, "") for name in names})
            case ClientCredentialsAuth() as auth:
                return _Presented(mcp_oauth.bearer(await self._own_token(server, auth)))
            case OAuthAuth():
                grant = await self._fresh_grant(server, user_id, None)
                tokens = self._tokens(grant)
                if not mcp_oauth.is_given_for(tokens, server.settings.url):
                    await self._end_if_moved(grant, tokens)
                    raise SignInNeeded
                return _Presented(mcp_oauth.bearer(tokens.access_token), grant.revision)
            case _:
                return _Presented({})

    async def _end_if_moved(self, grant: Grant, tokens: Tokens) -> None:
        """End a login for another host than the server's: one that was kept while the server got its URL. A turn may
        still know the URL of before, so the row is asked."""
        for server in await self._servers.servers():
            if server.id == grant.server_id and not mcp_oauth.is_given_for(tokens, server.settings.url):
                await self._servers.refuse_grant(grant)

    def secrets_of(self, server: McpServer) -> dict[str, str]:
        """Raises ``McpFailed`` for what no key opens, and for what another version keeps there."""
        if server.sealed is None:
            return {}
        sealed = self._unseal(server.sealed, place_of("mcp_servers", "sealed", server.id))
        try:
            return msgspec.json.decode(sealed, type=dict[str, str])
        except UNDECODABLE:
            raise McpFailed(Trouble.UNAUTHORIZED, "its stored secret is of another version; set it anew") from None

    def _unseal(self, sealed: bytes, place: str) -> bytes:
        try:
            return self._keyring.open(sealed, place)
        except SecretUnreadable as error:
            telemetry.event("mcp.secret_unreadable", error=error.message)
            text = "its stored secret cannot be decrypted; an administrator must set it anew"
            raise McpFailed(Trouble.UNAUTHORIZED, text) from None

    async def _own_token(self, server: McpServer, auth: ClientCredentialsAuth) -> str:
        key = (server.id, server.revision)
        token, until = self._own_tokens.get(key, ("", 0.0))
        if until > trio.current_time():
            return token
        endpoints = await mcp_discovery.discover(self._link_fetch, server.settings.url, auth)
        client = await self.clients.client(server, self.secrets_of(server), endpoints)
        answer = await mcp_oauth.client_token(self._link_fetch, endpoints, client)
        if not auth.issuer:
            await self.clients.was_of_use(server.id, auth.client_id, endpoints.issuer)
        seconds = answer.expires_in if answer.expires_in is not None else LOGIN_SECONDS
        self._own_tokens = {k: v for k, v in self._own_tokens.items() if k[0] != server.id}
        self._own_tokens[key] = (answer.access_token, trio.current_time() + seconds - SKEW_SECONDS)
        return answer.access_token

    async def _link_fetch(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Fetched:
        await self._link.started()
        return await self._link.fetch(method, url, headers, body)

    # grants

    async def _fresh_grant(self, server: McpServer, user_id: UUID, refused_revision: int | None) -> Grant:
        """A grant that is good for a while, of another revision than the one that was refused (0: any)."""
        await self._link.started()  # else that would be waited for with a claim, which another replica takes over
        with trio.move_on_after(REFRESH_SECONDS):
            while True:
                grant = await self._servers.grant(server.id, user_id)
                if grant is None or grant.refused:
                    raise SignInNeeded
                is_old = grant.seconds_left is not None and grant.seconds_left < SKEW_SECONDS
                if not is_old and grant.revision != refused_revision and refused_revision != 0:
                    return grant
                is_good = refused_revision is None and (grant.seconds_left or 0.0) > 0
                if await self._servers.claim_refresh(grant, seconds=REFRESH_SECONDS):
                    return await (self._refresh_or_keep(grant) if is_good else self._refresh(grant))
                if is_good:
                    return grant
                refused_revision = grant.revision if refused_revision == 0 else refused_revision
                await trio.sleep(REFRESH_POLL_SECONDS)
        raise McpFailed(Trouble.TIMEOUT, "another replica refreshes the login, and takes too long")

    async def _refresh_or_keep(self, grant: Grant) -> Grant:
        """The grant itself where it cannot be refreshed now: it is good for some seconds still."""
        try:
            return await self._refresh(grant)
        except McpFailed as failure:
            if isinstance(failure, SignInNeeded):
                raise
            telemetry.event("mcp.refresh_failed", error=failure.message)
            return grant

    async def _refresh(self, grant: Grant) -> Grant:
        tokens = self._tokens(grant)
        with trio.CancelScope(shield=True):  # bounded by the request; a token that is used up must not get lost
            try:
                if not tokens.refresh_token:
                    raise Refused(Trouble.UNAUTHORIZED, "there is no refresh token")
                answer = await mcp_oauth.refresh(self._link_fetch, tokens)
            except Refused as refusal:
                telemetry.event("mcp.login_refused", error=refusal.message)
                await self._servers.refuse_grant(grant)
                raise SignInNeeded from None
            refresh_token = answer.refresh_token or tokens.refresh_token
            renewed = replace(tokens, access_token=answer.access_token, refresh_token=refresh_token)
            fresh = self._sealed_grant(grant, renewed, answer)
            if not await self._servers.keep_grant(fresh):
                raise SignInNeeded  # the user signed out meanwhile, or the server is gone
        return replace(fresh, revision=grant.revision + 1)

    def _tokens(self, grant: Grant) -> Tokens:
        try:
            return msgspec.json.decode(self._unseal(grant.sealed, grant_place(grant)), type=Tokens)
        except UNDECODABLE:
            raise SignInNeeded from None  # of another version, perhaps: a new login is one that we can read

    def _sealed_grant(self, grant: Grant, tokens: Tokens, answer: TokenAnswer) -> Grant:
        sealed = self._keyring.seal(msgspec.json.encode(tokens), grant_place(grant))
        return replace(grant, sealed=sealed, seconds_left=answer.expires_in)

    # signing in

    async def begin_sign_in(self, server: McpServer, user_id: UUID) -> str:
        """The address that the user's browser has to go to. Raises ``SignInFailed``, and ``NoEncryptionKeys``."""
        auth = server.settings.auth
        if not isinstance(auth, OAuthAuth):
            raise SignInFailed("nobody signs in at this server: it has another kind of authentication")
        self._keyring.require_keys()
        try:
            endpoints, client = await self._way_to_sign_in(server, user_id, auth)
        except McpFailed as failure:
            raise SignInFailed(f"{server.slug} cannot be signed in at: {failure.message}") from None
        sign_in = SignIn(
            verifier=random_secrets.token_urlsafe(48),
            redirect_uri=self.clients.redirect_uri,
            issuer=endpoints.issuer,
            token_url=endpoints.token_url,
            client=client,
            resource=endpoints.resource,
            scope=endpoints.scope,
            names_itself=endpoints.names_itself,
        )
        state = random_secrets.token_urlsafe(STATE_BYTES)
        digest = digest_of(state)
        await self._servers.begin_login(
            Login(
                state_digest=digest,
                server_id=server.id,
                user_id=user_id,
                sealed=self._keyring.seal(msgspec.json.encode(sign_in), login_place(digest)),
            ),
            seconds=LOGIN_SECONDS,
        )
        return mcp_oauth.authorization_url(endpoints, sign_in, state)

    async def _way_to_sign_in(
        self, server: McpServer, user_id: UUID, auth: OAuthAuth
    ) -> tuple[mcp_discovery.Endpoints, OAuthClient]:
        await self._link.started()
        with trio.move_on_after(DISCOVERY_SECONDS):
            endpoints = await mcp_discovery.discover(self._link_fetch, server.settings.url, auth)
            scope = mcp_discovery.both_scopes(endpoints.scope, await self._wanted_scope(server, user_id))
            endpoints = replace(endpoints, scope=scope)
            return endpoints, await self.clients.client(server, self.secrets_of(server), endpoints)
        raise McpFailed(Trouble.TIMEOUT, f"it was not found out within {DISCOVERY_SECONDS:g} s how to sign in")

    async def finish_sign_in(self, state: str, code: str, issuer: str | None, visitor: UUID | None = None) -> Login:
        """The user came back with a code. Raises ``LoginNotFound``, ``SignInFailed`` and ``SignInOfAnother``."""
        login = await self._servers.take_login(digest_of(state))
        if login is None:
            raise LoginNotFound("this sign-in is over, or was never begun: begin it again")
        if visitor not in (None, login.user_id):
            raise SignInOfAnother
        try:
            sign_in = self._sign_in_of(login)
            mcp_oauth.check_issuer(sign_in, issuer)
            answer = await mcp_oauth.exchange(self._link_fetch, sign_in, code)
        except McpFailed as failure:
            raise SignInFailed(f"signing in failed: {failure.message}") from None
        tokens = Tokens(
            access_token=answer.access_token,
            refresh_token=answer.refresh_token or "",
            token_url=sign_in.token_url,
            client=sign_in.client,
            resource=sign_in.resource,
            scope=sign_in.scope,
        )
        grant = Grant(server_id=login.server_id, user_id=login.user_id, sealed=b"")
        if not await self._servers.keep_grant(self._sealed_grant(grant, tokens, answer)):
            raise SignInFailed("the server of tools is gone")
        await self.clients.was_of_use(login.server_id, sign_in.client.client_id, sign_in.issuer)
        return login

    async def drop_sign_in(self, state: str, issuer: str | None) -> bool:
        """The user came back without a code. Whether what else was brought back is the authorization server's word."""
        login = await self._servers.take_login(digest_of(state))
        try:
            if login is not None:
                mcp_oauth.check_issuer(self._sign_in_of(login), issuer)
        except McpFailed:
            return False
        return login is not None

    def _sign_in_of(self, login: Login) -> SignIn:
        sealed = self._unseal(login.sealed, login_place(login.state_digest))
        try:
            return msgspec.json.decode(sealed, type=SignIn)
        except UNDECODABLE:
            raise McpFailed(Trouble.GARBAGE, "it was begun by another version of chatcluster: begin it again") from None
