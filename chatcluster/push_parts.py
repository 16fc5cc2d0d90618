"""Web push of one replica, made of its parts: for ``cluster.py``, and loaded as far as there is a key for it."""

from __future__ import annotations

from chatcluster.config import Settings
from chatcluster.ports.push import Push
from chatcluster.push_delivery import PushDelivery
from chatcluster.push_subscriptions import PushSubscriptions


def push_parts(push: Push, settings: Settings) -> PushSubscriptions:
    """What browsers subscribe by, with the loop that tells them. Raises ``ConfigError`` for a key that is none."""
    if not settings.push.key:
        return PushSubscriptions(push, settings)
    from chatcluster.push_encryption import VapidKey
    from chatcluster.push_sender import HttpPushSender

    key = VapidKey.parse(settings.push.key)
    sender = HttpPushSender(key, settings.push.contact, private_allowed=settings.push.private_addresses)
    return PushSubscriptions(push, settings, public_key=key.public, run=PushDelivery(push, sender).run)
