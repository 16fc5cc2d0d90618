"""Tool calls: the ledger as its readers see it, whole results, and standing permissions. A part of ``Store``.

What changes a call is a transition of its chat (``chat/calls.py``). Here is what is read besides, and what is kept that
no transition depends on.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from chatcluster.chat import CallState, Fence, OpenCall
from chatcluster.chat.questions import Question

RESULT_BYTES_MAX = 10 << 20
"""The most of the whole result of a call, where the message has a part of it."""

PERMISSION_SECONDS = 90 * 24 * 3600.0
"""An approval that is remembered stands for so long."""

PERMISSIONS_MAX = 1000
"""So many permissions of one user are kept, the newest."""


class Action(msgspec.Struct, frozen=True):
    """A call that waits for somebody, as that somebody is shown it. ``kind``: what it waits for.

    ``arguments`` are those that it is going to be run with; an approval names their ``digest``. ``may_have_run``: a
    worker died while it ran the call, so it may have taken effect. ``questions``: what the server of the tool asks the
    user; an answer to them names the ``digest`` as well.
    """

    call_id: str
    name: str
    kind: CallState
    arguments: str
    digest: str
    deadline: datetime
    may_have_run: bool = False
    chat_id: UUID | UnsetType = UNSET
    """The agent's chat, where the call is an agent's and not the chat's own."""
    questions: tuple[Question, ...] | UnsetType = UNSET


class Permission(msgspec.Struct, frozen=True):
    """A tool that its user need not be asked about again; in one chat and by its agents, or in all."""

    id: UUID
    tool: str
    chat_id: UUID | None
    created_at: datetime
    expires_at: datetime


Waits = dict[str, tuple[CallState, ...]]
"""What the calls of a step have waited for, by their IDs in call order: an entry for each time that their chat came to
rest while they had no result. So the entries of all of them, from the first one on, are of the same times."""


class SignInWait(msgspec.Struct, frozen=True):
    """A call that waits until the owner of its chat has signed in at the server of its tool."""

    chat_id: UUID
    owner_id: UUID
    call_id: str
    tool: str


class ResultSlice(msgspec.Struct, frozen=True):
    """A piece of the whole result of a call."""

    data: bytes
    total_bytes: int


class Ledger(Protocol):
    async def open_calls(self, chat_id: UUID) -> tuple[OpenCall, ...]:
        """The calls without a result, in call order, for the owner of the chat. Raises ``ChatNotFound``."""
        ...

    async def actions(self, chat_id: UUID) -> tuple[Action, ...]:
        """What a chat that requires action waits for, in call order, and behind that what its agents do. That a chat
        waits for its own agents is no action of anybody. What the server of a running call asks the user is one."""
        ...

    async def waits(self, chat_id: UUID, message_id: int) -> Waits:
        """The calls of this message that ever waited for an answer from outside, until now."""
        ...

    async def sign_in_waits(self, limit: int, *, owner_id: UUID | None = None) -> tuple[SignInWait, ...]:
        """Calls that wait for a sign-in, of one user or of all: at most ``limit``, in no order."""
        ...

    async def keep_result(self, fence: Fence, call_id: str, data: bytes) -> None:
        """Keep the whole of a result of which the message is going to have a part. May be repeated.

        At most ``RESULT_BYTES_MAX``. It goes when the message goes that asked for the call. Raises ``Fenced`` if the
        tenure is over, ``Moved`` if it stands and the call is not open any more.
        """
        ...

    async def read_result(self, chat_id: UUID, call_id: str, *, offset: int, limit: int) -> ResultSlice | None:
        """``limit`` bytes of a result from ``offset`` on; None if no whole result of that call was kept."""
        ...

    async def keep_prefix(self, fence: Fence, digest: str, data: bytes) -> None:
        """Keep what the requests of a turn begin with, for a later owner of the chat in the same turn: in the place of
        what was kept before, unless that has the same digest. May be repeated. Raises ``Fenced``."""
        ...

    async def read_prefix(self, chat_id: UUID) -> bytes | None:
        """What was kept last; None if nothing was."""
        ...

    async def permissions(self, owner_id: UUID, *chat_ids: UUID) -> frozenset[str]:
        """The tools (``permission_of``) that this user need not be asked about in one of these chats."""
        ...

    async def list_permissions(self, owner_id: UUID) -> tuple[Permission, ...]:
        """All permissions that stand, the newest first."""
        ...

    async def delete_permission(self, owner_id: UUID, permission_id: UUID) -> bool:
        """False if this user has no such permission."""
        ...
