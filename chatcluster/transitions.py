"""Apply, then tell: what users do, below every front door.

A use case is one transaction and what is told of it: the hint for feeds and for the chat's owner, the lifecycle event
for lists, the wake-up for claimers (``notices.py``). What is refused is raised by the store and told to nobody, and so
is a repeat under an ``Idempotency-Key``: it was told when it was carried out. To tell is best effort; readers,
owners and claimers find out by their polls where it is lost.

What wakes a chat is carried out with an offer of this replica, if it has a place: then the transaction may claim the
chat as well, and its tenure begins here with the answer (``offers.py``).

A front door (HTTP, a command, a protocol for tools) checks what it was sent, calls one method here, and answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple, get_args
from uuid import UUID

from chatcluster import tokens, trace_context
from chatcluster.chat import (
    Answer,
    Archive,
    ChatSetup,
    ChooseModel,
    Configure,
    DeleteQueued,
    Edit,
    EditQueued,
    Pin,
    Rename,
    Send,
    SubmitToolResults,
    Unarchive,
    UserCommand,
)
from chatcluster.errors import AgentChat, ChatNotFound, Conflict, InvalidRequest, ParentArchived
from chatcluster.families import settle, when_obeyed
from chatcluster.notices import Notices, report_end
from chatcluster.parts import Role
from chatcluster.ports import (
    TOKENS_CHANNEL,
    Account,
    Accounts,
    Chat,
    Idempotency,
    NewChat,
    Outcome,
    Scopes,
    Store,
    Token,
    TokenScope,
)
from chatcluster.ports.limits import UNLIMITED, LimitCheck
from chatcluster.texts import checked_line

NAME_CHARS_MAX = 100

WAKING = (Send, Edit, *get_args(Answer))
"""What may let a chat run that rested."""

Act = Callable[..., Awaitable[Outcome]]
"""A transition, which takes a ``claimer`` as well."""


class Transitions:
    """What users do to chats."""

    def __init__(
        self,
        store: Store,
        notices: Notices,
        limits: LimitCheck = UNLIMITED,
        *,
        on_title_wanted: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._notices = notices
        self._limits = limits
        self._on_title_wanted = on_title_wanted

    async def create(self, new_chat: NewChat, idempotency: Idempotency | None = None) -> Outcome:
        """A chat with its first messages, if any. It starts to work on the answer at once.

        Raises ``UsageLimitExceeded`` if there is something to answer, and its user has spent what there is."""
        if any(message.role is Role.USER for message in new_chat.messages):
            await self._require_room(new_chat.owner_id, idempotency)
        act = partial(self._store.create, new_chat, idempotency)
        outcome, begun = await self._carry_out(new_chat.id, act, wakes=not new_chat.at_rest)
        if not outcome.replayed:
            self._tell(outcome, "created", begun=begun)
            _join(outcome)
            if new_chat.wants_title:
                self._on_title_wanted()
        return outcome

    async def apply(
        self, chat_id: UUID, command: UserCommand, *, owner_id: UUID, idempotency: Idempotency | None = None
    ) -> Outcome:
        """Any command of the chat's user. Raises ``UsageLimitExceeded`` for a new message, or a changed one."""
        if _says_more(command):
            await self._require_room(owner_id, idempotency)
        act = partial(self._store.apply, chat_id, command, owner_id=owner_id, idempotency=idempotency)
        outcome, begun = await self._carry_out(chat_id, act, wakes=isinstance(command, WAKING))
        if not outcome.replayed:
            report_end(outcome)
            if isinstance(command, Send | Edit):
                _join(outcome)
            self._tell(outcome, _lifecycle_of(command, outcome.chat), begun=begun)
            await settle(self._store, self._notices, outcome.chat)
        return outcome

    async def _carry_out(self, chat_id: UUID, act: Act, *, wakes: bool) -> tuple[Outcome, bool]:
        """The outcome, and whether a tenure of the chat has begun here with it."""
        offer = self._notices.offer(chat_id) if wakes else None
        if offer is None:
            return await act(), False
        with offer:
            outcome = await act(claimer=offer.worker_id)
            return outcome, outcome.claimed is not None and offer.take(outcome.claimed)

    def _tell(self, outcome: Outcome, lifecycle: str | None, *, begun: bool) -> None:
        self._notices.hand_over(outcome)
        if begun:
            self._notices.began(outcome.chat, lifecycle)
        else:
            self._notices.committed(outcome.chat, lifecycle)

    async def spawn(self, agent: NewChat, call_id: str, *, agents_max: int) -> Outcome:
        """A chat that works for its parent, because of this call of the parent. Raises as ``Store.spawn``, and
        ``UsageLimitExceeded`` unless it is there already."""
        excess = await self._limits.excess(agent.owner_id)
        if excess is not None and not await self._is_there(agent.id):
            raise excess
        outcome = await self._store.spawn(agent, call_id, agents_max=agents_max)
        self._notices.committed(outcome.chat, "created")
        return outcome

    async def when_obeyed(self, agent: Chat) -> Chat:
        """The agent, once it has carried out what it was ordered before."""
        return await when_obeyed(self._store, self._notices, agent)

    async def _require_room(self, owner_id: UUID, idempotency: Idempotency | None) -> None:
        """What was accepted stays so, however often it is asked for."""
        excess = await self._limits.excess(owner_id)
        if excess is None:
            return
        if idempotency is None or await self._store.answered(owner_id, idempotency) is None:
            raise excess

    async def _is_there(self, chat_id: UUID) -> bool:
        try:
            return (await self._store.get(chat_id)).id == chat_id
        except ChatNotFound:
            return False

    async def archive(self, chat: Chat) -> Chat:
        """A busy chat is interrupted, and archived as soon as it has stopped. What is already so is no error."""
        if chat.archived or chat.archiving:
            return chat
        if chat.parent_id is not None:
            raise AgentChat("an agent is archived with the chat that it belongs to", chat_id=str(chat.family_id))
        try:
            return (await self.apply(chat.id, Archive(), owner_id=chat.owner_id)).chat
        except Conflict:
            now = await self._store.get(chat.id)
            if now.archived or now.archiving:
                return now
            raise

    async def unarchive(self, chat: Chat) -> Chat:
        """What is already so is no error. Raises ``Conflict`` while the chat is still being archived."""
        if chat.archiving:
            raise Conflict("the chat is still being archived; unarchive it when it is")
        if not chat.archived:
            return chat
        if chat.parent_id is not None:
            why = "an agent leaves the archive with the chat that it belongs to; unarchive that one"
            raise ParentArchived(why, chat_id=str(chat.family_id))
        try:
            return (await self.apply(chat.id, Unarchive(), owner_id=chat.owner_id)).chat
        except Conflict:
            now = await self._store.get(chat.id)
            if not (now.archived or now.archiving):
                return now
            raise

    async def delete(self, chat_id: UUID, *, owner_id: UUID) -> None:
        """Delete a chat that rests, for good. Raises ``ChatBusy``, and ``ChatNotFound``, also for a repeat."""
        self._notices.deleted(await self._store.delete(chat_id, owner_id=owner_id))

    async def pin(self, chat: Chat, pinned: bool) -> Chat:
        if pinned == chat.pinned:
            return chat
        return (await self.apply(chat.id, Pin(pinned), owner_id=chat.owner_id)).chat

    async def choose_model(self, chat: Chat, model: str | None) -> Chat:
        """Choose the model of the messages from now on."""
        if model == chat.model:
            return chat
        return (await self.apply(chat.id, ChooseModel(model), owner_id=chat.owner_id)).chat

    async def rename(self, chat: Chat, title: str) -> Chat:
        if title == chat.title:
            return chat
        return (await self.apply(chat.id, Rename(title), owner_id=chat.owner_id)).chat

    async def configure(self, chat: Chat, setup: ChatSetup) -> Chat:
        """Other tools, from the chat's next turn on."""
        return (await self.apply(chat.id, Configure(setup), owner_id=chat.owner_id)).chat


def _says_more(command: UserCommand) -> bool:
    """Whether its user says something, new or changed, for a model to answer."""
    return isinstance(command, Send | Edit) or (isinstance(command, SubmitToolResults) and command.message is not None)


def _join(outcome: Outcome) -> None:
    """Name the turn that this begins to the trace which the request belongs to, if any."""
    asked = outcome.message
    if outcome.queued is not None:
        trace_context.asked(outcome.chat.id, None)
    elif asked is not None and asked.role is Role.USER:
        trace_context.asked(outcome.chat.id, asked.id)


def _lifecycle_of(command: UserCommand, chat: Chat) -> str | None:
    """What lists of chats are told of a command, None if it does not concern them."""
    match command:
        case Archive() if chat.archived:
            return "archived"
        case Unarchive():
            return "unarchived"
        case Rename():
            return "title"
        case Pin() | ChooseModel():
            return "changed"
        case DeleteQueued() | EditQueued() | Configure():
            return None
        case _:
            return "status"


class IssuedToken(NamedTuple):
    """``plaintext`` is the secret itself: it is stored nowhere."""

    plaintext: str
    details: Token


async def issue_token(
    accounts: Accounts,
    *,
    user: str,
    admin: bool,
    name: str = "",
    expires_at: datetime | None = None,
    scopes: Sequence[str] | None = None,
    by: Account | None = None,
) -> IssuedToken:
    """A new token for a user, who is created if need be; logged if an administrator makes it (``by``).

    Raises ``InvalidRequest`` for what is no name, or no scopes.
    """
    known = _checked_scopes(scopes)
    user = checked_line("user", user, chars_max=NAME_CHARS_MAX)
    name = checked_line("name", name, chars_max=NAME_CHARS_MAX) if name else ""
    account = await accounts.ensure_user(user, admin=admin)
    token = tokens.generate()
    details = await accounts.add_token(
        account.user_id,
        token_id=token.token_id,
        name=name,
        secret_digest=token.digest,
        expires_at=expires_at,
        scopes=known,
        by=by,
    )
    return IssuedToken(token.plaintext, details)


def _checked_scopes(scopes: Sequence[str] | None) -> Scopes:
    """Each once, in the order that they are told in."""
    if scopes is None:
        return None
    unknown = sorted(set(scopes) - set(TokenScope))
    if unknown or not scopes:
        wrong = f"there is no scope {unknown[0][:40]!r}" if unknown else "scopes must not be empty"
        raise InvalidRequest(f"{wrong}; there are {', '.join(TokenScope)}, and without scopes a token is good for all")
    return tuple(scope.value for scope in TokenScope if scope in scopes)


async def revoke_token(
    accounts: Accounts, token_id: str, *, publish: Callable[[str, bytes], None], by: Account | None = None
) -> bool:
    """Nobody gets in with the token from now on, and streams that it opened end. False if there is no such token."""
    if not (token_id.isascii() and token_id.isalnum() and await accounts.revoke(token_id, by=by)):
        return False
    publish(TOKENS_CHANNEL, token_id.encode())
    return True
