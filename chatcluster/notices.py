"""What is told after a commit: hints, lifecycle events, wake-ups. Best effort, after the fact, never data.

* One **hint** per chat on its hint channel, for the feeds of all replicas; the same on the owner's worker
  channel when somebody else than the owner changed the chat. The receiver of one reads the database.
* One **lifecycle event** on the user's channel for ``/watch``.
* A **wake-up** when the chat became claimable: this replica tries first, in process; only if it has no
  place for the chat does it tell the others. Chats of a dead replica are many: all replicas are told at
  once. A replica that is not told finds the chat with its next poll.

The feeds of this very replica are told before the others, of the outcome itself (``hand_over``): they may take it for
a read (``feed.py``).

A lost notice costs time (the polls), never correctness. One that cannot be understood, of another version say, is
like a gap: the receiver looks into the database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec

from chatcluster import telemetry
from chatcluster.offers import Offer
from chatcluster.parts import UNDECODABLE, Message, Role, encode
from chatcluster.ports import (
    RUNNABLE_CHANNEL,
    VERSION_MAX,
    Chat,
    Gap,
    Hint,
    Outcome,
    PubSub,
    hint_channel,
    hint_of,
    owner_channel,
    worker_channel,
)
from chatcluster.usage import Bill

T = TypeVar("T")

DIFF_STATUS = "diff_status"
"""The lifecycle of what a workspace's git says; its version is that of the diff, and not the chat's."""
LIFECYCLES = ("created", "status", "title", "archived", "unarchived", "changed", "deleted")


LAST = VERSION_MAX
"""The version of a chat that is gone: nothing is newer."""


class Lifecycle(msgspec.Struct, frozen=True):
    """Something in a user's list of chats changed."""

    kind: str
    chat_id: UUID
    snapshot_version: int


_hint_decoder = msgspec.json.Decoder(Hint)
_not_understood = telemetry.Seldom("notice.not_understood")
_lifecycle_decoder = msgspec.json.Decoder(Lifecycle)


def hint_in(payload: bytes | Gap) -> Hint | None:
    """The hint that was received; None after a gap or for unknown bytes: then anything may have changed."""
    return _understood(_hint_decoder, payload)


def lifecycle_in(payload: bytes | Gap) -> Lifecycle | None:
    """The event that was received; None as above."""
    return _understood(_lifecycle_decoder, payload)


def _understood(decoder: msgspec.json.Decoder[T], payload: bytes | Gap) -> T | None:
    if isinstance(payload, Gap):
        return None
    try:
        return decoder.decode(payload)
    except UNDECODABLE as error:
        _not_understood.event(error=type(error).__name__)
        return None


def diff_changed(pubsub: PubSub, owner_id: UUID, chat_id: UUID, version: int) -> None:
    """Tell the list of the chat's owner that the diff of its workspace is another one."""
    pubsub.publish(owner_channel(owner_id), encode(Lifecycle(DIFF_STATUS, chat_id, version)))


def report_end(outcome: Outcome, asked: Message | None = None, **fields: object) -> None:
    """Say of the turn that ended with this what there is to say of it. ``asked``: what it answered until then; what its
    user said meanwhile may have taken the place of that."""
    turn = outcome.ended
    if turn is None:
        _report_steered(outcome, asked)
        return
    bill = turn.usage or Bill()
    told = {"code": turn.code, "parent_id": outcome.chat.parent_id and str(outcome.chat.parent_id)}
    telemetry.event(
        "chat.turn",
        chat_id=str(outcome.chat.id),
        message_id=turn.message_id,
        outcome=turn.outcome,
        duration_ms=turn.duration_ms,
        input_tokens=bill.input_tokens,
        output_tokens=bill.output_tokens,
        **{name: text for name, text in told.items() if text},
        **fields,
    )


def _report_steered(outcome: Outcome, asked: Message | None) -> None:
    """A turn is that of the newest message which it answers."""
    steered = [message for message in outcome.messages if message.role is Role.USER]
    if steered and asked is not None:
        telemetry.event(
            "chat.steered",
            chat_id=str(outcome.chat.id),
            message_id=asked.id,
            goes_on_as=steered[-1].id,
            outcome="steered",
            duration_ms=max(0, int((steered[-1].created_at - asked.created_at).total_seconds() * 1000)),
        )


class Notices:
    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub
        self._claim_here: Callable[[], bool] = _nobody_claims_here
        self.offer: Callable[[UUID], Offer | None] = _nothing_offered
        """A place here for a chat that is about to be woken, if there is one."""
        self._learn: Callable[[Chat], None] = _nobody_learns
        self.hand_over: Callable[[Outcome], None] = _nobody_reads
        """Gets what was committed here, for those who read it here."""

    def set_claimer(self, claim_here: Callable[[], bool], offer: Callable[[UUID], Offer | None]) -> None:
        """``claim_here`` wakes the claimer of this replica and tells whether it has a place for a chat.
        ``offer`` offers one."""
        self._claim_here, self.offer = claim_here, offer

    def set_readers(self, learn: Callable[[Chat], None], hand_over: Callable[[Outcome], None]) -> None:
        """``learn`` gets every chat that is told of here, so that its owner is known without a read."""
        self._learn, self.hand_over = learn, hand_over

    def committed(self, chat: Chat, lifecycle: str | None = None, *, by_owner: bool = False) -> None:
        """Tell of a transition of ``chat``; ``lifecycle`` is one of ``LIFECYCLES`` if it matters to lists."""
        self._learn(chat)
        hint = encode(hint_of(chat))
        self._pubsub.publish(hint_channel(chat.id), hint)
        if chat.worker_id is not None and not by_owner:
            self._pubsub.publish(worker_channel(chat.worker_id), hint)
        self._tell_lists(chat, lifecycle)
        if chat.claimable:
            self.claimable()

    def began(self, chat: Chat, lifecycle: str | None) -> None:
        """As ``committed``, where a tenure began here with the transition: that tells of the status as it opens."""
        self._learn(chat)
        self._tell_lists(chat, None if lifecycle == "status" else lifecycle)

    def _tell_lists(self, chat: Chat, lifecycle: str | None) -> None:
        if lifecycle is not None and chat.parent_id is None:  # lists have no agents
            event = Lifecycle(lifecycle, chat.id, chat.snapshot_version)
            self._pubsub.publish(owner_channel(chat.owner_id), encode(event))

    def deleted(self, chat: Chat) -> None:
        """Tell that a chat is gone: its readers look for it in vain."""
        self._pubsub.publish(
            hint_channel(chat.id), encode(msgspec.structs.replace(hint_of(chat), snapshot_version=LAST))
        )
        self._pubsub.publish(owner_channel(chat.owner_id), encode(Lifecycle("deleted", chat.id, LAST)))

    def orphaned(self, chats: Sequence[Chat]) -> None:
        """The owner of ``chats`` is gone: all replicas that have a place claim, at once and side by side.

        Their readers are told by the claims. Only if nobody here has a place are they told before: a reader's
        feed that reads the database for a change which the next claim overtakes would delay that claim.
        """
        self._pubsub.publish(RUNNABLE_CHANNEL, b"")
        if not self._claim_here():
            for chat in chats:
                self.committed(chat, "status")

    def claimable(self) -> None:
        """There is a chat to claim: take it here, or let the others know."""
        if not self._claim_here():
            self._pubsub.publish(RUNNABLE_CHANNEL, b"")


def _nobody_claims_here() -> bool:
    return False


def _nothing_offered(_: UUID) -> None:
    return


def _nobody_learns(_: Chat) -> None:
    return


def _nobody_reads(_: Outcome) -> None:
    return
