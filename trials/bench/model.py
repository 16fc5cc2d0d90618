"""A model without a network: what ``simulate-llm`` would say, said inside the replica.

For the workloads in which the model's server and the HTTP client would cost more than what is measured. The
prompt's directives are the simulator's; one more, ``burst:2000`` outside of their brackets, says so many tokens at once
before the pace begins.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import trio

from chatcluster.context import SUMMARY_REQUEST
from chatcluster.llm.simulator.script import Script, Words, last_paragraph, read_script
from chatcluster.models import Continuation
from chatcluster.parts import Role, TextPart, Usage, text_of
from chatcluster.ports import Delta, Finished, ModelEvent, ModelRequest

AT_ONCE = Script(words=Words(tokens=10), tps=0)
"""How a summary is said, which nobody's words are about."""
TOKENS_AT_ONCE_MAX = 64
"""Then others get their turn, as they would while a network is read."""
_BURST = re.compile(r"burst:(\d+)")


class InsideModel:
    """A ``Model`` that obeys its prompt."""

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        asked = next(message for message in reversed(request.messages) if message.role is Role.USER)
        prompt = last_paragraph(text_of(asked.parts))
        await trio.lowlevel.checkpoint()
        script = read_script(prompt, AT_ONCE if prompt.startswith(SUMMARY_REQUEST) else Script())
        async with aclosing(_events(script, prompt)) as events:
            yield events

    def continuation(self, request: ModelRequest) -> Continuation:
        """See ``ports.Model``: every answer is asked for anew."""
        return Continuation.NONE

    async def cancel(self, request: ModelRequest) -> None:
        """See ``ports.Model``: there is nothing to cancel."""


async def _events(script: Script, prompt: str) -> AsyncGenerator[ModelEvent, None]:
    count, text = script.text(prompt)
    burst = int(found[1]) if (found := _BURST.search(prompt)) else 0
    interval_seconds = 1 / script.tps if script.tps else 0.0
    first_at = trio.current_time() + script.first_ms / 1000
    for index in range(count):
        due_at = first_at + max(0, index - burst) * interval_seconds
        if due_at > trio.current_time():
            await trio.sleep_until(due_at)
        elif index % TOKENS_AT_ONCE_MAX == TOKENS_AT_ONCE_MAX - 1:
            await trio.lowlevel.checkpoint()
        yield Delta(TextPart(text(index)))
    yield Finished(script.finish, Usage(output_tokens=count))
