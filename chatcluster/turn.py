"""What a turn does next, decided from the history alone.

Pure: every replica that takes a chat over, in whatever state its last owner left it, comes to the same decision.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chatcluster.backoff import grown_seconds
from chatcluster.chat import ErrorInfo, Retry, ScheduleRetry
from chatcluster.context import has_news, summary_in
from chatcluster.errors import HistoryTooLarge, ProviderError, Unreadable
from chatcluster.parts import PAUSED, Message, Position, Role, ToolCallPart, ToolResultPart, storable
from chatcluster.ports import Chat, Stint
from chatcluster.setting_sections import Turns

PAUSES_MAX = 10
"""So often in a row an answer is asked to go on."""


OF_THE_CONVERSATION = frozenset({"content_filter", "context_overflow", "answer_too_large"})
"""Failures that speak of what is said, and not of the model or its server: another model is no way around them."""


class CallModel(msgspec.Struct, frozen=True):
    """Ask the model for the next assistant message."""


class Summarize(msgspec.Struct, frozen=True):
    """Put a summary in the place of the history, as the user asked for."""


class RunCalls(msgspec.Struct, frozen=True):
    """Run the tool calls that have no result yet; those that wait for somebody are not the owner's to run."""

    calls: tuple[ToolCallPart, ...]


class Finish(msgspec.Struct, frozen=True):
    """The turn is complete; nothing is left to say."""


Step = CallModel | Summarize | RunCalls | Finish


def next_step(messages: Sequence[Message], *, steps_max: int, compacting: bool = False) -> Step:
    """The next step of a running chat with this history; at most ``steps_max`` model responses a turn.

    A chat that is ``compacting`` answers nobody. A turn that reaches ``steps_max`` ends as it is, without an error,
    once what was called has its results.
    """
    calls = () if compacting else open_calls(messages)
    if calls:
        return RunCalls(tuple(calls))
    if compacting and has_news(messages):
        return Summarize()
    if compacting or not messages:
        return Finish()
    is_answered = messages[-1].role is Role.ASSISTANT and not goes_on(messages)
    return Finish() if is_answered or steps_taken(messages) >= steps_max else CallModel()


def goes_on(messages: Sequence[Message]) -> bool:
    """Whether the answer at the end is one that its provider wants to go on with, and has not wanted that too often."""
    pauses = 0
    for message in reversed(messages):
        if message.finish_reason != PAUSED or pauses > PAUSES_MAX:
            break
        pauses += 1
    return 0 < pauses <= PAUSES_MAX


def asked_model(messages: Sequence[Message]) -> str | None:
    """The model that the turn's user message asks for; None: the chat's."""
    return next((message.model for message in reversed(messages) if message.role is Role.USER), None)


def open_calls(messages: Sequence[Message]) -> list[ToolCallPart]:
    """Tool calls of the turn without a result, in call order. What a turn before left open is nobody's to run."""
    calls: dict[str, ToolCallPart] = {}
    for message in messages:
        if message.role is Role.USER:
            calls.clear()
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                calls[part.id] = part
            elif isinstance(part, ToolResultPart):
                calls.pop(part.call_id, None)
    return list(calls.values())


def steps_taken(messages: Sequence[Message]) -> int:
    """Model responses since the last user message."""
    steps = 0
    for message in reversed(messages):
        if message.role is Role.USER:
            break
        summary = summary_in(message)
        if summary is not None:
            return steps + summary.steps
        steps += message.role is Role.ASSISTANT
    return steps


def after_failure(
    error: ProviderError, chat: Chat, stint: Stint, turns: Turns, last: Position
) -> ScheduleRetry | ErrorInfo:
    """Another attempt, or the end of the turn. Only the failures of the model count, not the deaths of replicas.

    Where it has a successor that one is asked, at once: after its share of failures, or after one that another attempt
    would not mend and another model may, like a key that is refused. ``last``: the last frame of the one that failed.
    """
    failures, text = chat.failures + 1 - stint.first, storable(error.message)
    is_over = not error.retryable or failures >= turns.attempts_max
    if stint.end is not None and (is_over or chat.failures + 1 >= stint.end) and error.kind not in OF_THE_CONVERSATION:
        return ScheduleRetry(_retry(error, chat, 0, last, stint.successor), stint.end)
    if is_over:
        if error.retryable:
            text = f"gave up after {failures} attempts: {text}"
        return ErrorInfo(error.kind, text, error.retryable, error.provider, error.status_code)
    delay_ms = round(retry_delay_seconds(error, failures, turns) * 1000)
    return ScheduleRetry(_retry(error, chat, delay_ms, last))


def _retry(error: ProviderError, chat: Chat, delay_ms: int, last: Position, model: str | None = None) -> Retry:
    text = storable(error.message)
    return Retry(chat.attempt, delay_ms, text, error.kind, error.provider, error.status_code, str(last), model)


def retry_delay_seconds(error: ProviderError, failures: int, turns: Turns) -> float:
    """The wait after so many failures: our own back-off, or longer where the provider asks for it, up to a cap.

    Never less, whatever it says: a server whose clock is wrong, or that says 0, would get a storm of requests.
    """
    own_seconds = grown_seconds(turns.retry_base_seconds, failures - 1, turns.retry_cap_seconds)
    if error.retry_after_seconds is None:
        return own_seconds
    return max(own_seconds, min(error.retry_after_seconds, turns.retry_after_cap_seconds))


def after_deaths(chat: Chat) -> ErrorInfo:
    """The end of a turn that too many replicas in a row died with."""
    text = f"gave up: {chat.takeovers - 1} replicas in a row died while they worked on this"
    return ErrorInfo("attempts_exhausted", text, retryable=True)


def without_history(error: HistoryTooLarge | Unreadable) -> ErrorInfo:
    """The end of a turn whose history cannot be had."""
    if isinstance(error, HistoryTooLarge):
        text = f"{error}; edit an earlier message, which deletes what follows it, or start a new chat"
        return ErrorInfo("history_too_large", text)
    return ErrorInfo("unreadable", "the history of this chat cannot be read by this version; start a new chat")
