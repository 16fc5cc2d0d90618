"""Routes about the cluster and its users: who am I, the replicas, the tokens."""

from __future__ import annotations

from datetime import UTC, datetime

from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from chatcluster import transitions
from chatcluster.errors import InvalidRequest, NotFound
from chatcluster.web.api.answers import (
    REFUSALS,
    AccountAnswer,
    NewTokenAnswer,
    ReplicaAnswer,
    ReplicasAnswer,
    TokensAnswer,
    account_answer,
    replica_answer,
)
from chatcluster.web.api.bodies import CreateToken
from chatcluster.web.auth import SCOPE, require_admin
from chatcluster.web.request import ApiRequest


@get("/me", responses=REFUSALS, opt={SCOPE: None})
async def get_me(request: ApiRequest) -> AccountAnswer:
    """The user that the token belongs to."""
    return account_answer(request.user)


@get(["/replicas", "/admin/replicas"], guards=[require_admin], responses=REFUSALS)
async def list_replicas(request: ApiRequest) -> ReplicasAnswer:
    """The cluster as the database knows it."""
    lease_ttl_seconds = request.services.settings.ownership.lease_ttl_seconds
    replicas = await request.services.registry.replicas()
    return ReplicasAnswer([replica_answer(replica, lease_ttl_seconds=lease_ttl_seconds) for replica in replicas])


@get(["/tokens", "/admin/tokens"], guards=[require_admin], responses=REFUSALS)
async def list_tokens(request: ApiRequest) -> TokensAnswer:
    """All tokens, without their secrets."""
    return TokensAnswer(await request.services.accounts.tokens())


@post(["/tokens", "/admin/tokens"], guards=[require_admin], responses=REFUSALS)
async def create_token(request: ApiRequest, data: JSONBody[CreateToken]) -> NewTokenAnswer:
    """Make a token for a user. Its secret is in this answer and never shown again."""
    issued = await transitions.issue_token(
        request.services.accounts,
        user=data.user,
        admin=data.admin,
        name=data.name,
        expires_at=_future(data.expires_at),
        scopes=data.scopes,
        by=request.user,
    )
    return NewTokenAnswer(issued.plaintext, issued.details)


@delete(["/tokens/{token_id:str}", "/admin/tokens/{token_id:str}"], guards=[require_admin], responses=REFUSALS)
async def revoke_token(request: ApiRequest, token_id: FromPath[str]) -> None:
    """Revoke a token: nobody gets in with it from now on, and streams that it opened end."""
    services = request.services
    if not await transitions.revoke_token(
        services.accounts, token_id, publish=services.pubsub.publish, by=request.user
    ):
        raise NotFound("there is no such token")


@post("/admin/replicas/{worker_id:str}/drain", status_code=202, guards=[require_admin], responses=REFUSALS)
async def drain_replica(request: ApiRequest, worker_id: FromPath[str]) -> ReplicaAnswer:
    """Ask a replica to drain, as at SIGTERM: it learns of it with its next heartbeat, hands its chats over, and its
    process ends. Whatever supervises it may start it again."""
    services = request.services
    found = {str(replica.worker_id): replica for replica in await services.registry.replicas()}
    replica = found.get(worker_id.lower())
    if replica is None or not await services.overview.administration.request_drain(replica.worker_id, request.user):
        raise NotFound("there is no such replica (any more)")
    return replica_answer(replica, lease_ttl_seconds=services.settings.ownership.lease_ttl_seconds)


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


ROUTES = [get_me, list_replicas, drain_replica, list_tokens, create_token, revoke_token]
