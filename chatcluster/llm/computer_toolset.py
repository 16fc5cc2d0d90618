"""The screen of a workspace as Anthropic's newer models were taught it: ``computer_toolset_20260801``. Pure.

There each action is a tool, and one entry of ``tools`` stands for all of them; a call names the action, and says which
set it is of. Here there is one tool, ``computer``. So a call is translated when it has come (``arguments_of``), and
translated back when the history is sent (``member_call``). What is not known there is left as it came: the tool
refuses it, in words. What is not known here is sent back as a call of no set.

The actions that the tool has not are taken out of the set. Coordinates are those of the last picture on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard

from chatcluster.models import ComputerTool
from chatcluster.ports import ToolSpec
from chatcluster.workspace_wire import ACTIONS, BUTTONS, DIRECTIONS

TOOL = "computer"
SET = "computer"
"""What a call says that it is of."""
NOT_HERE = ("cursor_position", "hold_key", "left_mouse_down", "left_mouse_up", "zoom")
ENTRY: dict[str, Any] = {
    "type": str(ComputerTool.TOOLSET_20260801),
    "configs": {member: {"enabled": False} for member in NOT_HERE},
}
NUMBER_MAX = 10**6
"""No number here is larger. A float may be infinite, and an integer too long to become one."""
AMOUNT_DEFAULT = 3
SECONDS_DEFAULT = 1

_CLICKS = {f"{button}_click": button for button in BUTTONS}
_ACTION_OF = {**dict.fromkeys(_CLICKS, "click"), "left_click_drag": "drag", "mouse_move": "move"}
_NAME_OF = {"scroll_direction": "direction", "scroll_amount": "amount", "duration": "seconds"}
_TYPES = ("key", "type")
"""Actions whose text is what they are about; with others it names keys that are held down."""


class MemberCall(NamedTuple):
    name: str
    input: dict[str, Any]


def is_screen(tool: ToolSpec) -> bool:
    """Whether the tool is ours: others may be called so as well."""
    properties = tool.parameters.get("properties", {})
    action = properties.get("action") if tool.name == TOOL and isinstance(properties, dict) else None
    return isinstance(action, dict) and action.get("enum") == list(ACTIONS)


def arguments_of(member: str, given: dict[str, Any]) -> dict[str, Any]:
    """What our tool is called with, where a member of the set was."""
    found: dict[str, Any] = {"action": _ACTION_OF.get(member, member)}
    if _CLICKS.get(member, "left") != "left":
        found["button"] = _CLICKS[member]
    is_drag = member == "left_click_drag"
    places = {"start_coordinate": ("x", "y"), "coordinate": ("to_x", "to_y") if is_drag else ("x", "y")}
    for name, value in given.items():
        if name in places and isinstance(value, list) and len(value) == len(places[name]):
            found |= zip(places[name], value, strict=True)
        elif name == "text" and member not in _TYPES:
            found["hold"] = value
        else:
            found[_NAME_OF.get(name, name)] = value
    return found


def member_call(arguments: dict[str, Any]) -> MemberCall | None:
    """The member that stands for a call of our tool, and its input; None where there is none."""
    action = arguments.get("action")
    make = _MEMBERS.get(action) if isinstance(action, str) else None
    return None if make is None else make(arguments)


def _is_number(value: object, least: int = -NUMBER_MAX) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= NUMBER_MAX


def _place(arguments: dict[str, Any], x: str = "x", y: str = "y") -> list[int] | None:
    place = [arguments.get(x), arguments.get(y)]
    whole = [int(value) for value in place if _is_number(value)]
    return whole if len(whole) == len(place) else None


def _at(arguments: dict[str, Any]) -> dict[str, Any]:
    """Where, if that is said, and which keys are held down."""
    place, held = _place(arguments), arguments.get("hold")
    found: dict[str, Any] = {} if place is None else {"coordinate": place}
    return found | ({"text": held} if isinstance(held, str) and held else {})


def _click(arguments: dict[str, Any]) -> MemberCall | None:
    member = f"{arguments.get('button', 'left')}_click"
    return MemberCall(member, _at(arguments)) if member in _CLICKS else None


def _clicks(arguments: dict[str, Any]) -> MemberCall:
    return MemberCall(arguments["action"], _at(arguments))


def _drag(arguments: dict[str, Any]) -> MemberCall | None:
    end = _place(arguments, "to_x", "to_y")
    found = _at(arguments)
    if end is None or "coordinate" not in found:
        return None
    return MemberCall("left_click_drag", found | {"start_coordinate": found["coordinate"], "coordinate": end})


def _move(arguments: dict[str, Any]) -> MemberCall | None:
    place = _place(arguments)
    return None if place is None else MemberCall("mouse_move", {"coordinate": place})


def _scroll(arguments: dict[str, Any]) -> MemberCall | None:
    direction, amount = arguments.get("direction", "down"), arguments.get("amount", AMOUNT_DEFAULT)
    if direction not in DIRECTIONS or not _is_number(amount, 0):
        return None
    return MemberCall("scroll", _at(arguments) | {"scroll_direction": direction, "scroll_amount": int(amount)})


def _typed(arguments: dict[str, Any]) -> MemberCall | None:
    text, repeat = arguments.get("text"), arguments.get("repeat")
    if not isinstance(text, str):
        return None
    repeated = {"repeat": int(repeat)} if arguments["action"] == "key" and _is_number(repeat, 1) else {}
    return MemberCall(arguments["action"], {"text": text} | repeated)


def _wait(arguments: dict[str, Any]) -> MemberCall | None:
    seconds = arguments.get("seconds", SECONDS_DEFAULT)
    return MemberCall("wait", {"duration": math.ceil(seconds)}) if _is_number(seconds, 0) else None


_MEMBERS: dict[str, Callable[[dict[str, Any]], MemberCall | None]] = {
    "screenshot": lambda _arguments: MemberCall("screenshot", {}),
    "click": _click,
    "double_click": _clicks,
    "triple_click": _clicks,
    "drag": _drag,
    "move": _move,
    "scroll": _scroll,
    "key": _typed,
    "type": _typed,
    "wait": _wait,
}
