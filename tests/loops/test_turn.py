"""What a turn does next, from the history alone: whoever takes a chat over comes to the same decision."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from chat_states import assistant, result, user

from chatcluster.parts import PAUSED, Message, NewMessage, Role, TextPart
from chatcluster.turn import (
    PAUSES_MAX,
    CallModel,
    Finish,
    RunCalls,
    Step,
    Summarize,
    next_step,
    open_calls,
    steps_taken,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SYSTEM = NewMessage(Role.SYSTEM, (TextPart("be kind"),))


def history(*messages: NewMessage) -> list[Message]:
    return [
        Message(number, new.role, new.parts, number, NOW, finish_reason=new.finish_reason)
        for number, new in enumerate(messages, start=1)
    ]


@pytest.mark.parametrize(
    ("messages", "step"),
    [
        ([], Finish()),
        ([user("hello")], CallModel()),
        ([SYSTEM, user("hello")], CallModel()),
        ([user("hello"), assistant("Hi.")], Finish()),
        ([user("hello"), assistant("Hi."), user("again")], CallModel()),
        ([user("one"), user("two")], CallModel()),
        ([user("hello"), assistant("", "call"), result("call")], CallModel()),
        ([user("hello"), assistant("", "call"), result("call"), assistant("Done.")], Finish()),
        ([user("hello"), assistant("", "a", "b"), result("b"), result("a")], CallModel()),
    ],
)
def test_the_next_step(messages: list[NewMessage], step: Step) -> None:
    assert next_step(history(*messages), steps_max=10) == step


def test_calls_without_a_result_are_run_whatever_the_number_of_steps() -> None:
    step = next_step(history(user("hello"), assistant("", "a", "b"), result("a")), steps_max=1)
    assert isinstance(step, RunCalls)
    assert [call.id for call in step.calls] == ["b"]


def test_a_turn_takes_a_bounded_number_of_steps_and_then_ends_without_an_error() -> None:
    steps = [message for number in range(3) for message in (assistant("", f"{number}"), result(f"{number}"))]
    assert next_step(history(user("hello"), *steps), steps_max=4) == CallModel()
    assert next_step(history(user("hello"), *steps), steps_max=3) == Finish()


def test_steps_are_counted_from_the_last_user_message() -> None:
    before = (user("one"), assistant("", "a"), result("a"), assistant("Done."))
    assert steps_taken(history(*before)) == 2
    assert steps_taken(history(*before, user("two"))) == 0
    assert steps_taken(history(*before, user("two"), assistant("", "b"), result("b"))) == 1


def test_p7_who_summarises_runs_no_call_that_a_given_history_left_open() -> None:
    """Of a chat at rest the ledger has no open call: whoever asked for this one, it was not our model."""
    given = history(user("hello"), assistant("", "never asked for"))
    assert isinstance(next_step(given, steps_max=10, compacting=True), Summarize)


def test_open_calls_are_those_without_a_result_in_call_order() -> None:
    messages = history(user("hello"), assistant("", "c", "a", "b"), result("a"))
    assert [call.id for call in open_calls(messages)] == ["c", "b"]
    assert open_calls(history(user("hello"))) == []


def test_what_a_turn_before_left_open_is_not_run_when_the_user_goes_on() -> None:
    """A chat that could not be read was ended without results of its calls."""
    messages = history(user("hello"), assistant("", "old"), user("go on"))
    assert open_calls(messages) == []
    assert next_step(messages, steps_max=10) == CallModel()
    later = history(user("hello"), assistant("", "old"), user("go on"), assistant("", "new"))
    assert [call.id for call in open_calls(later)] == ["new"]


def test_an_answer_that_paused_is_asked_to_go_on_and_not_for_ever() -> None:
    paused = assistant("Let me search.", finish_reason=PAUSED)
    assert next_step(history(user("hello"), paused), steps_max=99) == CallModel()
    assert next_step(history(user("hello"), paused), steps_max=1) == Finish()
    assert next_step(history(user("hello"), *[paused] * PAUSES_MAX), steps_max=99) == CallModel()
    assert next_step(history(user("hello"), *[paused] * (PAUSES_MAX + 1)), steps_max=99) == Finish()
    assert next_step(history(user("hello"), paused, assistant("Found.")), steps_max=99) == Finish()
