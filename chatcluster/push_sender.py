"""Sends one message to one push service. Implements ``PushSender``.

The name in the endpoint is looked up here, each address is judged (``push_endpoints.py``), and the connection goes to
one that was judged: a name that answers otherwise the next time gains nothing. The certificate is still the name's.
Nothing is followed anywhere else, no proxy of the environment is asked, and of the answer nothing but its status is
read. Names are looked up in places of each user's own: a service whose name nobody answers for takes none from others.

Whatever is wrong with one subscription, its address or its keys, is an answer that says so: others are sent to at the
same time.
"""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

import httpx
import trio

from chatcluster.host_names import LookUps
from chatcluster.ports.push import Answer, Sent, Subscription
from chatcluster.push_encryption import VapidKey, encrypted
from chatcluster.push_endpoints import is_public

SECONDS_MAX = 15.0
KEPT_BY_SERVICE_SECONDS = 24 * 3600
GONE = (404, 410)
REFUSED = (400, 401, 403, 413)
RETRY_SECONDS_MAX = 600.0


class HttpPushSender:
    def __init__(self, key: VapidKey, contact: str, *, private_allowed: bool) -> None:
        self._key = key
        self._contact = contact
        self._private_allowed = private_allowed
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._look_ups = LookUps()

    async def send(self, subscription: Subscription, payload: bytes, *, topic: str) -> Answer:
        with trio.move_on_after(SECONDS_MAX):
            try:
                parts = urlsplit(subscription.endpoint)
                address = await self._address(parts, subscription.user_id)
                return await self._post(parts, address, subscription, payload, topic)
            except (OSError, UnicodeError, httpx.HTTPError, httpx.InvalidURL) as error:
                return Answer(Sent.LATER, reason=type(error).__name__)
            except ForbiddenAddress:
                return Answer(Sent.GONE, reason="its address is not public")
            except ValueError:
                return Answer(Sent.GONE, reason="its address or its keys are none")
        return Answer(Sent.LATER, reason="no answer in time")

    async def _address(self, parts: SplitResult, user_id: UUID) -> str:
        """An address of the host that may be sent to. Raises ``OSError``, ``ValueError`` and ``ForbiddenAddress``."""
        look_up = partial(socket.getaddrinfo, parts.hostname, _port(parts), type=socket.SOCK_STREAM)
        found = await self._look_ups.make(user_id, look_up)
        addresses = [str(address[0]) for *_, address in found]
        if not self._private_allowed and not all(map(is_public, addresses)):
            raise ForbiddenAddress
        return addresses[0]

    async def _post(
        self, parts: SplitResult, address: str, subscription: Subscription, payload: bytes, topic: str
    ) -> Answer:
        host = f"[{address}]" if ":" in address else address
        url = parts._replace(netloc=f"{host}:{_port(parts)}", fragment="").geturl()
        origin = f"{parts.scheme}://{parts.netloc}"
        headers = {
            "Host": parts.netloc,
            "Authorization": self._key.authorization(origin, self._contact, now=time.time()),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(KEPT_BY_SERVICE_SECONDS),
            "Topic": topic,
            "Urgency": "normal",
        }
        body = encrypted(payload, subscription.p256dh, subscription.auth)
        async with httpx.AsyncClient(trust_env=False, verify=self._tls, timeout=SECONDS_MAX) as client:
            named = {"sni_hostname": parts.hostname}
            async with client.stream("POST", url, headers=headers, content=body, extensions=named) as response:
                return _answer(response.status_code, response.headers.get("retry-after"))


class ForbiddenAddress(Exception):
    """The endpoint leads to where nobody may be sent."""


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _answer(status: int, retry_after: str | None) -> Answer:
    if 200 <= status < 300:
        return Answer(Sent.TAKEN)
    if status in GONE:
        return Answer(Sent.GONE, reason=f"status {status}")
    if status in REFUSED:
        return Answer(Sent.REFUSED, reason=f"status {status}")
    return Answer(Sent.LATER, reason=f"status {status}", after_seconds=_seconds(retry_after))


def _seconds(retry_after: str | None) -> float | None:
    """What a ``Retry-After`` says, bounded; None for none that is understood."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after or "") - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(RETRY_SECONDS_MAX, max(0.0, seconds)) if seconds == seconds else None
