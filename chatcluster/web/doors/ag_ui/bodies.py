"""What a client says of a run, checked, and its messages in our terms. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from chatcluster.chat.questions import ReplyAction
from chatcluster.errors import InvalidRequest
from chatcluster.parts import Role
from chatcluster.web.api.bodies import InputFile, InputText, InputTool
from chatcluster.web.api.tool_bodies import InputReply
from chatcluster.web.doors.answering import Answers, Output, Reply, Verdict
from chatcluster.web.doors.approvals import Approval, Questioned
from chatcluster.web.doors.beginning import Said, Wishes
from chatcluster.web.doors.given_files import file_at, file_of_base64, file_of_id
from chatcluster.web.inline_files import ADDRESS

RUN_ID_CHARS_MAX = 200
SYSTEM_ROLES = ("system", "developer")
Message = dict[str, Any]


class AgentTool(msgspec.Struct, frozen=True):
    """A tool of the page."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None


class ContextEntry(msgspec.Struct, frozen=True):
    """What the page wants the model to know besides."""

    description: str = ""
    value: Any = None

    @property
    def text(self) -> str:
        value = self.value if isinstance(self.value, str) else msgspec.json.encode(self.value).decode()
        return f"{self.description}: {value}" if self.description else value


class ResumeEntry(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to one interrupt."""

    interrupt_id: str
    status: str
    payload: Any = None


class RunAgent(msgspec.Struct, kw_only=True, frozen=True, rename="camel"):
    """``RunAgentInput``. Of ``forwardedProps`` we know ``model``, ``mcpServers`` and ``onDisconnect``; ``state`` is
    passed over."""

    thread_id: str
    run_id: str
    messages: list[Message]
    tools: list[AgentTool] | None = None
    context: list[ContextEntry] | None = None
    forwarded_props: Any = None
    resume: list[ResumeEntry] | None = None

    @property
    def wishes(self) -> Wishes:
        props = self._props
        tools = [InputTool(one.name, one.description, one.parameters or {}) for one in self.tools or ()]
        system = [text_of(one) for one in self.messages if one.get("role") in SYSTEM_ROLES]
        instructions = "\n\n".join(system) if system else None
        context = "\n\n".join(one.text for one in self.context or ())
        return Wishes(props.get("model"), instructions, tools, props.get("mcpServers"), context)

    @property
    def leaving(self) -> str | None:
        return self._props.get("onDisconnect")

    @property
    def _props(self) -> dict[str, Any]:
        props = self.forwarded_props if isinstance(self.forwarded_props, dict) else {}
        servers = props.get("mcpServers")
        if not isinstance(props.get("model"), str | None) or props.get("onDisconnect") not in (
            None,
            "continue",
            "cancel",
        ):
            raise InvalidRequest(
                "forwardedProps: model is a name, onDisconnect continue or cancel", param="forwardedProps"
            )
        if servers is not None and not (isinstance(servers, list) and all(isinstance(one, str) for one in servers)):
            raise InvalidRequest("forwardedProps: mcpServers is a list of slugs", param="forwardedProps")
        return props


def check(data: RunAgent) -> None:
    """Raises ``InvalidRequest``."""
    if not (0 < len(data.run_id) <= RUN_ID_CHARS_MAX):
        raise InvalidRequest(f"runId has 1 to {RUN_ID_CHARS_MAX} characters", param="runId")
    if not any(one.get("role") == "user" for one in data.messages):
        raise InvalidRequest("messages has no message of a user", param="messages")


def before_the_answer(messages: Sequence[Message]) -> list[Message]:
    """Up to the last message of the user."""
    places = [place for place, one in enumerate(messages) if one.get("role") == "user"]
    return list(messages[: places[-1] + 1]) if places else []


def said(message: Message) -> Said | None:
    """None for what is neither the user's nor words of the assistant. Raises ``InvalidRequest``."""
    message_id = message.get("id")
    named = message_id if isinstance(message_id, str) else ""
    if message.get("role") == "user":
        return Said(named, Role.USER, _content(message.get("content")))
    text = message.get("content")
    is_kept = message.get("role") == "assistant" and isinstance(text, str) and text
    return Said(named, Role.ASSISTANT, [InputText(str(text))]) if is_kept else None


def text_of(message: Message) -> str:
    return "".join(part.text for part in _content(message.get("content")) if isinstance(part, InputText))


def _content(content: Any) -> list[InputText | InputFile]:
    if isinstance(content, str):
        return [InputText(content)]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InvalidRequest("the content of a message is a text or a list of parts", param="messages")
    return [_part(part) for part in content]


def _part(part: dict[str, Any]) -> InputText | InputFile:
    match part:
        case {"type": "text", "text": str(text)}:
            return InputText(text)
        case {"type": "image" | "document" | "audio" | "video", "source": dict(source)}:
            return _file(source, part)
        case {"type": "binary"}:  # as it was before 1.0
            kind = next((kind for kind in ("id", "url", "data") if isinstance(part.get(kind), str)), "")
            return _file({**part, "type": kind, "value": part.get(kind)}, part)
    raise InvalidRequest(f"a message cannot have a part of type {str(part.get('type'))[:40]!r}", param="messages")


def _file(source: dict[str, Any], part: dict[str, Any]) -> InputFile:
    name, metadata = part.get("filename"), part.get("metadata")
    if name is None and isinstance(metadata, dict):
        name = metadata.get("filename")
    match source:
        case {"type": "data", "value": str(value)}:
            return file_of_base64(value, name, str(source.get("mimeType") or ""))
        case {"type": "file" | "id", "value": str(value)}:
            return file_of_id(value, name)
        case {"type": "url", "value": str(value)}:
            return file_at(value, name)
    raise InvalidRequest("the source of a file is data in base64, or a file of ours by its ID", param="messages")


def shown(messages: Sequence[Message]) -> list[Message]:
    """Messages as their client may have them back: files that were taken out of them are named by their address."""
    return [_message_shown(message) for message in messages]


def _message_shown(message: Message) -> Message:
    content = message.get("content")
    return {**message, "content": list(map(_shown, content))} if isinstance(content, list) else message


def _shown(part: Any) -> Any:
    match part:
        case {"source": {"type": "data", "value": str(value)} as source} if value.startswith(ADDRESS):
            return {**part, "source": {**source, "type": "url"}}
        case {"type": "binary", "data": str(value)} if value.startswith(ADDRESS):
            return {**{name: part[name] for name in part if name != "data"}, "url": value}
    return part


def results_in(messages: Sequence[Message]) -> dict[str, Reply]:
    """What the page's tools gave, by call."""
    given: dict[str, Reply] = {}
    for one in messages:
        if one.get("role") == "tool" and isinstance(one.get("toolCallId"), str):
            error = one.get("error")
            given[one["toolCallId"]] = Output(str(error), is_error=True) if error else Output(text_of(one))
    return given


def replies(data: RunAgent) -> dict[str, Reply]:
    """What the client says of calls: results behind the last message of the user, and answers to interrupts."""
    given = results_in(data.messages[len(before_the_answer(data.messages)) :])
    answers: defaultdict[str, dict[str, InputReply]] = defaultdict(dict)
    for entry in data.resume or ():
        if (asked := Questioned.parse(entry.interrupt_id)) is not None:
            said = answers[asked.call_id]
            said[asked.key] = _answer(entry)
            given[asked.call_id] = Answers(asked.digest, said)
            continue
        shown = Approval.parse(entry.interrupt_id)
        given[shown.call_id] = _verdict(entry, shown.digest)
    return given


def _answer(entry: ResumeEntry) -> InputReply:
    """To a question: its form filled in, or nothing where there is none. One that is cancelled is not answered."""
    if entry.status == "cancelled":
        return InputReply(ReplyAction.CANCEL)
    if entry.payload is not None and not isinstance(entry.payload, dict):
        raise InvalidRequest("the payload of an answer to a question is an object, as its form says", param="resume")
    return InputReply(ReplyAction.ACCEPT, entry.payload or None)


def _verdict(entry: ResumeEntry, digest: str) -> Verdict:
    payload = entry.payload if isinstance(entry.payload, dict) else {"approved": entry.payload}
    if entry.status != "cancelled" and not isinstance(payload.get("approved"), bool):
        raise InvalidRequest("the payload of an answer to an approval has approved, true or false", param="resume")
    reason = payload.get("reason")
    approved = entry.status != "cancelled" and payload["approved"]
    return Verdict(approved, digest, reason if isinstance(reason, str) else None)
