"""The tools that run commands in the chat's workspace: ``execute``, and those for its processes.

A command is a call in the agent's ledger, under the ID of the chat's call, which is its ``process_id`` as well. One
that takes longer than its time-out goes on in the background: the agent counts the time, from the start of the process
on, so it does not matter who owns the chat. What it prints is told while it runs; in the result the model gets 32 KiB,
its head and its tail, and all of it is kept for ``read_result``.

What happens on failure: a command that ended badly is a result like any other, with ``success`` false; one that could
not be begun, or whose workspace does not answer, is an error result.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import trio

from chatcluster.agents import as_text
from chatcluster.parts import TextPart, storable
from chatcluster.ports import Tell, ToolCall, ToolResult
from chatcluster.tool_results import KEPT_BYTES_MAX, SHOWN_BYTES_MAX
from chatcluster.tools.workspace_calls import WAIT_SECONDS, WorkspaceCalls, output_of
from chatcluster.tools.workspace_link import NO_PROCESS, Link, Refused
from chatcluster.workspace_wire import CallAnswer, CallState, Kind, ProcessAnswer

TIMEOUT_SECONDS_DEFAULT = 10.0
TIMEOUT_SECONDS_MAX = 600.0
WAIT_SECONDS_MAX = 60.0
PAUSE_SECONDS = 0.1
CHARACTER_BYTES_MAX = 4
RESULT_BYTES_MAX = SHOWN_BYTES_MAX - 64
"""The most of a result as a model sees it, all of its fields."""
PROCESSES_MAX = 50
COMMAND_CHARACTERS_MAX = 300
"""So much of a command is shown in a list."""
ENDS_BY_SIGNAL = 128

ENVIRONMENT = {
    "CHATCLUSTER": "1",
    "EDITOR": "true",
    "VISUAL": "true",
    "GIT_EDITOR": "true",
    "GIT_SEQUENCE_EDITOR": "true",
    "GIT_TERMINAL_PROMPT": "0",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MANPAGER": "cat",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "CLICOLOR": "0",
    "DEBIAN_FRONTEND": "noninteractive",
    "PYTHONUNBUFFERED": "1",
}
"""Nobody is there to answer a question, or to close an editor; and colours are no words."""

_DECODER = codecs.getincrementaldecoder("utf-8")
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (3600.0, 60.0, 1.0, 0.001)
_DUMP = re.compile(r"\s*(cat|head|tail|less|more|nl|sed\s+-n|grep|egrep|rg)\s[^|;&<>`$()\n]+")
"""No blank of it can be taken in two ways: of very many, each would be tried with each (P10)."""
DUMP_NOTE = "To look at a file, read_file is better: it says how long the file is, and reads on from any offset."
GOES_ON = "The process goes on. process_output shows what it prints, process_signal ends it."


def seconds_of(duration: str, name: str = "timeout") -> float:
    """``90s``, ``1m30s``, ``500ms``, or a number of seconds. Raises ``Refused``, which says the ``name``."""
    text = duration.strip().lower()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    found = _DURATION.fullmatch(text) if 0 < len(text) <= 40 else None
    if found is None:
        raise Refused(f'{name} is no duration: {duration[:40]!r}. Write it like "30s", "5m" or "1m30s".')
    return sum(float(number) * unit for number, unit in zip(found.groups(), _UNITS, strict=True) if number)


class CommandTools:
    """The tools for commands, of one chat, for one turn."""

    def __init__(self, link: Link, calls: WorkspaceCalls) -> None:
        self._link = link
        self._calls = calls

    async def execute(self, call: ToolCall, tell: Tell) -> ToolResult:
        arguments = call.arguments
        if not arguments["command"].strip():
            raise Refused("command is empty.")
        background = bool(arguments.get("run_in_background", False))
        timeout = TIMEOUT_SECONDS_DEFAULT
        if arguments.get("timeout"):
            timeout = max(0.1, min(seconds_of(arguments["timeout"]), TIMEOUT_SECONDS_MAX))
        asked = {
            "command": arguments["command"],
            "workdir": arguments.get("workdir") or "",
            "background": background,
            "foreground_seconds": None if background else timeout,
            "env": {**ENVIRONMENT, "CHATCLUSTER_CHAT_ID": str(self._link.chat.id)},
        }
        answer = await self._calls.run(call, Kind.EXECUTE, asked, tell)
        notes = [DUMP_NOTE] if _DUMP.fullmatch(arguments["command"]) else []
        if answer.state is CallState.RUNNING:
            return await self._goes_on(answer, None if background else timeout, notes)
        return await self._ended(answer, notes)

    async def process_output(self, call: ToolCall, _tell: Tell) -> ToolResult:
        """The same shape as ``execute``; waits for more output, or the end, where it is asked to."""
        process_id = call.arguments["process_id"]
        wait_seconds = min(seconds_of(call.arguments.get("wait") or "0", "wait"), WAIT_SECONDS_MAX)
        answer = await self._calls.answer(process_id)
        if answer.kind != Kind.EXECUTE:
            raise Refused(NO_PROCESS)
        offset = min(int(call.arguments.get("offset") or 0), answer.kept_bytes)  # behind the end nothing goes on
        if wait_seconds and not answer.state.ended:
            answer = await self._waited(answer, offset or answer.kept_bytes, wait_seconds)
        if answer.state.ended:
            return await self._ended(answer, [], offset=offset)
        return await self._goes_on(answer, None, [], offset=offset, running="The process is still running.")

    async def process_list(self, _call: ToolCall, _tell: Tell) -> ToolResult:
        processes = await self._link.ask(lambda place: place.processes())
        listed = [_listed(process) for process in processes[:PROCESSES_MAX]]
        return ToolResult((TextPart(as_text({"processes": listed, "count": len(processes)})),))

    async def process_signal(self, call: ToolCall, tell: Tell) -> ToolResult:
        process_id, signal = call.arguments["process_id"], call.arguments["signal"]
        answer = await self._calls.run(call, Kind.SIGNAL, {"process_id": process_id, "signal": signal}, tell)
        failed = answer.state is not CallState.EXITED and answer.error
        message = answer.error or f"The signal {signal} was sent to {process_id}."
        told = {"success": not failed, "message": storable(message)}
        return ToolResult((TextPart(as_text(told)),), is_error=bool(failed))

    # --- results ------------------------------------------------------------------------------

    async def _waited(self, answer: CallAnswer, offset: int, wait_seconds: float) -> CallAnswer:
        """The process once it has ended, or has printed more than up to ``offset``, or ``wait_seconds`` have passed."""
        with trio.move_on_after(wait_seconds):
            while not answer.state.ended and not _has_more(answer, offset):
                answer = await self._calls.answer(answer.call_id, offset=offset, wait_seconds=WAIT_SECONDS)
                if not _has_more(answer, offset):
                    await trio.sleep(PAUSE_SECONDS)
        return answer

    async def _goes_on(
        self,
        answer: CallAnswer,
        timed_out_after: float | None,
        notes: Sequence[str],
        *,
        offset: int = 0,
        running: str = "",
    ) -> ToolResult:
        fields: dict[str, Any] = {"success": timed_out_after is None, "wall_duration_ms": answer.wall_ms}
        if timed_out_after is not None:
            fields |= {"exit_code": -1, "error": f"timed out after {timed_out_after:g} s, and still running"}
        fields["background_process_id"] = answer.call_id
        return await self._result(answer, fields, [*notes, f"{running} {GOES_ON}".strip()], offset)

    async def _ended(self, answer: CallAnswer, notes: Sequence[str], *, offset: int = 0) -> ToolResult:
        fields: dict[str, Any] = {
            "success": answer.state is CallState.EXITED and answer.exit_code == 0,
            "exit_code": _exit_code(answer),
            "wall_duration_ms": answer.wall_ms,
        }
        error = _error(answer)
        if error:
            fields["error"] = error
        could_not = answer.state in (CallState.FAILED, CallState.BURIED)
        return await self._result(answer, fields, notes, offset, is_error=could_not)

    async def _result(
        self, answer: CallAnswer, fields: dict[str, Any], notes: Sequence[str], offset: int, *, is_error: bool = False
    ) -> ToolResult:
        try:
            whole = await output_of(self._calls, answer, KEPT_BYTES_MAX, offset=offset)
        except Refused as refused:
            whole, notes = b"", [*notes, f"What it printed cannot be read now: {refused}"]
        if not answer.state.ended:  # the rest of a character may be yet to come
            whole = whole[: head_of(whole, len(whole)).size_bytes]
        if answer.output_bytes > answer.kept_bytes:
            dropped = answer.output_bytes - answer.kept_bytes
            notes = [*notes, f"It printed more than is kept: the last {dropped} bytes are gone."]
        if notes:
            fields["note"] = " ".join(notes)
        if offset or "background_process_id" in fields:
            fields["next_offset"] = offset + len(whole)
        text, is_cut = fitted(fields, whole)
        return ToolResult((TextPart(text),), is_error, whole if is_cut else None)


def fitted(fields: dict[str, Any], output: bytes) -> tuple[str, bool]:
    """The result as text, and whether the output had to be cut for it: in the middle, between characters."""
    fields = {"success": fields.pop("success"), "output": "", **fields}
    if len(output) <= SHOWN_BYTES_MAX:
        fields["output"] = storable(output.decode("utf-8", "replace"))
        text = as_text(fields)
        if len(text.encode()) <= RESULT_BYTES_MAX:
            return text, False
    half = RESULT_BYTES_MAX // 2
    while True:
        head, tail = head_of(output, half), tail_of(output, half)
        left_out = len(output) - head.size_bytes - tail.size_bytes
        fields["output"] = f"{head.text}\n[… {left_out} bytes left out …]\n{tail.text}"
        fields["truncated"] = {
            "original_bytes": len(output),
            "shown_bytes": head.size_bytes + tail.size_bytes,
            "left_out_at": head.size_bytes,
            "read_on_with": "read_result, with the ID of this call and an offset in bytes",
        }
        text = as_text(fields)
        size = len(text.encode())
        if size <= RESULT_BYTES_MAX or half < 2:
            return text, True
        half = min(half * RESULT_BYTES_MAX // size, half - 128)


def _has_more(answer: CallAnswer, offset: int) -> bool:
    """Whether it has printed more than up to ``offset``: one character at least."""
    more = answer.kept_bytes - offset
    if more >= CHARACTER_BYTES_MAX:
        return True
    return more > 0 and answer.offset == offset and head_of(answer.output, more).size_bytes > 0


class Cut(NamedTuple):
    """A piece of output as text, and how many of the output's bytes that is."""

    text: str
    size_bytes: int


def head_of(output: bytes, bytes_max: int) -> Cut:
    """No character is cut that is one."""
    piece = output[: max(0, bytes_max)]
    decoder = _DECODER("replace")
    text = decoder.decode(piece)
    return Cut(storable(text), len(piece) - len(decoder.getstate()[0]))


def tail_of(output: bytes, bytes_max: int) -> Cut:
    start = len(output) - max(0, bytes_max)
    while start < len(output) and output[start] & 0xC0 == 0x80:
        start += 1
    return Cut(storable(output[start:].decode("utf-8", "replace")), len(output) - start)


def _exit_code(answer: CallAnswer) -> int:
    if answer.exit_code is not None:
        return answer.exit_code
    return -1 if answer.signal is None else ENDS_BY_SIGNAL + answer.signal


def _error(answer: CallAnswer) -> str:
    if answer.error:
        return storable(answer.error)
    if answer.signal is not None:
        return f"ended by signal {answer.signal}"
    return "" if answer.exit_code == 0 else f"exit status {answer.exit_code}"


def _listed(process: ProcessAnswer) -> dict[str, Any]:
    told = msgspec.structs.asdict(process)
    kept = ("workdir", "background", "exit_code", "wall_ms", "output_bytes")
    command = storable(process.command)
    return {
        "process_id": process.call_id,
        "command": command if len(command) <= COMMAND_CHARACTERS_MAX else command[:COMMAND_CHARACTERS_MAX] + "…",
        "state": str(process.state),
        "running": not process.state.ended,
        **{name: told[name] for name in kept if told[name] is not None},
    }
