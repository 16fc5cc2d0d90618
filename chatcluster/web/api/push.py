"""Routes of browsers that want to be told when an answer is there, also where the page is not open."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from chatcluster.errors import NotFound
from chatcluster.ports.push import Subscription
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.api.bodies import Body
from chatcluster.web.request import ApiRequest, parse_uuid


class BrowserKeys(Body, frozen=True, kw_only=True):
    """Both are base64 for URLs."""

    p256dh: str
    auth: str


class Subscribe(Body, frozen=True, kw_only=True):
    """What `PushSubscription.toJSON()` gives in a browser."""

    endpoint: str
    keys: BrowserKeys
    expiration_time: Annotated[float | None, Meta(description="Is not looked at: the push service says it")] = (
        msgspec.field(default=None, name="expirationTime")
    )


class PushKeyAnswer(msgspec.Struct, frozen=True):
    """``public_key`` is the `applicationServerKey` of this cluster; null where no browser is told."""

    public_key: str | None


class SubscriptionAnswer(msgspec.Struct, frozen=True):
    id: UUID
    endpoint: str
    created_at: datetime | None


class SubscriptionsAnswer(msgspec.Struct, frozen=True):
    subscriptions: list[SubscriptionAnswer]


@get("/push", responses=REFUSALS)
async def get_push_key(request: ApiRequest) -> PushKeyAnswer:
    """With which key a browser subscribes."""
    return PushKeyAnswer(request.services.browsers.push.public_key)


@get("/me/push-subscriptions", responses=REFUSALS)
async def list_subscriptions(request: ApiRequest) -> SubscriptionsAnswer:
    """The caller's browsers that are told, the oldest first."""
    found = await request.services.browsers.push.of(request.user.user_id)
    return SubscriptionsAnswer(list(map(_answer, found)))


@post("/me/push-subscriptions", responses=REFUSALS)
async def subscribe(request: ApiRequest, data: JSONBody[Subscribe]) -> SubscriptionAnswer:
    """Tell this browser when a turn of the caller's chats has finished or failed, for as long as the token is valid
    that the caller came with, or signed in with. Of one user the newest twenty are kept."""
    return _answer(
        await request.services.browsers.push.add(request.user, data.endpoint, data.keys.p256dh, data.keys.auth)
    )


@delete("/me/push-subscriptions/{subscription_id:str}", responses=REFUSALS)
async def unsubscribe(request: ApiRequest, subscription_id: FromPath[str]) -> None:
    """Do not tell this browser any more."""
    found: UUID | None = parse_uuid(subscription_id)
    if found is None or not await request.services.browsers.push.remove(request.user.user_id, found):
        raise NotFound("there is no such subscription")


def _answer(subscription: Subscription) -> SubscriptionAnswer:
    return SubscriptionAnswer(subscription.id, subscription.endpoint, subscription.created_at)


ROUTES = [get_push_key, list_subscriptions, subscribe, unsubscribe]
