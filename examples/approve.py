"""Approve what a chat wants to do, from a script.

    chatcluster mcp set todo --approval ask
    python examples/approve.py http://127.0.0.1:8000 "$TOKEN" CHAT_ID

It asks on the terminal. With ``--all`` it approves everything, and with ``--none`` nothing.
"""

from __future__ import annotations

import sys
from contextlib import aclosing

import trio

from chatcluster.client.client import ApiError, Client
from chatcluster.events import ActionRequiredEvent, TurnEvent
from chatcluster.ports import Action


async def main(url: str, token: str, chat_id: str, answer: str = "") -> None:
    decided: set[tuple[str, str]] = set()  # what is not answered yet is told again with each answer
    async with Client(url, token) as client, aclosing(client.stream(chat_id)) as events:
        async for _, event in events:
            if isinstance(event, ActionRequiredEvent):
                for call in event.calls:
                    if call.kind == "approval" and (call.call_id, call.digest) not in decided:
                        decided.add((call.call_id, call.digest))
                        await decide(client, str(call.chat_id or chat_id), call, answer)  # an agent has its own chat
            elif isinstance(event, TurnEvent):
                print(f"[{event.outcome}]")
                return


async def decide(client: Client, chat_id: str, call: Action, answer: str) -> None:
    print(f"{call.name} {call.arguments}")
    try:
        if answer == "--all" or (answer != "--none" and await asked()):
            await client.approve(chat_id, call.call_id, digest=call.digest)  # of these arguments, and of no others
            print("  approved")
        else:
            await client.deny(chat_id, call.call_id, "the user does not want that")
            print("  denied")
    except ApiError as error:  # somebody else was quicker, say
        print(f"  {error}")


async def asked() -> bool:
    line = await trio.to_thread.run_sync(input, "  run it? [y/N] ", abandon_on_cancel=True)
    return line.strip().lower() in ("y", "yes")


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else "")
