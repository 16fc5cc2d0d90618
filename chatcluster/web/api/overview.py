"""Routes of lists over the whole cluster, for administrators: takeovers, chats, users, what administrators did, and
the series of charts."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import get
from litestar.params import QueryParameter

from chatcluster.chat import HANDED_OVER
from chatcluster.errors import InvalidRequest
from chatcluster.ports.administration import ChatFilter, TakeoverFilter
from chatcluster.ports.series import Point
from chatcluster.series import first_token_ms
from chatcluster.views import chat_answer
from chatcluster.web.api.answers import (
    REFUSALS,
    AuditAnswer,
    SeriesAnswer,
    SeriesPoint,
    TakeoversAnswer,
    UsersAnswer,
    UsersChatAnswer,
    UsersChatsAnswer,
)
from chatcluster.web.api.bodies import checked_search
from chatcluster.web.api.messages import ID_MAX
from chatcluster.web.auth import require_admin
from chatcluster.web.request import ApiRequest, parse_chat_id, parse_uuid

LIMIT_MAX = 200
LIMIT_DEFAULT = 50
STATUSES = ("pending", "running", "interrupting", "waiting", "requires_action", "error")
SPANS = {"15m": (15, 1), "1h": (60, 1), "6h": (72, 5), "1d": (96, 15), "7d": (84, 120)}
"""How many steps each has, of how many minutes."""

Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)]
Before = Annotated[int, QueryParameter(ge=1, le=ID_MAX, description="The last one of the page before")]


@get("/admin/takeovers", guards=[require_admin], responses=REFUSALS)
async def list_takeovers(
    request: ApiRequest,
    chat: Annotated[str | None, QueryParameter(description="Of this chat")] = None,
    worker: Annotated[str | None, QueryParameter(description="From or to this worker")] = None,
    cause: Annotated[str | None, QueryParameter(description="takeover or drain")] = None,
    before: Before = ID_MAX,
    limit: Limit = LIMIT_DEFAULT,
) -> TakeoversAnswer:
    """Chats that lost their replica, by its death or in a drain, and who took them up: newest first, of the last week.

    `gap_ms` is the time from the moment at which the chat was free to the claim."""
    wanted = TakeoverFilter(_uuid("chat", chat), _uuid("worker", worker), _one_of("cause", cause, HANDED_OVER))
    found = await request.services.overview.administration.takeovers(wanted, before=before, limit=limit + 1)
    return TakeoversAnswer(found[:limit], has_more=len(found) > limit)


@get("/admin/chats", guards=[require_admin], responses=REFUSALS)
async def list_all_chats(
    request: ApiRequest,
    user: Annotated[str | None, QueryParameter(description="Of the user of this name")] = None,
    status: Annotated[str | None, QueryParameter(description="In this status, as it is shown")] = None,
    worker: Annotated[str | None, QueryParameter(description="On this worker")] = None,
    archived: Annotated[bool | None, QueryParameter(description="Only those that are, or that are not")] = None,
    q: Annotated[str | None, QueryParameter(description="With this in the title, in any case")] = None,
    after: Annotated[str | None, QueryParameter(description="The last chat of the page before")] = None,
    limit: Limit = LIMIT_DEFAULT,
) -> UsersChatsAnswer:
    """The chats of all users, newest first, without their histories."""
    wanted = ChatFilter(user, _one_of("status", status, STATUSES), _uuid("worker", worker), archived, checked_search(q))
    last = None if after is None else parse_chat_id(after)
    found = await request.services.overview.administration.chats(wanted, after=last, limit=limit + 1)
    chats = [UsersChatAnswer(chat_answer(one.chat), one.chat.owner_id, one.user) for one in found[:limit]]
    return UsersChatsAnswer(chats, has_more=len(found) > limit)


@get("/admin/users", guards=[require_admin], responses=REFUSALS)
async def list_users(
    request: ApiRequest,
    after: Annotated[str, QueryParameter(description="The last name of the page before")] = "",
    limit: Limit = LIMIT_DEFAULT,
) -> UsersAnswer:
    """The users by name, with how many chats and tokens each has."""
    if "\0" in after:
        raise InvalidRequest("after must not contain NUL characters")
    found = await request.services.overview.administration.users(after=after, limit=limit + 1)
    return UsersAnswer(found[:limit], has_more=len(found) > limit)


@get("/admin/audit", guards=[require_admin], responses=REFUSALS)
async def list_audit(request: ApiRequest, before: Before = ID_MAX, limit: Limit = LIMIT_DEFAULT) -> AuditAnswer:
    """What administrators did by this API, newest first, of the last 90 days."""
    found = await request.services.overview.administration.audit(before=before, limit=limit + 1)
    return AuditAnswer(found[:limit], has_more=len(found) > limit)


@get("/admin/series", guards=[require_admin], responses=REFUSALS)
async def read_series(
    request: ApiRequest,
    span: Annotated[str, QueryParameter(description="15m, 1h, 6h, 1d or 7d")] = "1h",
) -> SeriesAnswer:
    """What the cluster did, in equal steps until now, the oldest first: for charts.

    Each replica adds what it did every ten seconds; what it had not added when it was killed is missing."""
    if span not in SPANS:
        raise InvalidRequest(f"span must be one of {', '.join(SPANS)}")
    steps, step_minutes = SPANS[span]
    points = await request.services.overview.series.read(steps=steps, step_minutes=step_minutes)
    return SeriesAnswer(60 * step_minutes, [_series_point(point, 60 * step_minutes) for point in points])


def _series_point(point: Point, step_seconds: int) -> SeriesPoint:
    return SeriesPoint(
        at=point.at,
        turns=point.turns,
        failed=point.failed,
        interrupted=point.interrupted,
        output_tokens=point.output_tokens,
        tokens_per_second=round(point.output_tokens / step_seconds, 3),
        first_token_p50_ms=first_token_ms(point, 0.5),
        first_token_p95_ms=first_token_ms(point, 0.95),
        takeovers=point.takeovers,
    )


def _uuid(name: str, text: str | None) -> UUID | None:
    if text is None:
        return None
    found: UUID | None = parse_uuid(text)
    if found is None:
        raise InvalidRequest(f"{name} must be an ID")
    return found


def _one_of(name: str, text: str | None, allowed: tuple[str, ...]) -> str | None:
    if text is not None and text not in allowed:
        raise InvalidRequest(f"{name} must be one of {', '.join(allowed)}")
    return text


ROUTES = [list_takeovers, list_all_chats, list_users, list_audit, read_series]
