"""The state machine of a chat: one table, and one pure function that decides.

A chat is in one **phase**: its execution status, or ``archived``. ``TABLE`` says, for each event and
each phase, in which phases the chat may be afterwards. A pair that is missing is refused with
``NotAllowedInStatus`` (``ChatArchived`` for an archived chat), and nothing is half applied: ``decide``
returns a new state and what to write, or raises; it changes nothing.

Who is authoritative: the row in the store. A store locks the row, loads a ``ChatState`` and the ``Facts`` that the
command asks for, calls ``decide`` and writes exactly what the ``Decision`` says, in one transaction. Both stores share
this module, so they cannot differ in what they allow.

Versions: each decision that changes a chat raises ``snapshot_version`` by one. When history or the queue
changed, ``history_version`` or ``queue_version`` becomes that number. ``attempt`` and the retry state
belong to one history version and start anew with the next.

Fencing: an event of the owner names the tenure (worker, epoch) and the history version that it worked
from. Another tenure raises ``Fenced``; a history or status that moved under the owner raises ``Moved``.

Ownership (claim, release, burial) is orthogonal to the phase, see ``tenure.py``, and so is what a failover makes of a
chat, see ``timeline.py``. But an owner exists only where there
is work: every transition to a phase without work clears ``worker_id``.
"""

from __future__ import annotations

from chatcluster.chat.calls import (
    CANCELLED_RUNNING_TEXT,
    CANCELLED_TEXT,
    DENIED_TEXT,
    EARLIER_RUN_TEXT,
    NOT_APPROVED_AGAIN_TEXT,
    NOT_APPROVED_TEXT,
    TIMED_OUT_TEXT,
    WAIT_SECONDS,
    WAITING_STATES,
    CallState,
    OpenCall,
    digest_of,
    not_again,
)
from chatcluster.chat.causes import DRAINED, RELEASED, TAKEN_OVER
from chatcluster.chat.commands import (
    Answer,
    AnswerQuestions,
    Approve,
    Archive,
    AskAgain,
    Asker,
    AskUser,
    AwaitSignIn,
    Busy,
    ChooseModel,
    Close,
    Command,
    CommitStep,
    CommitSummary,
    Compact,
    Configure,
    Create,
    DeleteMessage,
    DeleteQueued,
    Deny,
    Edit,
    EditQueued,
    ExpireCalls,
    Fail,
    FinishInterruption,
    FinishTurn,
    Insert,
    Interrupt,
    KeepAnswer,
    LookAgain,
    OwnerCommand,
    Pin,
    Promote,
    Release,
    Remember,
    Rename,
    ReportAgents,
    ScheduleRetry,
    Send,
    SignedIn,
    StartAttempt,
    StartCalls,
    SubmitToolResults,
    ToolResult,
    Unarchive,
    UserCommand,
    event_name,
)
from chatcluster.chat.decisions import REFUSED_WHILE_ARCHIVING, check_fence, create, decide
from chatcluster.chat.draft import CallEdits, Decision, Grant
from chatcluster.chat.facts import NO_FACTS, Facts, Replaced
from chatcluster.chat.recorded import is_repeat
from chatcluster.chat.setup import ChatSetup, ClientTool
from chatcluster.chat.state import (
    QUEUE_BYTES_MAX,
    QUEUE_MESSAGES_MAX,
    STORED_FIELDS,
    ChatState,
    ErrorInfo,
    Fence,
    Phase,
    Queued,
    Retry,
    Status,
    StoredState,
    TurnOutcome,
    Underway,
    state_with,
    stored_of,
)
from chatcluster.chat.table import TABLE, Row
from chatcluster.chat.tenure import claimed, claimed_with, disowned, may_be_claimed_with
from chatcluster.chat.timeline import VERSIONS_FORGOTTEN_MAX, VERSIONS_RAISED, continued, leapt

__all__ = [
    "CANCELLED_RUNNING_TEXT",
    "CANCELLED_TEXT",
    "DENIED_TEXT",
    "DRAINED",
    "EARLIER_RUN_TEXT",
    "NOT_APPROVED_AGAIN_TEXT",
    "NOT_APPROVED_TEXT",
    "NO_FACTS",
    "QUEUE_BYTES_MAX",
    "QUEUE_MESSAGES_MAX",
    "REFUSED_WHILE_ARCHIVING",
    "RELEASED",
    "STORED_FIELDS",
    "TABLE",
    "TAKEN_OVER",
    "TIMED_OUT_TEXT",
    "VERSIONS_FORGOTTEN_MAX",
    "VERSIONS_RAISED",
    "WAITING_STATES",
    "WAIT_SECONDS",
    "Answer",
    "AnswerQuestions",
    "Approve",
    "Archive",
    "AskAgain",
    "AskUser",
    "Asker",
    "AwaitSignIn",
    "Busy",
    "CallEdits",
    "CallState",
    "ChatSetup",
    "ChatState",
    "ChooseModel",
    "ClientTool",
    "Close",
    "Command",
    "CommitStep",
    "CommitSummary",
    "Compact",
    "Configure",
    "Create",
    "Decision",
    "DeleteMessage",
    "DeleteQueued",
    "Deny",
    "Edit",
    "EditQueued",
    "ErrorInfo",
    "ExpireCalls",
    "Facts",
    "Fail",
    "Fence",
    "FinishInterruption",
    "FinishTurn",
    "Grant",
    "Insert",
    "Interrupt",
    "KeepAnswer",
    "LookAgain",
    "OpenCall",
    "OwnerCommand",
    "Phase",
    "Pin",
    "Promote",
    "Queued",
    "Release",
    "Remember",
    "Rename",
    "Replaced",
    "ReportAgents",
    "Retry",
    "Row",
    "ScheduleRetry",
    "Send",
    "SignedIn",
    "StartAttempt",
    "StartCalls",
    "Status",
    "StoredState",
    "SubmitToolResults",
    "ToolResult",
    "TurnOutcome",
    "Unarchive",
    "Underway",
    "UserCommand",
    "check_fence",
    "claimed",
    "claimed_with",
    "continued",
    "create",
    "decide",
    "digest_of",
    "disowned",
    "event_name",
    "is_repeat",
    "leapt",
    "may_be_claimed_with",
    "not_again",
    "state_with",
    "stored_of",
]
