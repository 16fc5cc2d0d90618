"""What only an insider sees of tool calls: each effect, at the moment at which it takes place (P7).

Checked at once:

* a call runs only once it is *started* in the ledger, and with the approval of somebody where its tool asks for one;
* the effect of a call that must not be repeated takes place once, and so does that of one which its agent tracks;
* a call during which three processes were killed does not run again;
* a call that has to run alone runs beside no other; one that its worker has ended does not take effect in that worker
  later.

And in the end: each result in the history is one that the tool or the client gave, a call that ran more than once says
so, what became of a call that is tracked is known, and no answer of a person was acknowledged and forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from checker.history import Kind

from chatcluster.agents import NAMES as AGENT_TOOLS
from chatcluster.chat import (
    DENIED_TEXT,
    NOT_APPROVED_AGAIN_TEXT,
    NOT_APPROVED_TEXT,
    AnswerQuestions,
    Approve,
    CallState,
    ChatState,
    Deny,
    SubmitToolResults,
)
from chatcluster.context import SUMMARY_CALL
from chatcluster.memory.tables import ChatRow
from chatcluster.parts import ToolCallPart, ToolResultPart
from chatcluster.ports import Approval, Effect, Tool
from simulation.questions import QuestionWatch

DEATHS_MAX = 3
RUN_AGAIN = "it was run again"
UNKNOWN = "The outcome is unknown"

Answer = Approve | Deny | SubmitToolResults | AnswerQuestions


class Run(NamedTuple):
    """One run of a call of a chat, in a process (named by anything that is one's own)."""

    chat_id: UUID
    process: object
    call_id: str


class CallWatch:
    """``violate`` hears of each violation."""

    def __init__(self, violate: Callable[[Kind, UUID, str], None]) -> None:
        self.effects: Counter[str] = Counter()
        self.questions = QuestionWatch(violate)
        self._violate = violate
        self._started: set[str] = set()
        self._tracked: set[str] = set()
        self._approved: set[str] = set()
        self._waits: Counter[str] = Counter()
        """How often a call began to wait for somebody, but for the answer to a question."""
        self._answers: Counter[str] = Counter()
        """How often an answer of a person, or of the client, was acknowledged."""
        self._submitted: dict[str, set[str]] = {}
        self._given: dict[str, set[str]] = {}
        self._running: dict[Run, Tool] = {}
        self._ended_by: dict[str, UUID | None] = {}
        """The worker in whose commit a call got its result."""
        self._deaths: Counter[str] = Counter()

    # --- the ledger ---------------------------------------------------------------------------

    def changed(self, before: ChatState, after: ChatState, *, edited: bool) -> None:
        """A transition took effect. What was ``edited`` away its owner has still to hear of."""
        still_open = {call.call_id for call in after.open_calls}
        for call in before.open_calls:
            if call.call_id not in still_open and not edited:
                self._ended_by[call.call_id] = before.worker_id
        self.questions.changed(before, after)
        waited = {call.call_id for call in before.open_calls if call.waits}
        for call in after.open_calls:
            if call.state is CallState.STARTED:
                self._started.add(call.call_id)
            if call.waits and call.call_id not in waited and call.state is not CallState.QUESTION:
                self._waits[call.call_id] += 1

    def answered(self, command: Answer) -> None:
        """An answer took effect."""
        if isinstance(command, Approve):
            self._approved.add(command.call_id)
        if isinstance(command, AnswerQuestions):
            self.questions.answered(command)
        if isinstance(command, SubmitToolResults):
            for result in command.results:
                self._submitted.setdefault(result.call_id, set()).add(str(result.content))

    def acknowledged(self, chat_id: UUID, command: Answer) -> None:
        """Its sender was told that it did, and not for the second time."""
        for call_id in command.call_ids:
            self._answers[call_id] += 1
            taken, waits = self._answers[call_id], self._waits[call_id] + self.questions.asked[call_id]
            if taken > waits:
                self._violate(Kind.ANSWER, chat_id, f"{taken} answers to {call_id} were taken; it waited {waits} times")

    # --- runs ---------------------------------------------------------------------------------

    def begins(self, run: Run, tool: Tool) -> None:
        chat_id, call_id = run.chat_id, run.call_id
        if call_id not in self._started:
            self._violate(Kind.UNSAID, chat_id, f"{call_id} runs, and the ledger does not say so")
        if tool.approval is Approval.ASK and call_id not in self._approved:
            self._violate(Kind.UNSAID, chat_id, f"{call_id} runs, and nobody approved it")
        if self._deaths[call_id] >= DEATHS_MAX:
            self._violate(Kind.RUN_TWICE, chat_id, f"{call_id} runs after {self._deaths[call_id]} deaths")
        beside = [other for other in self._running if other[:2] == run[:2]]
        if beside and (tool.runs_alone or any(self._running[other].runs_alone for other in beside)):
            self._violate(Kind.UNSAID, chat_id, f"{call_id} runs beside {[other.call_id for other in beside]}")
        self._running[run] = tool
        if tool.effect is Effect.TRACKED:
            self._tracked.add(call_id)

    def takes_effect(self, chat_id: UUID, call_id: str, tool: Tool, worker_id: UUID | None) -> None:
        self.effects[call_id] += 1
        if worker_id is not None and self._ended_by.get(call_id) == worker_id:
            self._violate(Kind.UNSAID, chat_id, f"{call_id} takes effect, and its worker has ended it before")
        if (
            tool.effect in (Effect.ONCE, Effect.TRACKED)
            and self.effects[call_id] > 1
            and self._approved_again(call_id) < 0
        ):
            self._violate(Kind.RUN_TWICE, chat_id, f"{call_id} took effect {self.effects[call_id]} times")

    def _approved_again(self, call_id: str) -> int:
        """Whether a person knew of each further run: each time it is asked for again."""
        return self._waits[call_id] - self.effects[call_id]

    def gives(self, call_id: str, text: str) -> None:
        self._given.setdefault(call_id, set()).add(text)

    def ends(self, run: Run) -> None:
        self._running.pop(run, None)

    def killed(self, process: object) -> None:
        """With all that ran in it."""
        for run in [run for run in self._running if run.process is process]:
            del self._running[run]
            self._deaths[run.call_id] += 1

    # --- in the end ---------------------------------------------------------------------------

    def check(self, row: ChatRow) -> None:
        names: dict[str, str] = {}
        for message in row.messages:
            for part in message.parts:
                if isinstance(part, ToolCallPart) and message.finish_reason == "interrupted":
                    self._violate(Kind.TOOL, row.id, f"{part.id} was not whole when it was stopped, and is history")
                if isinstance(part, ToolCallPart):
                    names[part.id] = part.name
                elif isinstance(part, ToolResultPart) and names.get(part.call_id) != SUMMARY_CALL:
                    self._check_result(row.id, part, names.get(part.call_id, "?"))

    def _check_result(self, chat_id: UUID, part: ToolResultPart, name: str) -> None:
        if name in AGENT_TOOLS:
            return  # see ``families.py``
        call_id, text = part.call_id, part.text
        submitted, given = self._submitted.get(call_id), self._given.get(call_id, set())
        if submitted and text not in submitted:
            self._violate(Kind.RESULT, chat_id, f"the client gave {submitted} for {call_id}, and it is {text[:80]!r}")
        if not submitted and not part.is_error and not any(mark in text for mark in given):
            self._violate(Kind.RESULT, chat_id, f"{text[:80]!r} is no result that {name} gave for {call_id}: {given}")
        if not part.is_error and self.effects[call_id] > 1 and RUN_AGAIN not in text:
            self._violate(
                Kind.RESULT, chat_id, f"{call_id} ran {self.effects[call_id]} times, and its result says nothing"
            )
        if call_id in self._tracked and (RUN_AGAIN in text or text.startswith(UNKNOWN)):
            self._violate(Kind.RESULT, chat_id, f"the agent knows of {call_id}, and its result is {text[:80]!r}")
        self.questions.check_result(chat_id, call_id, text)
        refused = text.startswith((DENIED_TEXT, NOT_APPROVED_TEXT, NOT_APPROVED_AGAIN_TEXT))
        if refused and call_id in self._approved and self._waits[call_id] < 2:
            self._violate(Kind.ANSWER, chat_id, f"{call_id} was approved, and its result is {text[:80]!r}")
