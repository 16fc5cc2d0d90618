"""One conversation: a chat, who writes to it, and who reads it, from its creation to its end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NoReturn

import trio
from checker import Checker, FinalChat, Subscriber
from checker.history import message_of

from chaos.api import Api, NotFound
from chaos.broken_answers import BrokenAnswers
from chaos.reader import Reader
from chaos.tools import Tools
from chaos.writer import Writer

SETTLE_SECONDS_MAX = 60.0
CATCH_UP_SECONDS_MAX = 15.0
AT_REST = ("waiting", "error")
LOOK_SECONDS = 2.0
POLL_SECONDS = 0.1
ANSWER_SECONDS_MAX = 1.0


class Talk:
    """``run`` returns when the chat has been concluded. The first reader tells the writer what happens.

    A failover may take back that the chat was created. Then its readers are told that there is none, and the talk ends.
    """

    def __init__(
        self,
        writer: Writer,
        read: Callable[[str], Sequence[Reader]],
        api: Api,
        checker: Checker,
        mix: dict[str, float],
        tools: Tools | None = None,
        home: Api | None = None,
        broken: BrokenAnswers | None = None,
    ) -> None:
        """``home``: replicas that know of agents, where not all of them may. ``broken``: if they can be known."""
        self.writer = writer
        self.readers: Sequence[Reader] = ()
        self._read = read
        self._api = api
        self._home = home or api
        self._checker = checker
        self._mix = mix
        self._tools = tools
        self._broken = broken
        self._losses = 0
        """How many failovers there were when the chat was looked at last."""

    async def run(self, ending: trio.Event) -> FinalChat | None:
        """Talk until the writer is done or ``ending``, let it come to rest, and check it. None: the chat is gone."""
        await self.writer.create(self._home)
        self.readers = self._read(self.writer.chat)
        async with trio.open_nursery() as nursery:
            for reader in self.readers:
                nursery.start_soon(reader.run)
            nursery.start_soon(self._end_if_gone, nursery.cancel_scope)
            if self._tools is not None:
                nursery.start_soon(self._answer_calls, self._tools)
            await self.writer.run(self.readers[0], self._mix, ending)
            final = await self._settle()
            while self._checker.losing or len(self._checker.losses) != self._losses:
                final = await self._settle()
            nursery.cancel_scope.cancel()
        if self.readers[0].gone.is_set():
            self._checker.gone(self.writer.chat)
            return None
        failures = [] if self._broken is None else self._broken.of(self.writer.name, self.writer.chat)
        self._checker.conclude(final, failures)
        if self._tools is not None:
            messages, _ = await self._api.history(self.writer.chat)
            self._tools.judge(self.writer.chat, messages)
            await self._tools.families.judge(self._home, self.writer.chat, messages)
        return final

    async def _end_if_gone(self, talk: trio.CancelScope) -> None:
        await self.readers[0].gone.wait()
        talk.cancel()

    async def _end_with_it(self, error: NotFound) -> NoReturn:
        """Wait for the readers to be told so, which ends the talk. Raises ``error`` if the chat has to be there."""
        if not self._checker.may_be_gone(self.writer.chat):
            raise error
        await trio.sleep_forever()

    async def _answer_calls(self, tools: Tools) -> None:
        """Whoever the chat asks answers, after a while. One that runs may ask as well: it is looked at now and then."""
        draw, looked = random.Random(self.writer.chat), trio.current_time()
        while True:
            status, now = self.readers[0].subscriber.status, trio.current_time()
            if status == "requires_action" or (status == "running" and now - looked >= LOOK_SECONDS):
                await trio.sleep(draw.uniform(0, ANSWER_SECONDS_MAX))
                try:
                    await tools.answer(self._api, self.writer.chat, draw)
                except NotFound as error:
                    await self._end_with_it(error)
                looked = trio.current_time()
            with trio.move_on_after(LOOK_SECONDS):
                await self.readers[0].progress.wait()

    async def _settle(self) -> FinalChat:
        """The chat at rest, with every reader up to date; or as it is when time is up. After a failover: again."""
        while self._checker.losing:  # noqa: ASYNC110 - the checker knows no events
            await trio.sleep(POLL_SECONDS)
        self._losses = len(self._checker.losses)
        final = await self._final()
        with trio.move_on_after(SETTLE_SECONDS_MAX):
            while not _rests(final):
                with trio.move_on_after(LOOK_SECONDS):  # the reader may be the last to hear of it
                    await self.writer.rest()
                await trio.sleep(POLL_SECONDS)
                final = await self._final()
        with trio.move_on_after(CATCH_UP_SECONDS_MAX):
            for reader in self.readers:
                while not _is_told(reader.subscriber, final) or reader.watch is not None:
                    await reader.progress.wait()
        return final

    async def _final(self) -> FinalChat:
        try:
            chat = await self._api.read(f"/chats/{self.writer.chat}")
            messages, queue = await self._api.history(self.writer.chat)
        except NotFound as error:
            await self._end_with_it(error)
        return FinalChat(
            chat=chat["id"],
            status=chat["status"],
            snapshot_version=chat["snapshot_version"],
            archived=chat["archived"],
            worker_id=chat["worker_id"],
            queue=tuple(item["id"] for item in queue),
            messages=tuple(message_of(message) for message in messages),
        )


def _is_told(reader: Subscriber, final: FinalChat) -> bool:
    """Whether the reader was told all that the version has: its last events may be on their way yet."""
    if reader.version == final.snapshot_version:
        return (reader.status, reader.queue) == (final.status, final.queue)
    return reader.version > final.snapshot_version


def _rests(final: FinalChat) -> bool:
    return final.status in AT_REST and (not final.queue or final.status == "error")
