"""Routes about the cluster and its users: who am I, the replicas, the tokens."""

from __future__ import annotations

from datetime import UTC, datetime

from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from chatcluster import tokens
from chatcluster.errors import InvalidRequest, NotFound
from chatcluster.ports import TOKENS_CHANNEL
from chatcluster.web.api.answers import (
    REFUSALS,
    AccountAnswer,
    NewTokenAnswer,
    ReplicasAnswer,
    TokensAnswer,
    account_answer,
    replica_answer,
)
from chatcluster.web.api.bodies import CreateToken, checked_name
from chatcluster.web.auth import require_admin
from chatcluster.web.request import ApiRequest


@get("/me", responses=REFUSALS)
async def get_me(request: ApiRequest) -> AccountAnswer:
    """The user that the token belongs to."""
    return account_answer(request.user)


@get("/replicas", guards=[require_admin], responses=REFUSALS)
async def list_replicas(request: ApiRequest) -> ReplicasAnswer:
    """The cluster as the database knows it."""
    lease_ttl_seconds = request.services.settings.lease_ttl_seconds
    replicas = await request.services.registry.replicas()
    return ReplicasAnswer([replica_answer(replica, lease_ttl_seconds=lease_ttl_seconds) for replica in replicas])


@get("/tokens", guards=[require_admin], responses=REFUSALS)
async def list_tokens(request: ApiRequest) -> TokensAnswer:
    """All tokens, without their secrets."""
    return TokensAnswer(await request.services.accounts.tokens())


@post("/tokens", guards=[require_admin], responses=REFUSALS)
async def create_token(request: ApiRequest, data: JSONBody[CreateToken]) -> NewTokenAnswer:
    """Make a token for a user. Its secret is in this answer and never shown again."""
    accounts = request.services.accounts
    user = checked_name("user", data.user)
    name = checked_name("name", data.name) if data.name else ""
    expires_at = _future(data.expires_at)
    account = await accounts.ensure_user(user, admin=data.admin)
    token = tokens.generate()
    details = await accounts.add_token(
        account.user_id, token_id=token.token_id, name=name, secret_digest=token.digest, expires_at=expires_at
    )
    return NewTokenAnswer(token.plaintext, details)


@delete("/tokens/{token_id:str}", guards=[require_admin], responses=REFUSALS)
async def revoke_token(request: ApiRequest, token_id: FromPath[str]) -> None:
    """Revoke a token: nobody gets in with it from now on, and streams that it opened end."""
    if not (token_id.isascii() and token_id.isalnum() and await request.services.accounts.revoke(token_id)):
        raise NotFound("there is no such token")
    request.services.pubsub.publish(TOKENS_CHANNEL, token_id.encode())


def _future(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest("expires_at is beyond the calendar") from None
    if moment <= datetime.now(UTC):
        raise InvalidRequest("expires_at is in the past")
    return moment


ROUTES = [get_me, list_replicas, list_tokens, create_token, revoke_token]
