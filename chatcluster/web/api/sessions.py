"""Routes of sessions: sign in with a token or a code, who am I, sign out; and the codes that sign in once.

To sign in and out one need not be signed in, so these two are open to everybody. A token or code that is not valid
counts against its address, like any other.
"""

from __future__ import annotations

from litestar import Response, delete, get, post
from litestar.params import JSONBody
from msgspec import UNSET

from chatcluster import tokens
from chatcluster.errors import Forbidden, InvalidRequest, Unauthenticated
from chatcluster.ports import TOKENS_CHANNEL, Account
from chatcluster.web.api.answers import REFUSALS, CodeAnswer, SessionAnswer
from chatcluster.web.api.bodies import SignIn
from chatcluster.web.auth import OPEN, SCOPE, address_in
from chatcluster.web.request import ApiRequest
from chatcluster.web.sessions import Site, cookie, refuse_other_pages, require_own_page, set_cookie, site_of

BODY_BYTES_MAX = 4096
"""The longest body of somebody who is not known yet."""
FRAGMENT = "/#code="
"""What comes after the ``#`` of an address is sent to no server and stands in no log."""


@post("/session", responses=REFUSALS, security=[{}], opt={OPEN: True}, request_max_body_size=BODY_BYTES_MAX)
async def sign_in(request: ApiRequest, data: JSONBody[SignIn]) -> Response[SessionAnswer]:
    """Open a session: the answer sets a cookie that does what the token does, until it is ended, has expired, or the
    token is not valid any more. Give a `token`, or a `code` that `chatcluster link` printed, which works once."""
    settings = request.services.settings
    site = site_of(request.scope, settings.browsers.public_url)
    refuse_other_pages(request.scope, site, settings.browsers.public_url)
    secret = tokens.generate_secret()
    account = await _opened(request, data, secret.digest)
    before = cookie(request.scope, site)
    if before is not None:
        await _close(request, before, address=None)  # the token was good: no guess
    seconds = int(settings.browsers.session_hours_max * 3600)  # the row decides, by the database's clock
    headers = {"Set-Cookie": set_cookie(site, secret.plaintext, seconds=seconds)}
    return Response(_answer(account), status_code=201, headers=headers)


async def _opened(request: ApiRequest, data: SignIn, digest: bytes) -> Account:
    authenticator, address = request.authenticator, address_in(request.scope)
    if data.code is not UNSET and data.token is UNSET:
        return await authenticator.redeem(tokens.secret_digest(data.code), digest, address=address)
    if data.token is UNSET or data.code is not UNSET:
        raise InvalidRequest("give either a token or a code")
    token = tokens.parse(data.token)
    account = await authenticator.authenticate(token, address=address)
    async with request.shares.share(account.user_id):
        opened = (
            None if token is None else await request.services.browsers.sessions.open(digest, token_id=token.token_id)
        )
    if opened is None:
        raise Unauthenticated("the token is not valid (any more)")
    return opened


@delete("/session", responses=REFUSALS, security=[{}], opt={OPEN: True})
async def sign_out(request: ApiRequest) -> Response[None]:
    """End the cookie's session, on every replica; its event streams break off. Without one there is nothing to end."""
    settings = request.services.settings
    site = site_of(request.scope, settings.browsers.public_url)
    key = cookie(request.scope, site)
    if key is not None:
        require_own_page(request.scope, site, settings.browsers.public_url)
        await _close(request, key, address=address_in(request.scope))
    return Response(None, status_code=204, headers={"Set-Cookie": _taken_away(site)})


async def _close(request: ApiRequest, key: tokens.SessionKey, *, address: str | None) -> None:
    if await request.authenticator.close(key, address=address):
        request.services.pubsub.publish(TOKENS_CHANNEL, b"session")


def _taken_away(site: Site) -> str:
    return set_cookie(site, "", seconds=0)


@get("/session", responses=REFUSALS, opt={SCOPE: None})
async def get_session(request: ApiRequest) -> SessionAnswer:
    """Who is signed in, by a cookie (`session`) or a token, and until when."""
    return _answer(request.user)


@post("/session/codes", responses=REFUSALS)
async def create_code(request: ApiRequest) -> CodeAnswer:
    """A code with which a browser signs in as the caller: once, within ten minutes. `path` is the page with it.

    For callers with a token: a session cannot make more of itself."""
    if not isinstance(request.auth, tokens.ParsedToken):
        raise Forbidden("this needs a token; a session makes no codes")
    code = tokens.generate_secret()
    expires_at = await request.services.browsers.sessions.add_code(code.digest, token_id=request.auth.token_id)
    if expires_at is None:
        raise Unauthenticated("the token is not valid (any more)")
    return CodeAnswer(code.plaintext, expires_at, FRAGMENT + code.plaintext)


def _answer(account: Account) -> SessionAnswer:
    kind = "token" if account.idle_expires_at is None else "session"
    return SessionAnswer(
        account.user_id, account.name, account.admin, kind, account.expires_at, account.idle_expires_at, account.scopes
    )


ROUTES = [sign_in, sign_out, get_session, create_code]
