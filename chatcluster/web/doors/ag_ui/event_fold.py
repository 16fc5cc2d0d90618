"""A turn as the events of a run. Pure: a mapping of its steps (``steps.py``).

The client keeps messages, made from events. What an attempt that came to nothing had said is taken back by a
``MESSAGES_SNAPSHOT``: what the client had before the run, and what was told since, without that. Reasoning that is not
in one, its client takes away only if there is other reasoning in it; so where there is none, it is in there without
words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from chatcluster.chat.questions import Question
from chatcluster.parts import ToolCallPart, ToolResultPart
from chatcluster.ports import Action
from chatcluster.turn_log import Told
from chatcluster.usage import Usage
from chatcluster.web.doors.approvals import Approval, Questioned, SignIn
from chatcluster.web.doors.chunks import arguments_of, pieces
from chatcluster.web.doors.steps import (
    ANSWERED_BY_THE_CLIENT,
    Answered,
    Aside,
    Asked,
    Begun,
    Called,
    Cited,
    Closed,
    Ending,
    Happened,
    Opened,
    Over,
    Restarted,
    Spoke,
    StepBegun,
    Steps,
)
from chatcluster.web.doors.voices import Voice

Event = dict[str, Any]
VERSION = "1.0"
REASONING = "reasoning"
VERDICT: Event = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "reason": {"type": "string"}},
    "required": ["approved"],
}
"""What answers an approval."""


class Run(NamedTuple):
    """What the client said of it. ``messages`` are those that it had before; ``begins_anew``: it has ``more``, which
    this run tells again. ``prefix`` is that of the IDs of its messages."""

    thread_id: str
    run_id: str
    prefix: str
    messages: Sequence[Event] = ()
    begins_anew: bool = False
    more: Sequence[Event] = ()

    @property
    def answered(self) -> set[str]:
        """Calls whose results the client has."""
        return {str(one.get("toolCallId")) for one in self.messages if one.get("role") == "tool"}


class EventFold:
    """``tell`` it what happens."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._answered = run.answered
        self._steps = Steps((*ANSWERED_BY_THE_CLIENT, "question"))
        self._told: list[Event] = []
        """The messages of the run, as the client has them."""
        thoughts = (one.get("id") for one in run.more if one.get("role") == REASONING)
        self._taken_back = [one for one in thoughts if isinstance(one, str)]
        """Reasoning that counts no more."""
        self._texts: dict[str, list[str]] = {}
        """What its words are, by message."""
        self._step_at = 0
        """The place in ``_told`` where the messages of the step under way begin."""
        self._interrupts: list[Event] = []

    @property
    def is_over(self) -> bool:
        return self._steps.is_over

    def tell(self, told: Told) -> Iterator[Event]:
        """The events that follow from it."""
        for happened in self._steps.tell(told):
            yield from self._events(happened)

    def _events(self, happened: Happened) -> Iterator[Event]:
        match happened:
            case Begun():
                run = {"threadId": self._run.thread_id, "runId": self._run.run_id}
                yield {"type": "RUN_STARTED", **run, "protocolVersion": VERSION}
                if self._run.begins_anew:
                    yield self._snapshot()
            case StepBegun():
                self._step_at = len(self._told)
            case Opened(number, voice):
                yield from self._opened(self._id(number, voice), voice)
            case Spoke(number, voice, text):
                message_id = self._id(number, voice)
                self._texts[message_id].append(text)
                kind = "TEXT_MESSAGE_CONTENT" if voice is Voice.TEXT else "REASONING_MESSAGE_CONTENT"
                yield {"type": kind, "messageId": message_id, "delta": text}
            case Closed(number, voice):
                ends = ["TEXT_MESSAGE_END"] if voice is Voice.TEXT else ["REASONING_MESSAGE_END", "REASONING_END"]
                yield from ({"type": kind, "messageId": self._id(number, voice)} for kind in ends)
            case Restarted():
                self._taken_back.extend(one["id"] for one in self._told[self._step_at :] if one["role"] == REASONING)
                del self._told[self._step_at :]
                yield self._snapshot()
            case Cited(source):
                yield {"type": "CUSTOM", "name": "source", "value": {"url": source.url, "title": source.title}}
            case Called(call):
                yield from self._called(call)
            case Answered(result) if result.call_id not in self._answered:
                yield self._result(result)
            case Asked(action):
                yield from self._asked(action)
            case Aside(part):
                value = {key: getattr(part, key) for key in part.__struct_fields__}
                yield {"type": "CUSTOM", "name": str(part.__struct_config__.tag), "value": value}
            case Over():
                yield self._over(happened)

    def _id(self, number: int, voice: Voice) -> str:
        """Of two voices never the same, as a client adds to what it has of that name."""
        return f"{self._run.prefix}_{'' if voice is Voice.TEXT else 'r'}{number}"

    def _snapshot(self) -> Event:
        told = [
            {**one, "content": "".join(self._texts[one["id"]])} if one["id"] in self._texts else one
            for one in self._told
        ]
        messages = [*self._run.messages, *told]
        if not any(one.get("role") == REASONING for one in messages):
            messages.extend({"id": one, "role": REASONING, "content": ""} for one in dict.fromkeys(self._taken_back))
        return {"type": "MESSAGES_SNAPSHOT", "messages": messages}

    def _opened(self, message_id: str, voice: Voice) -> Iterator[Event]:
        role = "assistant" if voice is Voice.TEXT else REASONING
        self._told.append({"id": message_id, "role": role})
        self._texts[message_id] = []
        if voice is Voice.REASONING:
            yield {"type": "REASONING_START", "messageId": message_id}
        kind = "TEXT_MESSAGE_START" if voice is Voice.TEXT else "REASONING_MESSAGE_START"
        yield {"type": kind, "messageId": message_id, "role": role}

    def _called(self, call: ToolCallPart) -> Iterator[Event]:
        """Tell a call in the message that the step has said last, or in one of its own."""
        if not (len(self._told) > self._step_at and self._told[-1]["role"] == "assistant"):
            self._told.append({"id": f"{self._run.prefix}_{call.id}", "role": "assistant"})
        parent = self._told[-1]
        function = {"name": call.name, "arguments": arguments_of(call)}
        parent.setdefault("toolCalls", []).append({"id": call.id, "type": "function", "function": function})
        named = {"toolCallName": call.name, "parentMessageId": parent["id"]}
        yield {"type": "TOOL_CALL_START", "toolCallId": call.id, **named}
        for piece in pieces(arguments_of(call)):
            yield {"type": "TOOL_CALL_ARGS", "toolCallId": call.id, "delta": piece}
        yield {"type": "TOOL_CALL_END", "toolCallId": call.id}

    def _result(self, result: ToolResultPart) -> Event:
        message = {
            "id": f"result_{result.call_id}",
            "role": "tool",
            "toolCallId": result.call_id,
            "content": result.text,
        }
        self._told.append(message)
        told = {"messageId": message["id"], "toolCallId": result.call_id, "content": result.text, "role": "tool"}
        return {"type": "TOOL_CALL_RESULT", **told}

    # --- the end ------------------------------------------------------------------------------

    def _asked(self, action: Action) -> Iterator[Event]:
        if action.kind == "approval":
            self._interrupts.append(interrupt(action))
        elif action.kind == "question":
            self._interrupts.extend(question_interrupt(action, one) for one in action.questions or ())
        elif action.kind == "sign_in":
            told = SignIn.of(action.name).told(action.name)
            yield {"type": "CUSTOM", "name": "sign_in", "value": {"toolCallId": action.call_id, **told}}

    def _over(self, over: Over) -> Event:
        if over.ending is Ending.FAILED:
            return {"type": "RUN_ERROR", "message": over.text, "code": over.code}
        outcome: Event = {"type": "cancelled" if over.ending is Ending.STOPPED else "success"}
        if over.ending is Ending.WAITS and self._interrupts:
            outcome = {"type": "interrupt", "interrupts": self._interrupts}
        run = {"threadId": self._run.thread_id, "runId": self._run.run_id}
        return {"type": "RUN_FINISHED", **run, "outcome": outcome, "usage": usage_of(over.usage)}


def interrupt(action: Action) -> Event:
    return {
        "id": Approval(action.call_id, action.digest).id,
        "reason": "tool_approval",
        "message": f"May {action.name} be called?",
        "toolCallId": action.call_id,
        "responseSchema": VERDICT,
        "expiresAt": action.deadline.isoformat(),
        "metadata": {"arguments": action.arguments, "mayHaveRun": action.may_have_run},
    }


def question_interrupt(action: Action, asked: Question) -> Event:
    """What the server of a tool asks the user: a form to fill in, or an address to go to."""
    schema = asked.schema or {"type": "object", "properties": {}}
    metadata = {"toolName": action.name, **({} if asked.url is None else {"url": asked.url})}
    return {
        "id": Questioned(action.call_id, action.digest, asked.key).id,
        "reason": "question",
        "message": asked.message,
        "toolCallId": action.call_id,
        "responseSchema": schema,
        "expiresAt": action.deadline.isoformat(),
        "metadata": metadata,
    }


def usage_of(usage: Usage | None) -> list[Event]:
    if usage is None:
        return []
    counts = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cached_input_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }
    return [{name: count for name, count in counts.items() if count is not None}]
