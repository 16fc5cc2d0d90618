"""What a client shows: the rules of ``ChatView``, one by one."""

from __future__ import annotations

from datetime import UTC, datetime

from chatcluster.chat import CallState, ErrorInfo
from chatcluster.client.chat_view import ChatView
from chatcluster.client.events import Event
from chatcluster.events import (
    ActionRequiredEvent,
    ErrorEvent,
    HistoryResetEvent,
    MessageEvent,
    QueueEvent,
    RetryEvent,
    StatusEvent,
    TitleEvent,
    TurnEvent,
)
from chatcluster.parts import (
    AttemptFrame,
    Message,
    NoticePart,
    Part,
    PartFrame,
    QueuedMessage,
    ReasoningPart,
    Role,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    ToolProgressPart,
    ToolResultPart,
)
from chatcluster.ports import Action

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RETRY = RetryEvent(1, 1000, "overloaded", "overloaded", NOW)
ERROR = ErrorEvent(ErrorInfo("auth", "the key is wrong"))


def view(*events: Event) -> ChatView:
    shown = ChatView()
    for number, event in enumerate(events):
        shown.apply(f"{number}.0-0", event)
    return shown


def message(number: int, role: Role, text: str) -> MessageEvent:
    return MessageEvent(Message(number, role, (TextPart(text),), revision=number, created_at=NOW))


def message_of(number: int, role: Role, *parts: Part) -> Message:
    return Message(number, role, parts, revision=number, created_at=NOW)


def part(text: str) -> PartFrame:
    return PartFrame(1, TextPart(text))


def status(value: str) -> StatusEvent:
    return StatusEvent(value, False, 1, None)


def action(call_id: str) -> Action:
    return Action(call_id, "mail", CallState.APPROVAL, "{}", "d", NOW)


USER = message(1, Role.USER, "hello")
ATTEMPT = AttemptFrame(1, 1)


def test_parts_are_joined_to_the_preview_and_the_cursor_is_that_of_the_last_event() -> None:
    shown = view(status("running"), USER, ATTEMPT, PartFrame(1, ReasoningPart("hm")), part("Hel"), part("lo"))
    assert shown.preview == (ReasoningPart("hm"), TextPart("Hello"))
    assert (shown.preview_text, shown.attempt, shown.cursor) == ("Hello", 1, "5.0-0")


def test_the_assistants_message_takes_the_place_of_the_preview() -> None:
    shown = view(USER, ATTEMPT, part("Hi"), message(2, Role.ASSISTANT, "Hi"))
    assert shown.preview_text == ""
    assert list(shown.messages) == [1, 2]


def test_a_users_message_leaves_the_preview() -> None:
    assert view(ATTEMPT, part("Hi"), message(3, Role.USER, "x")).preview_text == "Hi"


def test_a_new_attempt_a_retry_an_error_and_a_reset_drop_the_preview() -> None:
    for event in (AttemptFrame(2, 1), RETRY, ERROR, HistoryResetEvent()):
        assert view(USER, ATTEMPT, part("Hi"), event).preview_text == ""


def test_a_chat_at_rest_shows_no_preview_and_a_busy_one_keeps_it() -> None:
    for value in ("waiting", "error", "requires_action"):
        assert view(USER, ATTEMPT, part("Hi"), status(value)).preview_text == ""
    for value in ("pending", "running", "interrupting"):
        assert view(USER, ATTEMPT, part("Hi"), status(value)).preview_text == "Hi"


def test_a_reset_drops_the_messages_too_and_all_follow() -> None:
    assert list(view(USER, HistoryResetEvent(), message(5, Role.USER, "other")).messages) == [5]


def test_a_message_that_comes_again_is_shown_once_as_it_is_now() -> None:
    shown = view(USER, message(1, Role.USER, "changed"))
    assert [item.parts for item in shown.messages.values()] == [(TextPart("changed"),)]


def test_a_retry_is_shown_until_the_next_attempt() -> None:
    assert view(status("running"), RETRY).retry == RETRY
    assert view(status("running"), RETRY, AttemptFrame(2, 1)).retry is None
    assert view(status("running"), RETRY, status("interrupting")).retry is None


def test_an_error_is_shown_until_the_chat_runs_again() -> None:
    assert view(status("error"), ERROR).error == ERROR
    assert view(status("error"), ERROR, status("pending")).error is None


def test_the_queue_and_the_title_are_replaced_whole() -> None:
    queued = QueuedMessage(7, (TextPart("later"),), NOW)
    assert view(QueueEvent((queued,))).queue == (queued,)
    assert view(QueueEvent((queued,)), QueueEvent(())).queue == ()
    assert view(TitleEvent("a"), TitleEvent("b")).title == "b"


def test_it_is_at_rest_when_nothing_is_left_to_do() -> None:
    queued = QueueEvent((QueuedMessage(7, (TextPart("later"),), NOW),))
    assert view(status("waiting")).at_rest
    assert view(status("error"), ERROR).at_rest
    assert not view(status("running")).at_rest
    assert not view(status("waiting"), queued).at_rest


def test_what_the_chat_waits_for_is_replaced_and_gone_with_any_other_status() -> None:
    both, one = ActionRequiredEvent((action("a"), action("b"))), ActionRequiredEvent((action("b"),))
    assert view(status("requires_action"), both).actions == both.calls
    assert view(status("requires_action"), both, one).actions == one.calls
    assert view(status("requires_action"), both, ActionRequiredEvent(())).actions == ()
    assert view(status("requires_action"), both, status("pending")).actions == ()


def test_a_steered_message_is_marked_in_the_queue() -> None:
    queued = QueuedMessage(3, (TextPart("rather this"),), NOW, steered=True)
    assert [one.steered for one in view(QueueEvent((queued,))).queue] == [True]


def test_a_call_is_shown_as_it_is_written_until_its_message_comes() -> None:
    pieces = (
        TextPart("Hm"),
        ToolCallPart("c1", "look", ""),
        ToolArgumentsPart("c1", '{"a"'),
        ToolArgumentsPart("c1", ":1}"),
    )
    shown = view(*(PartFrame(1, piece) for piece in pieces))
    call = ToolCallPart("c1", "look", '{"a":1}')
    assert shown.preview == (TextPart("Hm"), call)
    shown.apply("5.1-1", MessageEvent(message_of(2, Role.ASSISTANT, TextPart("Hm"), call)))
    assert shown.open_calls == [call]


def test_how_far_a_call_is_is_known_until_its_result_is_history() -> None:
    called = MessageEvent(message_of(2, Role.ASSISTANT, ToolCallPart("c1", "look", "{}")))
    result = ToolResultPart("c1", "blue")
    said = (AttemptFrame(1, 2), PartFrame(1, ToolProgressPart("c1", 0.5)), PartFrame(1, result))
    running = view(called, *said)
    assert running.progress["c1"].progress == 0.5
    assert running.preview == (result,)
    ended = view(called, *said, MessageEvent(message_of(3, Role.TOOL, result)))
    assert ended.open_calls == []
    assert not ended.progress
    assert not ended.preview


def test_what_a_turn_goes_on_without_is_known_until_it_ends() -> None:
    shown = ChatView()
    notice = NoticePart("mcp_server_unavailable", "It is down.", "files")
    shown.apply("1.1-1", PartFrame(1, notice))
    assert (shown.notices, shown.preview) == ([notice], ())
    shown.apply("2.1-1", TurnEvent(1, "finished", 10))
    assert shown.notices == []
