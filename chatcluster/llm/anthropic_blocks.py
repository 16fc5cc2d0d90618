"""What comes on the stream of the Messages wire: its events, and the blocks that they build. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from chatcluster.content import CITATIONS
from chatcluster.json_bounds import bounded
from chatcluster.llm.chunks import is_json_object
from chatcluster.llm.computer_toolset import arguments_of
from chatcluster.parts import UNDECODABLE, encode


class BlockDelta(msgspec.Struct):
    """What a delta changes of a block, or of the message."""

    type: Any = None
    text: Any = None
    thinking: Any = None
    signature: Any = None
    partial_json: Any = None
    citation: Any = None
    stop_reason: Any = None
    stop_details: Any = None
    container: Any = None


class StreamEvent(msgspec.Struct):
    type: Any = None
    index: Any = None
    message: Any = None
    content_block: Any = None
    delta: BlockDelta | None = None
    usage: Any = None
    error: Any = None
    content: Any = None
    model: Any = None
    stop_reason: Any = None


event_decoder = msgspec.json.Decoder(StreamEvent)


@dataclass
class Block:
    """A block that is still being streamed."""

    start: dict[str, Any]
    call_id: str | None = None
    """Ours, where it is a call."""
    member: str = ""
    """What it calls, where that is of the provider's set for screens: it is translated once it is whole."""
    given: str = ""
    """The arguments that came with its beginning: they stand if none come after it."""
    texts: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    citations: list[Any] = field(default_factory=list)

    @property
    def type(self) -> str:
        kind = self.start.get("type")
        return kind if isinstance(kind, str) else ""

    @property
    def has_inputs(self) -> bool:
        return any(map(str.strip, self.inputs))

    @property
    def late_arguments(self) -> str:
        """What is told of a call's arguments now that it is whole: what was not told as it came."""
        if not self.member:
            return "" if self.has_inputs else self.given
        inputs = "".join(self.inputs) if self.has_inputs else self.given
        return self._translated(inputs)

    @property
    def without_arguments(self) -> str:
        return self._translated("{}") if self.member else "{}"

    def _translated(self, inputs: str) -> str:
        """As they came where they are none."""
        try:
            given = msgspec.json.decode(bounded(inputs.encode()), type=dict[str, Any])
            return encode(arguments_of(self.member, given)).decode()
        except UNDECODABLE:
            return inputs

    def opaque(self) -> tuple[str, bytes] | None:
        """Kind and data of what goes back to the server, now that the block is whole."""
        match self.type:
            case "text":
                return (CITATIONS, encode(self.citations)) if self.citations else None
            case "tool_use":
                return None
            case "thinking":
                signature = "".join(self.signatures)
                block = self.start | {"thinking": "".join(self.texts), "signature": signature}
                return (self.type, encode(block)) if signature else None
        inputs = "".join(self.inputs)
        block = self.start | ({"input": msgspec.Raw(inputs.encode())} if is_json_object(inputs) else {})
        return (self.type, encode(block)) if self.type else None


def begun_by(delta: BlockDelta) -> dict[str, Any] | None:
    """The block that the delta is of, where nothing began it."""
    if isinstance(delta.text, str) and delta.text:
        return {"type": "text", "text": ""}
    return {"type": "thinking", "thinking": ""} if isinstance(delta.thinking, str) and delta.thinking else None
