"""A server of tools by lines of JSON that does what it is told, for the agent's tests; it is a program of its own."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

TOOLS = ["echo", "slow", "die", "big", "long", "grow", "ask", "refuse", "where", "latin"]
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}


def say(message: dict[str, Any]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def note(words: str) -> None:
    """For the test to see, in its working directory."""
    with open("noted", "a") as file:
        file.write(f"{words}\n")


def called(number: int, name: str, arguments: dict[str, Any]) -> None:
    note(f"called {name}")
    content = [{"type": "text", "text": arguments.get("text", "")}]
    if name == "slow":
        return  # it answers when it is told "finish"
    if name == "die":
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(3)
    if name == "big":
        content = [{"type": "text", "text": "x" * (5 << 20)}]
    if name == "long":
        print("y" * (9 << 20), flush=True)
    if name == "grow":
        TOOLS.append("grown")
        say({"method": "notifications/tools/list_changed"})
    if name == "ask":
        say({"id": "q", "method": "sampling/createMessage", "params": {}})
        content = [{"type": "text", "text": sys.stdin.readline()}]
    if name == "refuse":
        say({"id": number, "error": {"code": -32602, "message": "not today"}})
        return
    if name == "where":
        content = [{"type": "text", "text": json.dumps([os.getcwd(), sys.argv[1:], os.environ.get("KEY")])}]
    if name == "latin":
        said = '{"jsonrpc": "2.0", "id": %d, "result": {"content": [{"type": "text", "text": "caf\xe9 \\ud83d"}]}}\n'
        sys.stdout.buffer.write((said % number).encode("latin-1"))
        sys.stdout.flush()
        return
    say({"id": number, "result": {"content": content}})


def main() -> None:
    print("this line is no JSON", flush=True)
    note("began")
    if "GATE" in os.environ:
        open(os.environ["GATE"]).close()  # until somebody opens its other end
    waiting = []
    for line in sys.stdin:
        message = json.loads(line)
        number, params = message.get("id"), message.get("params", {})
        match message["method"]:
            case "initialize":
                told = {"protocolVersion": params["protocolVersion"], "serverInfo": {"name": "s", "version": "1"}}
                say({"id": number, "result": {**told, "capabilities": {"tools": {}}, "instructions": "Be brief."}})
            case "tools/list":
                listed = [{"name": name, "description": f"does {name}", "inputSchema": SCHEMA} for name in TOOLS]
                say({"id": number, "result": {"tools": listed}})
            case "tools/call":
                if params["name"] == "slow":
                    waiting.append(number)
                called(number, params["name"], params["arguments"])
                if params["name"] == "echo":
                    for one in waiting:
                        say({"id": one, "result": {"content": [{"type": "text", "text": "late"}]}})
            case "notifications/cancelled":
                note("cancelled")


main()
