"""The golden sequences of events, which the page's client in TypeScript folds to the same views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatcluster.client.chat_view import ChatView
from chatcluster.client.events import decode_event
from chatcluster.parts import text_of
from chatcluster.ports import Action

GOLDEN = Path(__file__).parent / "golden"
SEQUENCES = sorted(GOLDEN.glob("*.json"))
FAMILIES = sorted(GOLDEN.glob("families/*.json"))
"""Of a chat and its agents in one stream: what has a ``chat_id`` is of an agent."""

Told = tuple[str, dict[str, Any]]


def read(path: Path) -> tuple[list[Told], dict[str, Any]]:
    sequence = json.loads(path.read_text())
    return [(cursor, event) for cursor, event in sequence["events"]], sequence["view"]


def fold(told: Sequence[Told], view: ChatView | None = None) -> ChatView:
    shown = view or ChatView()
    for cursor, data in told:
        apply(shown, cursor, data)
    return shown


def apply(view: ChatView, cursor: str, data: dict[str, Any]) -> None:
    event = decode_event(data["type"], json.dumps(data))
    if event is not None:
        view.apply(cursor, event)


def fold_family(told: Sequence[Told], views: dict[str, ChatView] | None = None) -> dict[str, ChatView]:
    shown = {} if views is None else views
    for cursor, data in told:
        apply(shown.setdefault(data.get("chat_id", ""), ChatView()), cursor, data)
    return shown


def opening_of_family(told: Sequence[Told]) -> list[Told]:
    """Of each chat that was told of."""
    chats = dict.fromkeys(event.get("chat_id", "") for _, event in told)
    return [one for chat in chats for one in opening([of for of in told if of[1].get("chat_id", "") == chat])]


def written(view: ChatView) -> dict[str, Any]:
    """A view as the sequences write it down."""
    handover = view.handover
    outputs = {call_id: msgspec.to_builtins(output) for call_id, output in view.outputs.items()}
    progress = {
        call_id: {name: getattr(part, name) for name in ("progress", "total", "message")}
        for call_id, part in view.progress.items()
    }
    return {
        **({"outputs": outputs} if outputs else {}),
        **({"progress": progress} if progress else {}),
        **({"notices": [notice.code for notice in view.notices]} if view.notices else {}),
        **({"asked": [_asked(call) for call in view.actions]} if view.actions else {}),
        "status": view.status,
        "archived": view.archived,
        "epoch": view.epoch,
        "worker_id": None if view.worker_id is None else str(view.worker_id),
        "title": view.title,
        "messages": [[message.id, message.role, text_of(message.parts)] for message in view.messages.values()],
        "queue": [queued.id for queued in view.queue],
        "attempt": view.attempt,
        "preview": list(msgspec.to_builtins(view.preview)),
        "retry": None if view.retry is None else view.retry.attempt,
        "error": None if view.error is None else view.error.error.code,
        "turn": None if view.turn is None else view.turn.outcome,
        "ready": view.ready,
        "handover": handover and {"worker_id": str(handover.worker_id), "cause": handover.cause},
    }


def _asked(call: Action) -> list[str]:
    questions = () if call.questions is msgspec.UNSET else call.questions
    return [call.call_id, call.kind, call.digest, *(question.key for question in questions)]


def opening(told: Sequence[Told]) -> list[Told]:
    """What a replica tells first to a reader that resumes after these events."""
    kinds = [event["type"] for _, event in told]

    def last(kind: str, *ends: str) -> list[Told]:
        place = max((at for at, found in enumerate(kinds) if found == kind), default=None)
        if place is None or set(kinds[place:]) & set(ends):
            return []
        return [(told[-1][0], told[place][1])]

    return [
        *last("status"),
        *last("queue"),
        *(one for one in last("action_required") if one[1]["calls"]),
        *last("retry", "attempt", "message"),
        *last("error", "message"),
        *last("ready", "history_reset"),
    ]


@pytest.mark.parametrize("path", SEQUENCES, ids=lambda path: path.stem)
def test_a_sequence_folds_to_its_view(path: Path) -> None:
    told, view = read(path)
    assert written(fold(told)) == {name: value for name, value in view.items() if name != "cursor"}


@pytest.mark.parametrize("path", SEQUENCES, ids=lambda path: path.stem)
def test_cut_and_resumed_at_each_event_it_folds_to_the_same_view(path: Path) -> None:
    told, view = read(path)
    for at in range(1, len(told)):
        resumed = fold([*opening(told[:at]), *told[at:]], fold(told[:at]))
        assert written(resumed) == {name: value for name, value in view.items() if name != "cursor"}, f"cut after {at}"


@pytest.mark.parametrize("path", FAMILIES, ids=lambda path: path.stem)
def test_a_family_folds_to_a_view_of_each_chat_also_when_cut_and_resumed_at_each_event(path: Path) -> None:
    sequence = json.loads(path.read_text())
    told = [(cursor, event) for cursor, event in sequence["events"]]
    assert {chat: written(view) for chat, view in fold_family(told).items()} == sequence["views"]
    for at in range(1, len(told)):
        resumed = fold_family([*opening_of_family(told[:at]), *told[at:]], fold_family(told[:at]))
        assert {chat: written(view) for chat, view in resumed.items()} == sequence["views"], f"cut after {at}"
