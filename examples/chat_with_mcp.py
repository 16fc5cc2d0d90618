"""A chat that uses the server of ``mcp_server.py``. It shows what the model calls, what came of it, and the answer.

    chatcluster up
    python examples/mcp_server.py 9000
    chatcluster mcp add todo http://127.0.0.1:9000/mcp --trusted
    python examples/chat_with_mcp.py http://127.0.0.1:8000 "$TOKEN" todo "Put milk on my list"

The simulated model does only what it is ordered to: ask it ``Milk [[call=todo__add {"text": "milk"}]]``.
"""

from __future__ import annotations

import sys
from contextlib import aclosing

import trio

from chatcluster.client.client import Client
from chatcluster.events import TurnEvent
from chatcluster.parts import (
    NoticePart,
    PartFrame,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    ToolProgressPart,
    ToolResultPart,
)


async def main(url: str, token: str, slug: str, question: str) -> None:
    async with Client(url, token) as client, aclosing(client.ask(question, mcp_servers=[slug])) as events:
        async for _, event in events:
            match event:
                case PartFrame(part=part):
                    show(part)
                case TurnEvent(outcome=outcome):
                    print(f"\n[{outcome}]")
                    return
                case _:
                    pass


def show(part: object) -> None:
    match part:
        case ToolCallPart(name=name, arguments=arguments):
            print(f"\n-> {name} {arguments}", end="", flush=True)
        case ToolArgumentsPart(text=text) | TextPart(text=text):
            print(text, end="", flush=True)
        case ToolProgressPart(message=message):
            print(f"\n   ... {message}", end="", flush=True)
        case ToolResultPart(text=text, is_error=is_error):
            print(f"\n<- {'failed: ' if is_error else ''}{text}")
        case NoticePart(message=message):
            print(f"! {message}")
        case _:
            pass


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4])
