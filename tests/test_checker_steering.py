"""Messages that steer, and stops of a turn that waits for somebody: what the judge takes for right, and what not."""

from __future__ import annotations

from checker import Checker, FinalChat, Kind, Write
from checker.history import FinalMessage

CHAT = "chat"


def judged(messages: list[FinalMessage], *writes: Write) -> set[Kind]:
    checker = Checker()
    for write in writes:
        checker.wrote(write)
    checker.conclude(FinalChat(chat=CHAT, status="waiting", snapshot_version=9, messages=tuple(messages)))
    return {kind for kind, count in checker.verdict().counts.items() if count}


def wrote(op: str, text: str = "", **fields: object) -> Write:
    return Write(chat=CHAT, op=op, began=0.0, ended=1.0, status=201, text=text, **fields)  # type: ignore[arg-type]


def user(number: int, text: str) -> FinalMessage:
    return FinalMessage(id=number, role="user", text=text)


def calling(number: int, *calls: str) -> FinalMessage:
    return FinalMessage(id=number, role="assistant", text="", calls=calls)


def result(number: int, call_id: str) -> FinalMessage:
    return FinalMessage(id=number, role="tool", text="", results=(call_id,))


def answer(number: int) -> FinalMessage:
    return FinalMessage(id=number, role="assistant", text="There.", finish_reason="stop")


STEERED = [user(1, "a"), calling(2, "c"), result(3, "c"), user(4, "b"), answer(5)]


def test_a_message_that_steers_goes_on_with_the_turn() -> None:
    assert judged(STEERED, wrote("create", "a"), wrote("steering_send", "b")) == set()


def test_another_message_in_the_middle_of_a_turn_leaves_the_first_one_unanswered() -> None:
    assert judged(STEERED, wrote("create", "a"), wrote("send", "b")) == {Kind.UNANSWERED}


def test_what_replaces_a_message_that_steered_stands_where_that_stood() -> None:
    edit = wrote("edit", "b", target=99)
    assert judged(STEERED, wrote("create", "a"), wrote("steering_send", "gone", message_id=99), edit) == set()


def test_a_message_that_steered_and_is_not_there_is_lost() -> None:
    there = [user(1, "a"), answer(2)]
    assert judged(there, wrote("create", "a"), wrote("steering_send", "b")) == {Kind.LOST}


def test_a_message_that_steers_may_overtake_those_that_wait() -> None:
    first = Write(chat=CHAT, op="send", began=0.0, ended=1.0, status=202, text="first", queued_id=7)
    second = Write(chat=CHAT, op="steering_send", began=2.0, ended=3.0, status=202, text="b", queued_id=8)
    messages = [*STEERED, user(6, "first"), answer(7)]
    assert judged(messages, wrote("create", "a"), first, second) == set()


def test_a_message_that_interrupts_a_turn_which_waits_for_somebody_is_its_stop() -> None:
    messages = [user(1, "a"), calling(2, "c"), result(3, "c"), user(4, "b"), answer(5)]
    assert judged(messages, wrote("create", "a"), wrote("interrupting_send", "b", message_id=4)) == set()


def test_a_message_that_was_to_steer_behind_a_summary_between_two_turns_begins_its_own() -> None:
    """A summary is a call with its result, and no step of a turn."""
    summarised = [calling(3, "chat_summarized_2_1"), result(4, "chat_summarized_2_1")]
    messages = [user(1, "a"), answer(2), *summarised, user(5, "b"), answer(6)]
    assert judged(messages, wrote("create", "a"), wrote("steering_send", "b")) == set()
    in_a_turn = [user(1, "a"), calling(2, "c"), result(3, "c")]
    in_a_turn += [calling(4, "chat_summarized_3_1"), result(5, "chat_summarized_3_1"), user(6, "b"), answer(7)]
    assert judged(in_a_turn, wrote("create", "a"), wrote("steering_send", "b")) == set()
