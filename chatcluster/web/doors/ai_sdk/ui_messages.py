"""Messages as the client keeps them, ``UIMessage``s: those of a history, and what a client sends of its own. Pure.

What a history says is what a client has made of the chunks when a turn is over: the same parts, under the same ID.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from chatcluster.content import FilePart
from chatcluster.errors import InvalidRequest
from chatcluster.parts import Message, Part, Role, SourcePart, TextPart, ToolCallPart, ToolResultPart
from chatcluster.web.api.bodies import InputFile, InputText
from chatcluster.web.doors.ai_sdk.chunk_fold import input_of, is_denied, output_of, source_part
from chatcluster.web.doors.ai_sdk.ids import answer_id, asked_id, message_of
from chatcluster.web.doors.answering import Output, Reply, Verdict
from chatcluster.web.doors.approvals import Approval
from chatcluster.web.doors.beginning import Said
from chatcluster.web.doors.given_files import file_at
from chatcluster.web.doors.voices import Voice, spoken_in
from chatcluster.web.inline_files import ADDRESS

UiMessage = dict[str, Any]
UiPart = dict[str, Any]


def ui_messages(history: Sequence[Message], client_tools: frozenset[str]) -> list[UiMessage]:
    """A history: each of its user's messages, and all that follows it as one."""
    told: list[UiMessage] = []
    results = {part.call_id: part for one in history for part in one.parts if isinstance(part, ToolResultPart)}
    for one in history:
        if one.role is Role.USER:
            told.append({"id": asked_id(one.id), "role": "user", "parts": list(_asked(one.parts))})
            told.append({"id": answer_id(one.id), "role": "assistant", "parts": []})
        elif one.role is Role.ASSISTANT and told:
            told[-1]["parts"].extend(_said(one.parts, results, client_tools))
    return [one for one in told if one["parts"]]


def _asked(parts: Iterable[Part]) -> Iterator[UiPart]:
    for part in parts:
        match part:
            case TextPart(text=text):
                yield {"type": "text", "text": text}
            case FilePart():
                url = f"{ADDRESS}{part.file_id}"
                yield {"type": "file", "mediaType": part.media_type, "filename": part.name, "url": url}


def _said(parts: Sequence[Part], results: dict[str, ToolResultPart], client_tools: frozenset[str]) -> Iterator[UiPart]:
    spoken = spoken_in(parts)
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    if spoken or calls:
        yield {"type": "step-start"}
    for voice, text in spoken:
        yield {"type": "text" if voice is Voice.TEXT else "reasoning", "text": text, "state": "done"}
    if spoken:
        yield from (source_part(part) for part in parts if isinstance(part, SourcePart))
    for call in calls:
        part = {"type": "dynamic-tool", "toolName": call.name, "toolCallId": call.id, "input": input_of(call)}
        by_us = {} if call.name in client_tools else {"providerExecuted": True}
        yield {**part, **by_us, **_outcome(results.get(call.id))}


def _outcome(result: ToolResultPart | None) -> UiPart:
    if result is None:
        return {"state": "input-available"}
    if is_denied(result):
        return {"state": "output-denied", "approval": {"id": result.call_id, "approved": False, "reason": result.text}}
    if result.is_error:
        return {"state": "output-error", "errorText": result.text}
    return {"state": "output-available", "output": output_of(result)}


# --- what a client sends ----------------------------------------------------------------------


def parts_of(message: UiMessage) -> list[UiPart]:
    """Raises ``InvalidRequest`` for what is no list of parts."""
    parts = message.get("parts")
    if parts is None and isinstance(message.get("content"), str):
        return [{"type": "text", "text": message["content"]}]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise InvalidRequest("a message has a list of parts", param="messages")
    return parts


def place_of_last(messages: Sequence[UiMessage]) -> tuple[int, int]:
    """Where the last message of the user stands among those of its chat: how many of them it is behind the newest one
    that the client knows by an ID of ours, and which that is; without any, behind the first one of all."""
    behind = -1
    for one in reversed(messages):
        is_asked = one.get("role") == "user"
        behind += is_asked
        known = message_of(named(one))
        if known is not None:
            return known, behind + (not is_asked)
    return 0, max(0, behind)


def named(message: UiMessage) -> str:
    """The ID that its client gave to it."""
    message_id = message.get("id")
    return message_id if isinstance(message_id, str) else ""


def text_in(message: UiMessage) -> str:
    texts = [part.get("text") for part in parts_of(message) if part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def said(message: UiMessage) -> Said | None:
    """None for what has nothing to keep. Raises ``InvalidRequest`` for what a user's message cannot have here."""
    if message.get("role") == "user":
        parts = [part for part in parts_of(message) if not str(part.get("type")).startswith("data-")]
        return Said(named(message), Role.USER, [_input(part) for part in parts])
    text = text_in(message)
    is_kept = message.get("role") == "assistant" and text
    return Said(named(message), Role.ASSISTANT, [InputText(text)]) if is_kept else None


def _input(part: UiPart) -> InputText | InputFile:
    match part.get("type"), part.get("text"), part.get("url"):
        case "text", str(text), _:
            return InputText(text)
        case "file", _, str(url):
            return file_at(url, part.get("filename"))
    raise InvalidRequest(f"a message cannot have a part of type {str(part.get('type'))[:40]!r}", param="messages")


def replies(message: UiMessage) -> dict[str, Reply | None]:
    """What the client says of calls, by their IDs; None where that is nothing."""
    found = (part for part in parts_of(message) if isinstance(part.get("toolCallId"), str))
    return {part["toolCallId"]: _reply(part) for part in found}


def _reply(part: UiPart) -> Reply | None:
    answer = part.get("approval")
    match part.get("state"):
        case "output-available":
            return Output(part.get("output"))
        case "output-error":
            return Output(str(part.get("errorText") or "the tool failed"), is_error=True)
        case "approval-responded" if isinstance(answer, dict) and isinstance(answer.get("approved"), bool):
            reason = answer.get("reason")
            digest = Approval.parse(str(answer.get("id"))).digest
            return Verdict(answer["approved"], digest, reason if isinstance(reason, str) else None)
    return None
