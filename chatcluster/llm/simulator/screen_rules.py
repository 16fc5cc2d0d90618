"""Anthropic's set of tools for a screen, ``computer_toolset_20260801``, as a strict provider takes it. Pure.

One entry of ``tools``, without a name, is the whole set; ``configs`` turns members of it off. Calls of a member, and
their results, say which set they are of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from chatcluster.llm.simulator.question import RefusedQuestion

TYPE = "computer_toolset_20260801"
SET = "computer"
_FIELDS = {"type", "configs", "cache_control"}
_DIRECTIONS = ("up", "down", "left", "right")


class _Takes(NamedTuple):
    """What the input of a member has to have, and what it may have."""

    needed: tuple[str, ...] = ()
    possible: tuple[str, ...] = ()


_CLICK = _Takes((), ("coordinate", "text"))
MEMBERS = {
    **dict.fromkeys(("left_click", "right_click", "middle_click", "double_click", "triple_click"), _CLICK),
    **dict.fromkeys(("screenshot", "cursor_position", "left_mouse_down", "left_mouse_up"), _Takes()),
    "left_click_drag": _Takes(("start_coordinate", "coordinate"), ("text",)),
    "mouse_move": _Takes(("coordinate",)),
    "scroll": _Takes(("scroll_direction", "scroll_amount"), ("coordinate", "text")),
    "key": _Takes(("text",), ("repeat",)),
    "hold_key": _Takes(("text", "duration")),
    "type": _Takes(("text",)),
    "wait": _Takes(("duration",)),
    "zoom": _Takes(("region",)),
}


def is_set(tool: Mapping[str, Any]) -> bool:
    return tool.get("type") == TYPE


def check_set(tool: Mapping[str, Any], where: str) -> None:
    """Raises ``RefusedQuestion``."""
    if extra := sorted(tool.keys() - _FIELDS):
        raise RefusedQuestion(f"{where}.{TYPE}.{extra[0]}: Extra inputs are not permitted")
    for member, config in (tool.get("configs") or {}).items():
        if member not in MEMBERS or not isinstance(config, dict) or config.keys() - {"enabled", "defer_loading"}:
            raise RefusedQuestion(f"{where}.{TYPE}.configs.{member}: Extra inputs are not permitted")


def members_of(tools: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """What can be called of the set; nothing where it is not offered."""
    configs = [tool.get("configs") or {} for tool in tools if is_set(tool)]
    off = {name for config in configs for name, one in config.items() if one.get("enabled") is False}
    return frozenset(MEMBERS.keys() - off) if configs else frozenset()


def check_call(block: Mapping[str, Any], members: frozenset[str], where: str) -> None:
    """Raises ``RefusedQuestion``."""
    if (name := block.get("toolset_name")) is None:
        return
    if name != SET or block.get("name") not in members:
        raise RefusedQuestion(f"{where}: tool_use.toolset_name: no set {name!r} of this request has {block['name']!r}")
    takes, given = MEMBERS[block["name"]], block["input"]
    if missing := [field for field in takes.needed if field not in given]:
        raise RefusedQuestion(f"{where}: tool_use.input.{missing[0]}: Field required")
    for field, value in given.items():
        if field not in (*takes.needed, *takes.possible) or not _is_fit(field, value):
            raise RefusedQuestion(f"{where}: tool_use.input.{field}: Input should be valid")


def check_result(block: Mapping[str, Any], call: Mapping[str, Any], where: str) -> None:
    """Raises ``RefusedQuestion``."""
    if block.get("toolset_name") != call.get("toolset_name"):
        raise RefusedQuestion(f"{where}: tool_result.toolset_name must be that of its `tool_use` block")


def _is_fit(field: str, value: Any) -> bool:
    match field:
        case "text":
            return isinstance(value, str)
        case "scroll_direction":
            return value in _DIRECTIONS
        case "coordinate" | "start_coordinate" | "region":
            length = 4 if field == "region" else 2
            return isinstance(value, list) and [type(one) for one in value] == [int] * length
        case _:
            return type(value) is int and value >= 0
