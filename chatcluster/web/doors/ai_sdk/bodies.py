"""What callers send to this door, checked. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from chatcluster.errors import InvalidRequest
from chatcluster.web.api.bodies import InputTool
from chatcluster.web.doors.ai_sdk.ui_messages import text_in
from chatcluster.web.doors.beginning import Wishes

TRIGGERS = ("submit-message", "regenerate-message")


class SubmitChat(msgspec.Struct, kw_only=True, frozen=True, rename="camel"):
    """As ``useChat`` sends it; or with the one ``message`` that is new in the place of all ``messages``.

    The fields that follow ``messageId`` are ours. What an application sends besides is passed over.
    """

    id: str
    messages: list[dict[str, Any]] | None = None
    message: dict[str, Any] | None = None
    trigger: str = TRIGGERS[0]
    message_id: str | None = None
    model: str | None = None
    instructions: str | None = None
    tools: list[InputTool] | None = None
    mcp_servers: list[str] | None = None
    on_disconnect: str | None = None

    @property
    def given(self) -> list[dict[str, Any]]:
        """The messages, one at least."""
        return self.messages or [self.message or {}]

    @property
    def last(self) -> dict[str, Any]:
        return self.given[-1]

    @property
    def before_last(self) -> dict[str, Any]:
        """The message before it; one without parts where there is none."""
        return self.given[-2] if len(self.given) > 1 else {"parts": []}

    def with_last(self, message: dict[str, Any]) -> SubmitChat:
        """This with another message in the place of the last one."""
        if self.messages:
            return msgspec.structs.replace(self, messages=[*self.messages[:-1], message])
        return msgspec.structs.replace(self, message=message)

    @property
    def wishes(self) -> Wishes:
        """Without ``instructions``, what the system says among the messages is told in their place."""
        said = [text_in(one) for one in self.given if one.get("role") == "system"]
        system = [text for text in said if text]
        instructions = "\n\n".join(system) if self.instructions is None and system else self.instructions
        return Wishes(self.model, instructions, self.tools, self.mcp_servers)

    @property
    def asks_again(self) -> bool:
        return self.trigger == TRIGGERS[1]


def check(data: SubmitChat) -> None:
    """Raises ``InvalidRequest``."""
    if not (data.messages or data.message):
        raise InvalidRequest("send messages, or the message that is new", param="messages")
    if data.trigger not in TRIGGERS:
        raise InvalidRequest(f"trigger is {' or '.join(TRIGGERS)}", param="trigger")
    if data.last.get("role") not in ("user", "assistant"):
        raise InvalidRequest(
            "the last message is a user's, or the assistant's with outputs of its calls", param="messages"
        )
    if data.on_disconnect not in (None, "continue", "cancel"):
        raise InvalidRequest("onDisconnect is continue or cancel", param="onDisconnect")
