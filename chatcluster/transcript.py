"""A chat as a document for people: its messages in Markdown. Pure.

Words are given as they were written. What a model thought is left out; calls and their results stand in blocks of code,
with fences that nothing in them can close; of files and images it is said that they were there.
"""

from __future__ import annotations

from chatcluster.content import FilePart, seen
from chatcluster.parts import (
    ImagePart,
    JsonPart,
    Message,
    Part,
    ResourcePart,
    Role,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

_NAMES = {Role.SYSTEM: "System", Role.USER: "User", Role.ASSISTANT: "Assistant", Role.TOOL: "Tools"}


def heading(title: str) -> str:
    return f"# {title}\n"


def markdown_of(message: Message) -> str:
    """A section with a heading that says who spoke, and when."""
    at = message.created_at.strftime("%Y-%m-%d %H:%M:%S UTC")
    by = f", {message.model}" if message.model and message.role is Role.ASSISTANT else ""
    said = "\n\n".join(text for part in seen(message.parts) if (text := _said(part)))
    cut = "\n\n*(interrupted)*" if message.finish_reason == "interrupted" else ""
    return f"\n## {_NAMES[message.role]}{by} · {at}\n\n{said}{cut}\n"


def _said(part: Part) -> str:
    match part:
        case TextPart(text=text):
            return text.strip("\n")
        case SourcePart(url=url, title=title):
            return f"Source: {title} <{url}>" if title else f"Source: <{url}>"
        case FilePart(name=name, media_type=media_type, size_bytes=size_bytes):
            return f"*File: {name} ({media_type}, {size_bytes} bytes)*"
        case ImagePart(media_type=media_type):
            return f"*Image ({media_type})*"
        case ToolCallPart(name=name, arguments=arguments):
            return f"Calls `{name}`:\n\n{_fenced(arguments, 'json')}"
        case ToolResultPart(is_error=is_error):
            return f"{'Failed' if is_error else 'Result'}:\n\n{_result(part)}"
        case _:
            return ""


def _result(part: ToolResultPart) -> str:
    said: list[str] = []
    for piece in part.content:
        match piece:
            case TextPart(text=text):
                said.append(_fenced(text))
            case JsonPart(json=text):
                said.append(_fenced(text, "json"))
            case ResourcePart(uri=uri, text=text):
                said.append(f"*Resource: {uri}*" + (f"\n\n{_fenced(text)}" if text else ""))
            case ImagePart(media_type=media_type):
                said.append(f"*Image ({media_type})*")
    return "\n\n".join(said)


def _fenced(text: str, language: str = "") -> str:
    fence = "```"
    while fence in text:  # longer than need be, and found in no time, whatever the text is made of
        fence += fence
    return f"{fence}{language}\n{text}\n{fence}"
