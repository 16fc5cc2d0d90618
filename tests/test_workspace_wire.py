"""What is said to the agent of a workspace: the same on both sides, and what is none of it is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from chatcluster.errors import OwnershipError, UnavailableError
from chatcluster.workspace_errors import StaleEpoch, WorkspaceUnreachable
from chatcluster.workspace_wire import (
    CallAnswer,
    CallRequest,
    CallState,
    EditFiles,
    Execute,
    FileAnswer,
    Kind,
    WriteFile,
)

REQUEST = {"chat_id": "c", "epoch": 3, "digest": "d", "kind": "execute", "input": {"command": "true"}}


def test_output_is_bytes_on_both_sides_and_base64_between_them() -> None:
    answer = CallAnswer(call_id="a", kind=Kind.EXECUTE, state=CallState.RUNNING, output=b"\xff\x00")
    encoded = msgspec.json.encode(answer)
    assert b'"output":"/wA="' in encoded
    assert msgspec.json.decode(encoded, type=CallAnswer) == answer


def test_a_file_of_any_bytes_is_the_same_on_both_sides() -> None:
    answer = FileAnswer(path="a", content=bytes(range(256)), offset=0, size_bytes=256, is_binary=True)
    assert msgspec.json.decode(msgspec.json.encode(answer), type=FileAnswer) == answer


def test_a_request_is_whole_without_a_deadline() -> None:
    request = msgspec.convert(REQUEST, CallRequest)
    assert request.kind is Kind.EXECUTE
    assert request.deadline_seconds is None
    assert msgspec.convert(request.input, Execute) == Execute(command="true")


@pytest.mark.parametrize(
    "change", [{"kind": "format"}, {"epoch": "3"}, {"input": []}, {"digest": None}, {"further": 1}], ids=str
)
def test_what_is_no_request_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(REQUEST | change, CallRequest)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Execute, {}),
        (Execute, {"command": "true", "workdir": 5}),
        (WriteFile, {"content": ""}),
        (EditFiles, {"files": [{"path": "a", "edits": [{"search": "x"}]}]}),
    ],
)
def test_what_is_no_input_of_its_kind_is_refused(kind: type, value: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, kind)


def test_only_a_running_call_has_not_ended() -> None:
    assert [state for state in CallState if not state.ended] == [CallState.RUNNING]


def test_a_stale_owner_ends_its_work_and_a_silent_agent_is_a_server_that_is_away() -> None:
    assert issubclass(StaleEpoch, OwnershipError)
    assert issubclass(WorkspaceUnreachable, UnavailableError)
