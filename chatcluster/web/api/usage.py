"""Routes of usage: what the attempts at the model cost, for oneself, and for administrators of all users."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get
from litestar.params import QueryParameter

from chatcluster.errors import InvalidRequest
from chatcluster.ports.usage import GroupBy, UsageQuery, UsageSums
from chatcluster.usage import Bill
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.auth import require_admin
from chatcluster.web.request import ApiRequest, parse_uuid

DAYS_DEFAULT = 30
GROUPS_MAX = 1000
DATE_CHARACTERS = 10
OWN = (GroupBy.DAY, GroupBy.MODEL, GroupBy.CHAT, GroupBy.FAMILY)

From = Annotated[str | None, QueryParameter(name="from", description="A day or a moment. Default: 30 days ago")]
To = Annotated[str | None, QueryParameter(name="to", description="A day, with all of it, or a moment. Default: now")]


class UsageGroupAnswer(Bill, frozen=True):
    """``key``: the day, the model, or the ID of the chat or user; ``name``: of the user, or the chat's title."""

    key: str | None = None
    name: str | None = None


class UsageAnswer(msgspec.Struct, frozen=True):
    """``from`` is in it, ``to`` is not. Costs are in micros, null where nothing is known; ``unpriced`` counts the
    attempts of unknown cost. ``has_more``: there are more groups than are told; the total is of all."""

    since: datetime = msgspec.field(name="from")
    until: datetime = msgspec.field(name="to")
    group_by: GroupBy
    total: Bill
    groups: list[UsageGroupAnswer]
    has_more: bool


@get("/usage", responses=REFUSALS)
async def get_usage(
    request: ApiRequest,
    since: From = None,
    until: To = None,
    group_by: Annotated[str, QueryParameter(description="day, model, chat or family")] = "day",
) -> UsageAnswer:
    """What the caller's chats cost: tokens, and micros where their models have prices. Days are of UTC."""
    return await _answer(request, since, until, _group(group_by, OWN), request.user.user_id)


@get("/admin/usage", guards=[require_admin], responses=REFUSALS)
async def get_all_usage(
    request: ApiRequest,
    since: From = None,
    until: To = None,
    group_by: Annotated[str, QueryParameter(description="user, day, model, chat or family")] = "user",
    user: Annotated[str | None, QueryParameter(description="Of the user of this ID alone")] = None,
) -> UsageAnswer:
    """The tokens and the cost of all users, or of one."""
    owner_id: UUID | None = None if user is None else parse_uuid(user)
    if user is not None and owner_id is None:
        raise InvalidRequest("user must be the ID of a user")
    return await _answer(request, since, until, _group(group_by, tuple(GroupBy)), owner_id)


async def _answer(
    request: ApiRequest, since: str | None, until: str | None, group_by: GroupBy, owner_id: UUID | None
) -> UsageAnswer:
    query = _query(since, until, group_by, owner_id, now=datetime.now(UTC))
    sums = await request.services.models.spending.usage.sums(query, limit=GROUPS_MAX)
    return UsageAnswer(query.since, query.until, group_by, sums.total, _groups(sums), sums.has_more)


def _groups(sums: UsageSums) -> list[UsageGroupAnswer]:
    return [
        UsageGroupAnswer(**msgspec.structs.asdict(group.bill), key=group.key, name=group.name) for group in sums.groups
    ]


def _query(
    since: str | None, until: str | None, group_by: GroupBy, owner_id: UUID | None, *, now: datetime
) -> UsageQuery:
    end = now if until is None else _moment("to", until, whole_day=True)
    try:
        begin = end - timedelta(days=DAYS_DEFAULT) if since is None else _moment("from", since)
    except OverflowError:
        raise InvalidRequest("to is too early to have a time before it") from None
    if begin >= end:
        raise InvalidRequest("from must be before to")
    return UsageQuery(begin, end, group_by, owner_id)


def _moment(name: str, text: str, *, whole_day: bool = False) -> datetime:
    """``whole_day``: a day means its end."""
    try:
        if len(text) == DATE_CHARACTERS:
            begin = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
            return begin + timedelta(days=1) if whole_day else begin
        moment = msgspec.convert(text, datetime)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, msgspec.ValidationError):
        raise InvalidRequest(f"{name} must be a day, like 2026-01-31, or a moment, like 2026-01-31T12:00:00Z") from None


def _group(text: str, allowed: tuple[GroupBy, ...]) -> GroupBy:
    found = next((one for one in allowed if one == text), None)
    if found is None:
        raise InvalidRequest(f"group_by must be one of {', '.join(allowed)}")
    return found


ROUTES = [get_usage, get_all_usage]
