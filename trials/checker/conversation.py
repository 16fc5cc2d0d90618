"""One chat in the end: what its clients sent and were told, against its final history (P1, P4, P7).

A **turn** is a user's message and all that follows it up to the next one. In the history of a chat at rest
each turn has one answer, unless it was stopped: then it has a partial one or none, and some request
stopped it. A request stops one turn at most; so there are no more stopped turns than such requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from checker.history import FinalChat, FinalMessage, Kind, Violation, Write
from checker.loss import Loss, may_be_lost

AT_REST = ("waiting", "error")
SENDING = ("create", "send", "interrupting_send", "steering_send", "edit")


class Turn(NamedTuple):
    question: FinalMessage
    replies: tuple[FinalMessage, ...]

    @property
    def answers(self) -> tuple[FinalMessage, ...]:
        """What the assistant said at the end of the turn: not the messages that only call tools."""
        return tuple(reply for reply in self.replies if reply.role == "assistant" and not reply.calls)


def turns_of(messages: Sequence[FinalMessage], steered: Collection[str] = ()) -> Iterator[Turn]:
    """A message of the texts that were ``steered`` goes on with the turn if it stands behind results."""
    starts = [
        index
        for index, message in enumerate(messages)
        if message.role == "user" and not _goes_on(messages, index, steered)
    ]
    for start, end in pairwise([*starts, len(messages)]):
        yield Turn(messages[start], tuple(messages[start + 1 : end]))


def _goes_on(messages: Sequence[FinalMessage], index: int, steered: Collection[str]) -> bool:
    while index > 0 and messages[index].text in steered:
        index -= 1
        while index > 0 and _is_of_summary(messages[index]):
            index -= 1
        if messages[index].role == "tool":
            return True
    return False


def _is_of_summary(message: FinalMessage) -> bool:
    """A summary may be made in a turn and between two: it is no step of any."""
    return any(call_id.startswith("chat_summarized") for call_id in (*message.calls, *message.results))


class Conversation:
    """``check`` decides once, when the chat rests. ``failures`` is how many turns ended in an error."""

    def __init__(
        self,
        final: FinalChat,
        writes: Sequence[Write],
        failures: int,
        report: Callable[[Violation], None],
        losses: Sequence[Loss] = (),
    ) -> None:
        self.lost_by_failover = 0
        self._losses = losses
        self._final = final
        self._writes = sorted(writes, key=lambda write: write.began)
        self._failures = failures
        self._report = report
        self._by_text = {write.text: write for write in self._writes if write.op in SENDING}
        steered = {write.text for write in writes if write.op == "steering_send"}
        edits = {write.text for write in writes if write.op == "edit"} if steered else set()
        self._steered = steered | edits  # what replaces a message stands where that stood
        self._turns = list(turns_of(final.messages, self._steered))
        self._users = [message for message in final.messages if message.role == "user"]

    def check(self) -> None:
        """Report everything that is wrong with this chat."""
        self._check_rest()
        self._check_presence()
        self._check_absence()
        self._check_order()
        self._check_answers()
        self._check_calls()

    def _violate(self, kind: Kind, detail: str) -> None:
        self._report(Violation(kind, self._final.chat, detail))

    def _check_rest(self) -> None:
        final = self._final
        forgotten = final.queue and final.status == "waiting" and not final.archived
        if final.status not in AT_REST or final.worker_id is not None or forgotten:
            self._violate(
                Kind.STUCK, f"in the end it is {final.status}, owner {final.worker_id}, {len(final.queue)} queued"
            )

    # --- each message once --------------------------------------------------------------------

    def _check_presence(self) -> None:
        counts = Counter(message.text for message in self._users)
        ids = {message.text: message.id for message in self._users}
        for text, write in self._by_text.items():
            count = counts.pop(text, 0)
            if count > 1:
                self._violate(Kind.DUPLICATED, f"{text[:80]!r} is in the history {count} times")
            if count and not (write.acknowledged or write.unknown):
                self._violate(Kind.UNASKED, f"{text[:80]!r} was refused ({write.status}) and is in the history")
            if count or not write.acknowledged or self._removed(write) or self._still_queued(write):
                pass
            elif may_be_lost(write, self._losses):
                self.lost_by_failover += 1
            else:
                self._violate(Kind.LOST, f"{text[:80]!r} was acknowledged ({write.status}) and is not in the history")
            moved = count and write.message_id not in (None, ids[text])
            if moved and not may_be_lost(write, self._losses):  # if lost, a try of it that came late did it again
                self._violate(Kind.LOST, f"{text[:80]!r} was acknowledged as {write.message_id}, but is {ids[text]}")
        for text in counts:
            self._violate(Kind.UNASKED, f"{text[:80]!r} is in the history, and nobody sent it")

    def _removed(self, write: Write) -> bool:
        """Whether a later request took it away: deleted from the queue, or edited away."""
        return any(self._removes(other, write) for other in self._writes if other.acknowledged or other.unknown)

    def _removes(self, other: Write, write: Write) -> bool:
        """What a failover lost of the other request may be done again, by a try of it that was held up until then."""
        is_over = write.began > other.ended and not may_be_lost(other, self._losses)
        if other is write or other.target is None or is_over:
            return False
        if other.op == "delete":
            return other.target == write.queued_id
        return other.op == "edit" and (write.message_id is None or write.message_id >= other.target)

    def _still_queued(self, write: Write) -> bool:
        """A chat in error keeps its queue."""
        return write.queued_id is not None and write.queued_id in self._final.queue

    def _check_absence(self) -> None:
        ids = {message.id for message in self._final.messages}
        texts = {message.text for message in self._users}
        lasting = [write for write in self._writes if write.acknowledged and not may_be_lost(write, self._losses)]
        deleted = {write.target for write in lasting if write.op == "delete"}
        for write in lasting:
            if write.op == "edit" and write.target in ids:
                self._violate(Kind.UNASKED, f"message {write.target} was edited away and is in the history")
            if write.queued_id is not None and write.queued_id in deleted and write.text in texts:
                self._violate(Kind.UNASKED, f"{write.text[:80]!r} was deleted from the queue and is in the history")

    def _check_order(self) -> None:
        """First in, first out, but for what was promoted: and that may be whatever was not acknowledged."""
        ids = [message.id for message in self._final.messages]
        if ids != sorted(set(ids)):
            self._violate(Kind.ORDER, f"the IDs of the history do not increase: {ids}")
        promoted = {write.target for write in self._writes if write.op == "promote"}
        places = {message.text: place for place, message in enumerate(self._users)}
        in_order = [
            write
            for write in self._by_text.values()
            if write.text in places
            and write.acknowledged
            and write.queued_id not in promoted
            and write.op != "steering_send"  # which goes in before those that wait for the end of the turn
            and not may_be_lost(write, self._losses)
        ]
        for earlier, later in pairwise(in_order):
            if earlier.ended < later.began and places[earlier.text] > places[later.text]:
                self._violate(
                    Kind.ORDER, f"{later.text[:80]!r} comes before {earlier.text[:80]!r}, which was sent first"
                )

    # --- each answered once -------------------------------------------------------------------

    def _check_answers(self) -> None:
        stopped = []
        for turn in self._turns:
            if len(turn.answers) > 1:
                answers = [answer.id for answer in turn.answers]
                self._violate(Kind.ANSWERED_TWICE, f"message {turn.question.id} has the answers {answers}")
            elif not turn.answers or turn.answers[0].finish_reason == "interrupted":
                stopped.append(turn.question.id)
            self._check_text(turn)
        stops = sum(map(self._may_stop_an_answer, self._writes)) + self._stops_in_action()
        if len(stopped) > stops + self._failures:
            self._violate(
                Kind.UNANSWERED,
                f"messages {stopped} have no whole answer, but only {stops} requests could have stopped one, "
                f"and {self._failures} turns failed",
            )

    def _may_stop_an_answer(self, write: Write) -> bool:
        """Of a message that interrupts, where a failover lost what it did, a try that was held up may do it again."""
        again = write.op == "interrupting_send" and write.acknowledged and may_be_lost(write, self._losses)
        return again or write.may_stop_an_answer

    def _stops_in_action(self) -> int:
        """A message that interrupts a turn which waits for somebody takes its place at once: it was not queued."""
        unanswered = [turn.replies for turn in self._turns if turn.replies and not turn.answers]
        in_action = sum(replies[-1].role == "tool" for replies in unanswered)
        sends = [one for one in self._writes if one.op == "interrupting_send" and not self._may_stop_an_answer(one)]
        return min(in_action, sum(write.acknowledged for write in sends))

    def _check_text(self, turn: Turn) -> None:
        """The answer is the one to this message, not to another: whole, or as far as it got."""
        write = self._by_text.get(turn.question.text)
        if write is None or write.expected is None:
            return
        for answer in turn.answers:
            partial = answer.finish_reason == "interrupted"
            right = write.expected.startswith(answer.text) if partial else answer.text == write.expected
            if not right:
                self._violate(
                    Kind.TEXT, f"message {answer.id} says {answer.text[:60]!r} …, not {write.expected[:60]!r} …"
                )

    def _check_calls(self) -> None:
        """Each tool call has one result, after it and before the next user's message."""
        for turn in self._turns:
            open_calls: list[str] = []
            for reply in turn.replies:
                for call_id in reply.results:
                    if call_id not in open_calls:
                        self._violate(Kind.TOOL, f"message {reply.id} is a result of {call_id}, which is not open")
                    else:
                        open_calls.remove(call_id)
                open_calls += reply.calls
            if open_calls:
                self._violate(
                    Kind.TOOL, f"the calls {open_calls} in the turn of message {turn.question.id} have no result"
                )
