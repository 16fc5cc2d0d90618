"""Web push of one replica, made of its parts: for ``cluster.py``, and loaded as far as there is a key for it."""

from __future__ import annotations

from chatcluster.ports.push import Push
from chatcluster.push_delivery import PushDelivery
from chatcluster.push_subscriptions import PushSubscriptions
from chatcluster.setting_sections import Push as PushSettings


def push_parts(push: Push, settings: PushSettings) -> PushSubscriptions:
    """What browsers subscribe by, with the loop that tells them. Raises ``ConfigError`` for a key that is none."""
    if not settings.key:
        return PushSubscriptions(push, private_allowed=settings.private_addresses)
    from chatcluster.push_encryption import VapidKey
    from chatcluster.push_sender import HttpPushSender

    key = VapidKey.parse(settings.key)
    allowed = settings.private_addresses
    sender = HttpPushSender(key, settings.contact, private_allowed=allowed)
    return PushSubscriptions(push, private_allowed=allowed, public_key=key.public, run=PushDelivery(push, sender).run)
