"""Pydantic AI on a cluster, twice: its model is ``/v1``, and chats are its agent's tools, by ``/mcp``.

    pip install "pydantic-ai-slim[openai,mcp]"
    export CHATCLUSTER_URL=http://127.0.0.1:8000 CHATCLUSTER_TOKEN=ccl_...
    python examples/pydantic_ai_agent.py "Start a chat that looks for a name for my dog"

Whatever replica dies in mid-answer, the words that come are those of the chat's history. Where the one dies that serves
the stream itself, an exception says so; the answer goes on, and is in the chat.

The simulated model does only what it is ordered to: ask it ``[[call=chat_create {"content": "Tell me a story"}]]``.
"""

from __future__ import annotations

import asyncio
import os
import sys

from openai import AsyncOpenAI
from pydantic_ai import Agent, AgentStreamEvent, FunctionToolCallEvent, FunctionToolResultEvent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

URL, TOKEN = os.environ["CHATCLUSTER_URL"], os.environ["CHATCLUSTER_TOKEN"]


def show(event: AgentStreamEvent) -> None:
    match event:
        case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            print(text, end="", flush=True)
        case FunctionToolCallEvent():
            print("[tool_called]", flush=True)
        case FunctionToolResultEvent():
            print("[tool_output]", flush=True)


async def main(question: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    chats = MCPToolset(f"{URL}/mcp", headers=headers, read_timeout=60)  # chat_wait takes up to 50
    async with AsyncOpenAI(base_url=f"{URL}/v1", api_key=TOKEN) as client:
        name = (await client.models.list()).data[0].id
        model = OpenAIResponsesModel(name, provider=OpenAIProvider(openai_client=client))
        agent = Agent(model, instructions="Be brief.", toolsets=[chats])
        async with agent, agent.run_stream_events(question) as events:
            async for event in events:
                show(event)
        print()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
