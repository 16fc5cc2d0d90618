"""The tool for the screen of the chat's workspace: ``computer``, one action at a time, answered by a picture.

An action is a call in the agent's ledger, so a next owner goes on with it and it is done once. Several of a step are
done one after the other, in the order in which the model asked for them. The picture is no larger
than what models look at, and an action's coordinates are those of the picture; the agent says so of any that are not.

It is offered where the chat's workspace has a screen; and where there is none yet, but a template for one that has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from chatcluster.agents import as_text
from chatcluster.parts import ImagePart, TextPart, storable
from chatcluster.ports import Tell, ToolCall, ToolResult
from chatcluster.ports.workspaces import Template, WorkspaceRow, WorkspaceState
from chatcluster.tools.workspace_calls import WorkspaceCalls
from chatcluster.tools.workspace_link import Refused
from chatcluster.workspace_wire import CallState, Kind

WHOLE_NUMBERS = ("x", "y", "to_x", "to_y", "amount", "repeat")
NO_PICTURE = "It was done, but its picture is not kept any more. Take a screenshot."


class ScreenTools:
    """The tool for the screen, of one chat, for one turn."""

    def __init__(self, calls: WorkspaceCalls) -> None:
        self._calls = calls

    async def computer(self, call: ToolCall, tell: Tell) -> ToolResult:
        asked = {name: int(value) if name in WHOLE_NUMBERS else value for name, value in call.arguments.items()}
        answer = await self._calls.run(call, Kind.DESKTOP, asked, tell)
        if answer.state is not CallState.EXITED:
            raise Refused(storable(answer.error or f"The action was {answer.state}."))
        told: dict[str, Any] = {"ok": True, "action": asked["action"]}
        if answer.result is None:
            return ToolResult((TextPart(as_text({**told, "note": NO_PICTURE})),))
        picture = _picture(answer.result)
        told |= {"width": picture.width, "height": picture.height}
        image = ImagePart(storable(picture.mime_type), storable(picture.screenshot_base64))
        return ToolResult((TextPart(as_text(told)), image))


def has_screen(row: WorkspaceRow | None, templates: Iterable[Template]) -> bool:
    """Whether the chat works, or may yet work, in a workspace with a screen."""
    if row is None or row.state in (WorkspaceState.FAILED, WorkspaceState.LOST):
        return any(template.settings.desktop for template in templates)
    return row.made_of.settings.desktop


class _Picture(msgspec.Struct, frozen=True):
    """A ``Screen`` as the result of a call has it."""

    screenshot_base64: str
    mime_type: str
    width: int
    height: int


def _picture(result: Any) -> _Picture:
    try:
        return msgspec.convert(result, _Picture)
    except msgspec.ValidationError:
        raise Refused("The workspace answered with what is no picture of its screen.") from None
