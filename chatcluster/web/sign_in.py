"""Routes for browsers on their way to an authorization server and back. They have no token of the API.

``/oauth/mcp/sign-in/{ticket}`` is the link that a chat shows: the sealed ticket says who signs in where, and the
browser is sent on, once. ``/oauth/mcp/callback`` is where the authorization server sends it back to: the state, which
works once and for ten minutes, says who began this, on whatever replica. A state that nobody knows counts against its
address like a token: each costs a look-up. What the pages say is text, and escaped.

A person who goes on with the sign-in of another user gives that user a grant of their own. So a browser in which
another user is signed in on the page goes no further, with the link or with the answer. Of a browser in which nobody is
signed in it is not known whose it is.

``/oauth/mcp/client`` is read by authorization servers that know clients by a document of theirs.
"""

from __future__ import annotations

import html
from typing import Any
from uuid import UUID

from litestar import MediaType, Response, get
from litestar.params import FromPath

from chatcluster.errors import InvalidRequest, InvalidSession
from chatcluster.mcp_errors import LoginNotFound
from chatcluster.web.auth import address_in
from chatcluster.web.request import ApiRequest
from chatcluster.web.sessions import cookie, site_of

QUERY_CHARS_MAX = 4096
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 1.1em/1.5 sans-serif; max-width: 36em; margin: 4em auto; padding: 0 1em }}</style>
<h1>{title}</h1><p>{text}</p></html>
"""


@get("/oauth/mcp/sign-in/{ticket:str}", include_in_schema=False)
async def begin(request: ApiRequest, ticket: FromPath[str]) -> Response[str]:
    """Send the browser to the authorization server."""
    url = await request.services.mcp.client.begin_sign_in_by_link(ticket, visitor=await _visitor(request))
    return Response("", status_code=302, headers={**HEADERS, "Location": url}, media_type=MediaType.TEXT)


@get("/oauth/mcp/callback", include_in_schema=False)
async def finish(request: ApiRequest) -> Response[str]:
    """The browser is back."""
    state, code, issuer, error = map(request.query_params.get, ("state", "code", "iss", "error"))
    if not state or any(len(text) > QUERY_CHARS_MAX for text in request.query_params.values()):
        raise InvalidRequest("state is missing, or something is too long: begin to sign in again")
    authenticator, address = request.authenticator, address_in(request.scope)
    authenticator.require_trust(address)
    if error or not code:
        authenticator.distrust(address)
        is_its_word = await request.services.mcp.client.drop_sign_in(state, issuer)
        said = f"The server of the tools says: {error or 'no code'}." if is_its_word else "There is no code."
        return _page(400, "Not signed in", f"{said} You may try again.")
    visitor = await _visitor(request)
    try:
        slug, user_id = await request.services.mcp.client.finish_sign_in(state, code, issuer, visitor=visitor)
    except LoginNotFound:
        authenticator.distrust(address)
        raise
    await request.services.mcp.sign_ins.let_in(user_id)
    return _page(200, "Signed in", f"You are signed in at {slug}. You can close this page and go back to your chat.")


async def _visitor(request: ApiRequest) -> UUID | None:
    """Who is signed in on the page in this browser, if anybody is."""
    key = cookie(request.scope, site_of(request.scope, request.services.settings.browsers.public_url))
    if key is None:
        return None
    try:
        return (await request.authenticator.authenticate(key, address=address_in(request.scope))).user_id
    except InvalidSession:
        return None


@get("/oauth/mcp/client", include_in_schema=False)
async def client_document(request: ApiRequest) -> Response[dict[str, Any]]:
    """What the cluster is, as a client of authorization servers."""
    return Response(request.services.mcp.client.client_document(), headers={"Cache-Control": "max-age=300"})


def _page(status: int, title: str, text: str) -> Response[str]:
    page = _PAGE.format(title=html.escape(title), text=html.escape(text))
    return Response(page, status_code=status, headers=HEADERS, media_type=MediaType.HTML)


ROUTES = [begin, finish, client_document]
