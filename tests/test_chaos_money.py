"""The judge of money in a chaos run: for each way to be wrong books that are, and honest ones that are not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from chaos.broken_answers import BrokenAnswers
from chaos.money import AGENTS, OTHERS, SURELY_SENT, Row, found, group_of, summary
from checker import Kind

from chatcluster.errors import ConfigError
from chatcluster.llm.simulator.answer import Answer
from chatcluster.llm.simulator.ledger import Ledger, Line, line_of, read_ledger
from chatcluster.llm.simulator.question import Question, Spoken
from chatcluster.llm.simulator.script import Faults, Script, Words

TALK = "c0n1"
FIVE = Words(mode="words", tokens=5)


def line(number: int, *, sent: int = 40, told: bool = True, purpose: str = "answer", talk: str = TALK) -> Line:
    return Line(number, purpose, f"Question {talk}q1x [[word=c0n1q1x]]", 7, 40, 0, sent, told)


def row(number: int | None, *, attempt: str = "1.1", outcome: str = "committed", group: str = TALK) -> Row:
    asked, answered = (7, 40) if number is not None else (None, None)
    return Row("chat", attempt, outcome, asked, answered, number, group)


def wrong(lines: list[Line], rows: list[Row], edited: int = 0) -> list[str]:
    violations = found(lines, rows, {TALK: edited})
    assert all(violation.kind is Kind.MONEY for violation in violations)
    return [violation.detail for violation in violations]


def test_each_answer_with_its_row_is_right() -> None:
    lines = [line(1), line(2), line(3, told=False, sent=20), line(4, told=False, sent=20), line(5, told=False, sent=0)]
    rows = [row(1), row(2), row(None, outcome="lost"), row(None, outcome="failed")]
    assert wrong(lines, rows) == []
    told = summary(lines, rows)
    assert told["input_tokens_booked"] == told["input_tokens_told"] == 14
    assert told["output_tokens_booked"] == told["output_tokens_told"] == 80
    assert told["output_tokens_of_unknown_cost"] == 40


def test_an_answer_that_was_told_and_not_booked() -> None:
    assert wrong([line(1), line(2)], [row(1)])


@pytest.mark.parametrize("sent", [SURELY_SENT, 39])
def test_an_attempt_that_failed_or_lost_its_owner_and_was_not_booked(sent: int) -> None:
    assert wrong([line(1, told=False, sent=sent)], [])


def test_an_answer_that_hardly_began_need_not_be_booked() -> None:
    """Its client may have gone before it heard of it."""
    assert wrong([line(1, told=False, sent=SURELY_SENT - 1)], []) == []


def test_what_ended_while_a_failover_took_back_what_was_booked_is_excused_and_no_more() -> None:
    lost = [(100.0, 105.0)]
    then, long_before, long_after = ([msgspec.structs.replace(line(1), at=at)] for at in (103, 50, 150))
    assert not found(then, [], {}, lost)
    assert found(long_before, [], {}, lost)
    assert found(long_after, [], {}, lost)
    assert found(then, [row(1), row(1, attempt="1.2")], {}, lost), "nothing is booked twice by it"
    assert found(then, [row(1)._replace(output=41)], {}, lost), "nor with other counts"
    assert found([], [row(None, outcome="failed")], {}, lost), "nor for nothing"


def test_an_answer_that_is_booked_twice() -> None:
    assert wrong([line(1)], [row(1), row(1, attempt="1.2")])


def test_an_answer_that_nobody_gave() -> None:
    assert wrong([], [row(1)])


def test_other_tokens_than_were_told() -> None:
    assert wrong([line(1)], [row(1)._replace(output=41)])
    assert wrong([line(1)], [row(1)._replace(input=1)])
    assert wrong([line(1, told=False, sent=3)], [row(1)._replace(output=3)]) == [], "as far as it was told"


def test_what_was_read_from_the_cache_may_be_counted_with_the_input() -> None:
    assert wrong([line(3)], [row(3)._replace(input=7 + 3)]) == []


def test_a_row_of_another_chat() -> None:
    assert wrong([line(1, talk="c9n9")], [row(1)])


@pytest.mark.parametrize("outcome", ["failed", "interrupted"])
def test_a_row_that_says_of_an_answer_that_it_began_and_there_was_none(outcome: str) -> None:
    assert wrong([], [row(None, outcome=outcome)])
    assert wrong([line(1, told=False, sent=0)], [row(None, outcome=outcome)]) == []


def test_a_burial_does_not_know_whether_the_dead_had_asked() -> None:
    assert wrong([], [row(None, outcome="lost")]) == []


def test_an_edit_that_its_owner_died_right_behind_is_excused_once() -> None:
    lines = [line(1, told=False, sent=20), line(2, told=False, sent=20)]
    assert wrong(lines[:1], [], edited=1) == []
    assert wrong(lines, [], edited=1)


def test_titles_are_judged_by_their_numbers_alone() -> None:
    assert wrong([line(1, purpose="title")], [row(None, attempt="0.1", outcome="lost")]) == []
    assert wrong([line(1, purpose="title")], [row(1, attempt="0.1", outcome="title"), row(1, attempt="0.2")])


def test_whose_words_these_are() -> None:
    assert group_of('[{"type": "text", "text": "Question c3n12q4x [[tokens=7]] [[call=spawn_agent {Task"}]') == "c3n12"
    assert group_of("Task [[tokens=12 tps=20]]") == AGENTS
    assert group_of("How are you?") == OTHERS


# --- the ledger -------------------------------------------------------------------------------


def test_a_ledger_numbers_answers_and_notes_what_became_of_them(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(str(path))
    question = Question(spoken=(Spoken("system", "Be brief."), Spoken("user", "Hello there")), request=b"{}")
    answers = [Answer(Script(words=FIVE, reasoning=2), question) for _ in range(2)]
    for answer in answers:
        ledger.begin(answer)
    answers[1].sent = 3
    ledger.note(answers[1], told=False)
    first, *rest = read_ledger(path)
    assert first == Line(2, "answer", "Hello there", 4, 7, 2, 3, told=False, at=first.at)
    assert rest == []
    assert line_of(answers[0], told=True).number == 1


def test_what_broke_off_by_order_is_a_failure_of_its_conversation_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(str(path))
    broken = BrokenAnswers(path, clock_offset=0.0)
    for talk, words, sent in (("c0n1", "cut_after=3", 3), ("c0n1", "cut_after=3", 2), ("c0n2", "cut_after=3", 3)):
        question = Question(spoken=(Spoken("user", f"Question {talk}q1x [[{words}]]"),), request=b"{}")
        answer = Answer(Script(words=FIVE, faults=Faults(cut_after=3)), question)
        answer.sent = sent
        ledger.begin(answer)
        ledger.note(answer, told=False)
    assert [fault.chats for fault in broken.of("c0n1", "chat")] == [("chat",)], "the second was stopped before that"
    assert broken.of("c0n1", "chat") == [], "each is told once"
    assert len(broken.of("c0n2", "other")) == 1


def test_a_ledger_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--ledger"):
        Ledger(str(tmp_path))
