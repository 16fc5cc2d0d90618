"""What only an insider sees: each effect, at the moment at which it takes place, and whose it was.

Checked at once, from the inside of the servers (P2):

* an owner's write takes effect only in the tenure that the row names, worker and epoch both;
* a tenure is opened on the stream by the worker that claimed it, and no frame comes after one of a newer tenure;
* whose chats are given away because its lease has run out has stopped all work on them before, and does not work
  on them any more: not for an instant of its waking life;
* whose chats are given away because its session locks are free has ended, or lost all of its sessions (P4).

And in the end: each answer in the history is one that the model gave to that very message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from checker.history import Kind, Violation

from chatcluster.chat import ChatState, Fail, Fence, OwnerCommand, ScheduleRetry, event_name
from chatcluster.context import SUMMARY_CALL
from chatcluster.memory import MemoryDatabase
from chatcluster.parts import Frame, Message, OpenFrame, Position, Role, ToolCallPart, decode_frame, text_of
from chatcluster.ports import NO_ROW, Chat, Claimed, Death, Outcome, Proof, Silence
from simulation.call_watch import CallWatch
from simulation.harmed import Harmed
from simulation.provider import Answer
from simulation.trace import Trace


class Witnessed(Protocol):
    """A process, as far as the witness looks at it."""

    name: str
    thawed_at: float
    alive: bool

    @property
    def accepting(self) -> bool: ...

    @property
    def worker_id(self) -> UUID: ...

    def works_on(self, chat_id: UUID) -> bool: ...


class Witness:
    """``report`` gets each violation; ``attempt_failed`` hears whose attempt the provider let down."""

    def __init__(
        self,
        clock: Callable[[], float],
        trace: Trace,
        *,
        report: Callable[[Violation], None],
        attempt_failed: Callable[[UUID], None],
    ) -> None:
        self.database = MemoryDatabase(clock)
        self.failures: Counter[UUID] = Counter()
        """Turns that ended in an error, by chat."""
        self.harmed = Harmed(self.database)
        self.calls = CallWatch(self.violate)
        self.claims: dict[tuple[UUID, int], UUID] = {}
        self._trace = trace
        self._report = report
        self._attempt_failed = attempt_failed
        self._processes: dict[UUID, Witnessed] = {}
        self._forgotten: dict[tuple[UUID, int], set[UUID]] = {}
        """Who made the claims that failovers have lost: it opens its tenure for as long as it does not know."""
        self._given_away: dict[tuple[UUID, UUID], float] = {}
        """When a chat was taken from a worker whose lease had run out."""
        self._proofs: dict[UUID, Proof] = {}
        """Why a worker was taken for dead."""
        self._lost_tenures: set[tuple[UUID, UUID]] = set()
        """Chats that were taken from a worker, or that a failover changed under it: what it knew may be lost."""
        self._stopped: set[UUID] = set()
        """Workers that have found out themselves that their lease is lost."""
        self._without_sessions: set[UUID] = set()
        """Workers that a fault has once left without any session lock."""

    def note(self, what: str, *details: object) -> None:
        self._trace.note(self.database.clock(), what, *details)

    def worker(self, worker_id: UUID, process: Witnessed) -> None:
        self._processes[worker_id] = process
        self.note("incarnation", process.name, worker_id)

    def name_of(self, worker_id: UUID | None) -> str:
        process = None if worker_id is None else self._processes.get(worker_id)
        return str(worker_id)[:8] if process is None else f"{process.name}/{str(worker_id)[:4]}"

    def violate(self, kind: Kind, chat_id: UUID, detail: str) -> None:
        self._report(Violation(kind, str(chat_id), detail, self.database.clock()))

    # --- effects ------------------------------------------------------------------------------

    def claimed(self, claimed: Claimed, worker_id: UUID) -> None:
        chat = claimed.chat
        self.note("claim", chat.id, self.name_of(worker_id), f"epoch {chat.epoch}", chat.status)
        known = self.claims.setdefault((chat.id, chat.epoch), worker_id)
        if known != worker_id:
            self.violate(Kind.OWNER, chat.id, f"epoch {chat.epoch} was claimed by {known} and by {worker_id}")

    def forgotten(self, chat_id: UUID, state: ChatState) -> None:
        """A failover has lost what came after this state of the chat."""
        self.note("forgotten", chat_id, f"all after v{state.snapshot_version}", f"epoch {state.epoch}")
        self._lost_tenures.update((chat_id, worker_id) for worker_id in self._processes)
        lost = [(chat, epoch) for chat, epoch in self.claims if chat == chat_id and epoch > state.epoch]
        for claim in lost:
            self._forgotten.setdefault(claim, set()).add(self.claims.pop(claim))

    def committed(self, fence: Fence, command: OwnerCommand, before: ChatState, outcome: Outcome) -> None:
        name, chat = event_name(command), outcome.chat
        self.note(
            "commit", fence.chat_id, self.name_of(fence.worker_id), f"epoch {fence.epoch}", name,
            "replayed" if outcome.replayed else f"v{chat.snapshot_version}", chat.status,
        )  # fmt: skip
        if outcome.replayed:
            return
        if (before.worker_id, before.epoch) != (fence.worker_id, fence.epoch):
            self.violate(
                Kind.OWNER,
                fence.chat_id,
                f"{name} of {self.name_of(fence.worker_id)} in tenure {fence.epoch} took effect, "
                f"while {self.name_of(before.worker_id)} owned it in tenure {before.epoch}",
            )
        if isinstance(command, Fail):
            self.failures[fence.chat_id] += 1
        if isinstance(command, Fail | ScheduleRetry):
            self._attempt_failed(fence.worker_id)

    def buried(self, worker_id: UUID, orphans: Sequence[Chat], proof: Proof) -> None:
        self.note("buried", self.name_of(worker_id), str(proof), [c.id for c in orphans])
        self._lost_tenures.update((chat.id, worker_id) for chat in orphans)
        if proof != NO_ROW:
            self._proofs[worker_id] = proof
        # A chat whose row was locked then is freed when its owner has no row any more, on the same grounds.
        grounds = self._proofs.get(worker_id, proof)
        if isinstance(grounds, Silence) and not grounds.unlocked:
            for chat in orphans:
                self._give_away(chat.id, worker_id)
        if isinstance(proof, Death):
            self._check_death(worker_id)

    def session_broke(self, worker_id: UUID) -> None:
        if not any(owner == worker_id for owner, _ in self.database.locks):
            self._without_sessions.add(worker_id)

    def _check_death(self, worker_id: UUID) -> None:
        process = self._processes.get(worker_id)
        if process is None or process.worker_id != worker_id or not (process.alive and process.accepting):
            return
        if worker_id not in self._stopped and worker_id not in self._without_sessions:
            self._report(Violation(Kind.FALSE_TAKEOVER, "", f"{process.name} lives", self.database.clock()))

    def _give_away(self, chat_id: UUID, worker_id: UUID) -> None:
        """The lease has run out: by its own clock, its holder has known that for a while, if it was awake.

        What it claims in the very moment in which it stops, it gives back, as its fence allows.
        """
        self._given_away[chat_id, worker_id] = self.database.clock()
        process = self._processes.get(worker_id)
        if process is None or process.worker_id != worker_id or worker_id in self._stopped:
            return
        if process.works_on(chat_id):
            detail = f"{self.name_of(worker_id)} works on, although its lease has run out, and the chat is given away"
            self.violate(Kind.OWNER, chat_id, detail)

    def stopped(self, worker_id: UUID) -> None:
        self._stopped.add(worker_id)

    def framed(self, chat_id: UUID, frame: Frame, before: Position) -> None:
        if frame.position <= before:
            self.violate(Kind.OWNER, chat_id, f"the frame {frame.position} was added after {before}")

    def opens(self, chat_id: UUID, frame: Frame) -> None:
        body, epoch = decode_frame(frame.data), frame.position.epoch
        assert isinstance(body, OpenFrame)
        owner = self.claims.get((chat_id, epoch))
        known = {owner, *self._forgotten.get((chat_id, epoch), ())}
        if body.worker_id not in map(str, known):
            self.violate(Kind.OWNER, chat_id, f"{body.worker_id} opened tenure {epoch}, which {owner} claimed")

    def worked(self, answer: Answer) -> None:
        """The worker that asked for this answer took another word of it."""
        worker_id = answer.worker_id
        if worker_id is None or (answer.chat_id, worker_id) not in self._given_away:
            return
        given_away_at, process = self._given_away[answer.chat_id, worker_id], self._processes[worker_id]
        seconds = self.database.clock() - max(given_away_at, process.thawed_at)
        if seconds > 0:
            self.violate(
                Kind.OWNER,
                answer.chat_id,
                f"{self.name_of(worker_id)} works on {answer} {seconds:.2f} s after its lease had run out",
            )

    # --- in the end ---------------------------------------------------------------------------

    def asked(self, chat_id: UUID, prompt: Sequence[Message]) -> None:
        """The model is asked. If it is asked about the history as it is now, it is told all that nothing answered."""
        row, told = self.database.chats[chat_id], {message.id for message in prompt}
        if not row.messages or row.messages[-1].id != prompt[-1].id:
            return
        for message in reversed(row.messages):
            if message.role is Role.ASSISTANT and not calls_of(message):
                return
            if message.role is Role.USER and message.id not in told:
                self.violate(Kind.LOST, chat_id, f"the model is not told of {message.id}, which waits for an answer")

    def check_answers(self, answers: Sequence[Answer]) -> None:
        """Each answer in the history was given to the message before it, and in these words."""
        by_number = {f"<{answer.number} to {answer.question}>": answer for answer in answers}
        for row in self.database.chats.values():
            question = 0
            for message in row.messages:
                if message.role is Role.USER:
                    question = message.id
                if message.role is not Role.ASSISTANT:
                    continue
                if any(call.name == SUMMARY_CALL for call in calls_of(message)):
                    continue
                text = text_of(message.parts)
                answer = by_number.get(text[: text.find(">") + 1])
                partial = message.finish_reason == "interrupted"
                if not text and partial:
                    continue  # reasoning alone
                if answer is None or answer.question != question:
                    self.violate(Kind.TEXT, row.id, f"message {message.id} is {answer}, in answer to {question}")
                elif text != answer.said and not (partial and answer.said.startswith(text)):
                    self.violate(
                        Kind.TEXT, row.id, f"message {message.id} is {text[-40:]!r}, not {answer.said[-40:]!r}"
                    )

    def check_money(self, answers: Sequence[Answer]) -> None:
        """What was heard of an answer's cost is booked once, unless the one who heard it ended with it."""
        booked: Counter[int] = Counter()
        for key, row in self.database.kept.usage.items():
            number = row.spent.input_tokens
            if number is None:
                continue
            booked[number] += 1
            if not (0 < number <= len(answers) and answers[number - 1].taken) or booked[number] > 1:
                self.violate(Kind.MONEY, key.chat_id, f"{row.spent} is booked, in addition to what was reported")
        for answer in answers:
            if answer.taken and not booked[answer.number] and self._must_be_booked(answer):
                self.violate(Kind.MONEY, answer.chat_id, f"{answer} was reported to {answer.worker_id}, and not booked")

    def _must_be_booked(self, answer: Answer) -> bool:
        """Whether its worker lived on, with its chat."""
        worker_id = answer.worker_id
        process = None if worker_id is None else self._processes.get(worker_id)
        lives = process is not None and process.worker_id == worker_id and process.alive
        return lives and worker_id not in self._stopped and (answer.chat_id, worker_id) not in self._lost_tenures


def calls_of(message: Message) -> list[ToolCallPart]:
    return [part for part in message.parts if isinstance(part, ToolCallPart)]
