"""A chat with a tool that this program runs itself: the model asks, the program answers, the chat goes on.

    chatcluster up
    python examples/client_tool.py http://127.0.0.1:8000 "$TOKEN" "Which files are here?"

The simulated model does only what it is ordered to: ask it ``Files? [[call=list_files {"pattern": "*.md"}]]``.
"""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import trio

from chatcluster.client.client import Client
from chatcluster.events import ActionRequiredEvent, TurnEvent

TOOL = {
    "name": "list_files",
    "description": "The files in the user's directory whose names match a pattern.",
    "parameters": {
        "type": "object",
        "properties": {"pattern": {"type": "string", "description": "Like *.md"}},
        "required": ["pattern"],
    },
}


def list_files(pattern: str) -> str:
    return "\n".join(sorted(path.name for path in Path().glob(pattern))) or "(none)"


async def main(url: str, token: str, question: str) -> None:
    async with Client(url, token) as client:
        chat = await client.create(question, tools=[TOOL])
        answered: set[str] = set()  # what is not answered yet is told again
        async with aclosing(client.stream(chat["id"])) as events:
            async for _, event in events:
                if isinstance(event, ActionRequiredEvent):
                    calls = [call for call in event.calls if call.kind == "client" and call.call_id not in answered]
                    if calls:
                        await client.submit_results(chat["id"], [answer(call) for call in calls])
                    answered.update(call.call_id for call in calls)
                elif isinstance(event, TurnEvent):
                    break
        for message in await client.history(chat["id"]):
            print(f"{message['role']}: {json.dumps(message['parts'])}")


def answer(call: Any) -> dict[str, Any]:
    """The result of a call that waits for this client."""
    print(f"-> {call.name} {call.arguments}")
    return {"call_id": call.call_id, "content": list_files(**json.loads(call.arguments))}


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
