"""What is said to the agent of a workspace, and what it answers: JSON over HTTP/1.1, one value a body.

::

    PUT  /calls/{call_id}            CallRequest -> CallAnswer
    GET  /calls/{call_id}            ?offset=&wait_seconds= -> CallAnswer
    POST /calls/{call_id}/cancel     Cancel -> CallAnswer
    GET  /calls                      -> UnderWay
    GET  /processes                  -> ProcessList
    POST /processes/{call_id}/signal SignalRequest -> ProcessAnswer
    GET  /files                      ?path=&offset=&limit= -> FileAnswer
    GET  /instructions               ?directory= -> InstructionsAnswer
    GET  /diff                       ?base=&directory= -> DiffAnswer
    GET  /screen                     -> Screen
    GET  /mcp                        ?wait_seconds= -> McpAnswer (``workspace_mcp.py``)
    GET  /status                     -> AgentStatus
    POST /stop                       -> AgentStatus; then it ends
    POST /leash                      no answer: held open by the maker of the sandbox (``agent/leash.py``)
    POST /network                    no answer: from then on a connection to a proxy, lent by its host to an agent that
                                     has no other way out (``agent/gateway.py``)

On a Unix socket every process that can open it may ask; over TCP each request has ``Authorization: Bearer`` with its
token. All else is a ``Refusal`` with a status of 4xx or 5xx, and wrote nothing.

A **call** has an ID that its caller gives it, and is put again with the same ID as often as its caller likes: it is
carried out once. It is another call, and refused, if its ``digest`` is another. ``epoch`` is the tenure of the chat
that asks; below the highest that the agent has seen of that chat it is refused.

::

    (unseen) ── PUT ──► running ──► exited   it ended by itself: exit_code, or signal
        │                  │  └───► failed   it could not be carried out: error
        │                  └──────► killed   by a cancel, its deadline, or the end of the agent: error says which
        └── cancel ────► buried              it was never begun and never will be

What a command wrote, on both of its outputs, is one run of bytes. The first ``kept_bytes`` of ``output_bytes`` are
there to be read, from any offset; one answer has ``OUTPUT_CHUNK_BYTES`` at most.

**Paths** are text. A byte of a name that is not UTF-8 is written ``\\xNN`` (two hexadecimal digits, from 80 on), and a
backslash that would be read so is ``\\x5c``. A relative path starts at the working directory, ``~`` at home.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

OUTPUT_CHUNK_BYTES = 256 << 10
FILE_BYTES_MAX = 10 << 20
"""The most of one file that is read, written or edited."""
BODY_BYTES_MAX = 16 << 20
WAIT_SECONDS_MAX = 30.0
ID_CHARACTERS_MAX = 200
INSTRUCTION_BYTES_MAX = 64 << 10
PATCH_BYTES_MAX = 1 << 20
DIFF_FILES_MAX = 2000

ACTIONS = ("screenshot", "click", "double_click", "triple_click", "drag", "move", "scroll", "key", "type", "wait")
"""What can be done on a screen."""
BUTTONS = ("left", "middle", "right")
DIRECTIONS = ("up", "down", "left", "right")
HELD_DURING = ("click", "double_click", "triple_click", "drag", "scroll")
"""What keys may be held down during."""
NOTCHES_MAX = 50
REPEATS_MAX = 50
TYPED_CHARACTERS_MAX = 2000
PAUSE_SECONDS_MAX = 10.0


class Kind(StrEnum):
    EXECUTE = "execute"
    WRITE_FILE = "write_file"
    EDIT_FILES = "edit_files"
    SIGNAL = "signal"
    DESKTOP = "desktop"
    MCP = "mcp"


class CallState(StrEnum):
    RUNNING = "running"
    EXITED = "exited"
    FAILED = "failed"
    KILLED = "killed"
    BURIED = "buried"

    @property
    def ended(self) -> bool:
        return self is not CallState.RUNNING


class Code(StrEnum):
    """The code of a ``Refusal``, and the first word of the error of a call that failed: ``code: what to do``."""

    INVALID_REQUEST = "invalid_request"
    INVALID_TOKEN = "invalid_token"
    NOT_FOUND = "not_found"
    UNKNOWN_CALL = "unknown_call"
    CALL_CONFLICT = "call_conflict"
    STALE_EPOCH = "stale_epoch"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    INVALID_PATH = "invalid_path"
    FILE_NOT_FOUND = "file_not_found"
    NOT_A_FILE = "not_a_file"
    NOT_ALLOWED = "not_allowed"
    NOT_TEXT = "not_text"
    NO_MATCH = "no_match"
    NOT_UNIQUE = "not_unique"
    DISK_FULL = "disk_full"
    NOT_RUNNING = "not_running"
    COMMAND_NOT_STARTED = "command_not_started"
    NO_DESKTOP = "no_desktop"
    DESKTOP_FAILED = "desktop_failed"
    DIFF_FAILED = "diff_failed"
    NO_COMMIT = "no_commit"
    """What is to be compared with is not there, or not any more."""
    MCP_FAILED = "mcp_failed"
    UNREACHABLE = "unreachable"
    """Said by a host that forwards to the agent, and does not reach it."""
    INTERNAL = "internal_error"


class Execute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run ``command`` with ``sh -c`` (``bash -c`` where there is one), without a terminal or an input."""

    command: str
    workdir: str = ""
    background: bool = False
    """Nobody waits for it: it is a process of the workspace's from the start. No cancel of foreground calls ends it."""
    foreground_seconds: float | None = None
    """So long after its start the command is in the background as well, whether or not somebody waits for it."""
    env: dict[str, str] = {}


class WriteFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Put a file in the place of another one, or of none; directories are made. ``content`` is text, or else there
    is ``content_base64``. The result is ``{path, bytes, created}``."""

    path: str
    content: str | None = None
    content_base64: bytes | None = None


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    search: str
    replace: str
    replace_all: bool = False
    """Without it ``search`` has to be there exactly once."""


class FileEdits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str
    edits: tuple[Edit, ...]


class EditFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All edits of all files, or none. The result is ``{files: [{path, bytes, replaced}]}``."""

    files: tuple[FileEdits, ...]


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Send ``terminate`` or ``kill`` to all processes of another call. The result is its ``ProcessAnswer``."""

    process_id: str
    signal: str


class Desktop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One action on the screen; coordinates are those of its pictures. The result is a ``Screen``, its picture named
    ``screenshot_base64``."""

    action: str
    """One of ``ACTIONS``."""
    x: int | None = None
    y: int | None = None
    to_x: int | None = None
    to_y: int | None = None
    button: str = "left"
    direction: str = "down"
    amount: int = 3
    """Notches of the wheel."""
    text: str = ""
    """What to type; or a key, such as ``Return`` or ``ctrl+l``."""
    repeat: int = 1
    """How often the key is pressed."""
    hold: str = ""
    """Keys that are held down meanwhile, such as ``ctrl+shift``."""
    seconds: float = 1.0


class CallRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    chat_id: str
    epoch: int
    digest: str
    kind: Kind
    input: dict[str, Any]
    """``Execute``, ``WriteFile``, ``EditFiles``, ``Signal``, ``Desktop`` or ``McpCall``."""
    deadline_seconds: float | None = None
    """A call that takes longer is killed."""


class Cancel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``chat_id`` is for the burial of a call that was never seen: the fence of its chat."""

    epoch: int
    chat_id: str = ""
    foreground_only: bool = False
    """Leave a call as it is that is in the background by now, or has ended, with what it left behind."""


class CallAnswer(msgspec.Struct, frozen=True, kw_only=True):
    call_id: str
    kind: str
    """Empty of a buried call."""
    state: CallState
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    result: Any = None
    started_at: float | None = None
    """Seconds of the Unix clock, as ``ended_at``."""
    ended_at: float | None = None
    wall_ms: int = 0
    background: bool = False
    output_bytes: int = 0
    kept_bytes: int = 0
    offset: int = 0
    output: bytes = b""
    """Base64 in JSON."""


class CallUnderWay(msgspec.Struct, frozen=True, kw_only=True):
    call_id: str
    chat_id: str


class UnderWay(msgspec.Struct, frozen=True, kw_only=True):
    """The calls, of whatever kind, that run in the foreground: somebody waits for each."""

    calls: tuple[CallUnderWay, ...]


class ProcessAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A call of kind ``execute``, with the beginning of its command."""

    call_id: str
    chat_id: str
    command: str
    workdir: str
    background: bool
    state: CallState
    exit_code: int | None = None
    signal: int | None = None
    started_at: float
    ended_at: float | None = None
    wall_ms: int
    output_bytes: int


class ProcessList(msgspec.Struct, frozen=True, kw_only=True):
    """The processes that run, and then the last ones that ended, the newest first."""

    processes: tuple[ProcessAnswer, ...]


class SignalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    signal: str
    """``terminate`` or ``kill``."""


class FileAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``content`` is ``limit`` bytes of the file at most, from ``offset`` on; base64 in JSON."""

    path: str
    content: bytes
    offset: int
    size_bytes: int
    is_binary: bool
    """The content is no text in UTF-8. The ends of a piece may cut a character, that alone makes it not binary."""


class InstructionFile(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    content: str
    size_bytes: int
    is_truncated: bool


class InstructionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is told of the place where it works; ``files`` are the AGENTS.md that there are."""

    os: str
    home: str
    directory: str
    files: tuple[InstructionFile, ...] = ()


class DiffFile(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    status: str
    """added, modified, deleted, renamed, copied, type_changed, unmerged or untracked."""
    old_path: str | None = None
    additions: int | None = None
    """None of a binary file, and of one that is not tracked."""
    deletions: int | None = None


class DiffAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The working directory against ``base``, a commit; by default the one that is checked out.

    ``patch`` is what ``git diff`` says; what is no UTF-8 in it is replaced. ``digest`` changes when anything does.
    """

    is_repository: bool
    directory: str = ""
    """The one in the working directory that is the repository, where that itself is none: as after a `git clone`."""
    branch: str | None = None
    base: str | None = None
    files: tuple[DiffFile, ...] = ()
    additions: int = 0
    deletions: int = 0
    patch: str = ""
    is_truncated: bool = False
    """Whether there are more files, or the patch is longer, than is told here."""
    digest: str = ""


class Screen(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of the screen. ``screenshot`` is base64 in JSON."""

    screenshot: bytes
    mime_type: str
    width: int
    height: int


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    started_at: float
    os: str
    home: str
    directory: str
    running: int
    """Calls."""
    has_desktop: bool
    disk_bytes: int
    """The size of the working directory's file system."""
    disk_free_bytes: int
    memory_bytes: int
    """The memory of the agent itself."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
