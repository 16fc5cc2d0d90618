"""The tools of workspaces as a model sees them: names, descriptions, arguments, and what it means to run one again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatcluster.ports import Effect, Tool
from chatcluster.tools.workspace_commands import TIMEOUT_SECONDS_MAX, WAIT_SECONDS_MAX
from chatcluster.tools.workspace_files import PIECE_BYTES
from chatcluster.tools.workspace_life import SECONDS_MAX
from chatcluster.workspace_wire import (
    ACTIONS,
    BUTTONS,
    DIRECTIONS,
    HELD_DURING,
    NOTCHES_MAX,
    PAUSE_SECONDS_MAX,
    REPEATS_MAX,
    TYPED_CHARACTERS_MAX,
)

TYPING_SECONDS_MAX = 300.0
"""The time for the longest text there may be, of characters that no key has."""
SLACK_SECONDS = 60.0
"""Between the longest that a tool takes by itself and its being stopped."""
_TEXT = {"type": "string"}
_PATH = {
    "type": "string",
    "minLength": 1,
    "maxLength": 4096,
    "description": "Absolute, or relative to the working directory; ~ is home",
}
_PROCESS_ID = {"type": "string", "minLength": 1, "maxLength": 200, "description": "As execute or process_list gave it"}


def _tool(
    tool_name: str,
    description: str,
    effect: Effect,
    required: Sequence[str] = (),
    seconds_max: float = 60.0,
    *,
    runs_alone: bool = False,
    **properties: dict[str, Any],
) -> Tool:
    return Tool(
        name=tool_name,
        description=description,
        parameters={
            "type": "object",
            "properties": properties,
            "required": list(required),
            "additionalProperties": False,
        },
        effect=effect,
        runs_alone=runs_alone,
        idle_seconds=seconds_max + SLACK_SECONDS,
        total_seconds=seconds_max + SLACK_SECONDS,
    )


PROVISIONING = (
    _tool(
        "list_templates",
        "Lists the templates that a workspace can be made of: id, name, display_name and description.",
        Effect.READ,
        query={"type": "string", "maxLength": 200, "description": "Only those whose name or description has this"},
    ),
    _tool(
        "read_template",
        "Says more of one template: what it has, and the parameters that create_workspace takes for it.",
        Effect.READ,
        ["template_id"],
        template_id={"type": "string", "minLength": 1, "description": "As list_templates gave it"},
    ),
    _tool(
        "create_workspace",
        "Makes this chat's workspace: a Linux machine of its own for files and commands, whose files stay. Returns "
        "when it is ready, which may take minutes. If the chat has one already, that one is returned.",
        Effect.IDEMPOTENT,
        ["template_id"],
        SECONDS_MAX,
        template_id={"type": "string", "minLength": 1, "description": "As list_templates gave it"},
        name={"type": "string", "maxLength": 32, "description": "A short name for people; left away, one is made up"},
        parameters={"type": "object", "description": "Values by name, as read_template describes them"},
    ),
    _tool(
        "start_workspace",
        "Starts this chat's workspace, if it is stopped, and returns when it is ready. Its files are as they were.",
        Effect.IDEMPOTENT,
        (),
        SECONDS_MAX,
    ),
    _tool(
        "stop_workspace",
        "Stops a workspace that does not answer, so that start_workspace can bring it back; its files are kept, its "
        "processes end. It is done only if a tool had no answer in this turn, and there is none now either.",
        Effect.IDEMPOTENT,
        (),
        SLACK_SECONDS,
    ),
)
"""Tools for chats that are nobody's agents."""

WORKING = (
    _tool(
        "read_file",
        f"Reads a file of the workspace: {PIECE_BYTES} bytes at most at a time. Of a longer one next_offset says where "
        "to go on. An image is shown.",
        Effect.READ,
        ["path"],
        path=_PATH,
        offset={"type": "integer", "minimum": 0, "description": "The first byte to read; default 0"},
        limit={"type": "integer", "minimum": 1, "description": f"Bytes to read; default and maximum {PIECE_BYTES}"},
    ),
    _tool(
        "write_file",
        "Writes a file of the workspace, in the place of what was there. Directories are made where they are missing.",
        Effect.TRACKED,
        ["path", "content"],
        path=_PATH,
        content={**_TEXT, "description": "All of the file"},
    ),
    _tool(
        "edit_files",
        "Replaces pieces of files: all of the edits are made, or none. Each search text has to be in its file exactly "
        "once, unless replace_all is true; give it with enough of the lines around it.",
        Effect.TRACKED,
        ["files"],
        files={
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "path": _PATH,
                    "edits": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "properties": {
                                "search": {**_TEXT, "minLength": 1},
                                "replace": _TEXT,
                                "replace_all": {"type": "boolean"},
                            },
                            "required": ["search", "replace"],
                            "additionalProperties": False,
                        },
                    },
                },
                "required": ["path", "edits"],
                "additionalProperties": False,
            },
        },
    ),
    _tool(
        "execute",
        "Runs a shell command in the workspace, without a terminal and without input, and returns what it prints. What "
        "takes longer than the timeout goes on in the background, and its background_process_id is returned.",
        Effect.TRACKED,
        ["command"],
        TIMEOUT_SECONDS_MAX,
        command={**_TEXT, "minLength": 1, "description": "For a shell"},
        timeout={
            **_TEXT,
            "maxLength": 40,
            "description": 'How long to wait, like "30s" or "5m"; default 10s, at most 10m',
        },
        workdir={**_TEXT, "maxLength": 4096, "description": "Where to run it; default is the working directory"},
        run_in_background={
            "type": "boolean",
            "description": "Return at once, and let it go on: for servers and others that do not end by themselves",
        },
    ),
    _tool(
        "process_output",
        "What a process has printed, and whether it has ended.",
        Effect.READ,
        ["process_id"],
        WAIT_SECONDS_MAX,
        process_id=_PROCESS_ID,
        offset={"type": "integer", "minimum": 0, "description": "The first byte of its output; default 0"},
        wait={
            **_TEXT,
            "maxLength": 40,
            "description": 'Wait so long for more output, or the end, like "20s"; default 0s, at most 1m',
        },
    ),
    _tool(
        "process_list",
        "Lists the processes that commands started, those that run first: process_id, command, state.",
        Effect.READ,
    ),
    _tool(
        "process_signal",
        "Ends a process and all that it started: terminate asks it to, kill does not ask.",
        Effect.TRACKED,
        ["process_id", "signal"],
        process_id=_PROCESS_ID,
        signal={"type": "string", "enum": ["terminate", "kill"]},
    ),
)
"""Tools for every chat."""

_PLACE = {"type": "integer", "minimum": 0}

ON_SCREEN = (
    _tool(
        "computer",
        "Does one thing on the screen of the workspace, as a person at it would, and shows the screen as it is then. "
        "Begin with screenshot. x and y are pixels of the picture, from its upper left corner. Before you type, click "
        "what you type into. Programs with windows, such as chromium, are begun with execute, in the background.",
        Effect.TRACKED,
        ["action"],
        TYPING_SECONDS_MAX,
        runs_alone=True,
        action={"type": "string", "enum": list(ACTIONS)},
        x={
            **_PLACE,
            "description": "For clicks and scroll (default: at the pointer), and move; where a drag begins",
        },
        y={**_PLACE, "description": "With x"},
        to_x={**_PLACE, "description": "Where a drag ends"},
        to_y={**_PLACE, "description": "With to_x"},
        button={"type": "string", "enum": list(BUTTONS), "description": "Default left"},
        direction={"type": "string", "enum": list(DIRECTIONS), "description": "Of scroll; default down"},
        amount={"type": "integer", "minimum": 1, "maximum": NOTCHES_MAX, "description": "Of scroll; default 3 notches"},
        text={
            **_TEXT,
            "maxLength": TYPED_CHARACTERS_MAX,
            "description": "For type: what to type. For key: a key, such as Return or Tab, or several held together, "
            "such as ctrl+l",
        },
        repeat={"type": "integer", "minimum": 1, "maximum": REPEATS_MAX, "description": "Of key; default 1"},
        hold={
            **_TEXT,
            "maxLength": 100,
            "description": f"Keys that are held down meanwhile, such as ctrl: for {', '.join(HELD_DURING)}",
        },
        seconds={
            "type": "number",
            "minimum": 0,
            "maximum": PAUSE_SECONDS_MAX,
            "description": "How long to wait; default 1",
        },
    ),
)
"""Tools for every chat whose workspace has a screen."""

CHANGES_FILES = (
    *("write_file", "edit_files", "execute", "process_output", "create_workspace", "start_workspace", "computer"),
)
"""Tools after which the files of the workspace may be others than before."""

BEGINS = ("create_workspace", "start_workspace")
"""Tools after which there may be a workspace that runs, and so the tools that it brings itself."""
