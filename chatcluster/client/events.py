"""What a stream says, as the Python client understands it: the server's events, of this version and of later ones.

An event of a kind that is not known here is passed over. So is a part of a message, and a call that waits for what is
not known here: the rest is shown. A client need not be as new as the replica that happens to serve it. Pure.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from chatcluster import events
from chatcluster.parts import AttemptFrame, Message, Part, PartFrame, ResumedFrame
from chatcluster.ports import Action

Event = events.Event | AttemptFrame | ResumedFrame | PartFrame

EVENT_TYPES = frozenset(kind.__struct_config__.tag for kind in Event.__args__)

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def decode_event(kind: str, data: str) -> Event | None:
    """The event, without what only a newer version knows; None if that is all of it."""
    if kind not in EVENT_TYPES:
        return None
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        return _known_part(msgspec.json.decode(data))


def _known_part(event: Any) -> Event | None:
    """The event without the parts that this version does not know."""
    try:
        for owner in _with_parts(event):
            owner["parts"] = [part for part in owner["parts"] if _is_known(part, Part)]
        if event["type"] == "action_required":
            event["calls"] = [call for call in event["calls"] if _is_known(call, Action)]
        known: Event = msgspec.convert(event, Event)
    except (msgspec.ValidationError, TypeError, KeyError):
        return None
    return known


def _with_parts(event: Any) -> list[Any]:
    return [event["message"]] if event["type"] == "message" else event["queue"] if event["type"] == "queue" else []


def _is_known(value: Any, kind: Any) -> bool:
    with suppress(msgspec.ValidationError):
        msgspec.convert(value, kind)
        return True
    return False


def known_messages(messages: list[Any]) -> list[Message]:
    """Messages of a page, without the parts that this version does not know."""
    known = [{**message, "parts": [part for part in message["parts"] if _is_known(part, Part)]} for message in messages]
    return msgspec.convert(known, list[Message])
