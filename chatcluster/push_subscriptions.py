"""Browsers that want to be told: checked, and written. Without a push key nobody is told, and nothing is taken.

What a browser gives is checked before it is written: an address that may be sent to (``push_endpoints.py``), and keys
that a message can be encrypted for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import trio

from chatcluster.errors import InvalidRequest, NotFound
from chatcluster.ports import Account
from chatcluster.ports.push import Push, Subscription
from chatcluster.push_endpoints import checked_endpoint


class PushSubscriptions:
    """``public_key`` is for browsers, None where the deployment has no push key; ``run`` is the loop that tells."""

    def __init__(
        self,
        push: Push,
        *,
        private_allowed: bool,
        public_key: str | None = None,
        run: Callable[[], Awaitable[None]] = trio.sleep_forever,
    ) -> None:
        self.run = run
        self._push = push
        self._private_allowed = private_allowed
        self.public_key = public_key

    async def add(self, account: Account, endpoint: str, p256dh: str, auth: str) -> Subscription:
        """Raises ``InvalidRequest``, and ``NotFound`` where nobody is told."""
        if self.public_key is None:
            raise NotFound("this cluster tells no browser of answers: set CHATCLUSTER_PUSH_KEY on every replica")
        endpoint = checked_endpoint(endpoint, private_allowed=self._private_allowed)
        point, secret = _checked_keys(p256dh, auth)
        new = Subscription(
            id=uuid4(), user_id=account.user_id, token_id=account.token_id, endpoint=endpoint, p256dh=point, auth=secret
        )
        return await self._push.subscribe(new)

    async def of(self, user_id: UUID) -> tuple[Subscription, ...]:
        return await self._push.subscriptions(user_id)

    async def remove(self, user_id: UUID, subscription_id: UUID) -> bool:
        """False if the user has no such subscription."""
        return await self._push.unsubscribe(user_id, subscription_id)


def _checked_keys(p256dh: str, auth: str) -> tuple[bytes, bytes]:
    from chatcluster.push_encryption import check_browser_keys, decoded

    try:
        keys = decoded(p256dh), decoded(auth)
    except ValueError:
        raise InvalidRequest("keys.p256dh and keys.auth must be base64 for URLs") from None
    check_browser_keys(*keys)
    return keys
