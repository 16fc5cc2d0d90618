"""What becomes of each call of a step, and of those that a tenure before left: from the tools' policies alone."""

from __future__ import annotations

import msgspec
import pytest

from chatcluster.arguments import ArgumentCheck
from chatcluster.chat import CallState, OpenCall
from chatcluster.config import Settings
from chatcluster.parts import ToolCallPart
from chatcluster.ports import Approval, Effect, RunBy, Tool
from chatcluster.tool_plan import (
    CALLS_MAX,
    DEATHS_MAX,
    AskSomebody,
    KnownTool,
    Plan,
    Refuse,
    Run,
    asks_somebody,
    plan_of,
    refusal,
    resumption,
)

SETTINGS = Settings()
STARTED, PENDING = CallState.STARTED, CallState.PENDING


def known(name: str, effect: Effect = Effect.READ, **policy: object) -> KnownTool:
    tool = Tool(name=name, description="", parameters={"type": "object"}, effect=effect, **policy)  # type: ignore[arg-type]
    return KnownTool(tool, ArgumentCheck(tool.parameters))


TOOLS = {
    tool.tool.name: tool
    for tool in (
        known("look"),
        known("put", Effect.IDEMPOTENT),
        known("build", Effect.TRACKED),
        known("buy", Effect.ONCE),
        known("ask", Effect.ONCE, approval=Approval.ASK),
        known("again", Effect.IDEMPOTENT, approval=Approval.ASK),
        known("no", approval=Approval.DENY),
        known("mine", Effect.ONCE, run_by=RunBy.CLIENT),
        known("careful", Effect.ONCE, run_by=RunBy.CLIENT, approval=Approval.ASK),
    )
}


def call(name: str, arguments: str = "{}") -> ToolCallPart:
    return ToolCallPart(f"id-{name}", name, arguments)


def planned(*names: str, permitted: frozenset[str] = frozenset()) -> Plan:
    parts = [call(name) for name in names]
    texts = {part.id: refusal(part, TOOLS.get(part.name), place=place) for place, part in enumerate(parts)}
    refusals = {call_id: text for call_id, text in texts.items() if text is not None}
    return plan_of(parts, TOOLS, refusals, permitted=permitted, settings=SETTINGS)


def states(*names: str, permitted: frozenset[str] = frozenset()) -> list[CallState]:
    return [call.state for call in planned(*names, permitted=permitted).calls]


def test_calls_that_may_be_run_again_are_started_with_the_commit_that_brings_them() -> None:
    assert states("look", "put", "build") == [STARTED, STARTED, STARTED]


def test_beside_one_that_may_not_none_is_before_that_is_said() -> None:
    assert states("look", "buy") == [PENDING, PENDING]


def test_calls_of_others_do_not_hold_up_ours() -> None:
    assert states("look", "ask", "mine") == [STARTED, CallState.APPROVAL, CallState.CLIENT]


def test_each_waits_for_as_long_as_the_settings_say() -> None:
    plan = planned("ask", "mine")
    assert [call.seconds for call in plan.calls] == [
        SETTINGS.tools.approval_seconds,
        SETTINGS.tools.client_tool_seconds,
    ]


def test_a_standing_permission_is_an_approval() -> None:
    assert states("ask", permitted=frozenset({"ask"})) == [PENDING]
    assert states("careful", permitted=frozenset({"careful"})) == [CallState.CLIENT]
    assert states("careful") == [CallState.APPROVAL]


def test_calls_that_run_by_a_permission_are_started_when_it_is_their_turn() -> None:
    """It may be taken back while they wait for a place. One alone has its place at once."""
    assert states("again", "look", permitted=frozenset({"again"})) == [PENDING, PENDING]
    assert states("again", "look") == [CallState.APPROVAL, STARTED]
    assert states("again", permitted=frozenset({"again"})) == [STARTED]


def test_a_denied_tool_is_denied_whatever_anybody_permits() -> None:
    plan = planned("no", permitted=frozenset({"no"}))
    assert plan.calls == ()
    assert len(plan.refused) == 1


def test_permissions_are_asked_for_only_where_they_would_change_anything() -> None:
    assert not asks_somebody([call("look"), call("no"), call("unknown")], TOOLS)
    assert asks_somebody([call("look"), call("ask")], TOOLS)


def test_what_cannot_be_run_is_refused() -> None:
    assert "no tool 'unknown'" in str(refusal(call("unknown"), None, place=0))
    assert "not JSON" in str(refusal(call("look", "{"), TOOLS["look"], place=0))
    assert "at most" in str(refusal(call("look"), TOOLS["look"], place=CALLS_MAX))
    assert refusal(call("look"), TOOLS["look"], place=CALLS_MAX - 1) is None


def test_a_call_whose_arguments_were_cut_off_is_not_run_without_any() -> None:
    assert "cut short" in str(refusal(call("look", ""), TOOLS["look"], place=0, is_cut=True))
    assert refusal(call("look", "{}"), TOOLS["look"], place=0, is_cut=True) is None
    assert refusal(call("look", ""), TOOLS["look"], place=0) is None


# --- a tenure before --------------------------------------------------------------------------


def left(name: str, state: CallState = STARTED, **fields: object) -> OpenCall:
    tool = TOOLS[name].tool
    begun = OpenCall(f"id-{name}", name, state, effect=str(tool.effect), started_epoch=1 if state is STARTED else None)
    return msgspec.structs.replace(begun, **fields)


def taken_up(open_call: OpenCall) -> object:
    return resumption(open_call, call(open_call.name), TOOLS.get(open_call.name))


def test_what_was_only_pending_has_not_run() -> None:
    for name in ("look", "buy"):
        assert taken_up(left(name, PENDING)) == Run(again=False)


@pytest.mark.parametrize("name", ["look", "put"])
def test_what_may_be_run_again_is_and_that_is_said(name: str) -> None:
    assert taken_up(left(name)) == Run(again=True)
    assert taken_up(left(name, PENDING, started_epoch=1)) == Run(again=True), "it was given back"


def test_what_its_tool_keeps_track_of_is_gone_on_with_and_nothing_is_said() -> None:
    assert taken_up(left("build")) == Run(again=False)
    assert taken_up(left("build", PENDING, started_epoch=1)) == Run(again=False), "it was given back"
    assert taken_up(left("build", approved=True)) == Run(again=False), "nobody is asked what the tool knows"


def test_of_what_may_not_nobody_knows_the_outcome() -> None:
    then = taken_up(left("buy"))
    assert isinstance(then, Refuse)
    assert "outcome is unknown" in then.text


@pytest.mark.parametrize("open_call", [left("ask"), left("buy", approved=True)])
def test_a_person_decides_where_a_person_was_asked(open_call: OpenCall) -> None:
    assert taken_up(open_call) == AskSomebody()


@pytest.mark.parametrize("name", ["look", "put", "build", "buy", "ask"])
def test_after_three_deaths_it_is_over(name: str) -> None:
    then = taken_up(left(name, deaths=DEATHS_MAX - 1))
    assert isinstance(then, Refuse)
    assert "not run again" in then.text
    assert taken_up(left(name, PENDING, deaths=DEATHS_MAX)) == Run(again=False), "a person said so since"


@pytest.mark.parametrize("open_call", [left("no", PENDING, approved=True), left("no", PENDING), left("no")])
def test_what_is_denied_by_now_is_not_run_whoever_approved_it_before(open_call: OpenCall) -> None:
    then = taken_up(open_call)
    assert isinstance(then, Refuse)
    assert "not allowed" in then.text


def test_arguments_that_a_person_changed_are_looked_at_as_well() -> None:
    then = resumption(left("look", PENDING, arguments="[]"), call("look"), TOOLS["look"])
    assert isinstance(then, Refuse)
    assert "not a JSON object" in then.text
