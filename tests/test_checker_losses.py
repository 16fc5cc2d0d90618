"""What a failover may take back is told and not judged; all else is judged as ever (P1, P2, P3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from checker import Checker, Event, Fault, FinalChat, FinalMessage, Kind, Recovery, Subscriber, Violation, Write

CHAT = "chat"
SINCE, UNTIL = 10.0, 11.0


def wrote(text: str, at: float, op: str = "send", **fields: Any) -> Write:
    return Write(chat=CHAT, op=op, began=at, ended=at + 0.1, status=201, text=text, **fields)


def final(*messages: FinalMessage) -> FinalChat:
    return FinalChat(chat=CHAT, status="waiting", snapshot_version=9, messages=messages)


def question(number: int, text: str) -> FinalMessage:
    return FinalMessage(id=number, role="user", text=text, revision=1)


def answer(number: int) -> FinalMessage:
    return FinalMessage(id=number, role="assistant", text="Yes.", revision=1, finish_reason="stop")


def failed_over(checker: Checker) -> frozenset[str]:
    checker.begin_loss(SINCE)
    return checker.end_loss(UNTIL)


def wrong(checker: Checker) -> dict[Kind, int]:
    return {kind: count for kind, count in checker.verdict().counts.items() if count}


def status(subscriber: Subscriber, at: float, *, epoch: int, worker: str | None, version: int = 1) -> None:
    data = {"status": "running", "epoch": epoch, "worker_id": worker}
    subscriber.observe(Event(at, "replica-1", f"{version}.0-0", "status", data))


@pytest.mark.parametrize(("at", "lost", "told"), [(9.0, 1, 0), (10.2, 0, 1), (10.95, 0, 1), (12.5, 1, 0)])
def test_p1_a_message_of_the_last_moments_is_told_as_lost_and_any_other_is_a_violation(
    at: float, lost: int, told: int
) -> None:
    checker = Checker()
    checker.wrote(wrote("Here?", at))
    failed_over(checker)
    checker.conclude(final())
    verdict = checker.verdict()
    assert (verdict.counts[Kind.LOST], verdict.lost_by_failover) == (lost, told)


def test_p1_a_message_that_was_on_the_standby_is_neither() -> None:
    checker = Checker()
    checker.wrote(wrote("Here?", 10.2))
    failed_over(checker)
    checker.conclude(final(question(1, "Here?"), answer(2)))
    verdict = checker.verdict()
    assert (verdict.kept, verdict.lost_by_failover) == (True, 0)


@pytest.mark.parametrize(("at", "wrongs"), [(9.0, {Kind.UNANSWERED: 1}), (10.2, {})])
def test_p1_a_message_that_interrupts_may_do_so_again_by_a_try_that_was_held_up_where_a_failover_lost_it(
    at: float, wrongs: dict[Kind, int]
) -> None:
    checker = Checker()
    checker.wrote(wrote("Here?", 1.0))
    checker.wrote(wrote("Stop!", at, op="interrupting_send"))
    failed_over(checker)
    checker.conclude(final(question(1, "Here?"), question(2, "Stop!"), answer(3)))
    assert wrong(checker) == wrongs


@pytest.mark.parametrize(("at", "wrongs"), [(9.0, {Kind.LOST: 1}), (10.2, {})])
def test_p1_an_edit_may_take_away_what_was_sent_after_it_by_a_try_that_was_held_up_where_a_failover_lost_it(
    at: float, wrongs: dict[Kind, int]
) -> None:
    checker = Checker()
    checker.wrote(wrote("Old?", 5.0, message_id=1))
    checker.wrote(wrote("New?", at, op="edit", target=1))
    failed_over(checker)
    checker.wrote(wrote("And?", 20.0, message_id=4))
    checker.conclude(final(question(5, "New?"), answer(6)))
    assert wrong(checker) == wrongs


def test_p1_what_an_edit_took_away_may_be_back_if_the_edit_was_lost() -> None:
    checker = Checker()
    checker.wrote(wrote("Old?", 5.0, message_id=1))
    checker.wrote(wrote("New?", 10.2, op="edit", target=1))
    failed_over(checker)
    checker.conclude(final(question(1, "Old?"), answer(2)))
    assert checker.verdict().kept


def test_p1_and_may_not_if_it_was_not() -> None:
    checker = Checker()
    checker.wrote(wrote("Old?", 5.0, message_id=1))
    checker.wrote(wrote("New?", 6.0, op="edit", target=1))
    failed_over(checker)
    checker.conclude(final(question(1, "Old?"), answer(2), question(3, "New?"), answer(4)))
    assert wrong(checker) == {Kind.UNASKED: 1}


@pytest.mark.parametrize(("created", "may_be"), [(9.0, False), (10.2, True), (12.5, False)])
def test_p1_a_chat_of_the_last_moments_may_be_gone_and_no_other(created: float, may_be: bool) -> None:
    checker = Checker()
    checker.wrote(wrote("Here?", created, op="create"))
    checker.wrote(wrote("And here?", 10.3))
    failed_over(checker)
    assert checker.may_be_gone(CHAT) is may_be
    assert checker.subscriber(CHAT, "reader").grounds.may_be_gone is may_be


def test_p1_what_was_said_in_a_chat_that_is_gone_is_told_as_lost() -> None:
    checker = Checker()
    checker.wrote(wrote("Here?", 10.2, op="create"))
    failed_over(checker)
    checker.wrote(replace(wrote("Still here?", 12.5), status=404))
    checker.gone(CHAT)
    verdict = checker.verdict()
    assert (verdict.kept, verdict.lost_by_failover) == (True, 1)


@pytest.mark.parametrize(("created", "late"), [(9.0, 1), (10.2, 0)])
def test_p4_who_reads_a_chat_that_may_be_gone_need_not_be_told_that_it_goes_on(created: float, late: int) -> None:
    found: list[Violation] = []
    checker = Checker(found.append)
    checker.wrote(wrote("Here?", created, op="create"))
    checker.begin_loss(SINCE)
    fault = Fault(kind="failover", time=SINCE, until=UNTIL)
    checker.judge(Recovery(fault=fault, chat=CHAT, reader="reader", bound_seconds=6.0, sign_seconds=None))
    assert [one.kind for one in found] == [Kind.LATE] * late


def test_p2_an_epoch_that_is_given_again_is_no_conflict_for_a_chat_that_was_touched() -> None:
    checker = Checker()
    before = checker.subscriber(CHAT, "reader")
    status(before, 10.5, epoch=3, worker="a")
    assert failed_over(checker) == {CHAT}
    status(checker.subscriber(CHAT, "reader"), 12.0, epoch=3, worker="b")
    assert not checker._counts


def test_p2_and_is_one_for_a_chat_that_was_not() -> None:
    checker = Checker()
    reader = checker.subscriber(CHAT, "reader")
    status(reader, 8.0, epoch=3, worker="a")
    assert failed_over(checker) == frozenset()
    status(reader, 12.0, epoch=3, worker="b")
    assert checker._counts == {Kind.OWNER: 1}


@pytest.mark.parametrize(("known_at", "counted"), [(8.0, 1), (10.5, 0)])
def test_what_a_reader_finds_wrong_meanwhile_waits_for_whether_its_chat_was_touched(
    known_at: float, counted: int
) -> None:
    checker = Checker()
    reader = checker.subscriber(CHAT, "reader")
    status(reader, known_at, epoch=3, worker="a")
    checker.begin_loss(SINCE)
    part = {"attempt": 1, "part": {"type": "text", "text": "x"}}
    reader.observe(Event(10.6, "replica-1", "1.3-5", "part", part))  # of an attempt that never began
    assert not checker._counts
    checker.end_loss(UNTIL)
    assert checker._counts[Kind.GAP] == counted


@pytest.mark.parametrize(("met", "counted"), [(3, 0), (4, 1)])
def test_p6_what_a_failover_brought_back_as_being_said_was_cut_by_it_and_by_no_drain(met: int, counted: int) -> None:
    """Its owner had ended it, in a transaction that the failover took back. A tenure that came later is judged."""
    checker = Checker()
    status(checker.subscriber(CHAT, "reader"), 10.5, epoch=3, worker="a")
    failed_over(checker)
    drain = Fault(kind="term", time=12.0, until=14.0, worker_id="a", replica="replica-1")
    told = Recovery(fault=drain, chat=CHAT, reader="reader", bound_seconds=6.0, sign_seconds=0.05)
    checker.judge(replace(told, takeover_seconds=0.4, cut_by_drain=True, epoch=met))
    checker.conclude(final())
    assert checker.verdict().counts[Kind.CUT] == counted
