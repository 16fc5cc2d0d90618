"""Sessions of browsers: the cookie, and which requests it may come with. Pure.

The cookie has a secret of 256 bits, and nothing else; the row that it stands for decides (``ports/sessions.py``). No
script sees it (HttpOnly), and other sites' pages do not send it along (SameSite=Lax). On HTTPS its name begins with
``__Host-``, so no neighbour can set it, and it travels by HTTPS alone. On plain HTTP the name has the port, as cookies
do not know ports, and two clusters on one machine would take each other's.

**HTTPS** is what a proxy says (``X-Forwarded-Proto``), or the setting ``public-url``. What a client itself says about
it concerns its own cookie alone: no page can make a browser send this header to us, and a browser takes no ``__Host-``
cookie over plain HTTP.

**Writes with a cookie** have to come from a page of ours, as the browser says it: ``Sec-Fetch-Site: same-origin``, or
where it does not say that (plain HTTP to another machine) an ``Origin`` that is the address asked for. A
request that says neither is no page's, and needs no cookie. A request to sign in has no cookie yet: it is refused if it
comes from the page of another site.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from litestar.types import Scope

from chatcluster.errors import CrossOrigin
from chatcluster.tokens import SessionKey, secret_digest

NAME = "chatcluster"
READING = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Site(NamedTuple):
    """The address at which a browser asked."""

    scheme: str
    host: str

    @property
    def is_secure(self) -> bool:
        return self.scheme == "https"

    @property
    def cookie_name(self) -> str:
        return f"__Host-{NAME}" if self.is_secure else f"{NAME}-{_port(self.scheme, self.host)}"


def site_of(scope: Scope, public_url: str) -> Site:
    """The site that the request was sent to, as the browser that sent it has it."""
    public = urlsplit(public_url.strip())
    host = _header(scope, b"host").lower()
    forwarded = _header(scope, b"x-forwarded-proto").partition(",")[0].strip().lower()
    is_secure = forwarded == "https" or (public.scheme == "https" and public.netloc.lower() in ("", host))
    return Site("https" if is_secure else "http", host if _HOST.fullmatch(host) else "")


def set_cookie(site: Site, secret: str, *, seconds: int) -> str:
    """The header that keeps a secret for so long, or at 0 takes it away."""
    secure = "; Secure" if site.is_secure else ""
    return f"{site.cookie_name}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def cookie(scope: Scope, site: Site) -> SessionKey | None:
    """The secret of the request's cookie, None without one. One that cannot be ours is a key that opens nothing."""
    for pair in _header(scope, b"cookie").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == site.cookie_name:
            return SessionKey(secret_digest(value) or b"")
    return None


def require_own_page(scope: Scope, site: Site, public_url: str) -> None:
    """Raises ``CrossOrigin`` unless the browser says that a page of ours made the request."""
    said = _is_own_page(scope, site, public_url)
    if not said:
        raise CrossOrigin("with a cookie this takes requests of its own page alone; others send a token")


def refuse_other_pages(scope: Scope, site: Site, public_url: str) -> None:
    """Raises ``CrossOrigin`` if the browser says that a page of somebody else's made the request."""
    if _is_own_page(scope, site, public_url) is False:
        raise CrossOrigin("this does not take requests of other pages than its own")


def _is_own_page(scope: Scope, site: Site, public_url: str) -> bool | None:
    """None if the request does not say."""
    if fetch_site := _header(scope, b"sec-fetch-site"):
        return fetch_site == "same-origin"
    if origin := _header(scope, b"origin"):
        said = _origin(origin)
        return said is not None and said in (_origin(f"{site.scheme}://{site.host}"), _origin(public_url))
    return None


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what is no address."""
    try:
        parts = urlsplit(url.strip().lower())
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, _port(parts.scheme, parts.netloc)


def _port(scheme: str, host: str) -> int:
    try:
        return urlsplit(f"//{host}").port or _DEFAULT_PORTS[scheme]
    except ValueError:
        return _DEFAULT_PORTS[scheme]


def _header(scope: Scope, wanted: bytes) -> str:
    separator = "; " if wanted == b"cookie" else ", "
    return separator.join(value.decode("latin-1") for name, value in scope["headers"] if name == wanted)
