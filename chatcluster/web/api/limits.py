"""Routes of limits: how much users may spend. For administrators."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import delete, get, put
from litestar.params import JSONBody, QueryParameter

from chatcluster.errors import InvalidRequest, NotFound
from chatcluster.ports.limits import Limit, LimitPlace, Member, Period, Subject
from chatcluster.texts import checked_line
from chatcluster.transitions import NAME_CHARS_MAX
from chatcluster.usage import Micros
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.auth import require_admin
from chatcluster.web.request import ApiRequest


class PutLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left away is not limited: without either, there is no limit for this subject in this period."""

    subject: Subject
    period: Period
    name: str = ""
    cost_micros: Micros | None = None
    tokens: Micros | None = None


class PutMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Group and user, both by name."""

    group: str
    user: str


class LimitsAnswer(msgspec.Struct, frozen=True):
    limits: tuple[Limit, ...]


class MembersAnswer(msgspec.Struct, frozen=True):
    members: tuple[Member, ...]


@get("/admin/limits", guards=[require_admin], responses=REFUSALS)
async def list_limits(request: ApiRequest) -> LimitsAnswer:
    """All limits: the default, those of groups, those of users."""
    return LimitsAnswer(await request.services.models.spending.limits.limits())


@put("/admin/limits", guards=[require_admin], responses=REFUSALS)
async def put_limit(request: ApiRequest, data: JSONBody[PutLimit]) -> Limit:
    """Limit what a subject may spend in a period; another limit of the two is replaced."""
    subject, name, period = _place(data.subject, data.name, data.period)
    limit = Limit(subject, name, period, data.cost_micros, data.tokens)
    await request.services.models.spending.limits.put(limit, request.user)
    return limit


@delete("/admin/limits", guards=[require_admin], responses=REFUSALS)
async def remove_limit(
    request: ApiRequest,
    subject: Annotated[str, QueryParameter(description="default, group or user")],
    period: Annotated[str, QueryParameter(description="day, week or month")],
    name: Annotated[str, QueryParameter(description="Of the group or the user")] = "",
) -> None:
    """Take a limit away: what stands behind it counts again."""
    try:
        place = _place(Subject(subject), name, Period(period))
    except ValueError:
        raise InvalidRequest("subject: default, group or user; period: day, week or month") from None
    if not await request.services.models.spending.limits.remove(place, request.user):
        raise NotFound("there is no such limit")


@get("/admin/groups", guards=[require_admin], responses=REFUSALS)
async def list_members(request: ApiRequest) -> MembersAnswer:
    """Who is in which group."""
    return MembersAnswer(await request.services.models.spending.limits.members())


@put("/admin/groups", guards=[require_admin], responses=REFUSALS)
async def add_member(request: ApiRequest, data: JSONBody[PutMember]) -> Member:
    """Put a user into a group, which is there as long as somebody is in it."""
    member = _member(data.group, data.user)
    await request.services.models.spending.limits.add_member(member, request.user)
    return member


@delete("/admin/groups", guards=[require_admin], responses=REFUSALS)
async def remove_member(
    request: ApiRequest,
    group: Annotated[str, QueryParameter(description="By name")],
    user: Annotated[str, QueryParameter(description="By name")],
) -> None:
    """Take a user out of a group."""
    if not await request.services.models.spending.limits.remove_member(_member(group, user), request.user):
        raise NotFound("this user is not in this group")


def _place(subject: Subject, name: str, period: Period) -> LimitPlace:
    if subject is Subject.DEFAULT:
        if name:
            raise InvalidRequest("the default is for everybody, and has no name")
        return LimitPlace(subject, "", period)
    return LimitPlace(subject, checked_line("name", name, chars_max=NAME_CHARS_MAX), period)


def _member(group: str, user: str) -> Member:
    return Member(
        checked_line("group", group, chars_max=NAME_CHARS_MAX), checked_line("user", user, chars_max=NAME_CHARS_MAX)
    )


ROUTES = [list_limits, put_limit, remove_limit, list_members, add_member, remove_member]
