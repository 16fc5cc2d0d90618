"""OpenAI's Agents SDK on a cluster, twice: its model is ``/v1``, and chats are its agent's tools, by ``/mcp``.

    pip install openai-agents
    export CHATCLUSTER_URL=http://127.0.0.1:8000 CHATCLUSTER_TOKEN=ccl_...
    python examples/openai_agents_sdk.py "Start a chat that looks for a name for my dog"

Whatever replica dies in mid-answer, the words that come are those of the chat's history. Where the one dies that serves
the stream itself, the SDK raises; the answer goes on, and is in the chat.

The simulated model does only what it is ordered to: ask it ``[[call=chat_create {"content": "Tell me a story"}]]``.
"""

from __future__ import annotations

import asyncio
import os
import sys

from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStreamableHttp
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent

URL, TOKEN = os.environ["CHATCLUSTER_URL"], os.environ["CHATCLUSTER_TOKEN"]


async def main(question: str) -> None:
    set_tracing_disabled(disabled=True)  # it would go to OpenAI
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        AsyncOpenAI(base_url=f"{URL}/v1", api_key=TOKEN) as client,
        MCPServerStreamableHttp(
            {"url": f"{URL}/mcp", "headers": headers},
            cache_tools_list=True,
            client_session_timeout_seconds=60,  # chat_wait takes up to 50
        ) as chats,
    ):
        model = (await client.models.list()).data[0].id
        agent = Agent(
            name="Helper",
            instructions="Be brief.",
            model=OpenAIResponsesModel(model, client),
            model_settings=ModelSettings(store=True),
            mcp_servers=[chats],
        )
        result = Runner.run_streamed(agent, question)
        async for event in result.stream_events():
            if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
                print(event.data.delta, end="", flush=True)
            elif event.type == "run_item_stream_event" and event.name in ("tool_called", "tool_output"):
                print(f"[{event.name}]", flush=True)
        print()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
