"""Every error that chatcluster raises on purpose, as one tree.

The branches tell *who* failed, because that decides what to do next:

* ``CallerError``: the request is wrong; nothing was written; repeating it changes nothing. Each
  carries a stable ``code`` and the HTTP ``status`` it maps to.
* ``OwnershipError``: this worker may not act on the chat any more. The holder stops, writes nothing
  and lets the owner go on. Never shown to a caller.
* ``ProviderError``: the model's server failed; ``retryable`` says whether another attempt may help.
* ``UnavailableError``: a server of ours (Postgres, Redis) cannot be reached right now; retry later, unless it is a
  ``StoreFailed``, which concerns one thing alone and stays.
* ``ConfigError``: a setting is wrong; the process does not start.

Adapters translate foreign exceptions at their edge: nothing above one knows asyncpg's, redis's or httpx's names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar, cast

E = TypeVar("E", bound=BaseException)


class ChatclusterError(Exception):
    """The root of the tree."""

    @property
    def message(self) -> str:
        """The text for people: what happened, and what to do next where that is known."""
        return str(self)


class ConfigError(ChatclusterError):
    """A setting is missing, malformed or contradicts another one."""


# --- the caller -------------------------------------------------------------------------------


class CallerError(ChatclusterError):
    """The request cannot be carried out. ``code`` is part of the API and never changes."""

    code = "bad_request"
    status = 400

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.details = details


class InvalidRequest(CallerError):
    """The body, a parameter or a header does not have the form that the API takes."""

    code = "invalid_request"


class UnknownModel(CallerError):
    """A message or a chat names a model that there is not, or that cannot be used now."""

    code = "unknown_model"


class InvalidCursor(CallerError):
    """A cursor that this API never gave out. Leave it away to start from the beginning."""

    code = "invalid_cursor"


class Unauthenticated(CallerError):
    code = "invalid_token"
    status = 401


class InvalidSession(Unauthenticated):
    """The session of the cookie has ended: logged out, expired, or its token is not valid any more. Sign in again."""

    code = "invalid_session"


class InvalidCode(Unauthenticated):
    """A code that was used, has expired, or never was one. `chatcluster link` makes a new one."""

    code = "invalid_code"


class Forbidden(CallerError):
    code = "forbidden"
    status = 403


class OutOfScope(Forbidden):
    """The token is valid, and not for this. One with the ``scope`` is needed, or one without scopes."""

    code = "out_of_scope"


class CrossOrigin(Forbidden):
    """A browser's request from a page of somebody else's, or one that does not say where it comes from."""

    code = "cross_origin"


class NotFound(CallerError):
    """There is no such thing, or it is not the caller's: the two are not told apart."""

    code = "not_found"
    status = 404


class ChatNotFound(NotFound):
    code = "chat_not_found"


class MessageNotFound(NotFound):
    code = "message_not_found"


class QueuedMessageNotFound(NotFound):
    code = "queued_message_not_found"


class ToolCallNotFound(NotFound):
    code = "tool_call_not_found"


class ProviderNotFound(NotFound):
    code = "provider_not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(CallerError):
    code = "method_not_allowed"
    status = 405


class RequestTimeout(CallerError):
    """The body did not arrive in time."""

    code = "request_timeout"
    status = 408


class Conflict(CallerError):
    """The request is well formed, but the chat's state does not allow it now."""

    code = "conflict"
    status = 409


class NotAllowedInStatus(Conflict):
    """The pair (event, status) is not in the table of ``chat/``."""

    code = "not_allowed_in_status"


class NotTurnEnd(Conflict):
    """A fork ends with a whole turn. ``before`` and ``after`` are the messages nearby that end one."""

    code = "not_turn_end"


class ChatBusy(Conflict):
    """A chat that is being worked on is not deleted. Interrupt it first."""

    code = "chat_busy"


class ChatArchived(Conflict):
    code = "chat_archived"


class ParentArchived(Conflict):
    code = "parent_archived"


class AgentChat(Conflict):
    code = "agent_chat"


class QueueFull(Conflict):
    code = "queue_full"


class ChatFull(Conflict):
    """History and queue are as long as a chat may be. Edit an earlier message, or start a new chat."""

    code = "chat_full"


class CallAnswered(Conflict):
    """The call does not wait for an answer any more: another one came first, or its time was over."""

    code = "call_answered"


class CallChanged(Conflict):
    """The call has other arguments than those that were approved. Look at it again."""

    code = "call_changed"


class UsageLimitExceeded(Conflict):
    """The user has spent what there is for this period: there is room again at ``resets_at``."""

    code = "usage_limit_exceeded"


class MessageNotUser(Conflict):
    """Only a user's message can be edited."""

    code = "message_not_user"


class MessageSummarized(Conflict):
    """What a model is told of in a summary cannot be deleted from under it."""

    code = "message_summarized"


class NameTaken(Conflict):
    code = "name_taken"


class ProviderInUse(Conflict):
    """There are models of this provider. Remove them, or give them another one, first."""

    code = "provider_in_use"


class IdempotencyKeyReused(Conflict):
    """The same ``Idempotency-Key`` came with another request."""

    code = "idempotency_key_reused"


class NoEncryptionKeys(Conflict):
    """There is a secret to store, and no key to encrypt it with; nothing was written."""

    code = "encryption_keys_missing"


class TooLarge(CallerError):
    code = "request_too_large"
    status = 413


class UnsupportedMediaType(CallerError):
    code = "unsupported_media_type"
    status = 415


class TooMany(CallerError):
    """A limit on concurrent use; try again after ``retry_after_seconds``."""

    code = "too_many"
    status = 429

    def __init__(self, message: str, *, retry_after_seconds: int = 1, **details: object) -> None:
        super().__init__(message, **details)
        self.retry_after_seconds = retry_after_seconds


# --- ownership --------------------------------------------------------------------------------


class OwnershipError(ChatclusterError):
    """The write was refused and nothing changed."""


class Fenced(OwnershipError):
    """Another tenure owns the chat, or none does: the runner ends without any further effect."""


class StreamFenced(Fenced):
    """The part stream has frames of another tenure, up to ``epoch``, where ours would go. It may be garbage, or of a
    tenure that Postgres has forgotten: only Postgres knows whether ours is over."""

    def __init__(self, message: str, *, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


class Moved(OwnershipError):
    """The chat is still ours, but its history or status moved under the runner: decide again."""


class LeaseLost(OwnershipError):
    """This incarnation of the replica is no longer alive in the eyes of the cluster."""


# --- others -----------------------------------------------------------------------------------


class ProviderError(ChatclusterError):
    """The model's server failed, or answered what cannot be used.

    ``kind`` is one of: generic, overloaded, rate_limit, timeout, stream_silence_timeout,
    stream_standstill_timeout, stream_incomplete, empty_answer, auth, config, usage_limit,
    content_filter, context_overflow, opaque_refused, answer_forgotten, answer_too_large, missing_key.
    ``retry_after_seconds`` is what the provider asked for, if it did.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "generic",
        retryable: bool = False,
        status_code: int | None = None,
        retry_after_seconds: float | None = None,
        provider: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds
        self.provider = provider


class UnavailableError(ChatclusterError):
    """A server that we depend on cannot be reached, or did not answer in time."""


class StoreUnavailable(UnavailableError):
    """Postgres. Whether the statement took effect is unknown unless the message says so."""


class StoreRefused(StoreUnavailable):
    """Postgres does not let this role, password or certificate in, or has no such database; nothing was done."""


class StoreLocked(StoreUnavailable):
    """Another session holds a row or a table that this needs, and held it for too long; nothing was done."""


class StoreFailed(StoreUnavailable):
    """Postgres works, and cannot do this one thing: the row cannot be read, or the value not be kept.

    Repeating it changes nothing. A request ends with it (500), a chat in an error. A loop that serves many says so and
    goes on, as it does while a server is away: therefore it is a ``StoreUnavailable``.
    """


class NoPlace(UnavailableError):
    """This replica has all the long histories that it can hold. Another one may have a place."""


class StreamsUnavailable(UnavailableError):
    """Redis. Live parts pause; nothing durable is touched."""


class StreamsMisconfigured(StreamsUnavailable):
    """Redis answers, and refuses a command: its rights, its settings or the URL have to be changed before a retry."""


class StreamRefused(StreamsUnavailable):
    """Redis refuses to work on one chat's stream; those of all others are as they were."""


class Unreadable(ChatclusterError):
    """What is stored of one chat has a form that this version does not know, or is damaged. Others are not affected."""


class HistoryTooLarge(ChatclusterError):
    """A history has more bytes than a replica reads. Edit an earlier message, or start a new chat."""


class SecretUnreadable(ChatclusterError):
    """A stored secret is sealed with a key that is not there, or was tampered with. It costs what it was for."""


class SchemaError(ChatclusterError):
    """The database's schema is older or newer than this version can work with."""


def errors_in(group: BaseExceptionGroup[E]) -> Iterator[E]:
    """The errors of a group, however deep, in their order."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from errors_in(cast("BaseExceptionGroup[E]", error))
        else:
            yield error


def first_error(group: BaseExceptionGroup[E]) -> E:
    """The error that is reported for a group: of several that failed together, people are told one."""
    return next(errors_in(group))
