"""The checker accepts what keeps the promises, and for each promise rejects a history that breaks it.

A history is told in two voices: ``Reading`` is what one reader was sent, ``Asking`` what the clients wrote. Each bad
one differs from a good one in one thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from checker import Checker, Event, Fault, FinalChat, FinalMessage, Kind, Recovery, Write

CHAT = "chat"
WORKERS = {1: "worker-a", 2: "worker-b", 3: "worker-c"}


def user(number: int, text: str) -> FinalMessage:
    return FinalMessage(id=number, role="user", text=text, revision=number)


def answer(number: int, text: str, finish_reason: str = "stop") -> FinalMessage:
    return FinalMessage(id=number, role="assistant", text=text, revision=number, finish_reason=finish_reason)


def calling(number: int, *calls: str) -> FinalMessage:
    return FinalMessage(id=number, role="assistant", text="", revision=number, calls=calls)


def result(number: int, call: str) -> FinalMessage:
    return FinalMessage(id=number, role="tool", text="", revision=number, results=(call,))


def final(*messages: FinalMessage, **fields: Any) -> FinalChat:
    return replace(FinalChat(chat=CHAT, status="waiting", snapshot_version=9, messages=messages), **fields)


def sent(text: str, at: float, **fields: Any) -> Write:
    return replace(Write(chat=CHAT, op="send", began=at, ended=at + 0.1, status=201, text=text), **fields)


def asked(op: str, at: float, **fields: Any) -> Write:
    return replace(Write(chat=CHAT, op=op, began=at, ended=at + 0.1, status=200), **fields)


def verdict_of(history: FinalChat, *writes: Write) -> dict[Kind, int]:
    """What is wrong with a chat that nobody read."""
    checker = Checker()
    for write in writes:
        checker.wrote(write)
    checker.conclude(history)
    return wrong(checker)


def wrong(checker: Checker) -> dict[Kind, int]:
    return {kind: count for kind, count in checker.verdict().counts.items() if count}


class Reading:
    """One reader's events, with cursors as the cluster gives them out, unless ``cursor`` is given."""

    def __init__(self, checker: Checker, name: str = "reader") -> None:
        self.checker = checker
        self.subscriber = checker.subscriber(CHAT, name)
        self.time = 0.0
        self.version = 0
        self.position = "0-0"
        self._attempt = 0

    def event(self, kind: str, cursor: str | None = None, **data: Any) -> None:
        self.time += 0.1
        place = cursor or f"{self.version}.{self.position}"
        self.subscriber.observe(Event(self.time, "replica-1", place, kind, data))

    def join(self, status: str = "waiting", epoch: int = 0) -> Reading:
        """Connect, with the first events of a connection that has missed nothing."""
        self.subscriber.connected()
        self.status(status, epoch)
        self.event("queue", queue=[])
        return self

    def status(self, status: str, epoch: int = 0, *, version: int | None = None, worker: str | None = None) -> None:
        self.version = self.version if version is None else version
        owned = status in ("running", "interrupting")
        worker_id = (worker or WORKERS[epoch]) if owned else None
        self.event("status", status=status, epoch=epoch, worker_id=worker_id, archived=False)

    def message(self, message: FinalMessage, position: str | None = None, cursor: str | None = None) -> None:
        self.version = max(self.version, message.revision)
        told: dict[str, Any] = {
            "id": message.id,
            "role": message.role,
            "revision": message.revision,
            "parts": [{"type": "text", "text": message.text}],
        }
        if message.finish_reason:
            told["finish_reason"] = message.finish_reason
        if position is not None:
            told["position"] = position
            self.position = max(self.position, position, key=_place)
        self.event("message", cursor, message=told)

    def attempt(self, position: str, number: int = 1) -> None:
        self._attempt, self.position = number, position
        self.event("attempt", attempt=number, history_version=1)

    def parts(self, *words: str, after: str) -> None:
        """Parts with consecutive positions after ``after``."""
        epoch, seq = _place(after)
        for offset, word in enumerate(words, 1):
            self.position = f"{epoch}-{seq + offset}"
            self.event("part", attempt=self._attempt, part={"type": "text", "text": word})

    def ask(self) -> Reading:
        """The question that all begin with, and its claim by the first worker."""
        self.join()
        self.message(QUESTION)
        self.status("running", 1, version=2)
        return self

    def end(
        self,
        *messages: FinalMessage,
        version: int | None = None,
        status: str = "waiting",
        failures: Sequence[Fault] = (),
    ) -> dict[Kind, int]:
        """The chat comes to rest with this history; what is wrong. ``failures`` of its model are known by then."""
        self.version = self.version if version is None else version
        self.checker.conclude(final(*messages, snapshot_version=self.version, status=status), failures)
        return wrong(self.checker)


def _place(position: str) -> tuple[int, int]:
    epoch, _, seq = position.partition("-")
    return int(epoch), int(seq)


QUESTION = user(1, "why?")
ANSWER = answer(3, "because so")


@pytest.fixture
def checker() -> Checker:
    return Checker()


@pytest.fixture
def reading(checker: Checker) -> Reading:
    return Reading(checker)


# --- what is good -----------------------------------------------------------------------------


def test_an_answered_question_is_accepted() -> None:
    history = final(QUESTION, ANSWER)
    assert verdict_of(history, sent("why?", 0, op="create", message_id=None, expected="because so")) == {}


def test_a_stopped_answer_before_a_promoted_message_is_accepted() -> None:
    history = final(QUESTION, answer(2, "bec", "interrupted"), user(3, "next"), answer(4, "two"))
    writes = (
        sent("why?", 0, expected="because so"),
        sent("next", 1, op="interrupting_send", status=202, queued_id=7, expected="two"),
    )
    assert verdict_of(history, *writes) == {}


def test_what_was_deleted_edited_away_or_refused_is_not_missed() -> None:
    history = final(user(5, "edited"), answer(6, "new"))
    writes = (
        sent("why?", 0, message_id=1),
        sent("queued", 1, status=202, queued_id=3),
        asked("delete", 2, target=3, status=204),
        sent("too much", 3, status=409),
        sent("swept", 4, status=202, queued_id=4),
        sent("edited", 5, op="edit", target=1, message_id=5),
    )
    assert verdict_of(history, *writes) == {}


def test_a_write_of_unknown_outcome_may_be_there_or_not() -> None:
    unknown = sent("maybe", 1, status=None, ended=float("inf"))
    assert verdict_of(final(QUESTION, ANSWER), sent("why?", 0), unknown) == {}
    assert verdict_of(final(QUESTION, ANSWER, user(4, "maybe"), answer(5, "x")), sent("why?", 0), unknown) == {}


def test_a_tool_turn_is_accepted() -> None:
    history = final(QUESTION, calling(2, "c1", "c2"), result(3, "c1"), result(4, "c2"), answer(5, "done"))
    assert verdict_of(history, sent("why?", 0)) == {}


def test_a_reader_of_a_whole_turn_is_accepted(reading: Reading) -> None:
    reading.ask()
    reading.attempt("1-1")
    reading.parts("because ", "so", after="1-1")
    reading.message(ANSWER, position="1-3")
    reading.status("waiting", 1)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, ANSWER) == {}


def test_a_reader_that_resumes_in_mid_answer_is_accepted(reading: Reading) -> None:
    reading.ask()
    reading.attempt("1-1")
    reading.parts("because ", after="1-1")
    reading.join("running", 1)
    reading.parts("so", after="1-2")
    reading.message(ANSWER, position="1-3")
    reading.status("waiting", 1)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, ANSWER) == {}


def test_a_takeover_that_starts_the_answer_anew_is_accepted(reading: Reading) -> None:
    reading.ask()
    reading.attempt("1-1")
    reading.parts("because ", after="1-1")
    reading.status("running", 2, version=3)
    reading.attempt("2-1", 2)
    reading.parts("because ", "so", after="2-1")
    reading.message(replace(ANSWER, revision=4), position="2-3")
    reading.status("waiting", 2)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, replace(ANSWER, revision=4)) == {}


def test_a_message_in_the_place_of_its_last_parts_is_accepted_after_a_reconnect(reading: Reading) -> None:
    reading.ask()
    reading.attempt("1-1")
    reading.parts("because ", after="1-1")
    reading.subscriber.connected()
    reading.status("waiting", 1)
    reading.message(ANSWER, position="1-3")
    reading.event("queue", queue=[])
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, ANSWER) == {}


def test_a_preview_that_an_error_makes_void_need_not_be_complete(reading: Reading) -> None:
    """Its attempt failed long before, and who joined since then was not told of that, nor of its last words."""
    reading.ask()
    reading.attempt("1-1")
    reading.parts("beca", after="1-1")
    reading.position = "1-9"
    reading.event("queue", queue=[])
    reading.status("error", 1, version=4)
    reading.event("error", error={"code": "overloaded"})
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, status="error") == {}


def test_a_reset_tells_everything_again(reading: Reading) -> None:
    reading.ask()
    reading.attempt("1-1")
    reading.parts("because ", after="1-1")
    reading.event("history_reset", "5.1-2.0")
    edited = replace(user(4, "how?"), revision=5)
    reading.message(edited, cursor="5.1-2.4")
    reading.attempt("1-4")
    reading.parts("thus", after="1-4")
    reading.message(replace(answer(6, "thus"), revision=6), position="1-5")
    reading.status("waiting", 1)
    for write in (sent("why?", 0, message_id=1), sent("how?", 1, op="edit", target=1, message_id=4)):
        reading.checker.wrote(write)
    assert reading.end(edited, answer(6, "thus")) == {}


def forgotten(reading: Reading) -> None:
    """An answer was shown whole; a failover may have taken back something of its chat; and that is long ago."""
    reading.ask()
    reading.attempt("1-1")
    reading.parts("because ", "so", after="1-1")
    reading.message(ANSWER, position="1-3")
    reading.status("waiting", 1)
    reading.checker.faults.append(Fault(kind="failover", time=reading.time, until=reading.time))
    reading.checker.forgotten(CHAT, up_to_version=20)
    reading.time += 60


def test_history_that_is_told_again_long_after_a_failover_is_not_streamed_again(reading: Reading) -> None:
    """A chat at rest starts its readers anew with the first write to it, whenever that comes."""
    forgotten(reading)
    reading.event("history_reset", "20.0-0.0")
    reading.message(QUESTION, cursor="20.1-3.1")
    reading.message(ANSWER, position="1-3", cursor="20.1-3")
    reading.event("queue", "21.1-3", queue=[])
    reading.status("waiting", 1, version=21)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, ANSWER) == {}


@pytest.mark.parametrize(("failed_of", "found"), [("worker-a", {}), ("worker-b", {Kind.TEXT: 1})])
def test_the_owner_whose_model_failed_before_a_failover_is_known_behind_it(
    reading: Reading, failed_of: str, found: dict[Kind, int]
) -> None:
    """The failover takes back which worker had the epoch, and not what had vanished before it."""
    reading.ask()
    reading.attempt("1-1")
    reading.parts("because ", after="1-1")
    fault = Fault(kind="provider", time=reading.time, until=reading.time, worker_id=failed_of)
    asked_next = replace(QUESTION, id=2, text="how?", revision=20)
    reading.message(replace(asked_next, revision=3))
    reading.checker.faults.append(fault)
    reading.checker.forgotten(CHAT, up_to_version=20)
    reading.event("history_reset", "20.0-0.0")
    reading.message(QUESTION, cursor="20.1-2.1")
    reading.message(asked_next, cursor="20.1-2.2")
    reading.event("queue", "20.1-2", queue=[])
    reading.message(ANSWER, cursor="21.1-3")
    reading.status("waiting", 1, version=21)
    reading.checker.wrote(sent("why?", 0))
    reading.checker.wrote(asked("interrupt", 0.4))
    reading.checker.wrote(sent("how?", 0.5))
    assert reading.end(QUESTION, asked_next, ANSWER) == found


def test_p3_what_is_told_for_the_first_time_then_had_to_be_streamed(reading: Reading) -> None:
    """Also if it has the number of what the failover took back."""
    forgotten(reading)
    reading.event("history_reset", "20.0-0.0")
    question, said = replace(QUESTION, text="how?", revision=20), replace(ANSWER, text="thus", revision=21)
    reading.message(question, cursor="20.1-3.1")
    reading.message(said, position="2-3", cursor="21.2-3")
    reading.event("queue", "21.2-3", queue=[])
    reading.status("waiting", 2, version=21)
    reading.checker.wrote(sent("how?", 20))
    assert reading.end(question, said) == {Kind.TEXT: 1}


# --- P1: nothing acknowledged is lost, and each is answered once ------------------------------


def test_p1_an_acknowledged_message_that_is_not_in_the_history_is_lost() -> None:
    writes = (sent("why?", 0), sent("and?", 1))
    assert verdict_of(final(QUESTION, ANSWER), *writes) == {Kind.LOST: 1}


def test_p1_an_edit_does_not_excuse_the_loss_of_what_came_before_it() -> None:
    writes = (sent("why?", 0, message_id=1), sent("and?", 1, message_id=4), sent("but?", 2, op="edit", target=4))
    assert verdict_of(final(user(6, "but?"), answer(7, "x")), *writes) == {Kind.LOST: 1}


def test_p1_nor_of_what_was_sent_after_it() -> None:
    writes = (sent("but?", 0, op="edit", target=1), sent("and?", 1, status=202, queued_id=3))
    assert verdict_of(final(user(6, "but?"), answer(7, "x")), *writes) == {Kind.LOST: 1}


def test_p1_a_message_that_is_there_twice_is_duplicated() -> None:
    history = final(QUESTION, ANSWER, user(4, "why?"), answer(5, "again"))
    assert verdict_of(history, sent("why?", 0)) == {Kind.DUPLICATED: 1}


def test_p1_a_message_acknowledged_under_another_id_is_lost() -> None:
    assert verdict_of(final(QUESTION, ANSWER), sent("why?", 0, message_id=4)) == {Kind.LOST: 1}


def test_p1_an_answer_that_nobody_stopped_must_be_whole() -> None:
    history = final(QUESTION, answer(2, "bec", "interrupted"))
    assert verdict_of(history, sent("why?", 0)) == {Kind.UNANSWERED: 1}
    assert verdict_of(final(QUESTION), sent("why?", 0)) == {Kind.UNANSWERED: 1}


def test_p1_one_request_stops_one_answer_and_a_refused_one_none() -> None:
    history = final(QUESTION, user(2, "and?"), user(3, "but?"), answer(4, "x"))
    writes = (sent("why?", 0), sent("and?", 1, status=202), sent("but?", 2, status=202))
    assert verdict_of(history, *writes, asked("interrupt", 3), asked("interrupt", 4)) == {}
    assert verdict_of(history, *writes, asked("interrupt", 3)) == {Kind.UNANSWERED: 1}
    refused = asked("interrupt", 4, status=409)
    assert verdict_of(history, *writes, asked("interrupt", 3), refused) == {Kind.UNANSWERED: 1}


def test_p1_two_answers_to_one_message_are_one_too_many() -> None:
    assert verdict_of(final(QUESTION, ANSWER, answer(4, "again")), sent("why?", 0)) == {Kind.ANSWERED_TWICE: 1}


@pytest.mark.parametrize("write", [sent("other", 1, status=409), asked("interrupt", 1)], ids=["refused", "never sent"])
def test_p1_nothing_is_in_the_history_that_was_not_asked(write: Write) -> None:
    history = final(QUESTION, ANSWER, user(4, "other"), answer(5, "x"))
    assert verdict_of(history, sent("why?", 0), write) == {Kind.UNASKED: 1}


def test_p1_what_was_deleted_or_edited_away_does_not_come_back() -> None:
    history = final(QUESTION, ANSWER, user(4, "gone"), answer(5, "x"))
    deleted = (sent("why?", 0), sent("gone", 1, status=202, queued_id=3), asked("delete", 2, target=3, status=204))
    assert verdict_of(history, *deleted) == {Kind.UNASKED: 1}
    edited = (sent("why?", 0, message_id=1), sent("gone", 1, op="edit", target=1))
    assert verdict_of(history, *edited) == {Kind.UNASKED: 1}


# --- P2: one owner ----------------------------------------------------------------------------


def test_p2_an_epoch_has_one_worker(checker: Checker) -> None:
    one, other = Reading(checker, "one").join(), Reading(checker, "other").join()
    one.status("running", 1, version=1)
    other.status("running", 1, version=1, worker="worker-z")
    checker.conclude(final(status="running", worker_id="worker-a", snapshot_version=1))
    assert wrong(checker) == {Kind.OWNER: 1, Kind.STUCK: 1}


def test_p2_a_position_has_one_content_for_all_readers(checker: Checker) -> None:
    for name, word in (("one", "because"), ("other", "since")):
        reading = Reading(checker, name).ask()
        reading.attempt("1-1")
        reading.parts(word, after="1-1")
    assert wrong_so_far(checker) == {Kind.OWNER: 1}


def test_p2_a_message_is_the_same_for_all_readers(checker: Checker) -> None:
    Reading(checker, "one").join().message(QUESTION)
    Reading(checker, "other").join().message(replace(QUESTION, text="what?"))
    assert wrong_so_far(checker) == {Kind.OWNER: 1}


def wrong_so_far(checker: Checker) -> dict[Kind, int]:
    """Leaving out that the chat was not concluded."""
    counts = wrong(checker)
    counts.pop(Kind.STUCK)
    return counts


def test_p2_the_message_of_a_stale_owner_after_the_words_of_its_successor_is_stale(reading: Reading) -> None:
    """Its text is as good as any, and the fault that cost it the chat explains nothing."""
    reading.ask()
    reading.attempt("1-1")
    reading.parts("because ", after="1-1")
    reading.checker.faults.append(Fault(kind="stop", time=0.5, until=60.0, worker_id="worker-a", replica="replica-2"))
    reading.status("running", 2, version=3)
    reading.attempt("2-1", 2)
    reading.parts("because ", after="2-1")
    stale = replace(ANSWER, revision=4)
    reading.message(stale, position="1-3")
    reading.status("waiting", 2)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, stale) == {Kind.STALE: 1}


def test_p2_what_was_committed_before_a_takeover_may_be_told_with_it(reading: Reading) -> None:
    reading.ask()
    reading.attempt("1-1")
    reading.parts("because ", "so", after="1-1")
    reading.status("running", 2, version=4)
    reading.message(ANSWER, position="1-3")
    following = user(4, "and?")
    reading.message(following)
    reading.attempt("2-1")
    reading.parts("well", after="2-1")
    last = answer(5, "well")
    reading.message(last, position="2-2")
    reading.status("waiting", 2)
    for write in (sent("why?", 0), sent("and?", 1)):
        reading.checker.wrote(write)
    assert reading.end(QUESTION, ANSWER, following, last) == {}


# --- P3: each thing once, in order ------------------------------------------------------------


def answering(reading: Reading) -> Reading:
    """In the middle of the first answer: ``1-3`` was shown last."""
    reading.ask()
    reading.attempt("1-1")
    reading.parts("because ", "so ", after="1-1")
    return reading


def test_p3_a_part_that_comes_twice_is_a_repeat(reading: Reading) -> None:
    answering(reading).join("running", 1)
    reading.parts("so ", after="1-2")
    assert wrong_so_far(reading.checker) == {Kind.REPEAT: 1}


def test_p3_a_part_that_is_skipped_is_a_gap(reading: Reading) -> None:
    answering(reading).parts("it is", after="1-4")
    assert wrong_so_far(reading.checker) == {Kind.GAP: 1}


def test_p3_a_part_without_its_attempt_is_a_gap(reading: Reading) -> None:
    answering(reading).parts("because ", after="2-1")
    assert wrong_so_far(reading.checker) == {Kind.GAP: 1}


def test_p3_a_part_of_an_older_tenure_after_a_newer_one_is_stale(reading: Reading) -> None:
    answering(reading).attempt("2-1", 2)
    reading.parts("late", after="1-3")
    assert wrong_so_far(reading.checker)[Kind.STALE] == 1


def test_p3_a_part_of_an_answer_that_is_history_is_a_repeat(reading: Reading) -> None:
    answering(reading).message(replace(ANSWER, text="because so "), position="1-3")
    reading.parts("so ", after="1-2")
    assert Kind.REPEAT in wrong_so_far(reading.checker)


def test_p3_a_status_of_an_older_tenure_is_stale(reading: Reading) -> None:
    reading.ask()
    reading.status("running", 2, version=3)
    reading.status("running", 1, version=4)
    assert wrong_so_far(reading.checker) == {Kind.STALE: 1}


def test_p3_a_message_that_comes_twice_is_a_repeat(reading: Reading) -> None:
    reading.ask().message(QUESTION)
    assert wrong_so_far(reading.checker) == {Kind.REPEAT: 1}


def test_p3_messages_come_in_the_order_of_their_ids(reading: Reading) -> None:
    reading.join().message(replace(user(5, "five"), revision=1))
    reading.message(replace(user(4, "four"), revision=2))
    assert wrong_so_far(reading.checker) == {Kind.ORDER: 1}


def test_p3_a_message_that_a_reader_was_never_told_of_is_a_gap(reading: Reading) -> None:
    reading.ask()
    reading.status("waiting", 1, version=9)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, ANSWER) == {Kind.GAP: 1}


def test_p3_a_reader_that_was_not_told_of_the_end_has_a_gap(reading: Reading) -> None:
    reading.ask()
    reading.message(ANSWER)
    reading.checker.wrote(sent("why?", 0))
    reading.checker.conclude(final(QUESTION, ANSWER, snapshot_version=4))
    assert wrong(reading.checker) == {Kind.GAP: 1}


def test_p3_a_message_that_is_not_in_the_history_was_not_asked(reading: Reading) -> None:
    reading.ask()
    reading.message(ANSWER)
    reading.status("waiting", 1)
    reading.checker.wrote(sent("why?", 0))
    reading.checker.wrote(asked("interrupt", 1))
    assert reading.end(QUESTION) == {Kind.UNASKED: 1}


def test_p3_streamed_text_that_is_not_the_message_is_a_mismatch(reading: Reading) -> None:
    answering(reading).message(replace(ANSWER, text="because not"), position="1-3")
    assert wrong_so_far(reading.checker) == {Kind.TEXT: 1}


def test_p3_a_connected_reader_is_shown_all_of_an_answer(reading: Reading) -> None:
    answering(reading).message(replace(ANSWER, text="because so it is"), position="1-4")
    reading.status("waiting", 1)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, replace(ANSWER, text="because so it is")) == {Kind.TEXT: 1}


def test_p3_unless_its_owner_died_before_it_had_published_it(reading: Reading) -> None:
    answering(reading)
    reading.checker.faults.append(Fault(kind="kill", time=reading.time, until=reading.time, worker_id="worker-a"))
    reading.message(replace(ANSWER, text="because so it is"), position="1-4")
    reading.status("waiting", 1)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, replace(ANSWER, text="because so it is")) == {}


def test_p3_which_the_death_of_another_does_not_explain(reading: Reading) -> None:
    answering(reading)
    reading.checker.faults.append(Fault(kind="kill", time=reading.time, until=reading.time, worker_id="worker-b"))
    reading.message(replace(ANSWER, text="because so it is"), position="1-4")
    reading.status("waiting", 1)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, replace(ANSWER, text="because so it is")) == {Kind.TEXT: 1}


@pytest.mark.parametrize("cursor", ["1.1-3", "3.1-2", "3.0-0"], ids=["message", "part", "everything"])
def test_p3_a_cursor_that_would_repeat_something_is_wrong(reading: Reading, cursor: str) -> None:
    reading.ask()
    reading.message(replace(user(2, "and?"), revision=3))
    reading.attempt("1-1")
    reading.parts("because ", "so ", after="1-1")
    reading.event("queue", cursor, queue=[])
    assert wrong_so_far(reading.checker) == {Kind.REPEAT: 1}


def test_p3_answers_that_changed_places_are_mismatches() -> None:
    """Also how a partial answer after the promoted message, instead of before it, is found."""
    history = final(QUESTION, answer(2, "two"), user(3, "next"), answer(4, "one"))
    writes = (sent("why?", 0, expected="one"), sent("next", 1, expected="two"))
    assert verdict_of(history, *writes) == {Kind.TEXT: 2}


def test_p3_a_partial_answer_comes_before_the_promoted_message() -> None:
    history = final(QUESTION, user(3, "next"), answer(4, "bec", "interrupted"))
    writes = (sent("why?", 0, expected="because"), sent("next", 1, op="interrupting_send", queued_id=7, expected="two"))
    assert Kind.TEXT in verdict_of(history, *writes)


def test_p3_messages_are_answered_in_the_order_in_which_they_were_sent_unless_promoted() -> None:
    history = final(QUESTION, ANSWER, user(4, "second"), answer(5, "x"), user(6, "first"), answer(7, "y"))
    writes = (
        sent("why?", 0),
        sent("first", 1, status=202, queued_id=1),
        sent("second", 2, status=202, queued_id=2),
    )
    assert verdict_of(history, *writes) == {Kind.ORDER: 1}
    assert verdict_of(history, *writes, asked("promote", 3, target=2)) == {}


# --- P4: no chat is stuck, and every reader is told -------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [{"status": "running"}, {"status": "pending"}, {"worker_id": "worker-a"}, {"queue": (4,)}],
    ids=["running", "nobody's", "owned", "forgotten queue"],
)
def test_p4_a_chat_that_does_not_come_to_rest_is_stuck(fields: dict[str, Any]) -> None:
    assert verdict_of(final(QUESTION, ANSWER, **fields), sent("why?", 0)) == {Kind.STUCK: 1}


def test_p4_a_chat_of_which_the_end_is_not_known_is_stuck(checker: Checker) -> None:
    checker.wrote(sent("why?", 0))
    assert wrong(checker) == {Kind.STUCK: 1}


def recovery(**fields: Any) -> Recovery:
    fault = Fault(kind="kill", time=1.0, until=2.0, worker_id="worker-a", replica="replica-1")
    told = Recovery(fault=fault, chat=CHAT, reader="reader", bound_seconds=6.0, sign_seconds=0.05)
    return replace(told, **fields)


@pytest.mark.parametrize(
    "late", [{"sign_seconds": None}, {"sign_seconds": 6.5}, {"takeover_seconds": 7.0}], ids=["never", "late", "silent"]
)
def test_p4_a_reader_that_is_told_late_or_never_is_a_violation(checker: Checker, late: dict[str, Any]) -> None:
    checker.judge(recovery(takeover_seconds=0.07))
    assert checker.verdict().kept
    checker.judge(recovery(**late))
    assert wrong(checker) == {Kind.LATE: 1}


@pytest.mark.parametrize(("version", "wrong"), [(3, {Kind.STALE: 1}), (2, {})], ids=["moved", "not moved"])
def test_p2_a_tenure_that_was_told_with_a_cursor_that_moved_is_not_followed_by_an_older_one(
    reading: Reading, version: int, wrong: dict[Kind, int]
) -> None:
    """A status at the old cursor is the first word of all that is told anew: who leaves then has no cursor for it."""
    reading.ask().status("running", 2, version=version)
    reading.join("running", 1)
    reading.status("running", 2, version=3)
    reading.attempt("2-1")
    reading.parts("because", after="2-1")
    reading.message(replace(answer(2, "because"), revision=4), "2-2")
    reading.status("waiting", 2)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, replace(answer(2, "because"), revision=4)) == wrong


# --- P5: stop stops, and keeps what was said --------------------------------------------------


def interrupted_late(reading: Reading, *faults: Fault) -> dict[Kind, int]:
    """The verdict over an interruption that took a minute, with ``faults`` meanwhile."""
    answering(reading).status("interrupting", 1, version=3)
    reading.checker.faults += faults
    reading.time += 60
    reading.message(replace(ANSWER, text="because so ", finish_reason="interrupted"), position="1-3")
    reading.status("waiting", 1, version=3)
    for write in (sent("why?", 0), asked("interrupt", 1)):
        reading.checker.wrote(write)
    return reading.end(QUESTION, replace(ANSWER, text="because so ", finish_reason="interrupted"))


def test_p5_an_interruption_that_takes_too_long_is_a_violation(reading: Reading) -> None:
    killed = Fault(kind="kill", time=2.0, until=2.0, worker_id="worker-a", replica="replica-1")
    failed = Fault(kind="provider", time=0.0, until=60.0, chats=(CHAT,))
    assert interrupted_late(reading, killed, failed) == {Kind.UNSTOPPED: 1}


@pytest.mark.parametrize(("kind", "replica"), [("stop", "replica-1"), ("postgres-crash", "")])
def test_p5_unless_its_end_could_not_be_told(reading: Reading, kind: str, replica: str) -> None:
    assert interrupted_late(reading, Fault(kind=kind, time=2.0, until=60.0, replica=replica)) == {}


def test_p5_the_freeze_of_another_replica_explains_nothing(reading: Reading) -> None:
    frozen = Fault(kind="stop", time=2.0, until=60.0, replica="replica-2")
    assert interrupted_late(reading, frozen) == {Kind.UNSTOPPED: 1}


def test_p5_streamed_text_does_not_vanish_when_the_answer_is_stopped(reading: Reading) -> None:
    answering(reading).status("interrupting", 1, version=3)
    reading.status("waiting", 1, version=4)
    for write in (sent("why?", 0), asked("interrupt", 1)):
        reading.checker.wrote(write)
    assert reading.end(QUESTION) == {Kind.TEXT: 1}


@pytest.mark.parametrize(("chat", "found"), [(CHAT, {}), ("another chat", {Kind.TEXT: 1})])
def test_p5_unless_its_model_had_failed_in_that_moment(reading: Reading, chat: str, found: dict[Kind, int]) -> None:
    answering(reading)
    failed = Fault(kind="provider", time=reading.time, until=reading.time + 1, chats=(chat,))
    reading.status("interrupting", 1, version=3)
    reading.status("waiting", 1, version=4)
    for write in (sent("why?", 0), asked("interrupt", 1)):
        reading.checker.wrote(write)
    assert reading.end(QUESTION, failures=[failed]) == found


def test_p5_a_preview_whose_question_is_edited_away_vanishes_with_the_reset(reading: Reading) -> None:
    """The status is told first, at the cursor of before, and then all the rest anew."""
    answering(reading).status("interrupting", 1, version=3)
    reading.status("waiting", 1)
    reading.position = "0-0"
    reading.event("history_reset", "4.0-0.0")
    edited = replace(user(4, "how?"), revision=4)
    reading.message(edited)
    reading.event("queue", queue=[])
    for write in (sent("why?", 0), sent("how?", 1, op="edit", target=1), asked("interrupt", 2)):
        reading.checker.wrote(write)
    assert reading.end(edited) == {}


def test_p5_without_a_reset_it_does_not_vanish(reading: Reading) -> None:
    answering(reading).status("interrupting", 1, version=3)
    reading.status("waiting", 1)
    reading.event("queue", "4.1-3", queue=[])
    for write in (sent("why?", 0), asked("interrupt", 1)):
        reading.checker.wrote(write)
    assert reading.end(QUESTION, version=4) == {Kind.TEXT: 1}


# --- P6: a deploy is invisible ----------------------------------------------------------------


def test_p6_an_answer_that_a_drain_could_have_handed_over_is_not_cut(checker: Checker) -> None:
    checker.judge(recovery(takeover_seconds=0.4, cut_by_drain=True))
    assert wrong(checker) == {Kind.CUT: 1}


# --- P7: each call has one result -------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        (calling(2, "c1"), answer(3, "done")),
        (calling(2, "c1"), result(3, "c1"), result(4, "c1"), answer(5, "done")),
        (result(2, "c9"), answer(3, "done")),
        (result(2, "c1"), calling(3, "c1"), result(4, "c1"), answer(5, "done")),
    ],
    ids=["no result", "two results", "a result of nothing", "a result before its call"],
)
def test_p7_each_call_has_one_result_after_it(messages: tuple[FinalMessage, ...]) -> None:
    assert verdict_of(final(QUESTION, *messages), sent("why?", 0)) == {Kind.TOOL: 1}


# --- P8: Redis is never the truth -------------------------------------------------------------


def test_p8_a_loss_of_redis_explains_missing_parts_but_no_missing_message(reading: Reading) -> None:
    answering(reading)
    reading.checker.faults.append(Fault(kind="redis-flush", time=reading.time, until=reading.time + 1))
    reading.message(replace(ANSWER, text="because so it is"), position="1-4")
    reading.status("waiting", 1)
    for write in (sent("why?", 0), sent("and?", 1)):
        reading.checker.wrote(write)
    assert reading.end(QUESTION, replace(ANSWER, text="because so it is")) == {Kind.LOST: 1}
    assert reading.checker.verdict().excused == 1


@pytest.mark.parametrize(("replica", "found"), [("replica-1", {}), ("replica-2", {Kind.TEXT: 1})])
def test_p8_a_reader_behind_connections_that_froze_may_miss_parts(
    reading: Reading, replica: str, found: dict[Kind, int]
) -> None:
    answering(reading)
    frozen = Fault(kind="freeze-connection", time=reading.time, until=reading.time + 4, replica=replica)
    reading.checker.faults.append(frozen)
    reading.message(replace(ANSWER, text="because so it is"), position="1-4")
    reading.status("waiting", 1)
    reading.checker.wrote(sent("why?", 0))
    assert reading.end(QUESTION, replace(ANSWER, text="because so it is")) == found


def test_p8_it_does_not_explain_other_words(reading: Reading) -> None:
    answering(reading)
    reading.checker.faults.append(Fault(kind="redis-flush", time=reading.time, until=reading.time + 1))
    reading.message(replace(ANSWER, text="another story"), position="1-4")
    assert wrong_so_far(reading.checker) == {Kind.TEXT: 1}
