"""P10 while it happens: chats that a harm does not concern are served as if there was none.

Looked at from within, in worlds in which nothing but harms goes wrong, so that every delay is the cluster's. A chat
**waits** while it is runnable and its owner does not ask the model: for its turn, for a place, for its history, for a
commit. How long the model takes, and how long a retry was scheduled for, is nobody's delay. A reader **lags** while it
has not been told what the database, or the model, has said. Neither may last longer than ``DELAY_SECONDS_MAX``.

And no bystander ends in an error, and none is charged a try of the model for what others did to its owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import trio
from checker import Kind

from chatcluster.chat import Status
from chatcluster.memory.tables import ChatRow
from simulation.provider import Answer

if TYPE_CHECKING:
    from simulation.reader import Reader
    from simulation.run import World

LOOK_SECONDS = 0.1
DELAY_SECONDS_MAX = 2.0


class Wait(NamedTuple):
    """What somebody waits for, and since when."""

    what: object
    since: float


class Bystanders:
    """``run`` looks at every bystander now and then, until it is cancelled."""

    def __init__(self, world: World, chats: list[UUID]) -> None:
        self._world = world
        self._chats = chats
        self._waits: dict[object, Wait] = {}
        self._charged: set[UUID] = set()

    async def run(self) -> None:
        while True:
            await trio.sleep(LOOK_SECONDS)
            for chat_id in self._chats:
                self._look(self._world.witness.database.chats[chat_id])
            for reader in self._world.readers:
                self._look_at_reader(reader)

    def _look(self, row: ChatRow) -> None:
        answers = self._world.provider.count_of(row.id)
        waits = row.state.runnable and self._answer_to(row) is None and (row.retry_at or 0.0) <= self._world.now
        progress = (answers, row.state.history_version, row.state.status)
        self._judge(
            (row.id, "work"), row.id, progress if waits else None, f"is {row.state.status}, and nobody works on it"
        )
        charged = row.state.status is Status.ERROR or row.state.failures > 0
        if charged and row.id not in self._charged:
            self._charged.add(row.id)
            detail = f"{row.state.failures} tries were counted, error: {row.state.last_error}"
            self._world.witness.violate(Kind.BYSTANDER, row.id, detail)

    def _answer_to(self, row: ChatRow) -> Answer | None:
        """What its owner, which lives, is being told by the model right now."""
        answer = self._world.provider.under_way.get(row.id)
        if answer is None or answer.worker_id != row.state.worker_id:
            return None
        owners = (process for process in self._world.processes.present if process.worker_id == answer.worker_id)
        return answer if any(owner.alive for owner in owners) else None

    def _look_at_reader(self, reader: Reader) -> None:
        row = self._world.witness.database.chats[reader.chat_id]
        subscriber = reader.subscriber
        behind = row.state.snapshot_version > subscriber.version
        wanted = self._waits.get((reader, "version"), Wait(row.state.snapshot_version, 0.0)).what
        if behind and isinstance(wanted, int) and subscriber.version >= wanted:
            wanted = row.state.snapshot_version
        self._judge(
            (reader, "version"), row.id, wanted if behind else None, f"{reader.name} was told of {subscriber.version}"
        )
        self._look_at_preview(reader, self._answer_to(row))

    def _look_at_preview(self, reader: Reader, answer: Answer | None) -> None:
        key, shown = (reader, "words"), len(reader.subscriber.preview.text)
        if answer is None or not answer.said or answer.said == reader.subscriber.preview.text:
            self._judge(key, reader.chat_id, None, "")
            return
        wanted = self._waits.get(key, Wait((answer.number, len(answer.said)), 0.0)).what
        if not isinstance(wanted, tuple) or wanted[0] != answer.number or self._shows(reader, answer, wanted[1]):
            wanted = (answer.number, len(answer.said))
        self._judge(key, reader.chat_id, wanted, f"{reader.name} was shown {shown} characters of {answer}")

    def _shows(self, reader: Reader, answer: Answer, length: int) -> bool:
        return reader.subscriber.preview.text.startswith(answer.said[:length])

    def _judge(self, who: object, chat_id: UUID, what: object | None, detail: str) -> None:
        """``what`` is waited for, if anything: the same for too long is a violation, which is said once."""
        now = self._world.now
        if what is None:
            self._waits.pop(who, None)
            return
        wait = self._waits.get(who)
        if wait is None or wait.what != what:
            wait = self._waits[who] = Wait(what, now)
        if now - wait.since > DELAY_SECONDS_MAX:
            self._world.witness.violate(Kind.BYSTANDER, chat_id, f"{detail} for {now - wait.since:.1f} s")
            self._waits[who] = Wait(what, float("inf"))
