"""Short histories that this store wrote or read last: the tenure that begins with a claim need not read them again.

A replica that takes a message mostly claims its chat as well, and often ran the chat's last turn. So it has the whole
history in its hands: what it has read, and what was committed and sent here since.

Postgres is authoritative. A version names one state of a history, on one server. So a history is kept under its
version, and goes on to the next only by a transition of this store that began at just that version. A claim
**confirms** it, if the row that was claimed says the same version; only then it is given out, and once. Everything else
is forgotten, and read as ever: what another replica changed, what was rewritten, a commit that was a repeat.

A server that took the place of another may give versions out again. It is only reached by a new connection, so with
each of those the pool is of another **generation**, and all that was learned before is forgotten. Behind a pooler,
which hides the server's connections, nothing is kept at all.

Bounded in bytes: of one history, and of all.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple
from uuid import UUID

from chatcluster.parts import Message
from chatcluster.ports import Claimed, HistoryPage, Outcome
from chatcluster.room import bytes_of

HISTORY_BYTES_MAX = 32 << 10
TOTAL_BYTES_MAX = 8 << 20


class _Known(NamedTuple):
    generation: int
    history_version: int
    messages: tuple[Message, ...]
    size_bytes: int
    is_confirmed: bool = False


class KnownHistories:
    """``generation`` is that of the pool, from before the transaction which is told of."""

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, _Known] = OrderedDict()
        self._size_bytes = 0

    def __repr__(self) -> str:
        return f"<KnownHistories {len(self._known)} of {self._size_bytes} bytes>"

    def keep(self, chat_id: UUID, page: HistoryPage, generation: int) -> None:
        """This is the whole history of the chat at its version."""
        self.forget(chat_id)
        if page.has_more or page.size_bytes > HISTORY_BYTES_MAX:
            return
        self._known[chat_id] = _Known(generation, page.history_version, page.messages, page.size_bytes)
        self._size_bytes += page.size_bytes
        while self._size_bytes > TOTAL_BYTES_MAX:
            self.forget(next(iter(self._known)))

    def made(self, outcome: Outcome, generation: int) -> None:
        """A chat was made, with all the messages that it has."""
        chat, messages = outcome.chat, outcome.messages
        self.read(chat.id, chat.history_version, messages, generation)

    def learn(self, before: int, outcome: Outcome, generation: int) -> None:
        """A transition that found the history at version ``before``, 0 if that is not known."""
        chat, added = outcome.chat, outcome.messages
        known = self.forget(chat.id)
        is_rewritten = outcome.replayed or chat.reset_version == chat.snapshot_version
        if known is None or is_rewritten or known[:2] != (generation, before):
            return
        messages, size_bytes = (*known.messages, *added), known.size_bytes + bytes_of(added)
        self.keep(chat.id, HistoryPage(chat.history_version, messages, size_bytes, has_more=False), generation)

    def version(self, chat_id: UUID, generation: int) -> int:
        """The version of the history that is known of the chat; 0 if none is."""
        known = self._known.get(chat_id)
        return known.history_version if known is not None and known.generation == generation else 0

    def read(self, chat_id: UUID, version: int, messages: tuple[Message, ...], generation: int) -> None:
        """This was the whole history of the chat at this version."""
        self.keep(chat_id, HistoryPage(version, messages, bytes_of(messages), has_more=False), generation)

    def confirm(self, claimed: Claimed, generation: int) -> None:
        """The chat was just claimed: the database has said of which version its history is."""
        chat = claimed.chat
        known = self._known.get(chat.id)
        if known is not None and known[:2] == (generation, chat.history_version):
            self._known[chat.id] = known._replace(is_confirmed=True)
        else:
            self.forget(chat.id)

    def take(self, chat_id: UUID, generation: int) -> HistoryPage | None:
        """The history of a chat that was just claimed, once."""
        known = self._known.get(chat_id)
        if known is None or not known.is_confirmed or known.generation != generation:
            return None
        self._known[chat_id] = known._replace(is_confirmed=False)
        self._known.move_to_end(chat_id)
        return HistoryPage(known.history_version, known.messages, known.size_bytes, has_more=False)

    def forget(self, chat_id: UUID) -> _Known | None:
        known = self._known.pop(chat_id, None)
        if known is not None:
            self._size_bytes -= known.size_bytes
        return known
