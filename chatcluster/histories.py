"""Reads the history of a chat within its own tenure, bounded in bytes: of one chat, and of all that a replica has.

A history of one page is read at once. For a longer one there is a **place** to be had first: the long histories that a
replica holds at a time have ``LONG_HISTORIES_BYTES`` together, by turns between users (``byte_places.py``). Nobody
waits for a place with one in hand, so there is no circle of waiters; a chat for which there is none for
``PLACE_SECONDS_MAX`` is given back, as another replica may have one. So a long history can keep waiting other long ones
of its user, and nothing else.

What happens on failure: a history above its bound raises ``HistoryTooLarge``, one that cannot be read ``Unreadable``,
one that changed while it was read ``Moved``, one that there is no place for ``NoPlace``.

Of a history that was summarised, what the model is given is read: the newest summary, what it keeps, and what came
since. A version that knew nothing of summaries may have edited it; then there is none where it is said to be, and it is
read like one without.

A history without a summary is read backwards, until there is certainly more of it than the model takes
(``context.py``), and the last turn is whole: what is before that can only be summarised, and of a summary's request
there is room for the newest alone. Which model is asked may change within a tenure; ``known`` says whether what was
read is enough for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.byte_places import BytePlaces
from chatcluster.config import Settings
from chatcluster.content import SummaryPart
from chatcluster.context import TOKEN_BYTES, has_whole_turn, newest_summary, prompt_of, tokens_of, unsendable_tokens
from chatcluster.errors import HistoryTooLarge, Moved, NoPlace, Unreadable
from chatcluster.parts import Message, Role, strings_of
from chatcluster.ports import VERSION_MAX, Chat, HistoryPage, Store, Windows
from chatcluster.ports.histories import MESSAGE_BYTES_MAX
from chatcluster.ports.prompts import NOTHING_TOLD
from chatcluster.repeats import until_known
from chatcluster.turn import asked_model

PAGE_BYTES = 1 << 20
PAGE_BYTES_MIN = 64 << 10
LONG_HISTORIES_BYTES = 80 << 20
PLACE_SECONDS_MAX = 10.0


def bytes_max_of(settings: Settings) -> int:
    """Bytes that are read of a history: as many as a chat may hold, and one more answer."""
    return settings.sizes.history_bytes_max + settings.streaming.attempt_bytes_max


class History:
    """The history of one chat for one tenure. Leave it with ``close``: it may hold a place."""

    def __init__(self, store: Store, places: BytePlaces, settings: Settings, windows: Windows) -> None:
        self.messages: list[Message] | None = None
        """None until they are read. Messages that are too old for any request are left out."""
        self.prompts = NOTHING_TOLD
        """What its model is told before it, as of the claim."""
        self.is_plain = False
        """What only a provider understands was refused by it, and is left out from there on."""
        self._store = store
        self._places = places
        self._windows = windows
        self._bytes_max = bytes_max_of(settings)
        self._owner_id: UUID | None = None
        self._held_bytes = 0
        self._size_bytes = 0
        self._tokens = inf
        """The tokens of what was read, if something was left out."""

    def close(self) -> None:
        """Forget the messages."""
        self.messages = None
        self._hold_no_more_than(0)
        self._tokens = inf

    def extend(self, messages: Sequence[Message]) -> None:
        if self.messages is not None:
            self.messages.extend(messages)
            self._size_bytes += sum(len(text) for new in messages for part in new.parts for text in strings_of(part))

    def require_room(self) -> None:
        """Raise ``HistoryTooLarge`` if a turn has added more than a later owner would read."""
        if self._size_bytes > self._bytes_max:
            raise self._too_large()

    @property
    def asked(self) -> Message | None:
        """The message that the turn answers, as far as it is known."""
        return next((message for message in reversed(self.messages or ()) if message.role is Role.USER), None)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What of it the model is given."""
        return prompt_of(self.messages or ())

    def known(self, chat: Chat) -> list[Message] | None:
        """The messages, if they are read, and enough of them for the model that is asked now."""
        messages = self.messages
        if messages is None or self.is_whole or self._tokens > self._wanted_tokens(chat, messages):
            return messages
        return None

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out, so that it can be sent as it is."""
        return self._tokens == inf

    async def read(self, chat: Chat) -> None:
        """The messages, as of the version of ``chat``."""
        self.messages = await until_known(lambda: self._read(chat, inf), chat.id)

    async def asked_model(self, chat: Chat) -> str | None:
        """The model that was asked last, as far as that can be read."""
        if self.messages is None:
            try:
                self.messages = await until_known(lambda: self._read(chat, 0), chat.id)
            except (HistoryTooLarge, NoPlace, Unreadable) as error:
                telemetry.event("history.unreadable", chat_id=str(chat.id), error=str(error))
        return asked_model(self.messages or ()) or chat.model

    async def _read(self, chat: Chat, tokens_max: float) -> list[Message]:
        """``tokens_max``: more than so many are not wanted, whatever the model takes."""
        self.close()
        since = chat.summaries[-1] if chat.summaries else 0
        messages, size_bytes = await self._read_since(chat, since) if since else ([], 0)
        _, summary = newest_summary(messages)
        if summary is None:
            self.close()
            messages, size_bytes = await self._read_newest(chat, tokens_max)
        else:
            messages[:0] = await self._kept(chat, summary, frozenset(message.id for message in messages))
        self._keep(size_bytes)
        return messages

    async def _read_since(self, chat: Chat, since: int) -> tuple[list[Message], int]:
        page = await self._page(chat, self._bytes_max, since=since)
        messages, size_bytes = list(page.messages), page.size_bytes
        while page.has_more:
            await self._take_place(chat)
            page = await self._page(chat, self._bytes_max - size_bytes, after=messages[-1].id)
            messages.extend(page.messages)
            size_bytes += page.size_bytes
        return messages, size_bytes

    async def _read_newest(self, chat: Chat, tokens_max: float) -> tuple[list[Message], int]:
        """From the end on, as much as is wanted; and the system text that the history begins with."""
        page_bytes = _page_bytes(min(tokens_max, self._wanted_tokens(chat, ())))
        page = await self._page(chat, self._bytes_max, before=VERSION_MAX, page_bytes=page_bytes)
        messages, size_bytes, tokens = list(page.messages), page.size_bytes, _tokens_of(page)
        while page.has_more:
            if tokens > min(tokens_max, self._wanted_tokens(chat, messages)) and has_whole_turn(messages):
                self._tokens = tokens
                return [*await self._beginning(chat, messages[0]), *messages], size_bytes
            await self._take_place(chat)
            page = await self._page(chat, self._bytes_max - size_bytes, before=messages[0].id)
            messages[:0] = page.messages
            size_bytes += page.size_bytes
            tokens += _tokens_of(page)
        return messages, size_bytes

    def _wanted_tokens(self, chat: Chat, messages: Sequence[Message]) -> float:
        window = self._windows(asked_model(messages) or chat.model, chat.failures)
        return inf if window is None else unsendable_tokens(window)

    async def _beginning(self, chat: Chat, read: Message) -> list[Message]:
        page = await self._page(chat, self._bytes_max, page_bytes=1)
        return [message for message in page.messages if message.role is Role.SYSTEM and message.id < read.id]

    async def _kept(self, chat: Chat, summary: SummaryPart, read: frozenset[int]) -> list[Message]:
        """What the summary keeps of the messages before it: a few, each read alone."""
        kept: list[Message] = []
        for message_id in summary.keeps:
            if message_id not in read:
                page = await self._page(chat, self._bytes_max, after=message_id - 1, page_bytes=1)
                kept.extend(message for message in page.messages if message.id == message_id)
        return kept

    async def _take_place(self, chat: Chat) -> None:
        if self._held_bytes:
            return
        with trio.move_on_after(PLACE_SECONDS_MAX):
            await self._places.take(chat.owner_id, self._bytes_max)
            self._owner_id, self._held_bytes = chat.owner_id, self._bytes_max
            return
        raise NoPlace("this replica holds as many long histories as it can")

    def _keep(self, size_bytes: int) -> None:
        """Give back what was taken to be safe."""
        self._size_bytes = size_bytes
        self._hold_no_more_than(size_bytes)

    def _hold_no_more_than(self, size_bytes: int) -> None:
        if self._held_bytes > size_bytes:
            self._places.give_back(self._owner_id, self._held_bytes - size_bytes)
            self._held_bytes = size_bytes

    async def _page(
        self,
        chat: Chat,
        bytes_left: int,
        *,
        after: int = 0,
        since: int = 0,
        before: int = 0,
        page_bytes: int = PAGE_BYTES,
    ) -> HistoryPage:
        page = await self._store.read_history(
            chat.id,
            after=after,
            page_bytes=page_bytes,
            message_bytes_max=min(bytes_left, MESSAGE_BYTES_MAX),
            since=since,
            before=before,
        )
        if page.size_bytes > bytes_left:
            raise self._too_large()
        if page.history_version != chat.history_version:
            raise Moved(f"history moved from version {chat.history_version} to {page.history_version}")
        return page

    def _too_large(self) -> HistoryTooLarge:
        return HistoryTooLarge(f"the history of this chat has more than {self._bytes_max} bytes")


def _page_bytes(tokens: float) -> int:
    """The bytes of a page that, as a rule, is as long as what is wanted."""
    return int(min(max(tokens * TOKEN_BYTES, PAGE_BYTES_MIN), PAGE_BYTES))


def _tokens_of(page: HistoryPage) -> int:
    return sum(map(tokens_of, page.messages))
